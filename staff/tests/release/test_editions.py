"""Tests of the editions: the passages, tables and files of each edition, and a release of the 2022 edition."""

import dataclasses
import json
import re
import tomllib
import zipfile
from collections.abc import Callable

import pytest
from release_cases import start, write_template

from course import rubric, submission
from small_runs import REPOSITORY
from staff.marking import answers
from staff.release import build, editions, references, tree
from staff.release.leaks import find_leaks
from staff.release.markers import MarkerError, marks_left
from staff.release.solutions import find_solutions

OTHER = rubric.read(edition="2022")


@pytest.fixture(scope="module")
def other() -> build.Course:
    """Return the course in its 2022 edition."""
    return build.read_course(edition="2022")


@pytest.fixture(scope="module")
def others_files(other) -> build.Files:
    return build.contents(other, "2027")


# --- passages of a file -----------------------------------------------------------------------------------------------

TEXT = """a
<!-- BEGIN EDITION 2023 -->
b
<!-- END EDITION -->
| c | <!-- EDITION 2023 -->
| d <!-- EDITION 2022 --> |
<!-- EDITION 2022: | e | -->
f <!-- EDITION 2023 --> <!-- EDITION 2022: g -->
h <!-- EDITION 2022:   i -->
<!-- BEGIN EDITION 2022
j
END EDITION -->
# BEGIN EDITION 2022
k
# END EDITION
    "l", # EDITION 2023
m
"""


@pytest.mark.parametrize(
    "edition, lines",
    [
        ("2023", ["a", "b", "| c |", "f", "h", '    "l",', "m"]),
        ("2022", ["a", "| d |", "| e |", "g", "h", "  i", "j", "k", "m"]),
    ],
)
def test_each_edition_has_its_passages(edition, lines):
    assert editions.passages_of(TEXT, "x.md", edition) == "\n".join(lines) + "\n"
    numbered = editions.passages_of(TEXT, "x.md", edition, same_lines=True).splitlines()
    assert len(numbered) == TEXT.count("\n") and numbered[-1] == "m" and numbered[0] == "a"
    assert "\n".join(filter(None, numbered)) == "\n".join(lines).replace("h\n  i", "h   i")


@pytest.mark.parametrize(
    "wrong, message",
    {
        "a\n<!-- BEGIN EDITION 2023 -->\nb\n": "x.md:2: is not closed",
        "<!-- END EDITION -->\n": "x.md:1: no edition begins",
        "# BEGIN EDITION 2023\n# BEGIN EDITION 2022\n": "x.md:2: the block at line 1 is still open",
        "# BEGIN EDITION 2021\n# END EDITION\n": "x.md:1: there is no edition 2021; the editions are 2022, 2023",
        "a <!-- EDITION 2024 -->\n": "x.md:1: there is no edition 2024",
        "a\n<!-- EDITION 2024: b -->\n": "x.md:2: there is no edition 2024",
    }.items(),
)
def test_wrong_marks_are_named(wrong, message):
    with pytest.raises(MarkerError, match=f"^{message}"):
        editions.passages_of(wrong, "x.md", "2023")


@pytest.mark.parametrize(
    "line", ["<!-- EDITION 2023 -->", "a # EDITION 2023", "# begin edition", "<!--END EDITION-->", "END EDITION -->"]
)
def test_no_mark_is_released(line):
    assert marks_left(f"x\n{line}\n".encode(), "a.py") == [f"a.py:2: this mark must not be released: {line}"]
    assert marks_left(b"# the edition of 2023, from its beginning to its end\n", "a.py") == []


# --- rubric.toml ------------------------------------------------------------------------------------------------------


def test_the_2022_edition_has_its_points_and_its_third_part():
    assert [part.points for part in OTHER.parts.values()] == [34, 22, 8]
    assert [part.folder for part in OTHER.with_code] == ["part1_vae", "part2_aae"]
    (written,) = [question for question in OTHER.questions.values() if question.part == 3]
    assert (written.id, written.points, written.manual, written.runs) == ("3.1", 8, 8, [])
    (show,) = [show for show in OTHER.shows if show.question == "2.4"]
    assert show.at == ["last"] and "epochs" not in OTHER.questions["2.4"].runs[0] and "epoch" not in show.expected
    shared = rubric.read().questions
    same = [name for name, question in OTHER.questions.items() if question == shared[name]]
    assert set(OTHER.questions) - set(same) == {"2.4", "3.1"}


@pytest.mark.parametrize("edition", editions.ONLY)
def test_the_released_rubric_is_that_of_its_edition(tmp_path, edition):
    text = editions.rubric_of(rubric.PATH.read_text("utf-8"), edition, "2031")
    (tmp_path / "rubric.toml").write_text(text)
    assert rubric.read(tmp_path / "rubric.toml") == dataclasses.replace(rubric.read(edition=edition), year="2031")
    comments = {line for line in rubric.PATH.read_text("utf-8").splitlines() if line.startswith("# ")}
    assert {line for line in comments if not line.startswith("# editions")} <= set(text.splitlines())
    assert "editions" not in text and text.count("edition") == 1


def test_a_part_without_a_folder_adds_nothing_to_a_submission(tmp_path):
    """Not even Python files outside the parts are added; only the part's written answer can be reported as missing."""
    (tmp_path / "part1_vae").mkdir()
    (tmp_path / "part1_vae" / "utils.py").write_text("x = 1\n")
    (tmp_path / "mine.py").write_text("raise NotImplementedError('Q1.7: mine')\n")
    (tmp_path / "answers.md").write_text("## Q3.1 (8 points)\n\nKiloNeRF.\n")
    assert list(submission.files_of(tmp_path, OTHER, [], tmp_path)) == ["answers.md", "part1_vae/utils.py"]
    assert submission.missing_code(OTHER, tmp_path) == []
    assert not [line for line in submission.missing_answers(OTHER, tmp_path) if "Q3.1" in line]
    assert not [line for line in submission.find_runs(OTHER, tmp_path)[1] if "part3" in line or "None" in line]


# --- the tree and the release -----------------------------------------------------------------------------------------


def test_both_editions_agree_with_themselves(course, other):
    assert course.rubric.edition == "2023" and other.rubric.edition == "2022"
    assert tree.problems(other) == []
    assert {test.file for test in other.tests} < {test.file for test in course.tests}
    assert sum(test.points for test in other.tests) == 17
    assert other.questions() == ["1.7", "1.8", "1.9", "2.4", "2.5"]


def test_a_release_has_what_its_edition_has(files, others_files):
    assert {file for file in files if not editions.belongs(file, "2023")} == set()
    assert {file for file in others_files if not editions.belongs(file, "2022")} == set()
    both = {file for file in files | others_files if editions.belongs(file, "2022") and editions.belongs(file, "2023")}
    pictures = {file for file in files if file.startswith("docs/") and file not in others_files}
    assert both - pictures <= set(files) & set(others_files)
    assert not [file for file in others_files if re.search(r"part3|gpt|03_att|alignment", file)]
    assert {"handout/B_neural_radiance_fields.md", "theory/nerf.py"} <= set(others_files) - set(files)
    named = [file for file, content in others_files.items() if b"part3_gpt" in content]
    assert named == ["course/tasks.py"], "course/tasks.py skips parts that do not exist"
    assert editions.without_files(build.tracked(REPOSITORY)) == []


def test_the_2022_edition_gives_no_solution_away(other, others_files):
    """The tests of the 2023 release do not cover the chapters and demos that only the 2022 edition has."""
    assert find_leaks(others_files, other) + find_solutions(others_files) == []


def test_the_2022_edition_is_stamped_and_states_its_own_points(others_files):
    pages = {
        file: content.decode() for file, content in others_files.items() if file.endswith((".md", ".cfg", ".toml"))
    }
    assert "practical 2027" in pages["README.md"] and "the 2022 edition" in pages["README.md"]
    manifest = json.loads(others_files[build.MANIFEST])
    assert (manifest["edition"], manifest["year"]) == ("2022", "2027")
    assert "| together | 64 |" in pages["handout/00_introduction.md"]
    assert "## Q3.1 (8 points)" in pages["answers.md"] and "all 64 points" in pages["README.md"]
    assert not [file for file, text in pages.items() if "part3_gpt" in text or "EDITION" in text]
    assert "part3_gpt" not in others_files[".vscode/launch.json"].decode()
    assert len(json.loads(others_files[".vscode/launch.json"])["configurations"]) == 3


@pytest.mark.parametrize(
    "file, old, message",
    [
        (
            "handout/README.md",
            "<!-- EDITION 2022: | [3.1](B_neural",
            "the table has None for question 3.1, but the rubric has (8, ",
        ),
        (
            "handout/00_introduction.md",
            "<!-- EDITION 2022: | together | 64 | -->",
            "no row 'together' with 64 points",
        ),
        ("handout/B_neural_radiance_fields.md", "### Question 3.1 (8 points)", "question 3.1 occurs 0 times"),
    ],
)
def test_check_looks_at_the_other_edition_too(other, file, old, message):
    assert old in (REPOSITORY / file).read_text("utf-8")
    found = found_in(other, file, lambda text: text.replace(old, ""))
    assert [problem for problem in found if message in problem], found


def test_students_pages_cite_their_own_edition_and_staffs_pages_any(other):
    line = f"See {'Eq'}. 22 and {'Fig'}ure B.1.\n"
    (problem,) = found_in(other, "part1_vae/README.md", lambda text: text + line)
    assert problem.endswith(": there is no Eq. 22 in the handout")
    assert found_in(other, "docs/errata.md", lambda text: text + line) == []


def found_in(other: build.Course, file: str, change: Callable[[str], str]) -> list[str]:
    """Return the problems found in the 2022 edition after changing one file."""
    listed = build.tracked(REPOSITORY)
    texts = {each: (REPOSITORY / each).read_text("utf-8") for each in listed if each.endswith(references.TEXT)}
    return tree.of_texts(other, texts | {file: change(texts[file])}, set(listed), answers.read(edition="2022"))


def test_the_rubric_and_the_files_have_the_same_editions():
    named = {name for tables in tomllib.loads(rubric.PATH.read_text("utf-8")).values() if isinstance(tables, list)
             for table in tables for name in table.get("editions", [])}  # fmt: skip
    assert named == set(editions.ONLY)


@pytest.mark.slow
def test_a_release_of_the_2022_edition(tmp_path, other):
    """Write the release as staff would; its tests and its `submission` command work without part 3."""
    out = tmp_path / "practical"
    made = start(REPOSITORY, "-m", "staff", "release", out, "--edition", "2022", "--year", "2027")
    assert made.returncode == 0, made.stderr
    write_template(out, other, other.questions())
    report = tmp_path / "points.json"
    ended = start(out, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--points-json={report}")
    assert ended.returncode == 0, ended.stdout[-2000:]
    earned = sum(row["earned"] for row in json.loads(report.read_text())["questions"].values())
    assert earned == sum(test.points for test in other.tests if not test.hidden)
    handed_in = start(out, "-m", "course", "submission", "-o", tmp_path / "submission.zip")
    assert "missing  Q3.1: no answer in answers.md" in handed_in.stdout and "part3" not in handed_in.stdout
    assert zipfile.ZipFile(tmp_path / "submission.zip").namelist()[0] == "answers.md"
