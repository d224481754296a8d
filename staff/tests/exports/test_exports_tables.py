"""Tests of reading and checking results, and of grades.csv and grades.json."""

import json
import math
import re

import pytest
from grading_results import HOSTILE, RUBRIC, changed, hostile_result, make_result, question, rows_of, write

from staff.grading import exports, feedback, results

# --- reading results --------------------------------------------------------------------------------------------------


def test_results_are_sorted_by_student(grades):
    folder = grades(make_result("zoe"), make_result("ada"), make_result("Bo"))
    assert [result["student"] for result in results.read_all(folder, RUBRIC)[0]] == ["Bo", "ada", "zoe"]
    assert results.read_all(folder / "nothing", RUBRIC) == ([], [])


@pytest.mark.parametrize(
    "path, value",
    [
        ("questions/1.7/automatic", math.nan),
        ("questions/1.7/automatic", math.inf),
        ("questions/1.7/automatic", -0.5),
        ("questions/1.7/automatic", 8.5),
        ("questions/1.7/automatic", True),
        ("questions/1.7/automatic", "8"),
        ("questions/1.7/automatic", 10**400),
        ("questions/1.7/evidence", 2.01),
        ("questions/1.7/manual", 3),
        ("questions/1.7/automatic_of", None),
        ("questions/1.7", None),
        ("questions", []),
        ("tests/0/points", math.nan),
        ("tests/0/outcome", "skipped"),
        ("tests/0/hidden", "no"),
        ("tests/0", "x"),
        ("evidence/0/points", 2.5),
        ("evidence/0/claimed", "0.5"),
        ("forbidden/0/name", 3),
        ("status", "passed"),
        ("seconds", math.nan),
        ("left_out", [3]),
        ("student", "../x"),
        ("student", ""),
    ],
)
def test_a_result_with_impossible_content_is_named(tmp_path, path, value):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "ada.json").write_text(json.dumps(changed(path, value)))
    (found,), problems = results.read_all(tmp_path, RUBRIC)
    assert problems and all("results/ada.json: " in problem for problem in problems)
    assert found["student"] == "ada" and found["status"] == "failed" and results.check(found) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"student": "ada"}'])
def test_all_damaged_files_are_named(grades, content):
    folder = grades(make_result("good"))
    for name in ("ada", "bob"):
        (folder / "results" / f"{name}.json").write_bytes(content)
    found, problems = results.read_all(folder, RUBRIC)
    named = "\n".join(problems)
    assert "ada.json" in named and "bob.json" in named and "good" not in named
    assert [result["status"] for result in found] == ["failed", "failed", "graded"]


def test_results_of_another_rubric_count_nothing(grades):
    result = make_result()
    result["questions"]["1.7"] |= {"automatic_of": 9}
    (found,), problems = results.read_all(grades(result), RUBRIC)
    assert "ada.json: was judged with another rubric (different: Q1.7)" in problems[0] and found["status"] == "failed"
    result = make_result()
    del result["questions"]["3.3"]
    assert "Q3.3" in results.read_all(grades(result), RUBRIC)[1][0]


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_table_of_grades(grades):
    second = make_result("bob", status="failed", problem="the archive is damaged")
    second["questions"] = {name: question(None, name=name) for name in RUBRIC.questions}
    folder = grades(make_result(), second)
    write(folder)
    content = (folder / "grades.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbfstudent,status,Q1.1,")
    ada, bob = rows_of(content.decode())
    assert list(ada) == [
        "student",
        "status",
        *(f"Q{q}" for q in RUBRIC.questions),
        *feedback.SHARES,
        "total",
        "problem",
    ]
    assert (ada["Q1.1"], ada["Q1.7"], ada["Q1.9"]) == ("", "9", "0")
    assert (ada["automatic"], ada["evidence"], ada["manual"], ada["total"]) == ("7.5", "1.5", "", "9")
    assert (bob["status"], bob["automatic"], bob["total"]) == ("failed", "", "0")
    assert bob["problem"] == "the archive is damaged"


def test_the_grades_for_programs(grades):
    folder = grades(make_result("bob"), make_result("ada", graded="2026-11-22T08:00:00Z"))
    write(folder)
    content = json.loads((folder / "grades.json").read_text(), parse_constant=pytest.fail)
    assert (content["edition"], content["number_of_students"], content["points"]) == (RUBRIC.edition, 2, 66)
    assert content["graded"] == "2026-11-22T08:00:00Z"
    ada = content["students"][0]
    assert ada["student"] == "ada" and ada["total"] == 9 and ada["manual"] is None
    assert ada["questions"]["1.7"] == {"points": 9, "automatic": 7.5, "evidence": 1.5, "manual": None}
    assert "1.7" in ada["open"] and "3.2" not in ada["open"]


def test_the_same_results_give_the_same_bytes(grades):
    folder = grades(make_result("bob"), make_result("ada"), hostile_result("eve", HOSTILE))
    files = write(folder)
    first = {file: file.read_bytes() for file in files}
    assert {file: file.read_bytes() for file in write(folder)} == first
    names = {file.relative_to(folder).as_posix() for file in files}
    assert {"grades.csv", "grades.json", "report.html", "feedback/ada.md", "feedback/eve.html"} < names
    assert names == {each.relative_to(folder).as_posix() for each in folder.rglob("*.*") if each.suffix} - {
        f"results/{name}.json" for name in ("ada", "bob", "eve")
    }


def is_formula(text: str) -> bool:
    """Return whether a spreadsheet might read the text as a formula."""
    text = re.sub(r'^[\s"\ufffd\u200b]+', "", text)
    return text[:1] in tuple("=+-@\uff1d\uff0b\uff0d\uff20\u2212")


@pytest.mark.parametrize("text", [*HOSTILE, "\uff0b1", "\uff0d1", "\uff201", "\ufe661", '"=1', "a,=1", "\n=1"])
def test_no_cell_is_a_formula(text):
    shown = exports.cell(text)
    assert len(shown) < 600 and not re.search(r"[\r\n\t\0\x1b]", shown)
    for separator in (None, ",", ";", "|"):  # as programs that use other separators would
        assert not any(is_formula(part) for part in shown.split(separator)) or separator is None
    assert not is_formula(shown)


def test_ordinary_cells_stay_as_they_are():
    for text in ("ada", "Ada Lovelace-King", "a@b.example", "x = 1 - 2", "1.5", "O'Neill", "Zoë"):
        assert exports.cell(text) == text
    assert exports.cell("\tx")[0] == exports.cell("\rx")[0] == exports.cell("=1")[0] == "'"


def test_formulas_do_not_reach_the_table(grades):
    results = [make_result(f"s{i}", status="failed", problem=text) for i, text in enumerate(HOSTILE)]
    results += [make_result("=1+1"), make_result("-x")]
    folder = grades(*results)
    write(folder)
    rows = rows_of((folder / "grades.csv").read_text("utf-8"))
    assert len(rows) == len(results), "one row per student"
    assert {"'=1+1", "'-x"} < {row["student"] for row in rows}
    assert not any(is_formula(text) for row in rows for text in row.values())
    assert (folder / "feedback" / "=1+1.html").exists()
