"""The command-line flags that all parts share, and their checks.

All flags are checked before anything is downloaded, built or written. A wrong value causes exit status 2 and a message
with the flag, the value and the allowed values.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from course.flag_types import device_list, folder, positive_number, whole_number
from course.parser import Parser
from course.stored_flags import parse_words

SWITCH = {"action": argparse.BooleanOptionalAction, "default": False}  # --name or --no-name
REPOSITORY = Path(__file__).resolve().parents[1]


def data_dir(flag: str | Path | None = None) -> Path:
    """Return the dataset folder: the flag, else DGM_DATA_DIR, else data/ in the repository or the current folder."""
    home = REPOSITORY if (REPOSITORY / "setup.cfg").is_file() else Path()
    return Path(os.path.expanduser(flag or os.environ.get("DGM_DATA_DIR") or home / "data"))


def trainer_parser(
    description: str,
    program: str,
    epochs: int,
    batch_size: int,
    lr: float,
    lr_flags: tuple[str, ...] = ("--lr",),
    fast: dict[str, float] | None = None,
) -> argparse.ArgumentParser:
    """Create a parser with the main flags that all parts share; see `add_more_flags` for the others.

    Args:
        program: short name of the part ("vae"), used for the folder of its runs and to label its checkpoints.
        epochs, batch_size, lr: the part's defaults.
        lr_flags: the names of the learning-rate flag, if it has aliases.
        fast: the defaults for --recipe fast; None if the part has no such recipe.
    """
    parser = Parser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False)
    parser.set_defaults(program=program)
    parser.fast = fast or {}
    _add_training_flags(parser, epochs, batch_size, lr, lr_flags)
    files = parser.add_argument_group("files")
    files.add_argument(
        "--data_dir", type=folder, help="dataset folder (default: DGM_DATA_DIR, else data/ in the repository)"
    )
    runs = f"runs are written to LOG_DIR/{program}/version_N"
    files.add_argument("--log_dir", type=folder, default="logs", help=runs)
    _add_machine_flags(parser)
    return parser


def _add_training_flags(
    parser: argparse.ArgumentParser, epochs: int, batch_size: int, lr: float, lr_flags: tuple[str, ...]
) -> None:
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=whole_number(1), default=epochs, help="passes through the training set")
    training.add_argument("--batch_size", type=whole_number(1), default=batch_size, help="batch size of each process")
    training.add_argument(*lr_flags, type=positive_number, default=lr, help="learning rate")
    training.add_argument(
        "--seed", type=whole_number(0, 2**32 - 1), default=42, help="seed for weights, data order and noise"
    )
    training.add_argument(
        "--resume",
        metavar="PATH|last",
        help="continue a run: its folder, a checkpoint, or `last` for the newest run in --log_dir",
    )


def _add_machine_flags(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("machine")
    machine.add_argument("--num_workers", type=whole_number(0, 256), default=0, help="processes that load data")
    machine.add_argument("--devices", type=device_list, default=1, help="number of devices, or a list of them: 0,3")
    machine.add_argument("--num_nodes", type=whole_number(1), default=1, help="number of machines")
    machine.add_argument("--strategy", choices=["auto", "ddp"], default="auto", help="how devices share the work")
    precisions = ["32-true", "bf16-mixed", "16-mixed"]
    machine.add_argument("--precision", choices=precisions, default="32-true", help="precision of the arithmetic")
    machine.add_argument("--progress_bar", **SWITCH | {"default": None}, help="default: on if the output is a terminal")


def add_more_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the less common flags; return their group, the last in --help, so that the part can add its own flags."""
    more = parser.add_argument_group("more")
    if parser.fast:
        other = ", ".join(f"--{name} {value:g}" for name, value in parser.fast.items())
        more.add_argument(
            "--recipe",
            choices=["assignment", "fast"],
            default="assignment",
            help=f"fast: Muon and a decaying learning rate (see `course.training.recipe`), with defaults {other}",
        )
    more.add_argument(
        "--limit_batches", type=whole_number(1), metavar="N", help="end each epoch, validation and test after N batches"
    )
    more.add_argument(
        "--sample_every", type=whole_number(0), default=0, metavar="N", help="also draw pictures every N epochs"
    )
    more.add_argument("--fast_dev_run", **SWITCH, help="try everything with one batch of each kind; writes nothing")
    more.add_argument("--accelerator", choices=["auto", "cpu", "gpu", "mps"], default="auto", help="hardware to run on")
    more.add_argument(
        "--compile",
        **SWITCH,
        help="torch.compile (needs a C++ compiler); on GPUs, with CUDA graphs (need a C compiler and Python headers)",
    )
    if parser.fast:  # the parts with convolutions
        more.add_argument(
            "--channels_last",
            **SWITCH,
            help="channels-last memory format: faster on some CPUs; your code must not call .view() on images",
        )
    return more


def parse(
    parser: argparse.ArgumentParser,
    argv: list[str] | None = None,
    check: Callable[[argparse.ArgumentParser, argparse.Namespace], None] = lambda parser, args: None,
) -> argparse.Namespace:
    """Parse and check the flags. With --resume, the flags of the run being resumed are the defaults.

    Checks that do not need PyTorch run first, so that errors appear immediately.

    Args:
        check: validates the combination of a part's own flags; must call parser.error if they conflict.

    Returns:
        the flags, where `resume` is the checkpoint's path or None, and `checkpoint` its contents or None.
    """
    args = parse_words(parser, argv)
    if getattr(args, "recipe", None) == "fast":
        parser.set_defaults(**parser.fast)
        args = parse_words(parser, argv)
    args.checkpoint = None
    if args.resume is not None:
        from course.resume import resumed  # imported here: most runs do not resume

        args = resumed(parser, argv, args)
    if args.progress_bar is None:
        args.progress_bar = sys.stdout.isatty()
    check(parser, args)
    _check_folders(parser, args)
    if (args.accelerator, args.devices, args.precision) != ("auto", 1, "32-true"):
        from course.machine import check_machine  # imported here: the defaults suit every machine

        check_machine(parser, args)
    return args


def _check_folders(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    data = data_dir(args.data_dir)
    if os.path.exists(data) and not data.is_dir():
        parser.error(f"--data_dir {data}: is not a folder")
    if not os.path.exists(data):
        # an existing folder may be read-only if it contains the data; `course.download.fetch` checks that
        _check_writable(parser, "--data_dir", data)
    if not args.fast_dev_run:
        _check_writable(parser, "--log_dir", Path(args.log_dir))


def _check_writable(parser: argparse.ArgumentParser, flag: str, place: Path) -> None:
    """Write and delete a megabyte in or next to the folder, to detect missing permissions and full disks."""
    there = next((each for each in (place, *place.parents) if os.path.exists(each)), place)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(1 << 20))
            file.flush()
    except OSError as error:
        parser.error(f"{flag} {place}: cannot be written: {error.strerror}")
