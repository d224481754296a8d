"""Find and read a checkpoint given on the command line, before any other work."""

import argparse
import os
from pathlib import Path

from course.stored_flags import CHECKPOINT_FORMAT, defining_flags, parse_words

# Flags that may change when a run is resumed; they keep their old values unless given again. Machine-specific flags
# (`course.stored_flags.OF_THE_MACHINE`) may also change. All other flags define the run and cannot change.
KEPT_UNLESS_GIVEN = {
    "epochs", "precision", "sample_every", "iwae_samples", "generate_every_n_steps", "flash", "compile",
    "channels_last",
}  # fmt: skip
DECIDED = "DGM_RESUMED"  # environment variable: the checkpoint that `last` refers to in this process's children


def resumed(parser: argparse.ArgumentParser, argv: list[str] | None, args: argparse.Namespace) -> argparse.Namespace:
    """Find and read the checkpoint that --resume names; parse again with the flags of its run as defaults.

    Returns:
        the flags; `resume` is the checkpoint's path, `checkpoint` its content.
    """
    if args.fast_dev_run:
        parser.error("--fast_dev_run: writes nothing, so it cannot be combined with --resume")
    path = find_checkpoint(parser, "--resume", args.resume, Path(args.log_dir) / args.program, ["last.ckpt"])
    checkpoint = read_checkpoint(parser, "--resume", path, args.program)
    args = merge(parser, argv, checkpoint["run"]["flags"])
    if args.epochs < (done := checkpoint["run"]["epochs_done"]):
        parser.error(f"--epochs {args.epochs}: the run being resumed has already completed epoch {done}")
    args.resume, args.checkpoint = path, checkpoint
    return args


def find_checkpoint(parser: argparse.ArgumentParser, flag: str, value: str, runs: Path, names: list[str]) -> Path:
    """Find the checkpoint given by a flag: a file, a run's folder, or `last` for the newest run in `runs`.

    Args:
        names: names of a run's checkpoints, in order of preference.
    """
    if value == "last" and os.environ.get("LOCAL_RANK", "0") != "0":  # by now, another run may be the newest
        value = os.environ.get(DECIDED, value)
    try:
        path = _find_checkpoint(parser, flag, value, runs, names)
    except OSError as error:  # e.g. the name is too long
        parser.error(f"{flag} {value}: {error.strerror}")
    os.environ[DECIDED] = str(path)
    return path


def _find_checkpoint(parser: argparse.ArgumentParser, flag: str, value: str, runs: Path, names: list[str]) -> Path:
    if value == "last":
        found = sorted(runs.glob("version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
        if not found:
            parser.error(f"{flag} last: no run in {runs} has a checkpoint; a run writes its first after one epoch")
        value = str(found[-1].parent.parent)
    path = Path(os.path.expanduser(value)).resolve()
    if path.is_dir():
        files = [path / "checkpoints" / name for name in names]
        path = next((file for file in files if file.is_file()), None)
        if path is None:
            parser.error(f"{flag} {value}: there is no file {files[-1]}; a run writes its first after one epoch")
    if not path.is_file():
        parser.error(f"{flag} {value}: there is no file {path}")
    return path


def read_checkpoint(parser: argparse.ArgumentParser, flag: str, path: Path, program: str) -> dict:
    """Load a checkpoint without executing code in it, and check that it belongs to this program."""
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in many ways; none should cause a traceback
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        parser.error(f"{flag} {path}: not a checkpoint that can be read safely (damaged, or not ours): {reason}")
    run = checkpoint.get("run") if isinstance(checkpoint, dict) else None
    kinds = {"format": int, "program": str, "flags": dict, "epochs_done": int, "events": dict, "processes": int}
    kinds["sums"] = dict
    if (
        not isinstance(run, dict)
        or not all(isinstance(run.get(key), kind) for key, kind in kinds.items())
        or run["format"] != CHECKPOINT_FORMAT
    ):
        parser.error(f"{flag} {path}: not written by a train.py of this project (or by another version of it)")
    if run["program"] != program:
        parser.error(f"{flag} {path}: belongs to a run of {run['program']!r}, but this is {program!r}")
    return checkpoint


def merge(parser: argparse.ArgumentParser, argv: list[str] | None, stored: dict) -> argparse.Namespace:
    """Parse the flags again with the stored flags as defaults; reject flags that contradict these."""
    known = set(defining_flags(parser.parse_args(argv)))
    stored = {name: value for name, value in {"recipe": "assignment", **stored}.items() if name in known}
    parser.set_defaults(**stored)
    args = parse_words(parser, argv)
    for name, value in stored.items():
        if name not in KEPT_UNLESS_GIVEN and getattr(args, name) != value:
            given = getattr(args, name)
            parser.error(f"--{name} {given}: the run being resumed has {value}; omit the flag, or start a new run")
    return args
