"""What surrounds the parts of the assignment: data, training, figures, reports. It imports no part."""

import sys


def load_tests(*_):
    """`python -m unittest` looks in here, finds no test of its kind, and would say OK."""
    sys.exit("The tests are pytest's: run `python -m pytest` in the repository's folder.")
