"""Tests of the layout: import rules, lengths of files and functions, and placement of STAFF blocks."""

import pytest

import layout
from small_runs import REPOSITORY
from staff.release.build import tracked


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Return all text files that git tracks: path -> content."""
    kinds = (".py", ".md", ".cfg", ".toml", ".job", ".sh", ".txt", ".yml", ".html", ".css", "Makefile")
    return {file: (REPOSITORY / file).read_text("utf-8") for file in tracked(REPOSITORY) if file.endswith(kinds)}


@pytest.fixture(scope="module")
def sources(texts) -> dict[str, str]:
    return {file: text for file, text in texts.items() if file.endswith(".py")}


def test_the_import_rules_hold(sources):
    assert len(sources) > 100
    assert layout.forbidden_imports(sources) == []


def test_files_and_functions_are_short(sources):
    assert layout.too_long(sources) == []


def test_what_students_read_first_is_short(sources):
    limits = {"part1_vae/train.py": 200, "part2_aae/train.py": 200, "part3_gpt/train.py": 250, "part3_gpt/gpt.py": 300}
    assert [file for file, lines in limits.items() if sources[file].count("\n") > lines] == []


@pytest.mark.parametrize("part", ["part1_vae", "part2_aae", "part3_gpt"])
def test_a_part_imports_little_of_course(sources, part):
    """People who read a part follow its imports. Modules imported inside functions do not count."""
    students = {file: text for file, text in sources.items() if file.startswith(("course/", part))}
    course = [students[path] for path in layout.reached(students, f"{part}/train.py") if path.startswith("course/")]
    assert len(course) >= 15 and sum(text.count("\n") for text in course) <= 1500


def test_there_is_no_import_cycle(sources):
    assert layout.cycles(sources) == []


def test_staff_blocks_are_where_the_release_removes_them(texts):
    assert layout.staff_markers(texts) == []


PLANTED = {
    "course/a.py": "from part1_vae.utils import KLD\n",
    "course/b.py": "def f():\n    import staff.grading.grade\n",
    "part1_vae/utils.py": "from course import a\n",
    "part2_aae/models.py": "import part1_vae.utils\n",
    "part3_gpt/gpt.py": "from bench.part3 import twins\nfrom part3_gpt import cache\n",
    "part3_gpt/cache.py": "",
    "tests/test_part1.py": "from adapters import part1\nfrom staff.grading import grade\n",
    "tests/adapters/part1.py": "from part1_vae import utils\nimport torch\n",
    "staff/grading/grade.py": "from part1_vae import utils\nfrom bench import part3\nfrom adapters import part1\n",
    "bench/part3.py": "from staff.grading import grade\n",
    "bench/part2.py": "from . import part3\n",
    "conftest.py": "from staff.grading import grade\nfrom staff import oracles\n",
    "staff/oracles/__init__.py": "",
}


def test_an_import_across_a_wall_is_found():
    found = layout.forbidden_imports(PLANTED)
    assert [line.split(" ")[0] for line in found] == [
        "course/a.py:1", "course/b.py:2", "part2_aae/models.py:1", "part3_gpt/gpt.py:1", "tests/test_part1.py:2",
        "bench/part2.py:1", "conftest.py:1",
    ], found  # fmt: skip


def test_what_is_too_long_is_found():
    function = "def f():\n" + "    x = 1\n" * 40
    assert layout.too_long({"course/a.py": function, "staff/tests/mistakes/a.py": function}) == [
        "course/a.py:1 f: 41 lines"
    ]
    assert layout.too_long({"course/a.py": "x = 1\n" * 351}) == ["course/a.py: 351 lines"]
    assert layout.too_long({"course/a.py": "x = 1\n" * 350, "course/b.py": "def f():\n" + "    x = 1\n" * 39}) == []


def test_what_a_file_imports_is_found():
    files = {
        "part1_vae/train.py": "from course.a import x\ndef f():\n    import course.d\n",
        "course/__init__.py": "",
        "course/a.py": "import course.b.c\nimport torch\nif __name__ == '__main__':\n    import course.e\n",
        "course/b/__init__.py": "",
        "course/b/c.py": "",
        "course/d.py": "",
        "course/e.py": "from course import a\n",
    }
    assert layout.reached(files, "part1_vae/train.py") == set(files) - {"course/d.py", "course/e.py"}


def test_a_cycle_is_found():
    a, b, c = "from course import b\n", "import course.c\n", "from course.a import x\n"
    assert layout.cycles({"course/a.py": a, "course/b.py": b, "course/c.py": c}) == [
        "course/a.py -> course/b.py -> course/c.py -> course/a.py"
    ]
    late = "def f():\n    from course.a import x\n"
    checked = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from course.a import x\n"
    for harmless in (late, checked):
        assert layout.cycles({"course/a.py": a, "course/b.py": b, "course/c.py": harmless}) == []


def test_a_staff_block_in_course_is_found():
    block = "# BEGIN STAFF\nx = 1\n# END STAFF\n"
    assert layout.staff_markers({"course/a.py": block, "Makefile": block, "part1_vae/README.md": block}) == [
        "course/a.py:1: a STAFF block"
    ]
    hidden = '@pytest.mark.question("1.7", points=1, hidden=True)\n'
    assert len(layout.staff_markers({"tests/test_part1.py": hidden, "staff/tests/test_x.py": hidden})) == 1
