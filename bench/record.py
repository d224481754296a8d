"""What a measurement gives: numbers and their goals, tables, notes, plots; as JSON, and as Markdown made of that."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from course.files import write_whole

ABOUT = 0.15  # how far from its goal, in proportion, a number may be that is to be "about" it
RELATIONS = {
    "at most": lambda value, goal: value <= goal,
    "at least": lambda value, goal: value >= goal,
    "below": lambda value, goal: value < goal,
    "about": lambda value, goal: abs(value - goal) <= ABOUT * goal,
}


class RecordError(Exception):
    """A file of results cannot be read; the message names it."""


def significant(value: float, digits: int = 3) -> float:
    """Rounded to so many significant digits."""
    return float(f"{value:.{digits}g}")


@dataclass(frozen=True)
class Row:
    """A number, rounded to what is shown of it, and what is good: `relation` to `goal`, or None and None.

    Raises:
        ValueError: the relation is none of RELATIONS, or there is a goal without one.
    """

    measure: str
    value: float
    unit: str = ""
    goal: float | None = None
    relation: str | None = None

    def __post_init__(self):
        if (self.goal is None) != (self.relation is None) or self.relation not in (None, *RELATIONS):
            raise ValueError(f"{self.measure}: goal {self.goal}, {self.relation!r}; there are {', '.join(RELATIONS)}")

    @property
    def met(self) -> bool | None:
        """None: there is no goal."""
        return RELATIONS[self.relation](self.value, self.goal) if self.relation else None

    @property
    def shown(self) -> str:
        return f"{self.value:g} {self.unit}".strip()

    @property
    def wanted(self) -> str:
        return f"{self.relation} {self.goal:g}" if self.relation else ""


@dataclass(frozen=True)
class Table:
    """Cells that are shown as they are."""

    head: list[str]
    rows: list[list[str]]


@dataclass
class Record:
    """What one measurement gave.

    Args:
        title: of the table of the rows.
        made: the command, the date, the machine and the versions, in Markdown.
        notes: in Markdown.
        plots: name of a PNG beside the record -> what it shows.
        pictures: name of a PNG -> its bytes, as long as it is not written.
    """

    title: str = ""
    rows: list[Row] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: str = ""
    plots: dict[str, str] = field(default_factory=dict)
    made: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)

    def markdown(self, folder: str = "") -> str:
        """The header line, the tables, the notes, the plots.

        Args:
            folder: of the plots, with a slash at its end, as seen from where the text will stand.
        """
        blocks = [self.made.strip(), *(markdown_table(table.head, table.rows) for table in self.tables)]
        if self.rows:
            cells = [[row.measure, row.shown, row.wanted] for row in self.rows]
            blocks.append(markdown_table([self.title, "obtained", "goal"], cells))
        blocks.append(self.notes.strip())
        blocks += [f"![{what}]({folder}{file})" for file, what in self.plots.items()]
        return "\n\n".join(block for block in blocks if block) + "\n"

    def write(self, folder: Path, name: str) -> Path:
        """Write NAME.json, NAME.md and the plots -> NAME.md.

        Raises:
            OSError: they cannot be written.
        """
        for file, content in self.pictures.items():
            write_whole(folder / file, content)
        content = {key: value for key, value in asdict(self).items() if key != "pictures"}
        write_whole(folder / f"{name}.json", json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")
        return write_whole(folder / f"{name}.md", self.markdown().encode())


def read(path: Path) -> Record:
    """The record in a JSON file.

    Raises:
        RecordError: it is none.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        rows = [Row(**row) for row in content.pop("rows")]
        tables = [Table(**table) for table in content.pop("tables")]
        return Record(rows=rows, tables=tables, **content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"{path}: is no result of `python -m bench`, or damaged: {error!r}") from error


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])
