"""The command-line flags that mean the same in all parts, and their checks.

Everything is checked before anything is downloaded, built or written. A wrong value ends with a message that names the
flag, the value and what is allowed, and exit status 2.
"""

import argparse
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

# What may differ when a run is resumed. The flags of the first group keep their old value unless they are given again,
# those of the second belong to the machine. Every other flag defines the run and cannot change.
KEPT_UNLESS_GIVEN = {
    "epochs", "precision", "sample_every", "iwae_samples", "generate_every_n_steps", "flash", "compile",
}  # fmt: skip
OF_THE_MACHINE = {
    "accelerator", "data_dir", "devices", "fast_dev_run", "log_dir", "num_nodes", "num_workers", "progress_bar",
    "resume", "strategy",
}  # fmt: skip
CHECKPOINT_FORMAT = 1


def data_dir(flag: str | Path | None = None) -> Path:
    """The folder that all datasets share: the flag, else DGM_DATA_DIR, else `data/` in the repository."""
    return Path(os.path.expanduser(flag or os.environ.get("DGM_DATA_DIR") or REPOSITORY / "data"))


def whole_number(least: int, most: int = 1_000_000) -> Callable[[str], int]:
    """An argparse type: a whole number from `least` to `most`."""

    def check(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return check


def _finite(text: str) -> float:
    """The number that a text is; NaN where it is none, or not finite."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def positive_number(text: str) -> float:
    """An argparse type: a finite number above 0."""
    value = _finite(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number above 0")
    return value


def number(least: float, below: float = math.inf) -> Callable[[str], float]:
    """An argparse type: a finite number that is `least` or more, and less than `below`."""

    def check(text: str) -> float:
        value = _finite(text)
        if not least <= value < below:
            limit = f" and below {below:g}" if below < math.inf else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not a finite number from {least:g} on{limit}")
        return value

    return check


def fraction(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    value = _finite(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def folder(text: str) -> str:
    """An argparse type: a folder's name, with ~ for the home folder."""
    return os.path.expanduser(text)  # unlike Path's, content with a user that there is none of


def device_list(text: str) -> int | list[int]:
    """An argparse type: a number of devices ("2"), or which ones ("0,3")."""
    if re.fullmatch(r"\d{1,4}", text) and int(text) > 0:
        return int(text)
    if re.fullmatch(r"\d{1,4}(,\d{1,4})+,?|\d{1,4},", text):
        return [int(number) for number in text.strip(",").split(",")]
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number of devices (2) nor a list of them (0,3)")


def trainer_parser(
    description: str,
    program: str,
    epochs: int,
    batch_size: int,
    lr: float,
    lr_flags: tuple[str, ...] = ("--lr",),
    fast: dict[str, float] | None = None,
) -> argparse.ArgumentParser:
    """A parser with the flags that all parts share.

    Args:
        program: short name of the part ("vae"): the folder of its runs, and what its checkpoints are marked with.
        epochs, batch_size, lr: the part's defaults.
        lr_flags: the names of the learning rate's flag, where it has others too.
        fast: the defaults that --recipe fast has instead; None: the part has no such recipe.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.set_defaults(program=program)
    parser.fast = fast or {}
    training = parser.add_argument_group("training")
    if fast:
        other = ", ".join(f"--{name} {value:g}" for name, value in fast.items())
        training.add_argument(
            "--recipe",
            choices=["assignment", "fast"],
            default="assignment",
            help=f"fast: Muon and a decaying learning rate, see `course.training.recipe`; its defaults are {other}",
        )
    training.add_argument("--epochs", type=whole_number(1), default=epochs, help="passes through the training set")
    training.add_argument("--batch_size", type=whole_number(1), default=batch_size, help="examples a step and process")
    training.add_argument(*lr_flags, type=positive_number, default=lr, help="learning rate")
    training.add_argument(
        "--seed", type=whole_number(0, 2**32 - 1), default=42, help="gives weights, data order and noise"
    )
    training.add_argument(
        "--resume",
        metavar="PATH|last",
        help="go on with a run: its folder, a checkpoint, or `last` for the newest run in --log_dir",
    )
    training.add_argument(
        "--limit_batches", type=whole_number(1), metavar="N", help="end each epoch, validation and test after N batches"
    )
    training.add_argument(
        "--sample_every", type=whole_number(0), default=0, metavar="N", help="pictures every N epochs too"
    )
    training.add_argument(
        "--fast_dev_run",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="one batch of each kind, to see that everything runs; writes nothing",
    )
    places = parser.add_argument_group("files")
    places.add_argument(
        "--data_dir", type=folder, help="folder of the datasets (DGM_DATA_DIR, else data/ in the repository)"
    )
    places.add_argument(
        "--log_dir", type=folder, default="logs", help=f"runs are written to LOG_DIR/{program}/version_N"
    )
    machine = parser.add_argument_group("machine")
    machine.add_argument("--num_workers", type=whole_number(0, 256), default=0, help="processes that load data")
    machine.add_argument("--accelerator", choices=["auto", "cpu", "gpu", "mps"], default="auto", help="what to run on")
    machine.add_argument("--devices", type=device_list, default=1, help="a number of devices, or which: 0,3")
    machine.add_argument("--num_nodes", type=whole_number(1), default=1, help="number of machines")
    machine.add_argument("--strategy", choices=["auto", "ddp"], default="auto", help="how several devices share work")
    machine.add_argument(
        "--precision",
        choices=["32-true", "bf16-mixed", "16-mixed"],
        default="32-true",
        help="of the arithmetic",
    )
    machine.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="torch.compile (needs a C++ compiler), on GPUs with CUDA graphs (a C compiler and Python's headers)",
    )
    machine.add_argument(
        "--progress_bar",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="default: where the output is a terminal",
    )
    return parser


def parse_words(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """`parser.parse_args`, without the empty list that some versions of Python make of --flag=--."""
    args = parser.parse_args(argv)
    for name, value in vars(args).items():
        if value == []:
            parser.error(f"--{name}: '--' is no value for it")
    return args


def parse(
    parser: argparse.ArgumentParser,
    argv: list[str] | None = None,
    check: Callable[[argparse.ArgumentParser, argparse.Namespace], None] = lambda parser, args: None,
) -> argparse.Namespace:
    """Parse and check the flags. With --resume, the run's own flags are the defaults.

    What can be checked without PyTorch comes first, so that the answer comes at once.

    Args:
        check: how a part's own flags go together; it calls parser.error where they do not.

    Returns:
        the flags; `resume` is the checkpoint's path or None, `checkpoint` its content or None.
    """
    args = parse_words(parser, argv)
    if getattr(args, "recipe", None) == "fast":
        parser.set_defaults(**parser.fast)
        args = parse_words(parser, argv)
    checkpoint, path = None, None
    if args.resume is not None:
        if args.fast_dev_run:
            parser.error("--fast_dev_run: writes nothing, so it does not go together with --resume")
        path = find_checkpoint(parser, "--resume", args.resume, Path(args.log_dir) / args.program, ["last.ckpt"])
        checkpoint = read_checkpoint(parser, "--resume", path, args.program)
        args = _merge(parser, argv, checkpoint["run"]["flags"])
        if args.epochs < checkpoint["run"]["epochs_done"]:
            done = checkpoint["run"]["epochs_done"]
            parser.error(f"--epochs {args.epochs}: the run being resumed has done {done} epochs already")
    args.resume, args.checkpoint = path, checkpoint
    if args.progress_bar is None:
        args.progress_bar = sys.stdout.isatty()
    check(parser, args)
    _check_folders(parser, args)
    _check_machine(parser, args)
    return args


def defining_flags(args: argparse.Namespace) -> dict:
    """The flags that are stored in a checkpoint: numbers and strings only."""
    return {
        name: value
        for name, value in vars(args).items()
        if name not in OF_THE_MACHINE and name not in {"checkpoint", "program"}
    }


def _merge(parser: argparse.ArgumentParser, argv: list[str] | None, stored: dict) -> argparse.Namespace:
    """Parse again with the stored flags as defaults; refuse what contradicts them."""
    known = set(defining_flags(parser.parse_args(argv)))
    stored = {name: value for name, value in {"recipe": "assignment", **stored}.items() if name in known}
    parser.set_defaults(**stored)
    args = parse_words(parser, argv)
    for name, value in stored.items():
        if name not in KEPT_UNLESS_GIVEN and getattr(args, name) != value:
            given = getattr(args, name)
            parser.error(f"--{name} {given}: the run being resumed has {value}; leave it out, or start a new run")
    return args


def find_checkpoint(parser: argparse.ArgumentParser, flag: str, value: str, runs: Path, names: list[str]) -> Path:
    """The checkpoint that a flag names: a file, a run's folder, or `last` for the newest run in `runs`.

    Args:
        names: which of a run's checkpoints to take, the first that is there.
    """
    try:
        return _find_checkpoint(parser, flag, value, runs, names)
    except OSError as error:  # such as a name that is too long
        parser.error(f"{flag} {value}: {error.strerror}")


def _find_checkpoint(parser: argparse.ArgumentParser, flag: str, value: str, runs: Path, names: list[str]) -> Path:
    if value == "last":
        found = sorted(runs.glob("version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
        if not found:
            parser.error(f"{flag} last: no run with a checkpoint in {runs}: a run has its first one after an epoch")
        value = str(found[-1].parent.parent)
    path = Path(os.path.expanduser(value)).resolve()
    if path.is_dir():
        files = [path / "checkpoints" / name for name in names]
        path = next((file for file in files if file.is_file()), None)
        if path is None:
            parser.error(f"{flag} {value}: there is no file {files[-1]}: a run has its first checkpoint after an epoch")
    if not path.is_file():
        parser.error(f"{flag} {value}: there is no file {path}")
    return path


def read_checkpoint(parser: argparse.ArgumentParser, flag: str, path: Path, program: str) -> dict:
    """Load a checkpoint without running code from it, and see that it is one of this program's."""
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in many ways; none of them should be a traceback
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        parser.error(f"{flag} {path}: not a checkpoint that can be read safely (damaged, or foreign): {reason}")
    run = checkpoint.get("run") if isinstance(checkpoint, dict) else None
    kinds = {"format": int, "program": str, "flags": dict, "epochs_done": int, "events": dict, "processes": int}
    kinds |= {"sums": dict, "count": float}
    if (
        not isinstance(run, dict)
        or not all(isinstance(run.get(key), kind) for key, kind in kinds.items())
        or run["format"] != CHECKPOINT_FORMAT
    ):
        parser.error(f"{flag} {path}: not written by a train.py of this project (or by another version of it)")
    if run["program"] != program:
        parser.error(f"{flag} {path}: belongs to a run of {run['program']!r}, this is {program!r}")
    return checkpoint


def _check_machine(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    kind = args.accelerator
    if kind == "auto":
        kind = "gpu" if gpus else "mps" if mps else "cpu"
    if kind == "cpu" and args.precision == "16-mixed":
        parser.error("--precision 16-mixed: needs a GPU; CPUs have bf16-mixed")
    present = {"gpu": gpus, "mps": int(mps), "cpu": os.cpu_count() or 1}[kind]
    if present == 0:
        parser.error(f"--accelerator {args.accelerator}: this machine has none that PyTorch can use")
    asked = args.devices
    if isinstance(asked, list) and kind == "cpu":
        parser.error(f"--devices {','.join(map(str, asked))}: CPUs have no numbers; give how many processes to run")
    missing = [number for number in asked if number >= present] if isinstance(asked, list) else asked > present
    if missing:
        text = ",".join(map(str, asked)) if isinstance(asked, list) else asked
        what = {"gpu": "GPUs", "mps": "MPS devices", "cpu": "CPU cores (and no GPU that PyTorch can use)"}[kind]
        parser.error(f"--devices {text}: this machine has {present} {what}")


def _check_folders(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    data = data_dir(args.data_dir)
    if os.path.exists(data) and not data.is_dir():
        parser.error(f"--data_dir {data}: is not a folder")
    if not os.path.exists(data):
        # one that is there may be read-only, if it has the data; `course.data.fetch` sees to that
        _check_writable(parser, "--data_dir", data)
    if not args.fast_dev_run:
        _check_writable(parser, "--log_dir", Path(args.log_dir))


def _check_writable(parser: argparse.ArgumentParser, flag: str, place: Path) -> None:
    """Write a megabyte beside or into the folder and take it away again: permissions, read-only and full disks."""
    there = place
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(1 << 20))
            file.flush()
    except OSError as error:
        parser.error(f"{flag} {place}: cannot be written: {error.strerror}")
