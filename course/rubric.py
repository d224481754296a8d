"""The points of the assignment: `rubric.toml`, read and added up."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PATH = Path(__file__).with_name("rubric.toml")


class RubricError(Exception):
    """The rubric does not add up; the message has the file and what to change."""


@dataclass(frozen=True)
class Part:
    """A part of the assignment: its folder, the folder of its runs in logs/, and its points."""

    number: int
    title: str
    folder: str
    logs: str
    points: float


@dataclass(frozen=True)
class Question:
    """A question: its points, and how they are given (see rubric.toml). `runs`: flags of runs to be handed in."""

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
        """Automatic, evidence, manual."""
        return self.automatic, self.evidence, self.manual


@dataclass(frozen=True)
class Rubric:
    """All of it: the edition (a stamp), parts by their number and questions by their id, in their order."""

    edition: str
    parts: dict[int, Part]
    questions: dict[str, Question]


def read(path: Path = PATH) -> Rubric:
    """Read and check the rubric.

    Raises:
        RubricError: it cannot be read, a field is missing, unknown or given twice, or points do not add up.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
        parts = [Part(**fields) for fields in content.pop("part")]
        questions = [Question(**fields) for fields in content.pop("question")]
        edition = content.pop("edition")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError) as error:
        raise RubricError(f"{path}: {error}") from error
    except KeyError as error:
        raise RubricError(f"{path}: {error} is missing") from error
    problems = [f"unknown: {name}" for name in content]
    problems += _of_questions(parts, questions)
    for part in parts:
        total = sum(question.points for question in questions if question.part == part.number)
        if total != part.points:
            problems.append(f"part {part.number} has {part.points:g} points, its questions {total:g}")
    if problems:
        raise RubricError(f"{path}: {'; '.join(problems)}")
    return Rubric(str(edition), {part.number: part for part in parts}, {each.id: each for each in questions})


def _of_questions(parts: list[Part], questions: list[Question]) -> list[str]:
    problems, seen = [], set()
    for question in questions:
        number, dot, rest = question.id.partition(".")
        if not (dot and number.isdecimal() and rest.isdecimal()):
            return [f'question {question.id!r}: an id is like "1.7"']
        if question.part not in {part.number for part in parts}:
            problems.append(f"question {question.id}: there is no part {question.part}")
        if question.id in seen:
            problems.append(f"question {question.id} stands there twice")
        seen.add(question.id)
        shares = question.shares()
        if sum(shares) != question.points or min(shares) < 0:
            of = "automatic {:g}, evidence {:g}, manual {:g}".format(*shares)
            problems.append(f"question {question.id} has {question.points:g} points: {of} do not add up to that")
    return problems
