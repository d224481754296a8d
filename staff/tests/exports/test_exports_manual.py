"""Tests of the points that people enter."""

import copy
import json
import re

import pytest
from grading_results import RUBRIC, entered, make_result, rows_of, write

from staff.marking import entries, manual

# --- manual points ----------------------------------------------------------------------------------------------------

NAMES = ["ada", "=bob", "zoë"]


HEADER = "student,Q1.1 (2),Q1.7 (2),Q2.1 (3)"


def read_manual(tmp_path, text: str, encoding="utf-8") -> dict:
    path = tmp_path / "manual.csv"
    path.write_bytes(text.encode(encoding))
    rows = manual.read(path, NAMES, RUBRIC)
    return {
        student: {question: value for (question, kind), value in row.typed.items() if kind == "manual"}
        for student, row in rows.items()
    }


def test_the_table_to_fill_in_comes_back(tmp_path):
    text = manual.form(NAMES, entries.Entries(), RUBRIC)
    first, *rest = text.splitlines()
    assert first.startswith("student,Q1.1 (2),Q1.1 comment,Q1.2 (3),") and len(rest) == 3
    assert ",Q1.7 (2),Q1.7 evidence (2),Q1.7 automatic (8),Q1.7 reason,Q1.7 comment," in first
    assert ",Q3.2 automatic (4),Q3.2 reason,Q3.2 comment," in first and first.endswith(",by")
    of = [float(points) for points in re.findall(r"\(([\d.]+)\)", first)]
    assert sum(of) == sum(question.points for question in RUBRIC.questions.values()) == 66
    assert read_manual(tmp_path, text, "utf-8-sig") == {"ada": {}, "=bob": {}, "zoë": {}}
    text = manual.form(NAMES, entered({"=bob": {"1.1": 1.5}, "zoë": {"1.1": 0, "3.1": 3}}), RUBRIC)
    assert read_manual(tmp_path, text) == {"ada": {}, "=bob": {"1.1": 1.5}, "zoë": {"1.1": 0, "3.1": 3}}
    assert read_manual(tmp_path, text.replace(",", ";"), "utf-8-sig")["zoë"] == {"1.1": 0, "3.1": 3}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_what_spreadsheets_make_of_it_is_read(tmp_path, separator, end):
    lines = ["Student,1.7,Q1.1(2),", "=bob,0.5, 2 ,", ",,,", "", "'=bob2,,,", "zoë,.5,1.,"]
    text = end.join(lines[:4] + lines[5:]).replace(",", separator)
    assert read_manual(tmp_path, text) == {"=bob": {"1.7": 0.5, "1.1": 2}, "zoë": {"1.7": 0.5, "1.1": 1}}


@pytest.mark.parametrize(
    "text, problem",
    [
        (f"{HEADER}\nada,,,\neve,1,,", r"line 3, column 1: unknown student 'eve'"),
        (f"{HEADER}\nada,,,\n\nada,1,,", r"line 4, column 1: 'ada' occurs twice"),
        (f"{HEADER}\n'=bob,,,\n=bob,1,,", r"line 3, column 1: '=bob' occurs twice"),
        (f'{HEADER}\nada,"\n1\n",,\neve,1,,', r"line 5, column 1: unknown student 'eve'"),
        (f"{HEADER}\n,1,,", r"line 2, column 1: the student is missing"),
        (f"{HEADER}\nada,3,,", r"line 2, column 2 \(Q1\.1\): 3 is more than the maximum, 2"),
        (f"{HEADER}\nada,2.01,,", "more than the maximum, 2"),
        (f"{HEADER}\nada,-1,,", r"column 2 \(Q1\.1\): -1 is negative"),
        (f"{HEADER}\nada,,NaN,", r"column 3 \(Q1\.7\): 'NaN' is not a number"),
        (f"{HEADER}\nada,,inf,", "not a number"),
        (f"{HEADER}\nada,1e0,,", "not a number"),
        (f"{HEADER}\nada,1_0,,", "not a number"),
        (f"{HEADER}\nada,\u0661,,", "not a number"),
        (f"{HEADER}\nada,good,,", "'good' is not a number"),
        (f'{HEADER}\nada,"1,5",,', r"line 2, column 2 \(Q1\.1\): 1,5: write 1\.5, with a decimal point"),
        (f"{HEADER}\nada,1,5,,2".replace(",5", "#").replace(",", ";").replace("#", ",5"), "write 1.5"),
        (f"{HEADER}\nada,1,5,1,1", "line 2: 5 cells, but the first line has 4; use a decimal point"),
        ("student,Q1.1 (3)\nada,1", r"line 1, column 2: Q1\.1 has 2 manual points, not 3"),
        ("student,Q9.1 (3)\nada,1", r"line 1, column 2: 'Q9\.1 \(3\)'"),
        ("student,Q3.2\nada,1", r"'Q3\.2': no question of this name is marked by hand"),
        ("student,Q1.1,1.1\nada,1,1", r"column 3: Q1\.1 already has a column"),
        ("student,Q1.1,\nada,1,2", r"line 2, column 3: '2' is not in a question's column"),
        ("name,Q1.1\nada,1", "line 1: exactly one column must be named student"),
        ('student,Q1.1\nada,"1', "line 2: is not valid CSV"),
        ("", "is empty"),
    ],
)
def test_a_table_with_mistakes_is_refused(tmp_path, text, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        read_manual(tmp_path, text)
    assert "manual.csv" in str(caught.value)


def test_all_mistakes_are_named_at_once(tmp_path):
    with pytest.raises(ValueError) as caught:
        read_manual(tmp_path, f"{HEADER}\nada,3,-1,x\neve,1,1,1\nzoë,1,1,9")
    assert [re.search(r"line \d", each)[0] for each in str(caught.value).splitlines()] == (
        ["line 2"] * 3 + ["line 3", "line 4"]
    )


def test_another_encoding_is_refused(tmp_path):
    for encoding in ("latin-1", "utf-16"):
        with pytest.raises(ValueError, match="is not UTF-8; save it as 'CSV UTF-8'"):
            read_manual(tmp_path, f"{HEADER}\nzoë,1,,", encoding)


def test_manual_points_count(grades):
    folder = grades(make_result("ada"), make_result("bob"))
    write(folder, {"ada": {"1.1": 1.5, "1.7": 2}})
    ada, bob = rows_of((folder / "grades.csv").read_text("utf-8"))
    assert (ada["Q1.1"], ada["Q1.7"], ada["manual"], ada["total"]) == ("1.5", "11", "3.5", "12.5")
    assert (bob["manual"], bob["total"]) == ("", "9")
    assert "| Q1.1 | 1.5 of 2 |" in (folder / "feedback" / "ada.md").read_text()
    content = json.loads((folder / "grades.json").read_text())
    assert "1.1" not in content["students"][0]["open"] and "1.1" in content["students"][1]["open"]


def test_manual_points_that_do_not_fit_are_refused(grades):
    folder = grades(make_result("ada"))
    with pytest.raises(ValueError, match="ada: Q1.1 manual: 3 of 2 points"):
        write(folder, {"ada": {"1.1": 3}})
    assert not (folder / "grades.csv").exists()


def test_results_are_not_changed_by_what_is_entered():
    students = [make_result(name) for name in NAMES]
    before = copy.deepcopy(students)
    entries.apply(students, entered({"ada": {"1.1": 1}}), RUBRIC)
    assert before == students
