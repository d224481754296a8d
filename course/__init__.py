"""Code shared by the parts of the assignment: data, training, figures, reports. It does not import any part."""

import sys
from importlib.util import find_spec
from pathlib import Path

if "torch" not in sys.modules and find_spec("torch") is None:  # not the environment's Python
    folder = Path(__file__).resolve().parents[1]
    sys.exit(
        f"error: PyTorch is not installed for {sys.executable}. In {folder}, run `make setup` and"
        " `source .venv/bin/activate`, then this command again."
    )


def load_tests(*_):
    """`python -m unittest` would find no unittest tests here and report OK."""
    sys.exit("The tests are pytest's: run `python -m pytest` in the repository's folder.")
