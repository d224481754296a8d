"""The folder of a run: created under an unused name, and locked while the run writes to it."""

from contextlib import suppress
from pathlib import Path

import torch

from course.locks import Held, HeldFolder
from course.training.problems import Problem, is_first_process, say
from course.training.run import Run


def start(args, model: torch.nn.Module) -> Run:
    """Create the run's folder, or use the folder being resumed, and lock it; see `course.training.run.open_run`."""
    folder = None
    if args.checkpoint:
        from course.training.resuming import load_checkpoint, reopen  # imported here: most runs do not resume

        folder = load_checkpoint(args, model)
    if args.fast_dev_run or not is_first_process():
        return Run(args, folder)  # BestCheckpoint broadcasts the folder to other processes
    if folder is None:
        folder = new_folder(Path(args.log_dir) / args.program)
        return Run(args, folder, held=_hold(folder))
    held = _hold(folder, "--resume ")
    reopen(args, folder)
    return Run(args, folder, is_new=False, held=held)


def _hold(folder: Path, flag: str = "") -> HeldFolder:
    """Lock the folder for this process.

    Raises:
        Problem: another process holds the folder, or the folder cannot be written.
    """
    try:
        held = HeldFolder(folder)
    except Held as error:
        raise Problem(
            f"--resume {folder}: the run is still in progress in {error}. Stop it or wait until it ends. If"
            f" its machine no longer exists, delete {folder / '.lock'}",
            status=2,
        ) from error
    except OSError as error:
        raise Problem(f"{flag}{folder}: cannot be written: {error.strerror or error}", status=2) from error
    if not held.locked:
        say(f"{folder}: this file system does not support locks; do not resume the run in two processes at once")
    return held


def new_folder(parent: Path) -> Path:
    """Create version_N with the number after the highest one; runs that start simultaneously get different folders."""
    taken = [int(path.name[8:]) for path in parent.glob("version_*") if path.name[8:].isdigit()]
    number = max(taken, default=-1) + 1
    while True:
        try:
            (parent / f"version_{number}").mkdir(parents=True)
            return parent / f"version_{number}"
        except FileExistsError:
            number += 1


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that contains only its lock, e.g. because the Trainer rejected the flags."""
    with suppress(FileNotFoundError):  # it is being deleted
        if folder.is_dir() and all(path.name in (".lock", ".lock.owner") for path in folder.iterdir()):
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
