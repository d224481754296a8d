"""Part 1: the graded tests that students do not get.

PYTEST_DONT_REWRITE is a keyword for pytest: it then shows only our own messages.
"""

import pytest
import torch

from adapters import part1
from judge import assert_value


@pytest.mark.question("1.7", points=0.5, needs=["KLD", "KLD_per_dim"])
def test_kld_extreme_values(expected):
    for log_std in (-10.0, 10.0):
        for mean in (-100.0, 0.0, 100.0):
            inputs = {"mean": torch.full((2, 3), mean), "log_std": torch.full((2, 3), log_std)}
            assert_value(
                f"KLD where the mean is {mean:g} and log_std {log_std:g}", part1.run_kld(**inputs),
                expected("kld", **inputs)["kld"], rtol=1e-4, atol=1e-4,
                hint="is something clamped, or does it overflow?",
            )  # fmt: skip
