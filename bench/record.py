"""Results of a measurement: numbers and goals, tables, notes and plots, stored as JSON and shown as Markdown."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from course.files import write_whole

ABOUT = 0.15  # the relative distance from a goal within which a number counts as "about" the goal
RELATIONS = {
    "at most": lambda value, goal: value <= goal,
    "at least": lambda value, goal: value >= goal,
    "below": lambda value, goal: value < goal,
    "about": lambda value, goal: abs(value - goal) <= ABOUT * goal,
}


class RecordError(Exception):
    """Raised when a results file cannot be read; the message names the file."""


def significant(value: float, digits: int = 3) -> float:
    """Round to `digits` significant digits."""
    return float(f"{value:.{digits}g}")


@dataclass(frozen=True)
class Row:
    """A number, rounded as shown, and its goal, such as "at most" 2; without a goal, `relation` and `goal` are None.

    Raises:
        ValueError: the relation is not in RELATIONS, or only one of goal and relation is given.
    """

    measure: str
    value: float
    unit: str = ""
    goal: float | None = None
    relation: str | None = None

    def __post_init__(self):
        if (self.goal is None) != (self.relation is None) or self.relation not in (None, *RELATIONS):
            raise ValueError(f"{self.measure}: goal {self.goal}, {self.relation!r}; choose from {', '.join(RELATIONS)}")

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if there is no goal."""
        return RELATIONS[self.relation](self.value, self.goal) if self.relation else None

    @property
    def shown(self) -> str:
        return f"{self.value:g} {self.unit}".strip()

    @property
    def wanted(self) -> str:
        return f"{self.relation} {self.goal:g}" if self.relation else ""


@dataclass(frozen=True)
class Table:
    """A Markdown table; its cells are printed unchanged."""

    head: list[str]
    rows: list[list[str]]


@dataclass
class Record:
    """The results of one measurement.

    Args:
        title: heading of the table of `rows`.
        made: the command, date, machine and versions, in Markdown.
        notes: text below the tables, in Markdown.
        plots: name of a PNG file next to the record -> its caption.
        pictures: name of a PNG file -> its bytes, for `write`; not stored in the JSON.
    """

    title: str = ""
    rows: list[Row] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: str = ""
    plots: dict[str, str] = field(default_factory=dict)
    made: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)

    def markdown(self, folder: str = "") -> str:
        """Return the header line, the tables, the notes and the plots as Markdown.

        Args:
            folder: path to the plots, relative to the page that will contain the text, with a trailing slash.
        """
        blocks = [self.made.strip(), *(markdown_table(table.head, table.rows) for table in self.tables)]
        if self.rows:
            cells = [[row.measure, row.shown, row.wanted] for row in self.rows]
            blocks.append(markdown_table([self.title, "obtained", "goal"], cells))
        blocks.append(self.notes.strip())
        blocks += [f"![{what}]({folder}{file})" for file, what in self.plots.items()]
        return "\n\n".join(block for block in blocks if block) + "\n"

    def write(self, folder: Path, name: str) -> Path:
        """Write NAME.json, NAME.md and the plots; return the path of NAME.md.

        Raises:
            OSError: a file cannot be written.
        """
        for file, content in self.pictures.items():
            write_whole(folder / file, content)
        content = {key: value for key, value in asdict(self).items() if key != "pictures"}
        write_whole(folder / f"{name}.json", json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")
        return write_whole(folder / f"{name}.md", self.markdown().encode())


def read(path: Path) -> Record:
    """Read the record from a JSON file.

    Raises:
        RecordError: the file cannot be read, or does not contain a record.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        rows = [Row(**row) for row in content.pop("rows")]
        tables = [Table(**table) for table in content.pop("tables")]
        return Record(rows=rows, tables=tables, **content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"{path}: not a result of `python -m bench`, or damaged: {error!r}") from error


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])
