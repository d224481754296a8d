"""Tests of finding a submission's owner: system names, a roster, groups, attempts, withdrawn and late submissions."""

import json
import os
import shutil

import pytest
from class_cases import QuickJudge, parts, rows, unpacked, zipped

MOODLE = "{}_{}_assignsubmission_file_"


def files(text: str = "x = 1\n", **others: bytes) -> dict[str, bytes]:
    return parts(text) | others


def packed(tmp_path, text: str = "x = 1\n") -> bytes:
    return zipped(tmp_path / "packed.zip", parts(text)).read_bytes()


def test_what_the_systems_deliver_is_found(tmp_path, grade):
    archive = {"submission.zip": packed(tmp_path)}
    unpacked(tmp_path / "moodle" / MOODLE.format("Jane Doe", 12345), archive)
    unpacked(tmp_path / "moodle" / MOODLE.format("Bob Lee", 12346), archive)
    (tmp_path / "moodle" / (MOODLE.format("Cem Su", 12347) + "submission.zip")).write_bytes(packed(tmp_path))
    unpacked(tmp_path / "bright" / "1-67890 - Jane Doe - Nov 20, 2026 1005 AM", archive)
    (tmp_path / "bright" / "index.html").write_text("")
    zipped(tmp_path / "canvas" / "doejane_LATE_345_678901_submission-1.zip", parts())
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "p3_jdoe_attempt_2026-11-20-10-05-00_my.zip").write_bytes(packed(tmp_path))
    export = tmp_path / "gradescope" / "assignment_123_export"
    for number in (1, 2):
        unpacked(export / f"submission_{number}", parts())
    (export / "submission_metadata.yml").write_text(
        "---\nsubmission_1:\n  :submitters:\n  - :name: Ada\n    :sid: '007'\n    :email: ada@x.org\n"
        "  :created_at: 2026-11-20 10:00:00\nsubmission_2:\n  :submitters:\n  - :name: Eve\n    :email: eve@x.org\n"
    )
    unpacked(tmp_path / "github" / "practical3-octo" / "repo", parts())
    assert grade(*(tmp_path / name for name in ("moodle", "bright", "canvas", "board", "gradescope", "github"))) == 0
    found = rows(tmp_path)
    assert set(found) == {
        "Jane_Doe_12345", "Bob_Lee_12346", "Cem_Su_12347", "Jane_Doe_1", "doejane_345", "jdoe", "Ada_007",
        "Eve_eve_x.org", "practical3-octo",
    }  # fmt: skip
    assert {row["total"] for row in found.values()} == {"24"} and found["Ada_007"]["name"] == "Ada"


def test_a_systems_download_is_graded_as_it_comes(tmp_path, grade):
    """The download is one archive with everybody's files, as zips (Canvas) or as folders (Gradescope)."""
    names = ("doejane_345_11_submission.zip", "leebob_346_12_work-1.zip", "rareve_347_13_a.rar")
    zipped(tmp_path / "submissions.zip", {name: packed(tmp_path) for name in names})
    assert grade("submissions.zip") == 0
    assert {student: row["status"] for student, row in rows(tmp_path).items()} == {
        "doejane_345": "graded", "leebob_346": "graded", "rareve_347": "not readable",
    }  # fmt: skip
    zipped(tmp_path / "submissions.zip", {name: packed(tmp_path) for name in names[:1]})
    assert grade("submissions.zip") == 0
    assert "1 already judged" in grade.said and list(rows(tmp_path)) == ["doejane_345"]
    shutil.rmtree(tmp_path / "grades")
    export = {
        f"assignment_1_export/submission_{number}/{name}": text for number in (1, 2) for name, text in parts().items()
    }
    people = "".join(f"submission_{number}:\n  :submitters:\n  - :sid: s{number}\n" for number in (1, 2))
    zipped(tmp_path / "export.zip", export | {"assignment_1_export/submission_metadata.yml": people.encode()})
    assert grade("export.zip") == 0 and {*rows(tmp_path)} == {"s1", "s2"}


def test_a_student_cannot_hand_in_for_somebody_else(tmp_path, grade):
    """File names inside a submission do not assign it to another student."""
    zipped(tmp_path / "class" / "doejane_345_11_submission.zip", parts("jane"))
    forged = {"doejane_345_99_submission.zip": packed(tmp_path, "forged")}
    zipped(tmp_path / "class" / "eve_346_12_submission.zip", forged)
    unpacked(tmp_path / "class" / "practical3-eve", forged)
    zipped(tmp_path / "class" / "eve.zip", forged)
    words = ["class", *sorted((tmp_path / "class").iterdir())]
    for paths, status in ((words[:1], 0), (words[1:], 1)):
        assert grade(*paths) == status
        result = json.loads((tmp_path / "grades" / "results" / "doejane_345.json").read_text())
        assert result["source"] == "doejane_345_11_submission.zip" and result["older"] == []


def test_an_identity_does_not_depend_on_the_command_line(tmp_path, grade):
    """Two people with the same name in two folders cause an error, in one command or two; results are never mixed."""
    for section in ("secA", "secB"):
        zipped(tmp_path / section / "jansen.zip", parts(section))
        zipped(tmp_path / section / f"{section}-other.zip", parts(section))
    assert grade("secA", "secB") == 1
    assert "secA/jansen.zip and secB/jansen.zip: two submissions under the name jansen" in grade.said
    assert grade("secA") == 0
    before = (tmp_path / "grades" / "results" / "jansen.json").read_bytes()
    for words in (["secB/jansen.zip"], ["secB"]):
        assert grade(*words) == 1
        assert "jansen: " in grade.said and "secA/jansen.zip was graded under this name" in grade.said
    assert (tmp_path / "grades" / "results" / "jansen.json").read_bytes() == before
    assert grade("secB", "--same-students") == 0
    assert json.loads((tmp_path / "grades" / "results" / "jansen.json").read_text())["where"].endswith("secB")


def test_a_lone_folder_is_not_taken_for_its_parent(tmp_path, grade):
    unpacked(tmp_path / "class" / "ada", parts())
    assert grade("class") == 0 and list(rows(tmp_path)) == ["ada"]
    unpacked(tmp_path / "class" / "bob", parts())
    assert grade("class") == 0 and list(rows(tmp_path)) == ["ada", "bob"]
    assert grade("class/ada") == 0 and list(rows(tmp_path)) == ["ada", "bob"]


def test_the_newest_attempt_counts_and_older_ones_are_listed(tmp_path, grade):
    zipped(tmp_path / "canvas" / "doejane_12345_678901_submission.zip", parts("old"))
    assert grade("canvas") == 0
    zipped(tmp_path / "again" / "doejane_12345_678955_submission-1.zip", parts("new"))
    for words in (["canvas", "again"], ["again", "canvas"]):
        assert grade(*words) == 0
        assert list(rows(tmp_path)) == ["doejane_12345"]
        result = json.loads((tmp_path / "grades" / "results" / "doejane_12345.json").read_text())
        assert result["source"] == "doejane_12345_678955_submission-1.zip"
        assert result["older"] == ["doejane_12345_678901_submission.zip"]
    assert QuickJudge.judged == ["old", "new"]
    assert (
        "not counted: `doejane_12345_678901_submission.zip`"
        in (tmp_path / "grades" / "feedback" / "doejane_12345.md").read_text()
    )


def test_code_and_runs_in_two_files_are_one_row(tmp_path, grade):
    zipped(tmp_path / "canvas" / "doejane_1_11_code.zip", parts())
    zipped(tmp_path / "canvas" / "doejane_1_12_logs.zip", {"logs/vae/version_0/summary.json": b"{}"})
    (tmp_path / "canvas" / "doejane_1_13_report.pdf").write_bytes(b"")
    assert grade("canvas") == 0
    assert list(rows(tmp_path)) == ["doejane_1"] and rows(tmp_path)["doejane_1"]["total"] == "24"


def test_a_withdrawn_submission_is_put_aside(tmp_path, grade):
    for student in ("ada", "bob"):
        zipped(tmp_path / "class" / f"{student}.zip", parts())
    assert grade("class") == 0
    (tmp_path / "class" / "bob.zip").unlink()
    assert grade("class/ada.zip") == 0 and list(rows(tmp_path)) == ["ada", "bob"], "this is only part of the class"
    assert grade("class") == 0
    assert "bob: was withdrawn" in grade.said and list(rows(tmp_path)) == ["ada"]
    assert (tmp_path / "grades" / "withdrawn" / "bob.json").exists()


ROSTER = """id,name,group,canvas,github,email
s1,Doe Jane,,345,octo,jane@x.org
s2,Bob Lee,g1,346,lee,
s3,"Su, Cem",g1,347,,
s4,Dan Nobody,,,,
s5,Eve Rar,,348,,
"""


@pytest.fixture
def roster(tmp_path):
    (tmp_path / "roster.csv").write_text(ROSTER)
    return tmp_path


def test_with_a_roster_everybody_has_a_row_and_a_status(roster, grade):
    zipped(roster / "class" / "doejane_345_11_submission.zip", parts("jane"))
    zipped(roster / "class" / "leebob_346_12_submission.zip", parts("group"))
    (roster / "class" / "rareve_348_13_work.7z").write_bytes(b"7z")
    (roster / "class" / "rareve_348_14_notes.rar").write_bytes(b"Rar")
    zipped(roster / "class" / "guest.zip", parts("guest"))
    assert grade("class", "--roster", "roster.csv") == 0
    for again in (False, True):
        found = rows(roster)
        assert {student: row["status"] for student, row in found.items()} == {
            "s1": "graded", "s2": "graded", "s3": "graded", "s4": "nothing handed in", "s5": "not readable",
            "guest": "graded",
        }  # fmt: skip
        assert (found["s3"]["name"], found["s3"]["group"], found["s3"]["total"]) == ("Su, Cem", "g1", "24")
        assert found["s5"]["problem"].startswith("rareve_348_13_work.7z, rareve_348_14_notes.rar: cannot be read")
        assert "s4: nothing handed in" in grade.said and "s5: not readable" in grade.said
        page = (roster / "grades" / "report.html").read_text()
        assert "6 students: 4 graded, 1 not readable, 1 nothing handed in" in page and "is not on the roster" in page
        assert "You handed in nothing." in (roster / "grades" / "feedback" / "s4.md").read_text()
        assert again or grade("class") == 0, "the roster is remembered"
    assert sorted(QuickJudge.judged) == ["group", "guest", "jane"], "a group is judged once"


def test_with_a_roster_every_system_means_the_same_student(roster, grade):
    zipped(roster / "canvas" / "doejane_345_11_submission.zip", parts("first"))
    assert grade("canvas", "--roster", "roster.csv") == 0
    unpacked(roster / "github" / "practical3-octo", parts("second"))
    os.utime(roster / "canvas" / "doejane_345_11_submission.zip", (0, 0))
    unpacked(roster / "moodle" / MOODLE.format("Jane Doe", 99), {"a.zip": packed(roster, "third")})
    for source in ("github", "moodle"):
        assert grade(source) == 0
        assert rows(roster)["s1"]["status"] == "graded" and set(rows(roster)) == {"s1", "s2", "s3", "s4", "s5"}
    assert QuickJudge.judged == ["first", "second", "third"]


def test_a_name_that_two_on_the_roster_have_is_an_error(tmp_path, grade):
    (tmp_path / "roster.csv").write_text("id,name,moodle\ns1,Jan Jansen,\ns2,Jan Jansen,7\n")
    zipped(tmp_path / "class" / "Jan Jansen.zip", parts())
    assert grade("class", "--roster", "roster.csv") == 1
    assert "s1 (Jan Jansen), s2 (Jan Jansen) could have handed it in" in grade.said
    shutil.rmtree(tmp_path / "class")
    unpacked(tmp_path / "class" / MOODLE.format("Jan Jansen", 7), parts())
    assert grade("class", "--roster", "roster.csv") == 0 and rows(tmp_path)["s2"]["status"] == "graded"


@pytest.mark.parametrize(
    "text, problem",
    [
        ("name\nada", "line 1: column titles must be unique, and one must be id"),
        ("id\nada\nADA", "line 3: the id 'ADA' occurs twice"),
        ("id\na/b", "line 2: the id 'a/b' cannot be a file name"),
        ("id;canvas\na;7\nb;7", "line 3: canvas '7' already belongs to a"),
    ],
)
def test_a_roster_with_mistakes(tmp_path, grade, text, problem):
    (tmp_path / "roster.csv").write_text(text)
    zipped(tmp_path / "class" / "ada.zip", parts())
    assert grade("class", "--roster", "roster.csv") == 1 and problem in grade.said


def test_a_group_of_gradescope_is_judged_once(tmp_path, grade):
    export = tmp_path / "assignment_5_export"
    unpacked(export / "submission_1", parts("both"))
    people = "".join(f"  - :name: {name}\n    :sid: '{sid}'\n" for name, sid in (("Ada", 1), ("Bob", 2)))
    (export / "submission_metadata.yml").write_text(f"submission_1:\n  :submitters:\n{people}")
    assert grade(export) == 0
    assert set(rows(tmp_path)) == {"Ada_1", "Bob_2"} and QuickJudge.judged == ["both"]
    (tmp_path / "jo.csv").write_text("student,Q1.1\nAda_1,2\n")
    assert grade(export, "--manual", "jo.csv") == 0 and QuickJudge.judged == ["both"]


def test_points_of_one_in_a_group_count_for_all(roster, grade):
    zipped(roster / "class" / "leebob_346_12_submission.zip", parts())
    (roster / "jo.csv").write_text("student,Q1.1,Q1.2\ns2,2,1\ns3,,3\n")
    assert grade("class", "--roster", "roster.csv", "--manual", "jo.csv") == 0
    assert [rows(roster)[student]["manual"] for student in ("s2", "s3")] == ["3", "5"]


def test_a_shard_is_the_same_when_somebody_comes_late(tmp_path, grade):
    """Grade a class in two shards, then again after late submissions; `merge` uses and reports the newer result."""
    for number in range(6):
        zipped(tmp_path / "class" / f"s{number}.zip", parts())

    def shards() -> list[set[str]]:
        students = []
        for number in (1, 2):
            assert grade("class", "--shard", f"{number}/2") == 0
            shutil.rmtree(tmp_path / f"shard-{number}", ignore_errors=True)
            os.rename(tmp_path / "grades", tmp_path / f"shard-{number}")
            results = tmp_path / f"shard-{number}" / "results"
            students.append({path.stem for path in results.glob("*.json")})
        return students

    before = shards()
    assert all(before) and before[0] | before[1] == {f"s{number}" for number in range(6)} and not before[0] & before[1]
    for number in range(6, 9):
        zipped(tmp_path / "class" / f"a{number}.zip", parts())
    after = shards()
    assert before[0] <= after[0] and before[1] <= after[1] and len(after[0] | after[1]) == 9
    stale = min(after[0])
    result = json.loads((tmp_path / "shard-1" / "results" / f"{stale}.json").read_text())
    result |= {"graded": "2020-01-01T00:00:00Z", "status": "failed", "problem": "an old one"}
    (tmp_path / "shard-2" / "results" / f"{stale}.json").write_text(json.dumps(result))
    for order in (["shard-1", "shard-2"], ["shard-2", "shard-1"]):
        assert grade(*order, command="merge") == 0
        assert f"results/{stale}.json counts because it is newer than shard-2/results/{stale}.json" in grade.said
        assert len(rows(tmp_path)) == 9 and {row["total"] for row in rows(tmp_path).values()} == {"24"}
        shutil.rmtree(tmp_path / "grades")
