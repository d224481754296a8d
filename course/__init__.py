"""Code shared by the parts of the assignment: data, training, figures, reports. It does not import any part."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

TASKS = ("setup", "demo", "theory", "notebooks", "test", "tensorboard")  # commands that run without PyTorch

if sys.version_info < (3, 11):  # noqa: UP036 (this runs before anything is installed)
    sys.exit(
        f"error: Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}. Name another:"
        " `make PYTHON=python3.12 setup`, or `python3.12 -m course setup`."
    )
if "torch" not in sys.modules and find_spec("torch") is None:  # not the environment's Python
    folder = Path(__file__).resolve().parents[1]
    steps = "`make setup` and `source .venv/bin/activate`"
    if os.name == "nt":
        steps = r"`python -m course setup` and `.venv\Scripts\activate`"
    # while Python locates the module to run, sys.argv[0] is "-m"
    if sys.argv[:1] != ["-m"] or not set(sys.argv[1:2]) & set(TASKS):
        sys.exit(
            f"error: PyTorch is not installed for {sys.executable}. In {folder}, run {steps}, then this command again."
        )


def load_tests(*_):
    """Stop `python -m unittest`, which would find no tests here and report OK."""
    sys.exit("The tests need pytest: run `python -m pytest` in the repository's folder.")
