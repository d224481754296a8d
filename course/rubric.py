"""Read the points of the assignment from `rubric.toml`, and check that they add up."""

import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin

from course import editions

PATH = Path(__file__).with_name("rubric.toml")
CURVES = ("linear", "log")
KINDS = {float: "a number", int: "an integer", str: "a string", dict: "a table"}
EVIDENCE = ("bpd", "reconstruction", "curves", "pictures")


class RubricError(Exception):
    """The rubric is inconsistent; the message names the file and says what to change."""


@dataclass(frozen=True)
class Part:
    """A part of the assignment: its points, its folder, and the folder of its runs in logs/.

    A part that consists of written answers has neither folder.
    """

    number: int
    title: str
    points: float
    folder: str | None = None
    logs: str | None = None


@dataclass(frozen=True)
class Question:
    """A question: its points and how they are awarded (see rubric.toml), and `runs`, flags of the runs to hand in."""

    id: str
    title: str
    points: float
    automatic: float = 0
    evidence: float = 0
    manual: float = 0
    runs: list[dict] = field(default_factory=list)

    @property
    def part(self) -> int:
        return int(self.id.split(".")[0])

    def shares(self) -> tuple[float, float, float]:
        """Return the automatic, evidence and manual points."""
        return self.automatic, self.evidence, self.manual


@dataclass(frozen=True)
class Show:
    """The outputs that a question requires from a run; rubric.toml explains the fields."""

    question: str
    run: int | None = None
    number: str | None = None
    expected: str = ""
    figures: list[str] = field(default_factory=list)
    at: list[int | str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def runs(self, question: Question) -> list[dict]:
        """Return the flags of matching runs, any one of which is sufficient; {} matches any run of the part."""
        return question.runs[self.run - 1 : self.run] if self.run else question.runs or [{}]


@dataclass(frozen=True)
class Number:
    """A number that a part's runs record for each epoch; rubric.toml explains the fields."""

    part: int
    name: str
    unit: str
    curve: str | None = None
    source: str = ""


@dataclass(frozen=True)
class Evidence:
    """A condition that a submitted run must meet to earn points for a question; rubric.toml explains the fields."""

    question: str
    what: str
    points: float
    run: int = 1
    full: float | None = None
    half: float | None = None
    doubt: float | None = None
    pictures: list[str] = field(default_factory=list)
    at: list[int | str] = field(default_factory=list)


@dataclass(frozen=True)
class Forbidden:
    """A name that is forbidden in some folders or files, except in the `allowed` files, and the penalty, if any."""

    name: str
    where: list[str]
    allowed: list[str] = field(default_factory=list)
    question: str | None = None
    deduct: float = 0


@dataclass(frozen=True)
class Rubric:
    """The edition and the year, submission rules, parts by number, and questions by id, in order."""

    edition: str
    year: str
    parts: dict[int, Part]
    questions: dict[str, Question]
    forbidden: list[Forbidden]
    evidence: list[Evidence] = field(default_factory=list)
    shows: list[Show] = field(default_factory=list)
    numbers: list[Number] = field(default_factory=list)
    deadline: str = ""
    hand_in: str = ""
    group_size: int = 1

    @property
    def with_code(self) -> list[Part]:
        """Return the parts that have a folder."""
        return [part for part in self.parts.values() if part.folder]


def read(path: Path = PATH, edition: str | None = None) -> Rubric:
    """Read and check the rubric.

    Args:
        edition: the edition whose tables to read (default: the one named in the file).

    Raises:
        RubricError: the file cannot be read, a field is missing, unknown or duplicated, or points do not add up.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
        edition, year = editions.choose(content, edition), content.pop("year")
        parts, questions = _tables(content, Part), _tables(content, Question)
        forbidden, evidence = _tables(content, Forbidden), _tables(content, Evidence)
        shows, numbers = _tables(content, Show), _tables(content, Number)
        rules = _rules(content)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError) as error:
        raise RubricError(f"{path}: {error}") from error
    except KeyError as error:
        raise RubricError(f"{path}: {error} is missing") from error
    problems = [f"unknown: {name}" for name in content]
    problems += _of_questions(parts, questions) + _of_parts(parts, questions)
    problems += _of_evidence(evidence, questions)
    problems += _of_shows(shows, numbers, evidence, questions)
    for rule in forbidden:
        if rule.deduct and rule.question not in {question.id for question in questions}:
            problems.append(f"forbidden {rule.name}: deduct = {rule.deduct:g} needs a `question` to deduct from")
    for part in parts:
        total = sum(question.points for question in questions if question.part == part.number)
        if total != part.points:
            problems.append(f"part {part.number} has {part.points:g} points, but its questions have {total:g}")
    if problems:
        raise RubricError(f"{path}: {'; '.join(problems)}")
    by_id = {question.id: question for question in questions}
    by_number = {part.number: part for part in parts}
    return Rubric(edition, str(year), by_number, by_id, forbidden, evidence, shows, numbers, **rules)


def _tables(content: dict, kind: type) -> list:
    """Read the tables of one kind, such as [[part]] or [[question]].

    Raises:
        TypeError: a field is missing, unknown or of the wrong type.
        KeyError: the file has no [[part]] or no [[question]].
    """
    name = kind.__name__.lower()
    tables = content.pop(name) if kind in (Part, Question) else content.pop(name, [])
    if not _fits(tables, list[dict]):
        raise TypeError(f"{name}: should be tables that begin with [[{name}]]")
    return [kind(**_checked(table, kind, name)) for table in tables]


def _checked(table: dict, kind: type, name: str) -> dict:
    """Check that the fields of a table match the dataclass; return the table."""
    label = next((table[key] for key in ("id", "number", "question", "name") if key in table), "")
    known = {each.name: each for each in fields(kind)}
    what = f"{name} {label}".rstrip()
    if unknown := table.keys() - known.keys():
        raise TypeError(f"{what}: unknown field {', '.join(sorted(unknown))}; the fields are {', '.join(known)}")
    needed = [each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING]
    if missing := [field for field in needed if field not in table]:
        raise TypeError(f"{what}: {', '.join(missing)} is missing")
    for field_name, value in table.items():
        _check_type(value, known[field_name].type, f"{what}: {field_name}")
    return table


def _rules(content: dict) -> dict:
    """Remove the submission rules from the content, and return them."""
    known = {each.name: each.type for each in fields(Rubric)}
    rules = {name: content.pop(name) for name in ("deadline", "hand_in", "group_size") if name in content}
    for name, value in rules.items():
        _check_type(value, known[name], name)
    return rules


def _check_type(value: object, kind, what: str) -> None:
    if not _fits(value, kind):
        kinds = [each for each in get_args(kind) if each in KINDS] if isinstance(kind, UnionType) else [kind]
        wanted = " or ".join(KINDS[each] if each in KINDS else f"a list, {_listed(each)}" for each in kinds)
        raise TypeError(f"{what} = {value!r}: should be {wanted}")


def _listed(kind) -> str:
    """Describe the elements of a list, as in "each element a string"."""
    (element,) = get_args(kind)
    kinds = get_args(element) if isinstance(element, UnionType) else [element]
    return f"each element {' or '.join(KINDS[each] for each in kinds)}"


def _fits(value: object, kind) -> bool:
    """Return whether a value has a type, given as a dataclass annotation: float, str | None, list[int | str] ..."""
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(each, get_args(kind)[0]) for each in value)
    if isinstance(kind, UnionType):
        return any(_fits(value, each) for each in get_args(kind))
    return isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)


def _of_questions(parts: list[Part], questions: list[Question]) -> list[str]:
    problems, seen = [], set()
    for question in questions:
        number, dot, rest = question.id.partition(".")
        if not (dot and number.isdecimal() and rest.isdecimal()):
            return [f'question {question.id!r}: an id has the form "1.7"']
        if question.part not in {part.number for part in parts}:
            problems.append(f"question {question.id}: there is no part {question.part}")
        if question.id in seen:
            problems.append(f"question {question.id} is defined twice")
        seen.add(question.id)
        shares = question.shares()
        if sum(shares) != question.points or min(shares) < 0:
            of = "automatic {:g}, evidence {:g} and manual {:g}".format(*shares)
            problems.append(f"question {question.id} has {question.points:g} points, but {of} do not add up to that")
    return problems


def _of_parts(parts: list[Part], questions: list[Question]) -> list[str]:
    """Check that a part has both folders, or neither if it consists of written answers."""
    problems = []
    for part in parts:
        if bool(part.folder) != bool(part.logs):
            problems.append(f"part {part.number}: `folder` and `logs` go together")
        of_code = [each for each in questions if each.automatic or each.evidence or each.runs]
        problems += [
            f"part {part.number} has no `folder`, but question {question.id} needs code or runs"
            for question in of_code
            if question.part == part.number and not part.folder
        ]
    return problems


def _of_evidence(rules: list[Evidence], questions: list[Question]) -> list[str]:
    problems = []
    by_id = {question.id: question for question in questions}
    for rule in rules:
        question = by_id.get(rule.question)
        name = f"evidence of question {rule.question}"
        if question is None:
            problems.append(f"{name}: no such question")
        elif not 1 <= rule.run <= len(question.runs):
            problems.append(f"{name}: run = {rule.run}, but the question has no such run")
        elif rule.what in ("bpd", "reconstruction") and "z_dim" not in question.runs[rule.run - 1]:
            problems.append(f"{name}: its run needs a z_dim")
        if rule.what not in EVIDENCE:
            problems.append(f"{name}: what is {rule.what!r}, not one of {', '.join(EVIDENCE)}")
        elif (rule.what == "pictures") != (rule.full is None):
            problems.append(f"{name}: {rule.what} {'needs' if rule.full is None else 'has no'} `full`")
        if bool(rule.pictures) != bool(rule.at) or (rule.what == "pictures" and not rule.pictures):
            problems.append(f"{name}: `pictures` and `at` (epochs) go together")
        bounds = [bound for bound in (rule.doubt, rule.full, rule.half) if bound is not None]
        if bounds != sorted(bounds):
            problems.append(f"{name}: doubt, full and half must be in ascending order")
    for question in questions:
        total = sum(rule.points for rule in rules if rule.question == question.id)
        if total != question.evidence:
            problems.append(f"question {question.id}: evidence is {question.evidence:g}; [[evidence]] has {total:g}")
    return problems


def _of_shows(
    shows: list[Show], numbers: list[Number], evidence: list[Evidence], questions: list[Question]
) -> list[str]:
    problems = [
        f"number {each.name}: curve is {each.curve!r}, not one of {', '.join(CURVES)}"
        for each in numbers
        if each.curve not in (None, *CURVES)
    ]
    by_id = {question.id: question for question in questions}
    asked: set[tuple] = set()
    for show in shows:
        question, name = by_id.get(show.question), f"show of question {show.question}"
        if question is None:
            problems.append(f"{name}: no such question")
            continue
        if show.run is not None and not 1 <= show.run <= len(question.runs):
            problems.append(f"{name}: run = {show.run}, but the question has no such run")
        if show.number and show.number not in {each.name for each in numbers if each.part == question.part}:
            problems.append(f"{name}: part {question.part} has no [[number]] {show.number!r}")
        if show.expected and not show.number:
            problems.append(f"{name}: `expected` needs a `number`")
        if bool(show.figures) != bool(show.at):
            problems.append(f"{name}: `figures` and `at` (epochs) go together")
        if not all(type(epoch) is int and epoch >= 0 or epoch == "last" for epoch in show.at):
            problems.append(f'{name}: `at` is a list of epochs (0, 10, 80) or "last"')
        asked |= {(show.question, figure, epoch) for figure in show.figures for epoch in show.at}
    for rule in evidence:
        for key in ((rule.question, picture, epoch) for picture in rule.pictures for epoch in rule.at):
            if key[2] != "later" and key not in asked:
                problems.append("evidence of question {}: no [[show]] requires {} at epoch {}".format(*key))
    return problems
