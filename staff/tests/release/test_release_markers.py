"""Tests of markers, graded tests and the rubric."""

import dataclasses
import re

import pytest

from course import blanks, rubric
from small_runs import REPOSITORY
from staff.release import suites
from staff.release.markers import MarkerError, regions, solution_lines, template, without_staff

BLANK = '''def half(x):
    """Half of x."""
    # Q1.7: half of x.
    # Hint: two halves are a whole.
    # BEGIN SOLUTION Q1.7
    return x / 2  # exact
    # END SOLUTION


TEXT = """
# BEGIN SOLUTION Q1.8
"""
'''


# --- markers ----------------------------------------------------------------------------------------------------------


def test_a_blank_and_its_template():
    (region,) = regions(BLANK, "half.py")
    assert (region.begin, region.end, region.question, region.what) == (5, 7, "1.7", "half of x.")
    assert region.hint == "two halves are a whole."
    lines = template(BLANK, "half.py").splitlines()
    assert lines[2:6] == [
        "    # Q1.7: half of x.",
        "    # Hint: two halves are a whole.",
        '    raise NotImplementedError("Q1.7: half of x.")',
        "",
    ]
    assert lines[-2] == "# BEGIN SOLUTION Q1.8", "a marker in a string does not count"
    assert "    return x / 2  # exact\n" in template(BLANK, "half.py", filled=["1.7"])
    assert "SOLUTION Q1.7" not in template(BLANK, "half.py", filled=["1.7"])
    assert "return x / 2" not in template(BLANK, "half.py", filled=["1.8"])
    assert solution_lines(BLANK, "half.py") == {"return x / 2  # exact"}


def test_a_long_message_is_wrapped(tmp_path):
    what = 'a \\ and a " and ' + " ".join(["many words"] * 20) + "."
    text = BLANK.replace("    # Q1.7: half of x.\n", f"    # Q1.7: {what}\n")
    made = template(text, "half.py")
    assert max(map(len, made.split("raise")[1].splitlines())) <= 120
    (tmp_path / "half.py").write_text(made)
    (blank,) = blanks.find(tmp_path / "half.py", tmp_path)
    assert blank.question == "1.7" and blank.what == what
    assert (blank.hint, blank.where) == ("two halves are a whole.", "half")
    names = {}
    exec(made, names)
    with pytest.raises(NotImplementedError, match=re.escape(what)):
        names["half"](1)


@pytest.mark.parametrize("comment", [True, False])
def test_blanks_are_found_open_and_filled_in(tmp_path, comment):
    """Blanks are found in the template, with or without the comment above them, and in the solution."""
    solved, file = BLANK.split("\n\nTEXT")[0], tmp_path / "half.py"
    cases = {template(solved, "x"): (True, 5), template(solved, "x", filled=["1.7"]): (False, 3), solved: (False, 3)}
    for text, (is_open, line) in cases.items():
        lines = [each for each in text.splitlines() if comment or not each.strip().startswith("# ")]
        file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())  # as some editors save files
        found = blanks.find_all(file, tmp_path)
        if comment:
            wanted = blanks.Blank("half.py", line, "1.7", "half of x.", "two halves are a whole.", "half", is_open)
            assert found == [wanted]
        else:
            assert found == [blanks.Blank("half.py", 3, "1.7", "half of x.", "", "half", True)] * is_open
        assert bool(blanks.find(file, tmp_path)) == is_open


def test_blanks_come_in_the_order_of_the_readme(course):
    found = [blank for part in course.rubric.parts.values() for blank in blanks.in_order(course.rubric, part)]
    assert len(found) == len(course.blanks) and not [blank for blank in found if blank.open or not blank.hint]
    files = list(dict.fromkeys((blank.question, blank.file.partition("/")[2]) for blank in found))
    table = (REPOSITORY / "template" / "README.md").read_text().partition("| | where | what |")[2]
    rows = re.findall(r"^\| (?:Q(\d\.\d))? *\| ([^|]*) \|", table, re.MULTILINE)
    listed, question = [], ""
    for named, cell in rows:
        question = named or question
        listed += [(question, path) for path in re.findall(r"`part\w+/(\w+\.py)`", cell)]
    assert files == listed, "the table in template/README.md has the same files in the same order"


WRONG_MARKS = {
    "4: this marker is inside the region": "# Q1.7: x\n# BEGIN SOLUTION Q1.7\nx = 1\n# BEGIN SOLUTION Q1.8\n",
    "2: this region is not closed": "# Q1.7: x\n# BEGIN SOLUTION Q1.7\nx = 1\n",
    "2: no region begins": "x = 1\n# END SOLUTION\n",
    "1: '# BEGIN SOLUTION' is not a marker": "# BEGIN SOLUTION\n",
    "1: '#BEGIN SOLUTION Q1.7' is not a marker": "#BEGIN SOLUTION Q1.7\n",
    "1: '# begin solution Q1.7' is not a marker": "# begin solution Q1.7\n",
    "3: '# END OF SOLUTION'": "# Q1.7: x\n# BEGIN SOLUTION Q1.7\n# END OF SOLUTION\n",
    "1: a marker must be on a line of its own": "x = 1  # BEGIN SOLUTION Q1.7\n",
    "5: this marker is not indented like the one at line 3": (
        "if True:\n    # Q1.7: x\n    # BEGIN SOLUTION Q1.7\n    x = 1\n# END SOLUTION\n"
    ),
    "2: this region is empty": "# Q1.7: x\n# BEGIN SOLUTION Q1.7\n\n# END SOLUTION\n",
    "2: needs a comment above it, '# Q1.7: ...'": "# Q1.8: x\n# BEGIN SOLUTION Q1.7\nx = 1\n# END SOLUTION\n",
    " is not valid Python": "x = (\n",
}


@pytest.mark.parametrize("message", WRONG_MARKS)
def test_wrong_marks_are_named(message):
    with pytest.raises(MarkerError, match=re.escape(f"part.py:{message}")):
        regions(WRONG_MARKS[message], "part.py")


def test_what_is_for_the_staff_alone():
    text = "a\n# BEGIN STAFF\nb\n# END STAFF\nc\n<!-- BEGIN STAFF -->\nd\n<!-- END STAFF -->\ne\n"
    assert without_staff(text, "x.md") == "a\nc\ne\n"
    for wrong, message in {
        "# END STAFF\n": "x.md:1: no block is open",
        "a\n# BEGIN STAFF\n": "x.md:2: is not closed",
        "# BEGIN STAFF\n# BEGIN STAFF\n": "x.md:2: the block at line 1 is still open",
    }.items():
        with pytest.raises(MarkerError, match=message):
            without_staff(wrong, "x.md")


# --- graded tests and the rubric --------------------------------------------------------------------------------------

SUITE = """import pytest


@pytest.mark.question("1.7", points=0.5)
def test_one():
    assert True


@pytest.mark.question("2.5", points=1, needs=["2.4", "VAE.sample"])
def test_two():
    assert True
"""


def test_graded_tests_are_read():
    one, two = suites.graded_tests(SUITE, "test_x.py")
    assert (one.name, one.question, one.points, one.hidden, one.needs, one.first) == (
        "test_one",
        "1.7",
        0.5,
        False,
        (),
        4,
    )
    assert (two.question, two.points, two.hidden, two.needs) == ("2.5", 1, False, ("2.4",))
    assert (one.functions, two.functions) == ((), ("VAE.sample",))
    assert all(test.hidden for test in suites.graded_tests(SUITE, "staff/hidden/test_x.py"))


@pytest.mark.parametrize(
    "wrong, message",
    {
        '@pytest.mark.question("1.7")': "test_one has no points",
        '@pytest.mark.question("1.7", points=0)': "test_one has no points",
        '@pytest.mark.question("1.7", points=-1)': "test_one has no points",
        '@pytest.mark.question("1.7", points=0.5, secret=True)': "not secret",
        '@pytest.mark.question("1.7", points=0.5, hidden=True)': "not hidden",
        '@pytest.mark.question("1.7", points=POINTS)': "cannot be read",
        "@pytest.mark.slow": "test_one has no question",
    }.items(),
)
def test_a_graded_test_without_points_is_named(wrong, message):
    text = SUITE.replace('@pytest.mark.question("1.7", points=0.5)', wrong)
    with pytest.raises(MarkerError, match=f"^test_x.py:5: .*{re.escape(message)}"):
        suites.graded_tests(text, "test_x.py")


@pytest.mark.parametrize("wrong", ["class TestIt:\n    ", "def helper():\n    "])
def test_a_graded_test_in_a_class_or_function_is_named(wrong):
    for inside in ("def test_in():", "async def test_in():"):
        with pytest.raises(MarkerError, match="^test_x.py:15: test_in is in a class or another function"):
            suites.graded_tests(f"{SUITE}\n\n{wrong}{inside}\n        pass\n", "test_x.py")


@pytest.mark.parametrize(
    "mark",
    ["mark.skip", "mark.skip(reason='later')", "mark.skipif(True, reason='x')", "mark.xfail", "mark.slow"]
    + ["mark.parametrize('x', [1, 2])"],
)
def test_a_graded_test_that_may_not_run_or_runs_twice_is_named(mark):
    text = SUITE.replace("def test_two", f"@pytest.{mark}\ndef test_two")
    with pytest.raises(
        MarkerError, match=re.escape(f"test_x.py:11: test_two has @pytest.{mark}: a graded test must always run")
    ):
        suites.graded_tests(text, "test_x.py")


@pytest.mark.parametrize("line", ["pytest.skip('later')", "pytest.importorskip('jax')", "pytest.xfail('later')"])
def test_a_graded_suite_that_skips_is_named(line):
    with pytest.raises(
        MarkerError, match=rf"^test_x.py:12: {re.escape(line.partition('(')[0])}: a graded test must always run"
    ):
        suites.graded_tests(f"{SUITE}    {line}\n", "test_x.py")
    with pytest.raises(MarkerError, match="^test_x.py:14: pytestmark: "):
        suites.graded_tests(f"{SUITE}\n\npytestmark = [pytest.mark.slow]\n", "test_x.py")


def test_rubric_blanks_and_tests_agree(course):
    assert sum(part.points for part in course.rubric.parts.values()) == 66
    assert [part.points for part in course.rubric.parts.values()] == [34, 22, 10]
    assert sum(test.points for test in course.tests) == 24
    assert course.questions() == ["1.7", "1.8", "1.9", "2.4", "2.5", "3.2", "3.3"]
    assert 0 < sum(test.points for test in course.tests if test.hidden) < 2


def test_disagreements_are_named(course):
    def problems(**changes) -> str:
        changed = dataclasses.replace(course, **changes)
        return "\n".join(suites.disagreements(changed.rubric, changed.blanks, changed.tests))

    assert problems() == ""
    first = course.blanks[0]
    unknown = dataclasses.replace(first, question="1.10")
    assert f"{first.file}:{first.begin}: the rubric has no question 1.10" in problems(blanks=[*course.blanks, unknown])
    without_hint = [dataclasses.replace(first, hint=""), *course.blanks[1:]]
    assert problems(blanks=without_hint) == (
        f"{first.file}:{first.begin}: the comment above this blank gives no hint: '# Hint: ...'"
    )
    elsewhere = dataclasses.replace(first, file="part2_aae/utils.py")
    assert f"{elsewhere.file}:{first.begin}: this blank for question {first.question} is in the wrong part" in problems(
        blanks=[*course.blanks, elsewhere]
    )
    untested = [test for test in course.tests if test.question != "1.8"]
    place = next(blank for blank in course.blanks if blank.question == "1.8")
    assert f"{place.file}:{place.begin}: this blank for question 1.8 has no graded test" in problems(tests=untested)
    test = course.tests[0]
    dearer = [dataclasses.replace(test, points=test.points + 1), *course.tests[1:]]
    assert "question 1.7 has 8 automatic points, but its graded tests add up to 9" in problems(tests=dearer)
    strange = [*course.tests, dataclasses.replace(test, question="9.9")]
    assert f"{test.file}:{test.first}: {test.name}: the rubric has no question 9.9" in problems(tests=strange)
    needs = [*course.tests[1:], dataclasses.replace(test, needs=("9.9",))]
    assert "the rubric has no question 9.9" in problems(tests=needs)
    needs = [*course.tests, dataclasses.replace(test, name="test_new", functions=("VAE.sam", "VAE.sample", "VAE"))]
    assert f"{test.file}:{test.first}: test_new needs VAE.sam, which has no blank" in problems(tests=needs)
    assert "needs VAE.sample" not in problems(tests=needs) and "needs VAE," not in problems(tests=needs)
    twin = dataclasses.replace(course.tests[-1], name=test.name)
    assert f"{twin.file}:{twin.first}: {test.name} is also in {test.file}:{test.first}: rename one" in problems(
        tests=[*course.tests[:-1], twin]
    )
    empty = [blank for blank in course.blanks if blank.question != "3.3"]
    assert "question 3.3 has automatic points, but no blank" in problems(blanks=empty)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("points = 34", "points = 35", "part 1 has 35 points, but its questions have 34"),
        (
            "automatic = 8",
            "automatic = 7",
            "question 1.7 has 12 points, but automatic 7, evidence 2 and manual 2 do not",
        ),
        ("automatic = 8\n", "automatic = 9\nsecret = 1\n", "secret"),
        ('id = "1.2"', 'id = "1.1"', "question 1.1 is defined twice"),
        ('id = "3.3"', 'id = "4.3"', "there is no part 4"),
        ('id = "1.1"', 'id = "1"', "an id has the form"),
        ('edition = "2023"', "", "'edition' is missing"),
        ('year = "2026"', "", "'year' is missing"),
        ('edition = "2023"', 'edition = "2024"', "edition = '2024': should be 2022 or 2023"),
        ('editions = ["2022"]', 'editions = "2022"', "editions = '2022': should be a list of strings"),
        ('folder = "part2_aae"\n', "", "part 2: `folder` and `logs` go together"),
        ('folder = "part2_aae"\nlogs = "aae"\n', "", "part 2 has no `folder`, but question 2.4 needs code or runs"),
        ('year = "2026"', 'year = "2026', "rubric.toml: "),
        ('year = "2026"', 'year = "2026"\nmonth = 1', "unknown: month"),
        ("points = 34", 'points = "34"', "part 1: points = '34': should be a number"),
        ("points = 2\n", 'points = "2"\n', "question 1.1: points = '2': should be a number"),
        ("manual = 2", "manual = true", "question 1.1: manual = True: should be a number"),
        ('id = "1.1"', "id = 1.1", "question 1.1: id = 1.1: should be a string"),
        ("number = 1", 'number = "1"', "part 1: number = '1': should be an integer"),
        ("runs = [{ z_dim = 20", "runs = [20, { z_dim = 20", "question 1.7: runs = [20, "),
        (
            "at = [0, 10, 80]",
            "at = [0, 10.5]",
            "show 1.8: at = [0, 10.5]: should be a list, each element an integer or",
        ),
        ("doubt = 0.42", 'doubt = "0.42"', "evidence 1.7: doubt = '0.42': should be a number"),
        (
            'where = ["part3_gpt"]',
            'where = "part3_gpt"',
            "forbidden torch.distributions: where = 'part3_gpt': ",
        ),
        ("group_size = 2", 'group_size = "2"', "group_size = '2': should be an integer"),
        ('title = "Variational autoencoders"\n', "", "part 1: title is missing"),
        (
            'id = "1.1"\n',
            'id = "1.1"\nsecret = 1\n',
            "question 1.1: unknown field secret; the fields are id, title, points",
        ),
        ("full = 0.55\nhalf = 0.60\ndoubt", "doubt", "evidence of question 1.7: bpd needs `full`"),
        ("[[part]]\nnumber = 1", "forbidden = 3\n[[part]]\nnumber = 1", "rubric.toml: "),
    ],
)
def test_a_rubric_that_does_not_add_up(tmp_path, old, new, message):
    text = rubric.PATH.read_text()
    assert old in text
    (tmp_path / "rubric.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(rubric.RubricError, match=re.escape(message)):
        rubric.read(tmp_path / "rubric.toml")
