"""The feedback for a student: `feedback/STUDENT.md` and `.html`, generated from one result.

All text from a submission passes through `clean` and is then escaped by one of the two renderers. The pages have no
scripts and load nothing. A hidden test appears as a fixed sentence: neither its name nor its message is shown.
"""

import math
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from markupsafe import Markup

from course import pages
from course.rubric import Rubric
from staff.grading.ordinary import is_ordinary

SHARES = ("automatic", "evidence", "manual")
NAMES = {"automatic": "Tests", "evidence": "Runs handed in", "manual": "Written answer"}
HIDDEN_FAILED = "a hidden test failed"
HIDDEN_PASSED = "a hidden test passed"
MESSAGE = 2000  # maximum characters in a message
LINE = 200  # maximum characters in a name, a path or a sentence
MOST = 50  # maximum entries in a list
TEMPLATES = Path(__file__).with_name("templates")
SHORT = 24  # maximum characters in a cell that is never wrapped
ANSI = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)")
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn"}  # control, bidirectional and zero-width, surrogate, private-use, unassigned


# --- plain text -------------------------------------------------------------------------------------------------------


def clean(text: object, most: int = MESSAGE) -> str:
    """Make text safe to show: replace escape sequences and invisible characters with U+FFFD; cut it to length `most`.

    Line breaks and tabs are kept.
    """
    text = str(text)
    rest = len(text) - most
    text = ANSI.sub("\ufffd", text[:most].replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n"))
    shown = "".join(c if c in "\n\t" or unicodedata.category(c) not in UNSEEN else "\ufffd" for c in text)
    return f"{shown}... ({rest} more characters)" if rest > 0 else shown


def line(text: object, most: int = LINE) -> str:
    """Return the result of `clean` on a single line."""
    return " ".join(clean(text, most).split())


def number(value: float) -> str:
    """Format points or seconds: 7.5, 12."""
    return f"{round(value, 2):g}"


def figure(value: float | None) -> str:
    """Format a measured figure with four significant digits."""
    return "none" if value is None else f"{value:.4g}"


def known(question: dict) -> float:
    """Return the points earned so far on a question."""
    return round(math.fsum(question[share] for share in SHARES if question[share] is not None), 4)


def known_of(question: dict) -> float:
    """Return the points available for a question, excluding those that have not been judged yet."""
    return round(math.fsum(question[f"{share}_of"] - question[f"{share}_open"] for share in SHARES), 4)


# --- a page and its two formats ---------------------------------------------------------------------------------------


class Code(str):
    """Text to show verbatim: anything that comes from a submission."""


Text = str | list[str]  # a list: pieces of ordinary text and Code, in order


@dataclass(frozen=True)
class Heading:
    kind: ClassVar = "heading"
    level: int
    text: Text


@dataclass(frozen=True)
class Paragraph:
    kind: ClassVar = "paragraph"
    text: Text


@dataclass(frozen=True)
class Items:
    """A list. Only its first entries are shown."""

    kind: ClassVar = "items"
    items: list[Text]

    def shown(self) -> list[Text]:
        more = len(self.items) - MOST
        return [*self.items[:MOST], f"and {more} more"] if more > 0 else self.items


@dataclass(frozen=True)
class Message:
    """A multi-line message from a test or from the code."""

    kind: ClassVar = "message"
    text: str


@dataclass(frozen=True)
class Table:
    kind: ClassVar = "table"
    header: list[str]
    rows: list[list[Text]]


Block = Heading | Paragraph | Items | Message | Table


def as_markdown(blocks: list[Block]) -> str:
    """Render the blocks as Markdown (CommonMark with GitHub's tables), with all text escaped."""
    return "\n\n".join(_block_markdown(block) for block in blocks) + "\n"


def _block_markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_text_markdown(block.text)}"
    if isinstance(block, Paragraph):
        return _text_markdown(block.text)
    if isinstance(block, Items):
        return "\n".join(f"- {_text_markdown(item)}" for item in block.shown())
    if isinstance(block, Message):
        text = clean(block.text)
        fence = "`" * max(3, _longest_run(text) + 1)
        return f"{fence}text\n{text}\n{fence}"
    rows = [block.header, ["---"] * len(block.header), *block.rows]
    cells = [[cell if row is rows[1] else _text_markdown(cell, in_table=True) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _text_markdown(text: Text, in_table: bool = False) -> str:
    pieces = [text] if isinstance(text, str) else text
    return "".join(_code_span(each, in_table) if isinstance(each, Code) else _escaped(each) for each in pieces)


def _code_span(text: str, in_table: bool) -> str:
    text = line(text).replace("|", "¦") if in_table else line(text)  # a bar ends a cell, even in a code span
    fence = "`" * (_longest_run(text) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text or '-'}`"


def _escaped(text: str) -> str:
    """Escape ordinary text, so that it cannot become emphasis, a link, HTML, a mention or a list. Keep outer spaces."""
    text = re.sub(r"\s+", " ", clean(text))
    text = re.sub(r"[\\`*_\[\]{}<>|~&$#@!]|:(?=//)|(?<=www)\.|^[-+=]", r"\\\g<0>", text)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", text)


def as_html(blocks: list[Block]) -> Markup:
    """Render the blocks as HTML for `page`, with all text escaped."""
    functions = {"pieces": _pieces, "clean": clean, "is_short": _is_short}
    return Markup(pages.render("blocks.html", TEMPLATES, blocks=blocks, **functions))


def _pieces(text: Text) -> list[tuple[bool, str]]:
    """Split text into pieces, each a pair: whether it is code, and the cleaned text."""
    pieces = [text] if isinstance(text, str) else text
    return [(True, line(each)) if isinstance(each, Code) else (False, clean(each)) for each in pieces]


def _is_short(text: Text) -> bool:
    """Return whether text is plain and short enough for a cell that is never wrapped."""
    return isinstance(text, str) and len(text) <= SHORT


def page(title: str, body: Markup, template: str = "feedback.html", **more) -> str:
    """Return a complete HTML page around a body that is already escaped."""
    return pages.render(template, TEMPLATES, title=line(title), body=body, **more)


# --- the content ------------------------------------------------------------------------------------------------------


def markdown(result: dict, rubric: Rubric) -> str:
    """Return the feedback for a student as Markdown; `result` comes from `entries.apply`."""
    return as_markdown(_feedback(result, rubric))


def html_page(result: dict, rubric: Rubric) -> str:
    """Return the feedback for a student as an HTML page."""
    return page(f"Feedback: {result['student']}", as_html(_feedback(result, rubric)))


def _feedback(result: dict, rubric: Rubric) -> list[Block]:
    blocks = [Heading(1, ["Feedback for ", Code(result["student"])])]
    if result["status"] == "nothing":
        blocks.append(Paragraph("You handed in nothing."))
    elif result["status"] not in ("graded", "partly"):
        reason = clean(result["problem"] or "the reason is unknown")
        blocks.append(Paragraph(f"This submission could not be judged: {reason}"))
    if result["older"]:
        counted = ["Counted: ", Code(result["source"]), ". Handed in earlier, not counted: "]
        blocks.append(Paragraph([*counted, Code(", ".join(result["older"]))]))
    blocks += [Paragraph(_sum(result, rubric)), _points(result, rubric), *_by_people(result), *_remarks(result)]
    missing = missing_parts(result, rubric)
    for number in sorted(missing):
        part = rubric.parts[number]
        count = sum(is_of_part(test, number) for test in result["tests"])
        blocks += [
            Heading(2, f"Part {number}"),
            Paragraph(f"{part.folder} is missing, so its {count} tests could not run."),
        ]
    for question in rubric.questions:
        tests = [test for test in result["tests"] if test["question"] == question]
        blocks += _tests(question, [test for test in tests if not any(is_of_part(test, part) for part in missing)])
    return blocks + _evidence(result["evidence"])


def missing_parts(result: dict, rubric: Rubric) -> set[int]:
    """Return the numbers of the parts that are missing from a submission."""
    return {number for number, part in rubric.parts.items() if part.folder in result["missing"]}


def is_of_part(test: dict, number: int) -> bool:
    return test["question"].split(".")[0] == str(number)


def _sum(result: dict, rubric: Rubric) -> str:
    questions = result["questions"].values()
    total = number(math.fsum(map(known, questions)))
    of, all_of = number(math.fsum(map(known_of, questions))), sum(part.points for part in rubric.parts.values())
    rest = "" if of == number(all_of) else f"; the assignment has {number(all_of)} points, some not yet judged"
    return f"{total} of {of} points{rest}."


def _points(result: dict, rubric: Rubric) -> Table:
    header = ["Question", "Points", *NAMES.values(), "Title"]
    rows = []
    for name, question in result["questions"].items():
        shares = [_share(question, share) for share in SHARES]
        points = f"{number(known(question))} of {number(known_of(question))}" if known_of(question) else ""
        rows.append([f"Q{name}", points, *shares, rubric.questions[name].title])
    return Table(header, rows)


def _share(question: dict, share: str) -> str:
    points, of, left = question[share], question[f"{share}_of"], question[f"{share}_open"]
    if not of:
        return ""
    if points is None:
        return f"{number(of)}: judged by a person" if share == "manual" else f"{number(of)}: not judged"
    return f"{number(points)} of {number(of)}" + (f", {number(left)} not judged" if left else "")


def _by_people(result: dict) -> list[Block]:
    """List the points that people entered in place of the grader's, and their comments."""
    given: list[list[Text]] = [
        [
            f"Q{row['question']}",
            NAMES[row["share"]],
            f"{number(row['points'])} of {number(row['of'])}",
            "not judged" if row["before"] is None else number(row["before"]),
            row["reason"],
        ]
        for row in result.get("given", [])
        if row["share"] != "manual"
    ]
    comments: list[Text] = [f"Q{row['question']}: {row['comment']}" for row in result.get("comments", [])]
    header = ["Question", "For", "Points", "Instead of", "Reason"]
    blocks: list[Block] = [Heading(2, "Changed by a person"), Table(header, given)] if given else []
    return blocks + ([Heading(2, "Comments"), Items(comments)] if comments else [])


def _remarks(result: dict) -> list[Block]:
    """List anything unusual about the submission as a whole."""
    forbidden = [
        [Code(f"{use['file']}:{use['line']}"), " uses ", Code(use["name"]), _of_question(use["question"])]
        for use in result["forbidden"]
    ]
    lists = {
        "Problems": [[Code(problem)] for problem in result["problems"]],
        "Left out of your submission": [[Code(file)] for file in result["left_out"] if not is_ordinary(file)],
        "Forbidden names used": forbidden,
    }
    return [block for title, items in lists.items() if items for block in (Heading(2, title), Items(items))]


def _of_question(question: str | None) -> str:
    return f" (Q{question})" if question else ""


def _tests(question: str, tests: list[dict]) -> list[Block]:
    if not tests:
        return []
    seen = [test for test in tests if not test["hidden"] and test["outcome"] != "undecided"]
    passed = [test["name"] for test in seen if test["outcome"] == "passed"]
    blocks: list[Block] = [Heading(2, f"Q{question}: tests")]
    if passed:
        blocks += [Paragraph("Passed:"), Items([[Code(name)] for name in passed])]
    for test in seen:
        if test["outcome"] != "passed":
            blocks.append(Paragraph(["Failed: ", Code(test["name"]), f", worth {number(test['points'])}"]))
            blocks.append(Message(test["message"] or "no message"))
    if undecided := sum(test["outcome"] == "undecided" for test in tests):
        blocks.append(Paragraph(f"Not judged yet because the grader's machine was too busy: {undecided} tests."))
    unseen = [test["outcome"] == "passed" for test in tests if test["hidden"] and test["outcome"] != "undecided"]
    sentences: list[Text] = [HIDDEN_PASSED if good else HIDDEN_FAILED for good in sorted(unseen, reverse=True)]
    return blocks + ([Paragraph("Not shown:"), Items(sentences)] if sentences else [])


def _evidence(entries: list[dict]) -> list[Block]:
    if not entries:
        return []
    rows: list[list[Text]] = [
        [
            f"Q{entry['question']}",
            [Code(entry["what"])],
            [Code(entry["run"])],
            figure(entry["claimed"]),
            figure(entry["recomputed"]),
            _given(entry),
            [Code(entry["warning"])] if entry["warning"] else "",
        ]
        for entry in entries[:MOST]
    ]
    header = ["Question", "Figure", "Run", "Claimed", "Recomputed", "Points", "Warning"]
    return [Heading(2, "Runs that you handed in"), Table(header, rows)]


def _given(entry: dict) -> str:
    if entry["points"] is None:
        return f"{number(entry['of'])}: judged by a person"
    return f"{number(entry['points'])} of {number(entry['of'])}"
