"""The error message if PyTorch is not installed for this Python; imported only then."""

import os
import sys
from pathlib import Path

TASKS = ("setup", "demo", "theory", "notebooks", "test", "tensorboard")  # commands that run without PyTorch


def stop() -> None:
    """Exit with a message, unless the command is one of TASKS."""
    folder = Path(__file__).resolve().parents[1]
    steps = "`make setup` and `source .venv/bin/activate`"
    if os.name == "nt":
        steps = r"`python -m course setup` and `.venv\Scripts\activate`"
    # while Python locates the module to run, sys.argv[0] is "-m"
    if sys.argv[:1] != ["-m"] or not set(sys.argv[1:2]) & set(TASKS):
        sys.exit(
            f"error: PyTorch is not installed for {sys.executable}. In {folder}, run {steps}, then this command again."
        )
