"""Read a run's folder: flags, the numbers of each epoch, figures. The run may be finished or in progress."""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

SAY_NOTHING = {"epochs", "limit_batches", "sample_every"}  # flags that do not change the figures of a given epoch
USUAL = {"dataset": "mnist", "recipe": "assignment"}  # assumed if a question does not specify them
Figures = dict[tuple[str, int], Path]  # (name, epoch) -> file


class RunError(Exception):
    """The folder is not a run's folder, or a file cannot be read; the message names the folder or the file."""


def is_number(value: object) -> bool:
    """Return whether the value is a finite number that a float can hold."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


@dataclass(frozen=True)
class Run:
    """A run, finished or in progress.

    `history` has one dictionary of numbers (or lists of numbers) per completed epoch. `first_step` has the numbers of
    the first training step, `results` those of the test, and `best` the epoch and value of the best validation result.
    `summary` is the content of summary.json, or empty if the run is not finished. `notes` lists unreadable files.
    """

    folder: Path
    program: str
    flags: dict
    history: list[dict]
    first_step: dict
    best: dict
    results: dict
    seconds: float
    summary: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def done(self) -> int:
        """The number of completed epochs."""
        return len(self.history)

    @property
    def name(self) -> str:
        """The last three parts of the path, such as logs/vae/version_0; the rest may be private."""
        return "/".join(self.folder.resolve().parts[-3:])

    def last(self, tag: str, epoch: int = -1) -> float | None:
        """Return the value of a tag in the last epoch, or in `history[epoch]`; None if it is missing or not finite."""
        value = self.history[epoch].get(tag) if -self.done <= epoch < self.done else None
        return value if is_number(value) else None

    def curve(self, tag: str) -> tuple[list[int], list[float]]:
        """Return the epochs (counted from 1) in which a tag has a finite value, and the values."""
        pairs = [(epoch, self.last(tag, epoch - 1)) for epoch in range(1, self.done + 1)]
        pairs = [(epoch, value) for epoch, value in pairs if value is not None]
        return [epoch for epoch, _ in pairs], [value for _, value in pairs]


def fits(flags: dict, wanted: dict) -> bool:
    """Return whether a run has the flags that a question requires, ignoring `epochs`.

    Unless the question specifies others, the dataset must be MNIST and the recipe that of the assignment.
    """
    wanted = {**USUAL, **{name: value for name, value in wanted.items() if name != "epochs"}}
    return all({**USUAL, **flags}.get(name) == value for name, value in wanted.items())


def read(folder: Path) -> Run:
    """Read summary.json or, if the run is not finished or has been continued since, checkpoints/last.ckpt.

    A run in its first epoch has neither file; only its flags are known.

    Raises:
        RunError: the folder does not contain a run, or none of its files can be read.
    """
    problems = []
    found: dict[str, Run] = {}
    for file, reader in {"summary.json": _of_summary, "checkpoints/last.ckpt": _of_checkpoint}.items():
        try:
            if (folder / file).exists():
                found[file] = reader(folder, folder / file)
        except RunError as error:
            problems.append(str(error))
    finished, going = found.get("summary.json"), found.get("checkpoints/last.ckpt")
    if not finished and not going:
        if not problems and (folder / "hparams.yaml").is_file():
            return _of_flags(folder, folder / "hparams.yaml")
        raise RunError("; ".join(problems) or _no_run(folder))
    run = going if going and (not finished or _went_on(going, finished)) else finished
    return Run(**{**vars(run), "notes": tuple(problems)})


def _went_on(going: Run, finished: Run) -> bool:
    """Return whether a run was resumed after it wrote its summary."""
    prolonged = going.flags.get("epochs") != finished.flags.get("epochs")
    return going.done > finished.done or (going.done == finished.done and prolonged)


def _no_run(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}: no such folder"
    inside = sorted(path for path in folder.glob("**/version_*") if path.is_dir())[:3]
    if inside:
        return f"{folder}: contains several runs; choose one: {', '.join(map(str, inside))}"
    return f"{folder}: not a run's folder: it has neither summary.json nor checkpoints/last.ckpt"


def _of_summary(folder: Path, path: Path) -> Run:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read (damaged or incomplete): {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: not the summary of a run")
    return _run(folder, path, content, content, content.get("training_seconds"), content)


def _of_checkpoint(folder: Path, path: Path) -> Run:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # does not execute code in it
        states = content.get("callbacks", {}).items()
        # merge the states of History, BestCheckpoint{...} and ExactResume, which have different names
        state = {name: value for _, values in states for name, value in values.items()}
        return _run(folder, path, content["run"], state, state.get("seconds"), {})
    except RunError:
        raise
    except Exception as error:  # damaged files fail in many ways; none should cause a traceback
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise RunError(f"{path}: cannot be read (damaged, or not a checkpoint of this project): {reason}") from error


def _of_flags(folder: Path, path: Path) -> Run:
    import yaml

    try:
        flags = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunError(f"{path}: cannot be read (damaged or incomplete)") from error
    return _run(folder, path, {"program": folder.resolve().parent.name, "flags": flags or {}}, {}, 0.0, {})


def _run(folder: Path, path: Path, head: dict, state: dict, seconds, summary: dict) -> Run:
    """Build a `Run` from the content of one of its files: `head` has program and flags, `state` the numbers."""
    history = state.get("history", [])
    kinds = {"program": (head.get("program"), str), "flags": (head.get("flags"), dict), "history": (history, list)}
    kinds |= {name: (state.get(name, {}), dict) for name in ("first_step", "best", "results")}
    wrong = [name for name, (value, kind) in kinds.items() if not isinstance(value, kind)]
    if wrong or not all(isinstance(row, dict) for row in history):
        raise RunError(f"{path}: not written by a train.py of this project: {', '.join(wrong or ['history'])}")
    values = {name: value for name, (value, _) in kinds.items()}
    for name in ("first_step", "best", "results"):
        values[name] = {tag: value for tag, value in values[name].items() if is_number(value)}
    if not isinstance(values["best"].get("epoch"), int):
        values["best"] = {}
    return Run(folder, seconds=seconds if is_number(seconds) else 0.0, summary=summary, **values)


def figures_of(folder: Path) -> Figures:
    """Find the figures saved for individual epochs in a run's folder."""
    paths = sorted((folder / "figures").glob("*.png"))
    matches = [(path, re.fullmatch(r"(.+)_epoch_(\d+)\.png", path.name)) for path in paths]
    return {(match[1], int(match[2])): path for path, match in matches if match}


def read_png(path: Path) -> bytes:
    """Read the bytes of a PNG.

    Raises:
        RunError: the file is damaged or incomplete.
    """
    import io

    from PIL import Image

    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            picture.load()
    except Exception as error:  # damaged files fail in many ways
        raise RunError(f"{path}: not a readable PNG") from error
    return content


def differences(runs: list[Path], flags: list[dict]) -> list[str]:
    """Return a label per run: the flags that differ or, e.g. for runs of different parts, the folder."""
    flags = [{"recipe": "assignment", "compile": False, **each} for each in flags]  # older runs have neither
    names = sorted(set(flags[0]) - SAY_NOTHING)
    differ = [name for name in names if len({str(each.get(name)) for each in flags}) > 1]
    if not differ or any(set(each) != set(flags[0]) for each in flags):
        return ["/".join(run.parts[-3:]) for run in runs]
    return [", ".join(f"{name} {each[name]}" for name in differ) for each in flags]
