"""The handout's chapters: their headings, questions, equations and figures, as other files cite them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from staff.release.markers import without_staff

FOLDER = "handout/"
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#{1,6}) +(.+?)\s*$", re.MULTILINE)
NUMBER = re.compile(r"([A-C0-9](?:\.\d+)*) (.+)")
QUESTION = re.compile(r"Question (\d+\.\d+) \((\d+(?:\.\d+)?) points?\)")
TAG = re.compile(r"\\tag\{([^}]+)\}")
FIGURE = re.compile(r"^\*\*Figure ([A-C]?\.?\d+)\.\*\*", re.MULTILINE)
ANCHOR = re.compile(r"""<a (?:id|name)=["']([^"']+)["']""")


@dataclass
class Handout:
    """The definitions in the chapters.

    sections: "1.2" and, for its subsections, "1.2 The likelihood of the data" -> the file
    questions: id -> the points at each place that defines the question
    equations, figures: label -> number of definitions
    """

    sections: dict[str, str] = field(default_factory=dict)
    exercises: set[str] = field(default_factory=set)
    questions: dict[str, list[float]] = field(default_factory=dict)
    equations: dict[str, int] = field(default_factory=dict)
    figures: dict[str, int] = field(default_factory=dict)

    def has(self, citation: str) -> bool:
        """Return whether "1.2", "1.2 The likelihood of the data", "Eq. 13", "Figure 2" or "Exercise 18" exists."""
        kind, _, label = citation.partition(" ")
        kinds = {"Eq.": self.equations, "Figure": self.figures, "Exercise": self.exercises}
        return label in kinds[kind] if kind in kinds else citation in self.sections


def read(texts: dict[str, str]) -> Handout:
    """Read the chapters.

    Args:
        texts: path -> text, for the whole tree.
    """
    handout = Handout()
    for file, text in chapters(texts):
        current = ""
        for _, title in headings(text):
            current = _heading(title, current, file, handout)
        for found, known in ((TAG, handout.equations), (FIGURE, handout.figures)):
            for label in found.findall(text):
                known[label] = known.get(label, 0) + 1
    return handout


def chapters(texts: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the handout's files as students get them: path and text."""
    for file, text in texts.items():
        if file.startswith(FOLDER) and file.endswith(".md"):
            yield file, without_staff(text, file)


def headings(text: str) -> list[tuple[int, str]]:
    """Return the level and title of each heading in a Markdown file."""
    return [(len(marks), title) for marks, title in HEADING.findall(FENCE.sub("", text))]


def _heading(title: str, current: str, file: str, handout: Handout) -> str:
    """Record a heading, and return the number of its section."""
    numbered = NUMBER.fullmatch(title)
    if numbered:
        current = numbered[1]
        handout.sections[current] = file
    elif current:
        handout.sections[f"{current} {title}"] = file
    if question := QUESTION.fullmatch(title):
        handout.questions.setdefault(question[1], []).append(float(question[2]))
    if title.startswith("Exercise "):
        handout.exercises.add(title.removeprefix("Exercise "))
    return current


def anchors(text: str) -> set[str]:
    """Return the anchors of a Markdown file, as GitHub generates them: from its headings and from HTML."""
    found: set[str] = set()
    for _, title in headings(text):
        name, count = slug(title), 0
        while (numbered := f"{name}-{count}" if count else name) in found:
            count += 1
        found.add(numbered)
    return found | set(ANCHOR.findall(text))


def slug(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)  # replace a link with its text
    return re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
