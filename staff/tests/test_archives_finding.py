"""Tests of finding the submissions in folders and archives."""

import pytest
from archive_cases import CODE, PARTS, folder, found, tarred, zipped

from staff.grading.archives import find, safe_name


def test_archives_and_folders_that_are_named(tmp_path):
    paths = [zipped(tmp_path / "Ann.ZIP", PARTS), tarred(tmp_path / "bob.tar.gz", PARTS, mode="w:gz")]
    paths += [folder(tmp_path / "eve.v1", PARTS), paths[0]]
    assert found(*paths) == ({"Ann": "Ann.ZIP", "bob": "bob.tar.gz", "eve.v1": "eve.v1"}, [])


def test_a_folder_of_zips_as_canvas_hands_them_out(tmp_path):
    for name in ("doejane_123_456_submission.zip", "poeed_LATE_124_457_my work-2.zip"):
        zipped(tmp_path / "all" / name, PARTS)
    (tmp_path / "all" / "grades.csv").write_text("")
    (tmp_path / "all" / "late.rar").write_text("")
    assert found(tmp_path / "all") == (
        {
            "doejane_123": "doejane_123_456_submission.zip",
            "late.rar": "late.rar",
            "poeed_124": "poeed_LATE_124_457_my work-2.zip",
        },
        ["grades.csv"],
    )


def test_gradescopes_export(tmp_path):
    folder(tmp_path / "all" / "submission_1", PARTS)
    (tmp_path / "all" / "submission_metadata.yml").write_text("")
    assert found(tmp_path / "all") == ({"submission_1": "submission_1"}, ["submission_metadata.yml"]), "a class of one"
    folder(tmp_path / "all" / "submission_2" / "repository", PARTS)
    folder(tmp_path / "all" / "submission_3", {"notes.pdf": b""})
    assert sorted(found(tmp_path / "all")[0]) == ["submission_1", "submission_2", "submission_3"]


def test_a_folder_that_is_one_submission(tmp_path):
    folder(tmp_path / "ann", PARTS)
    assert found(tmp_path / "ann") == ({"ann": "ann"}, [])
    folder(tmp_path / "bob" / "repository", PARTS)
    with pytest.raises(ValueError, match="ann is a submission, and .*bob is a folder of submissions"):
        found(tmp_path / "ann", tmp_path / "bob")
    assert sorted(found(tmp_path)[0]) == ["ann", "bob"], "the class"


def test_a_repository_and_flat_files_are_one_submission(tmp_path):
    folder(tmp_path / "ann", {".git/HEAD": b"", "docs/a.md": b"", **{name: CODE for name in PARTS}})
    folder(tmp_path / "bob", {"utils.py": CODE, "figures/a.png": b""})
    assert sorted(found(tmp_path / "ann", tmp_path / "bob")[0]) == ["ann", "bob"]


def test_a_link_in_a_class_is_no_submission(tmp_path):
    folder(tmp_path / "all" / "ann", PARTS)
    folder(tmp_path / "all" / "bob", PARTS)
    (tmp_path / "all" / "eve").symlink_to(tmp_path / "all" / "ann")
    assert found(tmp_path / "all") == ({"ann": "ann", "bob": "bob"}, ["eve"])


@pytest.mark.parametrize("name", ["missing", "empty", "roster.csv"])
def test_what_holds_no_submission_is_named(name, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "roster.csv").write_text("")
    with pytest.raises(ValueError, match=name):
        find([tmp_path / name])


@pytest.mark.parametrize("names", [("Ann", "ann"), ("e\u0301va", "\u00e9va"), ("a b", "a_b")])
def test_names_that_are_the_same_on_some_system_are_an_error(names, tmp_path):
    paths = [zipped(tmp_path / str(number) / f"{name}.zip", PARTS) for number, name in enumerate(names)]
    for order in (paths, paths[::-1]):
        with pytest.raises(ValueError, match="two submissions under the name"):
            found(*order)


@pytest.mark.parametrize(
    "text, name",
    [
        ("Jane Doe", "Jane_Doe"),
        ("..", "student"),
        (".", "student"),
        ("", "student"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        ("a/b\\c\n=d\x1b[0m\u202e", "a_b_c__d__0m_"),
        ("\udcff", "_"),
        ("e\u0301", "\u00e9"),
        ("x" * 300, "x" * 80),
        ("\U00020000" * 300, "\U00020000" * 50),
    ],
)
def test_a_students_name_is_safe_as_a_file_name(text, name):
    assert safe_name(text) == name


def test_long_names_that_are_cut_stay_apart_and_short(tmp_path):
    for end in "abc":
        zipped(tmp_path / "all" / ("x" * 100 + f"{end}.zip"), PARTS)
    students = list(found(tmp_path / "all")[0])
    assert len(set(students)) == 3 and all(len(student) < 80 for student in students)
