"""Tests of Appendix C of the handout, sections C.4 to C.6: check its numbers and formulas independently.

The oracles are PyTorch's layers, torch.distributions and numerical minimization. Each number is computed here and
searched for in the exercise that prints it, so neither can change without the other.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from handout_exercises import EXERCISES, assert_quoted, assert_row
from scipy import optimize, stats
from torch import distributions as D

# --- section C.4: bottleneck and upsampling --------------------------------------------------------------------------


def linear_autoencoder_error(covariance, size):
    """Return the smallest expected squared error, found by minimization rather than from principal components."""
    generator = torch.Generator().manual_seed(size)
    matrices = [torch.randn(4, size, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2)]
    optimizer = torch.optim.LBFGS(matrices, max_iter=500, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def error():
        decoder, encoder = matrices
        rest = torch.eye(4, dtype=torch.float64) - decoder @ encoder.T
        return (rest @ covariance @ rest.T).trace()

    def closure():
        optimizer.zero_grad()
        value = error()
        value.backward()
        return value

    optimizer.step(closure)
    return error().item()


def test_error_of_linear_autoencoders():
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(9)))[0]
    covariance = rotation @ torch.tensor([4, 2, 1, 0.5], dtype=torch.float64).diag() @ rotation.T
    errors = [covariance.trace().item(), *(linear_autoencoder_error(covariance, size) for size in (1, 2, 3, 4))]
    assert_row(16, "expected squared error", *(f"{round(abs(error), 4):g}" for error in errors))


def test_matrix_of_a_convolution():
    kernel, x = torch.tensor([[[1.0, 2.0, 1.0]]]), torch.tensor([[[1.0, 0.0, 2.0, 1.0, 3.0]]])
    matrix = F.conv1d(torch.eye(5)[:, None], kernel, stride=2)[:, 0].T
    assert " \\cr ".join(" & ".join(f"{a:g}" for a in row) for row in matrix.tolist()) in EXERCISES["17"]
    y = F.conv1d(x, kernel, stride=2)
    back = F.conv_transpose1d(y, kernel, stride=2)
    for vector in (y, back):
        assert "= (" + ", ".join(f"{a:g}" for a in vector.flatten().tolist()) + ")" in EXERCISES["17"]
    torch.testing.assert_close(back.flatten(), matrix.T @ y.flatten())
    assert torch.linalg.matrix_rank(matrix) == 2
    assert (matrix @ torch.tensor([2.0, -1, 0, 0, 0])).count_nonzero() == 0


def up(pixels, kernel, stride, padding, output_padding=0):
    weight = torch.ones(1, 1, kernel)
    return F.conv_transpose1d(
        torch.ones(1, 1, pixels), weight, stride=stride, padding=padding, output_padding=output_padding
    )


@pytest.mark.parametrize("output_padding", [0, 1])
def test_sizes_of_transposed_convolutions(output_padding):
    sizes = [up(n, 3, 2, 1, output_padding).size(-1) for n in (4, 7, 14)]
    assert_row(17, f"output padding {output_padding}", *map(str, sizes))
    assert sizes == [2 * n - 1 + output_padding for n in (4, 7, 14)]
    assert all(up(n, 4, 2, 1).size(-1) == 2 * n for n in (4, 7, 14))


def test_sizes_that_lead_to_seven():
    sizes = [n for n in range(5, 40) if F.conv1d(torch.ones(1, 1, n), torch.ones(1, 1, 5), None, 3, 2).size(-1) == 7]
    assert "{}, {} or {} pixels".format(*sizes) in EXERCISES["17"]
    assert [up(7, 5, 3, 2, extra).size(-1) for extra in range(3)] == sizes
    with pytest.raises(RuntimeError, match="output padding"):
        up(7, 5, 3, 2, 3)


def test_writes_per_pixel():
    assert set(up(9, 3, 2, 1)[0, 0, 1:-1].tolist()) == {1, 2}
    assert set(up(9, 4, 2, 1)[0, 0, 1:-1].tolist()) == {2}


# --- section C.5: losses and blur ------------------------------------------------------------------------------------


def test_best_answer_for_one_pixel():
    a = np.linspace(0.001, 0.999, 999)
    losses = {
        "squared": 0.3 * (1 - a) ** 2 + 0.7 * a**2,
        "absolute": 0.3 * (1 - a) + 0.7 * a,
        "cross-entropy": -0.3 * np.log(a) - 0.7 * np.log(1 - a),
    }
    best = {name: a[loss.argmin()] for name, loss in losses.items()}
    assert best == pytest.approx({"squared": 0.3, "absolute": 0.001, "cross-entropy": 0.3})
    assert_quoted(18, f"{losses['squared'].min():.2f}", f"{losses['cross-entropy'].min():.4f}")


STROKES = np.eye(4)[1:3]
LOSSES = [lambda a: a, np.diff, lambda a: np.diff(a) ** 2]


def expected_error(feature, answer):
    return np.mean([((feature(answer) - feature(stroke)) ** 2).sum() for stroke in STROKES])


@pytest.mark.parametrize(
    "name, answer",
    [
        ("$\\mathbf x_1$", [0, 1, 0, 0]),
        ("mean $(0, 0.5, 0.5, 0)$", [0, 0.5, 0.5, 0]),
        ("empty row", [0, 0, 0, 0]),
        ("$\\mathbf a$", [0, 0.71, -0.29, 0.41]),
    ],
)
def test_errors_of_a_shifted_stroke(name, answer):
    errors = [expected_error(feature, np.array(answer)) for feature in LOSSES]
    assert_row(19, name, *(f"{error + 1e-9:.2f}" for error in errors))  # 1.625 is rounded up


@pytest.mark.parametrize("number, best", [(0, 0.5), (1, 1.5), (2, 0.5)])
def test_no_answer_is_better_than_those_in_the_text(number, best):
    rng = np.random.default_rng(0)
    found = [optimize.minimize(lambda a: expected_error(LOSSES[number], a), rng.normal(size=4)).fun for _ in range(20)]
    assert min(found) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("s", [1, 0.3, 0.1])
def test_gaussian_decoder(s):
    generator = torch.Generator().manual_seed(0)
    x, mean = torch.rand(2, 784, dtype=torch.float64, generator=generator)
    squares = ((x - mean) ** 2).sum()
    by_formula = squares / (2 * s**2) + 784 * math.log(s) + 784 / 2 * math.log(2 * math.pi)
    torch.testing.assert_close(by_formula, -D.Normal(mean, s).log_prob(x).sum())  # Eq. C.10


def test_weight_of_the_squared_error():
    error = 784 * 0.01
    assert_quoted(20, f"{error:.2f}")
    assert_row(20, "squared error divided by $2 s^2$", *(f"{error / (2 * s**2):.2f}" for s in (1, 0.3, 0.1)))
    best = optimize.minimize_scalar(lambda t: -784 * stats.norm.logpdf(0.1, 0, math.exp(t)))  # each pixel is off by 0.1
    assert math.exp(best.x) == pytest.approx(0.1)
    assert f"= {best.fun:.1f}$" in EXERCISES["20"]
    for s in (0.1, 0.5):  # the term of the density that depends on the error
        assert_quoted(20, f"{stats.norm.logpdf(0, 0, s) - stats.norm.logpdf(0.2, 0, s):.2f}")


# --- section C.6 -----------------------------------------------------------------------------------------------------


def test_naive_bayes():
    spam, other = (math.prod(stats.bernoulli(p).pmf(x) for p, x in zip(ps, (1, 0), strict=True)) for ps in WORDS)
    evidence = 0.4 * spam + 0.6 * other
    assert f"= {spam:.2f}$" in EXERCISES["22"] and f"= {other:.2f}$" in EXERCISES["22"]
    assert f"= {evidence:.3f}$" in EXERCISES["22"] and f"= {0.4 * spam / evidence:.3f}$" in EXERCISES["22"]


WORDS = ((0.8, 0.3), (0.1, 0.5))  # probability in spam, in other mail
