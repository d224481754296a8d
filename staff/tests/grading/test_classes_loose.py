"""Tests of loose files among the submissions: a student's file gets a row, but the course's own files do not."""

import os

import pytest
from class_cases import parts, rows, unpacked, zipped

LOOSE = ("ann.csv", "ben.txt", "cem.md", "dee.html", "eli.pdf", "fay.docx", "gus.ipynb", "hal.json", "ivy.xlsx")
OWN = {
    "roster.csv": "id;name\ns1;Ada\n",
    "class list.csv": "\ufeffid,email\ns1,ada@x.org\n",
    "grades.csv": "student,total\nada,24\n",
    "manual.csv": "student,Q1.1 (2),by\nada,2,Jo\n",
    "jo.csv": "student,Q1.1\nada,2\n",
    "2026-11-20T1005_Grades-DGM.csv": "",
    "canvas.csv": "Student,ID,SIS User ID,SIS Login ID,Section,Practical 3 (12345)\n",
    "moodle.csv": 'Identifier,"Full name","Email address",Status,Grade\n',
    "brightspace.csv": "OrgDefinedId,Username,Last Name,First Name,Email,End-of-Line Indicator\n",
    "blackboard.csv": '"Last Name","First Name","Username","Student ID","Practical 3"\n',
    "DGM_GradesExport_2026-11-20-10-05.xlsx": "",
    "Practical_3_scores.csv": "",
    "gradescope.csv": "First Name,Last Name,SID,Email,Sections\n",
    "classroom_roster.csv": "",
    "index.html": "",
    "submission_metadata.yml": "",
    "README.md": "",
}


@pytest.mark.parametrize("name", LOOSE)
def test_a_loose_file_has_a_row_and_a_status(tmp_path, grade, name):
    zipped(tmp_path / "class" / "zoe.zip", parts())
    (tmp_path / "class" / name).write_text("a,b\n1,2\n")
    for words in (["class"], sorted((tmp_path / "class").iterdir())):
        assert grade(*words) == 0
        found = rows(tmp_path)
        assert {student: row["status"] for student, row in found.items()} == {name: "not readable", "zoe": "graded"}
        assert found[name]["problem"].startswith(f"{name}: cannot be read; hand in the folders of the parts")
        assert f"{name}: not readable" in grade.said
        assert name in (tmp_path / "grades" / "report.html").read_text()


def test_a_folder_of_loose_files_alone(tmp_path, grade):
    unpacked(tmp_path / "class", {"ann.txt": b"", "ben.pdf": b""})
    assert grade("class") == 0
    assert {row["status"] for row in rows(tmp_path).values()} == {"not readable"} and len(rows(tmp_path)) == 2


@pytest.mark.parametrize("name", OWN)
def test_a_file_of_the_course_is_no_student(tmp_path, grade, name):
    zipped(tmp_path / "class" / "zoe.zip", parts())
    (tmp_path / "class" / name).write_text(OWN[name])
    for words in (["class"], sorted((tmp_path / "class").iterdir())):
        assert grade(*words) == 0
        assert list(rows(tmp_path)) == ["zoe"] and f"{name}: is not a submission; left out" in grade.said
    (tmp_path / "class" / "zoe.zip").unlink()
    assert grade("class") == 1 and "contains no submission" in grade.said
    assert grade(f"class/{name}") == 1 and f"{name}: no submission found in" in grade.said


def test_what_the_command_uses_and_writes_is_no_student(tmp_path, grade):
    """The roster and the points are in the submissions' folder; a second run also finds the folder `grades`."""
    zipped(tmp_path / "ada.zip", parts())
    (tmp_path / "people.txt").write_text("id\nada\n")
    (tmp_path / "jo.txt").write_text("student,Q1.1\nada,2\n")
    for _ in range(2):
        assert grade(".", "--roster", "people.txt", "--manual", "jo.txt") == 0, grade.said
        assert {student: row["total"] for student, row in rows(tmp_path).items()} == {"ada": "26"}


def test_a_loose_file_of_a_student_on_the_roster(tmp_path, grade):
    """The name without the suffix identifies the student; if there is also code, the file is not an attempt."""
    (tmp_path / "roster.csv").write_text("id,name\nj.doe,Jane Doe\ns2,Bob Lee\ns3,Cem Su\ns4,Dan Ode\n")
    unpacked(tmp_path / "class" / "j.doe", parts())
    zipped(tmp_path / "class" / "s2.zip", parts())
    for name in ("j.doe.pdf", "Bob Lee.docx", "s3.txt", "grades.csv"):
        (tmp_path / "class" / name).write_text("")
    os.utime(tmp_path / "class" / "j.doe", (0, 0))
    assert grade("class", "--roster", "roster.csv") == 0
    assert {student: row["status"] for student, row in rows(tmp_path).items()} == {
        "j.doe": "graded", "s2": "graded", "s3": "not readable", "s4": "nothing handed in",
    }  # fmt: skip


def test_a_report_beside_an_archive_of_the_same_name(tmp_path, grade):
    """Even without a roster, the report does not count as an attempt; in another folder, it could be someone else's."""
    zipped(tmp_path / "class" / "ada.zip", parts())
    unpacked(tmp_path / "class" / "bob", parts())
    for name in ("ada.pdf", "Bob.txt", "eve.txt"):
        (tmp_path / "class" / name).write_text("")
    os.utime(tmp_path / "class" / "bob", (0, 0))
    unpacked(tmp_path / "other", {"ada.pdf": b""})
    assert grade("class", "other") == 0
    assert {student: row["status"] for student, row in rows(tmp_path).items()} == {
        "ada": "graded", "ada.pdf": "not readable", "bob": "graded", "eve.txt": "not readable",
    }  # fmt: skip


def test_texts_that_a_system_delivers_are_their_students(tmp_path, grade):
    """The texts are Blackboard's .txt file for each attempt, and text typed into Moodle or Canvas."""
    names = {
        "p3_jdoe_attempt_2026-11-20-10-05-00.txt": "jdoe",
        "p3_blee_attempt_2026-11-20-10-05-00.txt": "blee",
        "Jane Doe_12345_assignsubmission_onlinetext.html": "Jane_Doe_12345",
        "leebob_346_12_text.html": "leebob_346",
    }
    unpacked(tmp_path / "class", dict.fromkeys(names, b""))
    zipped(tmp_path / "class" / "p3_blee_attempt_2026-11-20-10-05-00_my.zip", parts())
    assert grade("class") == 0
    wanted = {student: "graded" if student == "blee" else "not readable" for student in names.values()}
    assert {student: row["status"] for student, row in rows(tmp_path).items()} == wanted
