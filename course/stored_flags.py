"""The flags stored in a checkpoint, and parsing flags without checks."""

import argparse

CHECKPOINT_FORMAT = 2
# machine-specific flags; every other flag is stored in a checkpoint
OF_THE_MACHINE = {
    "accelerator", "data_dir", "devices", "fast_dev_run", "log_dir", "num_nodes", "num_workers", "progress_bar",
    "resume", "strategy",
}  # fmt: skip


def defining_flags(args: argparse.Namespace) -> dict:
    """The flags that are stored in a checkpoint: numbers and strings only."""
    return {
        name: value
        for name, value in vars(args).items()
        if name not in OF_THE_MACHINE and name not in {"checkpoint", "program"}
    }


def parse_words(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """`parser.parse_args`, without the empty list that some versions of Python produce for --flag=--."""
    args = parser.parse_args(argv)
    for name, value in vars(args).items():
        if value == []:
            parser.error(f"--{name}: '--' is not a value for it")
    return args
