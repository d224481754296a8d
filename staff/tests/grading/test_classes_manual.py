"""Tests of the points, reasons and comments that people enter: nothing is lost, and every point can be changed."""

import csv
import io
import json
from pathlib import Path

import pytest
from class_cases import RUBRIC, QuickJudge, evidence, parts, rows, zipped


@pytest.fixture
def folder(tmp_path, grade):
    """Grade a class of two, ada and bob, and return its folder; ada handed in no run."""
    for student in ("ada", "bob"):
        zipped(tmp_path / "class" / f"{student}.zip", parts(student))
    assert grade("class") == 0
    return tmp_path


def read(path: Path) -> list[dict]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))


def fill_in(path: Path, **cells: dict[str, str]) -> None:
    """Fill in cells of a form, as a person would: student={"Q1.1 (2)": "1.5"}."""
    table = read(path)
    for row in table:
        assert set(cells.get(row["student"], {})) <= set(row)
        row |= cells.get(row["student"], {})
    file = io.StringIO()
    writer = csv.DictWriter(file, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    path.write_text(file.getvalue(), "utf-8-sig")


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_form_that_was_filled_in_is_never_lost(folder, grade):
    form = folder / "grades" / "manual.csv"
    fill_in(form, ada={"Q1.1 (2)": "1.5", "Q1.1 comment": "=units; -1 is missing", "by": "Jo"})
    assert grade("class") == 0, "the form is used even without --manual"
    assert rows(folder)["ada"]["manual"] == "1.5" and rows(folder)["ada"]["total"] == "25.5"
    assert "=units; -1 is missing" in (folder / "grades" / "feedback" / "ada.html").read_text()
    zipped(folder / "class" / "late.zip", parts())
    assert grade("class", "--again") == 0
    found = {row["student"]: row for row in read(form)}
    assert list(found) == ["ada", "bob", "late"] and found["ada"]["Q1.1 (2)"] == "1.5"
    assert rows(folder)["ada"]["total"] == "25.5"
    fill_in(form, late={"Q1.1 (2)": "2"}, ada={"Q1.1 (2)": "1"})
    assert grade("class") == 0
    assert (rows(folder)["ada"]["manual"], rows(folder)["late"]["manual"]) == ("1", "2")
    kept = json.loads((folder / "grades" / "manual.json").read_text())["rows"]
    entry = next(row["entry"] for row in kept if (row["student"], row["kind"]) == ("ada", "manual"))
    assert [entry["value"], entry["earlier"][0]["value"], entry["earlier"][0]["by"]] == [1, 1.5, "Jo"]
    fill_in(form, ada={"Q1.1 (2)": "-"})
    assert grade("class") == 0
    assert rows(folder)["ada"]["manual"] == "", "a minus sign removes the entry"


def test_a_form_with_a_mistake_stays_as_it_is(folder, grade):
    form = folder / "grades" / "manual.csv"
    fill_in(form, ada={"Q1.1 (2)": "good"})
    before = form.read_bytes()
    assert grade("class") == 1
    assert "manual.csv: line 2, column 2 (Q1.1): 'good' is not a number" in grade.said and form.read_bytes() == before


def test_a_store_that_is_damaged_is_not_written_over(folder, grade):
    (folder / "grades" / "manual.json").write_text("{")
    assert grade("class") == 1
    assert "manual.json: is damaged" in grade.said and (folder / "grades" / "manual.json").read_text() == "{"


def test_two_graders_tables_are_merged(folder, grade):
    one = table(folder / "jo.csv", "student,Q1.1,by\nada,1.5,Jo\nbob,2,Jo\n")
    two = table(folder / "kim.csv", "student;Q1.1;Q1.2;by\nada;;3;Kim\nbob;2;1;Kim\n")
    assert grade("class", "--manual", one, "--manual", two) == 0
    assert {student: row["manual"] for student, row in rows(folder).items()} == {"ada": "4.5", "bob": "3"}
    assert grade("class") == 0 and rows(folder)["ada"]["manual"] == "4.5"
    table(one, "student,Q1.1\nada,1\n")
    assert grade("class", "--manual", one) == 0, "a file may correct its own entries"
    assert rows(folder)["ada"]["manual"] == "4"


def test_a_cell_in_which_two_tables_differ_is_an_error(folder, grade):
    one = table(folder / "jo.csv", "student,Q1.1,Q1.2\nada,1.5,1\n")
    two = table(folder / "kim.csv", "student,Q1.1,Q1.2\nada,1,1\n")
    assert grade("class", "--manual", one, "--manual", two) == 1
    assert f"ada: Q1.1 manual: 1 in {two}, 1.5 in {one}" in grade.said and "Q1.2" not in grade.said
    assert rows(folder)["ada"]["manual"] == "", "neither entry counts"
    assert grade("class", "--manual", two) == 0
    assert grade("class", "--manual", one) == 1, "an earlier entry does not disappear"
    assert grade("class", "--manual", one, "--replace") == 0
    assert rows(folder)["ada"]["Q1.1"] == "1.5"


def test_every_point_can_be_given_by_a_person(folder, grade):
    """A student can be given all 66 points, regardless of the points earned."""
    titles = [title for title in read(folder / "grades" / "manual.csv")[0] if title.endswith(")")]
    points = {title: title.rpartition("(")[2].rstrip(")") for title in titles}
    questions = [title.split(" ")[0] for title in titles if "evidence" in title or "automatic" in title]
    reasons = {f"{question} reason": "seen in the lab" for question in questions}
    fill_in(folder / "grades" / "manual.csv", ada=points | reasons)
    assert grade("class") == 0
    assert (rows(folder)["ada"]["total"], rows(folder)["bob"]["total"]) == ("66", "24")
    assert {name: float(rows(folder)["ada"][f"Q{name}"]) for name in RUBRIC.questions} == {
        name: question.points for name, question in RUBRIC.questions.items()
    }


def test_what_was_overridden_is_kept_with_reason_and_name(folder, grade):
    given = table(
        folder / "jo.csv",
        "student,Q2.6 evidence (2),Q1.7 automatic,Q1.7 reason,Q2.6 reason,Q2.6 comment,by\n"
        "ada,2,7,one test was wrong,the run is on my laptop,Nice pictures.,Jo\n",
    )
    assert grade("class", "--manual", given) == 0
    ada = json.loads((folder / "grades" / "grades.json").read_text())["students"][0]
    changed = {(row["question"], row["share"]): row for row in ada["given"]}
    assert changed["2.6", "evidence"] == {
        "question": "2.6", "share": "evidence", "points": 2, "before": 0, "of": 2,
        "reason": "the run is on my laptop", "by": "Jo",
    }  # fmt: skip
    assert changed["1.7", "automatic"]["before"] == 8 and ada["total"] == 25
    feedback = (folder / "grades" / "feedback" / "ada.html").read_text()
    for text in ("the run is on my laptop", "one test was wrong", "Nice pictures."):
        assert text in feedback
    report = (folder / "grades" / "report.html").read_text()
    assert "Points changed by people" in report and "the run is on my laptop" in report and "Jo" in report


def test_points_in_place_of_the_graders_need_a_reason(folder, grade):
    given = table(folder / "jo.csv", "student,Q2.6 evidence\nada,2\n")
    assert grade("class", "--manual", given) == 1
    assert "ada: Q2.6 evidence: needs a reason in the column Q2.6 reason" in grade.said


def test_what_is_not_judged_is_not_zero(folder, grade):
    """A missing run earns 0; a row that the grader could not judge stays open, and a row that earned points counts."""
    undecided = evidence(None)
    undecided[0] |= {"points": 1.0}
    QuickJudge.special["bob"] = {"evidence": undecided}
    assert grade("class", "--again") == 0
    found = json.loads((folder / "grades" / "grades.json").read_text())["students"]
    ada, bob = (student["questions"]["1.7"] for student in found)
    assert (ada["evidence"], bob["evidence"]) == (0, 1)
    assert found[0]["questions"]["2.6"]["evidence"] == 0 and found[1]["questions"]["2.6"]["evidence"] is None
    assert "2.6" in found[1]["open"] and rows(folder)["bob"]["total"] == "25"
    page = (folder / "grades" / "feedback" / "bob.md").read_text()
    assert "1 of 2, 1 not judged" in page and "2: not judged" in page


def test_the_points_that_people_gave_for_shards_are_merged(folder, grade):
    for student in ("ada", "bob"):
        (folder / student / "results").mkdir(parents=True)
        result = folder / "grades" / "results" / f"{student}.json"
        (folder / student / "results" / result.name).write_bytes(result.read_bytes())
        result.unlink()
        table(folder / student / "manual.csv", f"student,Q1.1\n{student},1\n")
    assert grade(folder / "ada", folder / "bob", command="merge") == 0
    assert {student: row["manual"] for student, row in rows(folder).items()} == {"ada": "1", "bob": "1"}
    table(folder / "bob" / "manual.csv", "student,Q1.1\nada,2\n")
    assert grade(folder / "ada", folder / "bob", command="merge") == 1
    assert str(folder / "ada" / "manual.csv") in grade.said and str(folder / "bob" / "manual.csv") in grade.said
