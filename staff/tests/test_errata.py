"""Tests of docs/errata.md: its numbers are computed here, and its links lead to the right places in the handout."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from part2_aae.utils import image_gradients, mean_squared_gradient_error

DOCS = Path(__file__).parents[2] / "docs"
ERRATA = (DOCS / "errata.md").read_text("utf-8")


def row(number):
    """Return the cells of one erratum."""
    line = re.search(rf"^\| {number} \| .*$", ERRATA, re.MULTILINE).group()
    return line.strip("| ").split(" | ")


def assert_in_row(number, *values):
    cells = " ".join(row(number))
    for value in values:
        assert re.search(rf"(?<![\d.]){re.escape(value)}(?!\d|\.\d)", cells), (number, value)


def minus(text):
    return text.replace("-", "−")


def test_rows_are_numbered_from_1_on():
    numbers = [int(number) for number in re.findall(r"^\| (\d{1,2}) \|", ERRATA, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_bits_where_training_starts():
    assert math.log2(16) == 4 and math.log2(256) == 8
    assert_in_row(1, "4", "8", "256")


def test_reconstruction_loss_as_a_sum():
    assert_in_row(19, f"{0.05 * 784:.1f}")
    assert 0.005 * math.log(2) / (0.995 * 0.05 * 784) < 1e-4


def test_eq_16_as_it_is_printed_is_unbounded():
    d = np.geomspace(1e-300, 1, 50)
    printed = 1 - np.log(d)
    assert printed.min() == 1 and printed.max() == printed[0] > 600


def test_cross_entropy_of_the_sheet():
    p, q = np.array([0.5, 0.5]), np.array([0.1, 0.9])
    assert_in_row(30, minus(f"{p @ (1 / np.log(q)):.2f}"), f"{-p @ np.log(q):.2f}")
    assert -p @ np.log2(p) == 1  # erratum 29


def test_coins_of_the_lecture():
    fair, unfair = [0.5, 0.5], [0.3, 0.7]
    nats = stats.entropy(fair, unfair), stats.entropy(unfair, fair)
    assert_in_row(43, *(f"{kl:.4f}" for kl in nats), *(f"{kl / math.log(2):.3f}" for kl in nats))
    assert_in_row(42, f"{math.log2(6):.2f}", f"{math.log2(26):.1f}")


def test_gaussians_of_the_lecture():
    p, q = torch.distributions.Normal(1.0, 0.5), torch.distributions.Normal(0.0, 1.0)
    kl = torch.distributions.kl_divergence(p, q).item()
    assert math.log(1 / 0.5) + (0.5**2 + 1) / 2 - 0.5 == pytest.approx(kl)
    assert_in_row(44, f"{kl:.4f}")


def test_squared_gradients_do_not_tell_an_image_from_its_negative():
    image = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(image_gradients(image).square(), image_gradients(-image).square())
    assert mean_squared_gradient_error(image, -image) > 0.1


def test_places_in_the_handout_exist():
    for name, anchor in re.findall(r"\]\((\.\./handout/[^)#]+)#?([^)]*)\)", ERRATA):
        text = (DOCS / name).read_text("utf-8")
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        anchors |= set(re.findall(r'<a id="([^"]+)"', text))
        assert not anchor or anchor in anchors, (name, anchor)
