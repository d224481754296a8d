"""The start of a run: a new folder, or the one that is resumed."""

from pathlib import Path

import pytorch_lightning as pl
import torch

from course.files import UNFINISHED, Held, HeldFolder
from course.training.events import cut_event_files
from course.training.problems import Problem, is_first_process, say
from course.training.run import Run
from course.training.speed import channels_last
from course.training.trainer import make_trainer


def start(args, model: pl.LightningModule, loaders: tuple) -> Run:
    """Make the run's folder, or take the one that is resumed.

    Raises:
        Problem: the flags do not go together, the checkpoint does not fit the model, or the batch size not the data.
    """
    folder = None
    if len(loaders[0]) == 0:
        size = len(loaders[0].dataset)
        raise Problem(f"--batch_size {args.batch_size}: the training set has {size} examples", status=2)
    make_trainer(args, model, callbacks=[], logger=False)  # to see whether it can be made, before anything is written
    if getattr(args, "channels_last", False):  # part 3 has no convolutions
        channels_last(model)
    if args.checkpoint:
        try:
            model.load_state_dict(args.checkpoint["state_dict"])
        except (RuntimeError, KeyError, TypeError, AttributeError) as error:
            raise Problem(f"--resume {args.resume}: does not fit the model: {error}", status=2) from error
        if args.resume.parent.name == "checkpoints":
            folder = args.resume.parent.parent
    if args.fast_dev_run or not is_first_process():
        return Run(args, folder)  # other processes are told the folder in Checkpoints.setup
    if folder is None:
        folder = new_folder(Path(args.log_dir) / args.program)
        return Run(args, folder, held=_hold(folder))
    held = _hold(folder)
    _check_unchanged(args)
    cut_event_files(folder, args.checkpoint["run"]["events"])
    for path in [folder / "hparams.yaml", *folder.rglob(UNFINISHED)]:  # the first, as some flags may have changed
        path.unlink(missing_ok=True)
    return Run(args, folder, is_new=False, held=held)


def _hold(folder: Path) -> HeldFolder:
    """Take the folder for this process alone.

    Raises:
        Problem: another process has it.
    """
    try:
        held = HeldFolder(folder)
    except Held as error:
        raise Problem(
            f"--resume {folder}: the run is still going on in {error}. Stop it, or wait for its end; if"
            f" its machine is gone, delete {folder / '.lock'}",
            status=2,
        ) from error
    except OSError as error:
        raise Problem(f"--resume {folder}: cannot be written: {error.strerror or error}", status=2) from error
    if not held.locked:
        say(f"{folder}: this file system has no locks: make sure that no two processes resume the run at once")
    return held


def _check_unchanged(args) -> None:
    """Check that the run has not continued since its checkpoint was read, now that its folder is locked."""
    now = torch.load(str(args.resume), map_location="cpu", weights_only=True, mmap=True)  # without the tensors
    if now["run"]["events"] != args.checkpoint["run"]["events"]:
        raise Problem(f"--resume {args.resume}: the run has continued in the meantime; run the command again", status=2)


def new_folder(parent: Path) -> Path:
    """Make version_N with the smallest free number; two runs that start at once get two."""
    taken = [int(path.name[8:]) for path in parent.glob("version_*") if path.name[8:].isdigit()]
    number = max(taken, default=-1) + 1
    while True:
        try:
            (parent / f"version_{number}").mkdir(parents=True)
            return parent / f"version_{number}"
        except FileExistsError:
            number += 1
