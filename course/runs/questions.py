"""Find the figures and numbers in a run that the questions require."""

import base64
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from course.rubric import Part, Question, Rubric, Show
from course.runs.folder import Run, RunError, figures_of, fits, read_png


@dataclass(frozen=True)
class Figure:
    """A figure on the page: the PNG, or `lack`, the reason why it is missing. `epoch` is "" for curves."""

    name: str
    epoch: int | str
    png: bytes | None
    lack: str = ""

    def base64(self) -> str:
        """Return the PNG for a data: URL."""
        return base64.b64encode(self.png).decode()

    def caption(self) -> str:
        """Return the name and the epoch of the figure."""
        when = {0: ", before training", 1: ", after 1 epoch", "last": ", the last", "": ""}
        return self.name + when.get(self.epoch, f", after {self.epoch} epochs")


def part_of(run: Run, rubric: Rubric) -> Part:
    """Return the part of the assignment that a run belongs to.

    Raises:
        RunError: the run does not belong to any part.
    """
    for part in rubric.with_code:
        if part.logs == run.program:
            return part
    known = ", ".join(part.logs for part in rubric.with_code)
    raise RunError(f"{run.folder}: a run of {run.program!r}; the assignment has {known}")


def answered(run: Run, rubric: Rubric) -> list[tuple[Question, Show, dict]]:
    """Return the questions that a run with these flags answers, with the required outputs, flags and epochs."""
    part = part_of(run, rubric)
    found = []
    for show in rubric.shows:
        question = rubric.questions[show.question]
        wanted = [each for each in show.runs(question) if fits(run.flags, each)]
        if question.part == part.number and wanted:
            found.append((question, show, wanted[0]))
    return found


def asked(run: Run, show: Show, wanted: dict) -> dict[tuple[str, int | str], Figure]:
    """Find the figures that a question requires, and the latest ones of an unfinished run: (name, epoch) -> figure."""
    return {
        (name, epoch): _asked(run, show, wanted, name, epoch)
        for name in show.figures
        for epoch in _epochs(run, show, wanted, name)
    }


def _epochs(run: Run, show: Show, wanted: dict, name: str) -> list[int | str]:
    last = max(drawn_at(run, name), default=0)
    if "last" in show.at or last >= wanted.get("epochs", math.inf):
        return show.at
    return sorted({*show.at, last})


def drawn_at(run: Run, name: str) -> dict[int, Path]:
    """Find the files of a figure: epoch -> file."""
    return {epoch: path for (other, epoch), path in figures_of(run.folder).items() if other == name}


def _asked(run: Run, show: Show, wanted: dict, name: str, epoch: int | str) -> Figure:
    files = drawn_at(run, name)
    enough = wanted.get("epochs", math.inf)
    found: int | str | None = epoch if epoch in files else None
    if epoch == "last":
        found = max(files, default=None)
    elif found is None and epoch > enough:  # epoch 95 counts for epoch 100
        found = max((drawn for drawn in files if drawn >= enough), default=None)
    if found is not None:
        return figure(name, found, files[found])
    what = f"Q{show.question} asks for {name}" + ("" if epoch == "last" else f" at epoch {epoch}")
    if epoch != "last" and epoch > run.done:
        return Figure(name, epoch, None, f"{what}; this run has {run.done}")
    lack = f"{what}, but figures/ has no such file (is a blank not filled in?)"
    return Figure(name, epoch, None, lack)


def figure(name: str, epoch: int | str, path: Path) -> Figure:
    """Read the figure in a file."""
    try:
        return Figure(name, epoch, read_png(path))
    except RunError:
        return Figure(name, epoch, None, f"figures/{path.name} is damaged or incomplete")


def final(run: Run, name: str) -> tuple[float, str] | None:
    """Return a number's final value and its origin: test, else validation (the best epoch, or the last so far)."""
    for stage, of in {"test": "test", "val": "validation"}.items():
        value = run.results.get(f"{stage}/{name}")
        if value is not None:
            return value, f"{of}, weights of epoch {run.best['epoch']}" if "epoch" in run.best else of
    value = run.last(f"val/{name}")
    return None if value is None else (value, f"validation, epoch {run.done}; the run is not finished")


def other_figures(run: Run, seen: Collection[str] = ()) -> list[Figure]:
    """Return the last version of each figure that no question requires."""
    last = {name: (epoch, path) for (name, epoch), path in sorted(figures_of(run.folder).items()) if name not in seen}
    return [figure(name, epoch, path) for name, (epoch, path) in last.items()]
