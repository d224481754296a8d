"""Code shared by the parts of the assignment: data, training, figures, reports. It does not import the parts."""

import sys
from importlib.util import find_spec

if sys.version_info < (3, 11):  # noqa: UP036 (this runs before anything is installed)
    sys.exit(
        f"error: Python 3.11 or newer is needed, but {sys.executable} is {sys.version.split()[0]}. Choose another:"
        " `make PYTHON=python3.12 setup`, or `python3.12 -m course setup`."
    )


def _explain_missing_pytorch() -> None:
    from course import without_pytorch

    without_pytorch.stop()


if "torch" not in sys.modules and find_spec("torch") is None:  # not the environment's Python
    _explain_missing_pytorch()


def load_tests(*_):
    """Stop `python -m unittest`, which would find no tests here and report OK."""
    sys.exit("The tests need pytest: run `python -m pytest` in the repository's folder.")
