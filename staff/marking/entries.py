"""The values that people entered, stored in OUT/manual.json. Nothing is ever deleted: earlier values are kept as well.

An entry is the value that a person typed for one student, question and kind: the points of a share, the reason for
replacing the grader's points, or a comment.
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from course.files import write_whole
from course.rubric import Rubric
from staff.grading.feedback import SHARES, line, number
from staff.grading.results import is_points

STORE = "manual.json"
TEXTS = ("reason", "comment")
KINDS = (*SHARES, *TEXTS)
LONGEST = 2000  # maximum characters per text
Value = float | str | None  # None: withdrawn
Place = tuple[str, str, str]  # student, question, kind


@dataclass(frozen=True)
class Entry:
    """A value that a person typed. `file`: the table that it was read from."""

    value: Value
    by: str
    file: str
    entered: str
    earlier: tuple["Entry", ...] = ()

    def replaced_by(self, new: "Entry") -> "Entry":
        """Return the new entry with this one added to its earlier values."""
        old = Entry(self.value, self.by, self.file, self.entered)
        return Entry(new.value, new.by, new.file, new.entered, (*self.earlier, old))


@dataclass
class Entries:
    """All entries. `form`: the text of the form as it was last written."""

    places: dict[Place, Entry] = field(default_factory=dict)
    form: str = ""

    def value(self, student: str, question: str, kind: str) -> Value:
        entry = self.places.get((student, question, kind))
        return None if entry is None else entry.value

    def of_group(self, student: str, group: list[str], question: str, kind: str) -> Entry | None:
        """Return a student's entry, or else the other group members' entry if theirs all agree."""
        if own := self.places.get((student, question, kind)):
            return own
        others = [entry for mate in group if (entry := self.places.get((mate, question, kind)))]
        return others[0] if len({entry.value for entry in others}) == 1 else None

    def students(self) -> set[str]:
        return {student for student, _, _ in self.places}

    def put(self, place: Place, new: Entry, replace: bool = False) -> str | None:
        """Store an entry. If another file has a different value for it, keep the old entry and report the conflict."""
        old = self.places.get(place)
        if old is None:
            self.places[place] = new
        elif old.value != new.value:
            if not replace and old.file != new.file:
                student, question, kind = place
                return (
                    f"{line(student)}: Q{question} {kind}: {shown(new.value)} in {new.file}, {shown(old.value)} in "
                    f"{old.file}; make them agree, or use --replace to let the new files win"
                )
            self.places[place] = old.replaced_by(new)
        return None

    def without_reason(self) -> Iterator[str]:
        """Yield a sentence for each entry that replaces the grader's points without a reason for the student."""
        for (student, question, kind), entry in sorted(self.places.items()):
            if kind in ("automatic", "evidence") and entry.value is not None:
                if not self.value(student, question, "reason"):
                    yield f"{line(student)}: Q{question} {kind}: needs a reason in the column Q{question} reason"


def shown(value: Value) -> str:
    """Format a value for a message."""
    if value is None:
        return "-"
    return number(value) if isinstance(value, float) else repr(line(value, 60))


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


# --- the file ---------------------------------------------------------------------------------------------------------


def read(folder: Path) -> Entries:
    """Return the stored entries for the results in a folder.

    Raises:
        ValueError: the file is damaged; it is left unchanged.
        OSError: the file cannot be read.
    """
    path = Path(folder) / STORE
    if not path.exists():
        return Entries()
    try:
        content = json.loads(path.read_text("utf-8"))
        places = {
            (row["student"], row["question"], row["kind"]): _entry(row["entry"], row["kind"]) for row in content["rows"]
        }
        if not isinstance(content["form"], str) or not all(isinstance(each, str) for each in sum(places, ())):
            raise TypeError("a name is not a string")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path}: is damaged ({line(repr(error))}); it contains the points that people entered: restore it from a "
            "backup, or move it away and enter the points again with --manual"
        ) from error
    return Entries(places, content["form"])


def _entry(content: Any, kind: str) -> Entry:
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}")
    earlier = tuple(_entry(each, kind) for each in content.get("earlier", ()))
    value, texts = content["value"], [content[name] for name in ("by", "file", "entered")]
    right = value is None or (isinstance(value, str) if kind in TEXTS else is_points(value))
    if not right or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"entry {value!r}")
    return Entry(float(value) if is_points(value) else value, *texts, earlier)


def write(folder: Path, entries: Entries) -> None:
    """Write the entries atomically.

    Raises:
        OSError: the file cannot be written; the previous file is unchanged.
    """
    rows = [
        {"student": student, "question": question, "kind": kind, "entry": asdict(entry)}
        for (student, question, kind), entry in sorted(entries.places.items())
    ]
    content = json.dumps({"form": entries.form, "rows": rows}, indent=1, allow_nan=False) + "\n"
    write_whole(Path(folder) / STORE, content.encode())


def join(target: Entries, others: Iterable[Entries]) -> list[str]:
    """Merge the entries for the shards of a class into `target`; return a sentence for each conflict."""
    problems = []
    for entries in others:
        problems += filter(None, (target.put(place, entry) for place, entry in sorted(entries.places.items())))
    return problems


# --- applying the entries ---------------------------------------------------------------------------------------------


def apply(results: list[dict], entries: Entries, rubric: Rubric) -> list[dict]:
    """Return copies of the results with the entries applied.

    Returns:
        Results with `given`, a row for each share that a person entered: question, share, points, before (the grader's
        points, or None), of, reason, by; and `comments`, a row for each comment: question, comment, by.

    Raises:
        ValueError: an entry has more points than the rubric allows.
    """
    found, problems = [], []
    groups: dict[str, list[str]] = {}
    for result in results:
        groups.setdefault(result["group"] or f"alone {result['student']}", []).append(result["student"])
    for result in results:
        group = groups[result["group"] or f"alone {result['student']}"]
        questions, given, comments = dict(result["questions"]), [], []
        for name in rubric.questions:
            question = questions[name]
            for share in SHARES:
                entry = entries.of_group(result["student"], group, name, share)
                if entry is None or entry.value is None:
                    continue
                if entry.value > question[f"{share}_of"]:
                    of = number(question[f"{share}_of"])
                    place = f"{line(result['student'])}: Q{name} {share}"
                    problems.append(f"{place}: {number(entry.value)} of {of} points ({entry.file})")
                given.append(
                    _given(name, share, question, entry, entries.of_group(result["student"], group, name, "reason"))
                )
                question = question | {share: entry.value, f"{share}_open": 0.0}
            questions[name] = question
            if (entry := entries.of_group(result["student"], group, name, "comment")) and entry.value:
                comments.append({"question": name, "comment": entry.value, "by": entry.by})
        found.append(result | {"questions": questions, "given": given, "comments": comments})
    if problems:
        raise ValueError("\n".join(problems))
    return found


def _given(name: str, share: str, question: dict, entry: Entry, reason: Entry | None) -> dict:
    return {
        "question": name, "share": share, "points": entry.value, "before": question[share],
        "of": question[f"{share}_of"], "reason": (reason and reason.value) or "", "by": entry.by,
    }  # fmt: skip
