"""Read the graded tests from the suites, and check that the rubric, blanks and tests agree."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from course.rubric import Rubric
from staff.release.editions import belongs
from staff.release.markers import MarkerError, Region

HIDDEN = "staff/hidden"  # the graded tests that students do not get
# marks and calls that keep a graded test from running, or run it several times and count its points each time
MARKS = ("skip", "skipif", "xfail", "slow", "parametrize")
CALLS = ("pytest.skip", "pytest.xfail", "pytest.importorskip")


@dataclass(frozen=True)
class GradedTest:
    """A test with points: `@pytest.mark.question("2.5", points=0.5, needs=["2.4", "AdversarialAE.sample"])`.

    hidden: whether it is in staff/hidden, which students do not get.
    needs: other questions that must be solved before it can pass.
    first, last: its first and last lines, including the decorators.
    functions: the functions whose blanks it needs, for its own question and earlier ones.
    """

    file: str
    name: str
    question: str
    points: float
    hidden: bool
    needs: tuple[str, ...]
    first: int
    last: int
    functions: tuple[str, ...] = ()


def graded_tests(text: str, file: str) -> list[GradedTest]:
    """Return the graded tests of a suite.

    Raises:
        MarkerError: a test has no question, no points, or a mark that cannot be read.
    """
    tree = ast.parse(text, file)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node not in functions:
            if node.name.startswith("test_") or any("mark.question" in ast.unparse(d) for d in node.decorator_list):
                raise MarkerError(f"{file}:{node.lineno}: {node.name} is in a class or another function; move it out")
        elif isinstance(node, ast.Assign) and "pytestmark" in map(ast.unparse, node.targets):
            raise MarkerError(f"{file}:{node.lineno}: pytestmark: the question must be a graded test's only mark")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            raise MarkerError(f"{file}:{node.lineno}: {ast.unparse(node.func)}: a graded test must always run")
    tests = [function for function in functions if function.name.startswith("test_")]
    return [_graded_test(test, file) for test in tests]


def _graded_test(function: ast.FunctionDef, file: str) -> GradedTest:
    marks = [
        mark
        for mark in function.decorator_list
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.question"
    ]
    place = f"{file}:{function.lineno}: {function.name}"
    if len(marks) != 1:
        raise MarkerError(f'{place} has no question: @pytest.mark.question("1.7", points=0.5)')
    for mark in map(ast.unparse, function.decorator_list):
        if mark.partition("(")[0].removeprefix("pytest.mark.") in MARKS:
            raise MarkerError(f"{place} has @{mark}: a graded test must always run, exactly once")
    try:
        (question,) = (ast.literal_eval(value) for value in marks[0].args)
        fields = {keyword.arg: ast.literal_eval(keyword.value) for keyword in marks[0].keywords}
        points, needs = fields.pop("points", 0), tuple(fields.pop("needs", ()))
    except (ValueError, TypeError) as error:
        raise MarkerError(f"{place}: its mark cannot be read: {error}") from error
    if fields:
        raise MarkerError(f"{place}: its mark takes only points and needs, not {', '.join(map(str, fields))}")
    if not isinstance(points, int | float) or not points > 0:
        raise MarkerError(f"{place} has no points")
    first = min(decorator.lineno for decorator in function.decorator_list)
    questions = tuple(each for each in needs if each[:1].isdigit())
    functions = tuple(each for each in needs if each not in questions)
    hidden, last = file.startswith(HIDDEN), function.end_lineno
    return GradedTest(file, function.name, question, points, hidden, questions, first, last, functions)


def disagreements(rubric: Rubric, blanks: Iterable[Region], tests: Iterable[GradedTest]) -> list[str]:
    """Return a line for each inconsistency, with the file and line number if possible."""
    blanks, tests = list(blanks), list(tests)
    problems = []
    for blank in blanks:
        place = f"{blank.file}:{blank.begin}"
        if blank.question not in rubric.questions:
            problems.append(f"{place}: the rubric has no question {blank.question}")
        elif not blank.file.startswith(f"{rubric.parts[rubric.questions[blank.question].part].folder}/"):
            problems.append(f"{place}: this blank for question {blank.question} is in the wrong part")
        elif blank.question not in {test.question for test in tests}:
            problems.append(f"{place}: this blank for question {blank.question} has no graded test")
        if not blank.hint:
            problems.append(f"{place}: the comment above this blank gives no hint: '# Hint: ...'")
    first: dict[str, GradedTest] = {}
    for test in tests:
        other = first.setdefault(test.name, test)
        if other is not test:
            problems.append(f"{test.file}:{test.first}: {test.name} is also in {other.file}:{other.first}: rename one")
        for question in (test.question, *test.needs):
            if question not in rubric.questions:
                problems.append(f"{test.file}:{test.first}: {test.name}: the rubric has no question {question}")
        for name in test.functions:
            if not any(f"{blank.where}.".startswith(f"{name}.") for blank in blanks):
                problems.append(f"{test.file}:{test.first}: {test.name} needs {name}, which has no blank")
    for question in rubric.questions.values():
        earned = sum(test.points for test in tests if test.question == question.id)
        if earned != question.automatic:
            problems.append(
                f"course/rubric.toml: question {question.id} has {question.automatic:g} automatic points, "
                f"but its graded tests add up to {earned:g}"
            )
        if question.automatic and question.id not in {blank.question for blank in blanks}:
            problems.append(f"course/rubric.toml: question {question.id} has automatic points, but no blank")
    return problems


def not_written(rubric: Rubric, root: Path) -> list[str]:
    """Return the outputs of runs that the rubric requires but the parts' source code does not write."""
    problems = []
    for part in rubric.with_code:
        nodes = [node for path in (root / part.folder).rglob("*.py") for node in ast.walk(_parsed(path, root))]
        words = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        words |= {word.rpartition("/")[2] for word in words}  # metrics are logged as train/bpd, or f"{stage}/bpd"
        drawn = {0, "last"} | {epoch for node in nodes for epoch in _epochs(node)}
        names = {number.name: f"number {number.name}" for number in rubric.numbers if number.part == part.number}
        for show in rubric.shows:
            if rubric.questions[show.question].part != part.number:
                continue
            names |= {name: f"question {show.question}: {name}" for name in (*show.figures, *show.texts)}
            late = [epoch for epoch in show.at if epoch not in drawn]
            problems += [f"question {show.question}: {part.folder} draws nothing at epoch {each}" for each in late]
        problems += [f"{what} does not occur in {part.folder}" for name, what in names.items() if name not in words]
    return [f"course/rubric.toml: {problem}" for problem in problems]


def _epochs(node: ast.AST) -> tuple[int, ...]:
    """Return the epochs in a node such as `epochs = (10, 80)`, which is part of the class for a part's figures."""
    match node:
        case ast.Assign(targets=[ast.Name("epochs")], value=ast.Tuple() as value):
            return ast.literal_eval(value)
    return ()


def _parsed(path: Path, root: Path) -> ast.AST:
    try:
        return ast.parse(path.read_text("utf-8"))
    except SyntaxError as error:
        raise MarkerError(f"{path.relative_to(root).as_posix()}: is not valid Python: {error}") from error


def suites(root: Path, part: int | None = None, edition: str | None = None) -> list[Path]:
    """Return the files of graded tests for one or all parts: first the public ones, then the hidden ones.

    Args:
        edition: leave out the files that this edition does not have.
    """
    names = f"test_part{part or ''}*.py"
    found = [path for folder in ("tests", HIDDEN) for path in sorted((root / folder).glob(names))]
    return [path for path in found if not edition or belongs(path.relative_to(root).as_posix(), edition)]
