"""Read the model answers to the written questions from `answers.toml`; check them against the rubric and handout."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from course import rubric as rubrics
from course.rubric import Rubric
from staff.release.handout import Handout

PATH = Path(__file__).with_name("answers.toml")
CITED = re.compile(r"\s*\[([^\]]+)\](?=\.)")


class AnswersError(Exception):
    """The model answers cannot be read; the message names the file and the problem."""


@dataclass(frozen=True)
class Credit:
    """An element of an answer that earns some of the question's points."""

    points: float
    earned: str


@dataclass(frozen=True)
class Mistake:
    """A common answer that is wrong or incomplete: what it says, the points that it earns on its own, and why."""

    says: str
    worth: float
    because: str


@dataclass(frozen=True)
class ModelAnswer:
    """The model answer to a question, one sentence per line; answers.toml explains the fields."""

    id: str
    answer: str
    credit: list[Credit]
    mistakes: list[Mistake]
    words: int | None = None

    def sentences(self) -> list[str]:
        return self.answer.strip().splitlines()

    def citations(self) -> list[str]:
        """Return the sections, equations, figures and exercises of the handout that the answer cites."""
        return [each for group in CITED.findall(self.answer) for each in group.split("; ")]

    def plain(self) -> list[str]:
        """Return the sentences as a student could have written them, without the citations."""
        return [CITED.sub("", sentence) for sentence in self.sentences()]


def read(path: Path = PATH, edition: str | None = None) -> dict[str, ModelAnswer]:
    """Return the model answers, by question.

    Args:
        edition: the edition of the assignment (default: the rubric's).

    Raises:
        AnswersError: the file cannot be read, a field is missing or unknown, or a question occurs twice.
    """
    try:
        edition = edition or rubrics.read().edition
        tables = tomllib.loads(path.read_text("utf-8"))["question"]
        answers = [_answer(fields) for fields in tables if edition in fields.pop("editions", [edition])]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError) as error:
        raise AnswersError(f"{path}: {error}") from error
    except KeyError as error:
        raise AnswersError(f"{path}: {error} is missing") from error
    by_id = {answer.id: answer for answer in answers}
    if len(by_id) < len(answers):
        ids = [answer.id for answer in answers]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise AnswersError(f"{path}: duplicate questions: {', '.join(twice)}")
    return by_id


def _answer(fields: dict) -> ModelAnswer:
    credit = [Credit(**each) for each in fields.pop("credit")]
    return ModelAnswer(credit=credit, mistakes=[Mistake(**each) for each in fields.pop("mistake")], **fields)


def disagreements(answers: dict[str, ModelAnswer], rubric: Rubric, handout: Handout) -> list[str]:
    """List where model answers disagree with the rubric's manual points or cite something missing from the handout."""
    manual = {question.id: question.manual for question in rubric.questions.values() if question.manual}
    problems = [f"question {name} has manual points, but no model answer" for name in manual.keys() - answers.keys()]
    for name, answer in answers.items():
        problems += [f"question {name}: {problem}" for problem in _problems(answer, manual.get(name), handout)]
    return [f"staff/marking/{PATH.name}: {problem}" for problem in sorted(problems)]


def _problems(answer: ModelAnswer, points: float | None, handout: Handout) -> list[str]:
    if points is None:
        return ["the rubric has no manual points for it"]
    problems = []
    if (total := sum(credit.points for credit in answer.credit)) != points:
        problems.append(f"credit adds up to {total:g} points, but the rubric has {points:g} manual ones")
    problems += [
        f"{mistake.says!r} is worth {mistake.worth:g}; it should be at least 0 and below {points:g}"
        for mistake in answer.mistakes
        if not 0 <= mistake.worth < points
    ]
    problems += [f"has no citation: {each}" for each in answer.sentences() if not re.search(r"\[[^\]]+\]\.$", each)]
    problems += [f"there is no {each} in the handout" for each in answer.citations() if not handout.has(each)]
    if (words := len(" ".join(answer.plain()).split())) > (answer.words or words):
        problems.append(f"the answer has {words} words; the limit is {answer.words}")
    return problems
