"""The flags stored in a checkpoint, and a function that parses flags without checking them."""

import argparse

CHECKPOINT_FORMAT = 2
# machine-specific flags; every other flag is stored in a checkpoint
OF_THE_MACHINE = {
    "accelerator", "data_dir", "devices", "fast_dev_run", "log_dir", "num_nodes", "num_workers", "progress_bar",
    "resume", "strategy",
}  # fmt: skip


def defining_flags(args: argparse.Namespace) -> dict:
    """Return the flags to store in a checkpoint; their values have only basic Python types."""
    return {
        name: value
        for name, value in vars(args).items()
        if name not in OF_THE_MACHINE and name not in {"checkpoint", "program"}
    }


def parse_words(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Call `parser.parse_args`, and reject the empty list that some versions of Python produce for --flag=--."""
    args = parser.parse_args(argv)
    for name, value in vars(args).items():
        if value == []:
            parser.error(f"--{name}: '--' is not a valid value")
    return args
