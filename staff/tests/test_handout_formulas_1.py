"""Tests of Chapter 1 and Appendix A of the handout: check their formulas and numbers independently.

The oracles are torch.distributions, SciPy and quadrature. Each number is computed here and searched for in the text
that prints it, so neither can change without the other.
"""

import importlib.util
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import distributions as D
from torch import nn

from course import rubric
from part1_vae.cnn_encoder_decoder import CNNDecoder, CNNEncoder

REPOSITORY = Path(__file__).parents[2]
HANDOUT = REPOSITORY / "handout"
CHAPTER_1 = (HANDOUT / "01_variational_autoencoders.md").read_text("utf-8")
APPENDIX_A = (HANDOUT / "A_information_theory.md").read_text("utf-8")


def assert_quoted(text, *numbers):
    """Check that the text contains each number as printed; prose and tables use the typographic minus sign."""
    for number in numbers:
        whole = rf"(?<![\d.]){re.escape(number)}(?![\d]|\.\d)"
        assert re.search(whole, text), f"{number} is not in the text"


def minus(value, digits=4):
    return f"{value:.{digits}f}".replace("-", "−")


def kl(p, q):
    """Return the KL divergence between two discrete distributions in nats."""
    return D.kl_divergence(D.Categorical(torch.tensor(p).double()), D.Categorical(torch.tensor(q).double())).item()


def coin(heads):
    return [heads, 1 - heads]


def expected(function, scale=1.0):
    """Return the expectation of function(e) for e ~ N(0, scale²), by quadrature."""
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    return float((weights * function(scale * points)).sum() / weights.sum())


def load_draw():
    spec = importlib.util.spec_from_file_location("handout_draw", HANDOUT / "figures" / "draw.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- section 1.1: the KL divergence ----------------------------------------------------------------------------------


def test_kl_of_three_values():
    p, q = [1 / 2, 1 / 4, 1 / 4], [1 / 3, 1 / 3, 1 / 3]
    assert_quoted(CHAPTER_1, f"{kl(p, q):.4f}", f"{kl(q, p):.4f}", f"{p[0] * math.log(p[0] / q[0]):.4f}")
    assert_quoted(CHAPTER_1, f"{-p[1] * math.log(p[1] / q[1]):.4f}")


def test_kl_is_never_negative():
    u = np.geomspace(1e-6, 1e6, 1001)
    assert (np.log(u) <= u - 1).all() and math.log(1) == 0  # the tangent of Eq. 3a
    rng = np.random.default_rng(0)
    for p, q in zip(rng.dirichlet([0.3] * 5, 500), rng.dirichlet([0.3] * 5, 500), strict=True):
        assert special.rel_entr(p, q).sum() > 0
        assert special.rel_entr(p, p).sum() == 0


def gaussian_kl(mean_1, std_1, mean_2, std_2):
    """Return the KL divergence of Eq. 3d."""
    return math.log(std_2 / std_1) + (std_1**2 + (mean_1 - mean_2) ** 2) / (2 * std_2**2) - 0.5


@pytest.mark.parametrize("numbers", [(1, 0.5, 0, 1), (0, 1, 1, 0.5), (-2, 0.3, 0.4, 1.7), (0, 1, 0, 1)])
def test_kl_of_two_gaussians(numbers):
    p, q = stats.norm(*numbers[:2]), stats.norm(*numbers[2:])
    reach = numbers[0] + 12 * numbers[1] * np.array([-1, 1])
    by_quadrature, _ = integrate.quad(lambda z: p.pdf(z) * (p.logpdf(z) - q.logpdf(z)), *reach, epsabs=1e-11)
    by_torch = D.kl_divergence(D.Normal(*map(float, numbers[:2])), D.Normal(*map(float, numbers[2:]))).item()
    assert gaussian_kl(*numbers) == pytest.approx(by_quadrature, abs=1e-9)
    assert gaussian_kl(*numbers) == pytest.approx(by_torch, abs=1e-6)


def test_kl_of_the_gaussians_in_the_text():
    assert_quoted(CHAPTER_1, f"{gaussian_kl(1, 0.5, 0, 1):.4f}")


def test_kl_adds_up_over_independent_components():
    p, q = np.outer([0.2, 0.8], [0.5, 0.3, 0.2]), np.outer([0.6, 0.4], [0.1, 0.1, 0.8])  # Eq. 3b
    parts = kl([0.2, 0.8], [0.6, 0.4]) + kl([0.5, 0.3, 0.2], [0.1, 0.1, 0.8])
    assert special.rel_entr(p, q).sum() == pytest.approx(parts)


# --- section 1.2: the decoder and the Monte Carlo estimate -----------------------------------------------------------

A, B = 0.2, 0.9  # probability of heads for each of two coins, each chosen with probability 0.5
EVIDENCE = 0.5 * A + 0.5 * B


def test_two_coins():
    assert_quoted(CHAPTER_1, f"{EVIDENCE:.2f}", f"{0.5 * B / EVIDENCE:.3f}")


def test_log_of_the_estimate_is_biased():
    row = ["mean of the estimate of $\\log p(\\text{heads})$"]
    for samples in (1, 2, 10, 100):
        from_b = np.arange(samples + 1)
        estimate = np.log((from_b * B + (samples - from_b) * A) / samples)
        row.append(minus(stats.binom(samples, 0.5).expect(lambda k, e=estimate: e[k.astype(int)])))
    assert f"| {' | '.join(row)} |" in CHAPTER_1
    assert_quoted(CHAPTER_1, f"{math.log(EVIDENCE):.4f}")


@pytest.mark.parametrize("share, samples", [(0.1, 900), (0.0001, 999_900)])
def test_error_of_the_estimate(share, samples):
    """Check Eq. 8a, in which the height c of the region cancels."""
    useful, height = stats.bernoulli(share), 7.0
    error = height * useful.std() / math.sqrt(samples) / (height * useful.mean())
    assert error == pytest.approx(math.sqrt((1 - share) / (share * samples)))
    assert error == pytest.approx(0.1)


def test_share_of_a_box():
    assert_quoted(CHAPTER_1, f"{0.3**2:.2f}")
    for dimensions in (10, 20):
        digits, exponent = f"{0.3**dimensions:.1e}".split("e")
        assert f"${digits} \\cdot 10^{{{int(exponent)}}}$" in CHAPTER_1


def test_figure_2_has_as_many_samples_in_the_posterior_as_its_caption_says():
    draw = load_draw()
    samples, inside = draw.prior_samples_in_posterior()
    assert f"Of the {len(samples)} samples, the {inside.sum()} diamonds lie inside" in " ".join(CHAPTER_1.split())
    axis, density = draw.posterior_grid()
    level = draw.level_that_encloses(draw.SHARE, density)
    assert density[density >= level].sum() == pytest.approx(draw.SHARE, abs=1e-3)
    assert density[[0, -1]].sum() + density[:, [0, -1]].sum() < 1e-6, "the grid cuts off part of the posterior"


def test_figures_have_the_same_bytes_again(tmp_path):
    draw = load_draw()
    for draw_figure in draw.FIGURES.values():
        first, again = (draw.save(draw_figure, tmp_path / "figure.svg").read_bytes() for _ in range(2))
        assert first == again


# --- section 1.3: the bound ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, q", [("0.5 (the prior)", 0.5), ("0.6", 0.6), ("0.95", 0.95)])
def test_bound_of_the_two_coins(name, q):
    rec = q * math.log(B) + (1 - q) * math.log(A)
    to_prior, to_posterior = kl(coin(q), coin(0.5)), kl(coin(q), coin(0.5 * B / EVIDENCE))
    numbers = [rec, to_prior, rec - to_prior, to_posterior, math.log(EVIDENCE)]
    assert rec - to_prior + to_posterior == pytest.approx(math.log(EVIDENCE))  # Eq. 10
    assert f"| {name} | {' | '.join(map(minus, numbers))} |" in CHAPTER_1


def test_bound_is_tight_at_the_posterior():
    q = 0.5 * B / EVIDENCE
    rec, to_prior = q * math.log(B) + (1 - q) * math.log(A), kl(coin(q), coin(0.5))
    numbers = [minus(x) for x in (rec, to_prior, rec - to_prior, 0.0, math.log(EVIDENCE))]
    assert f"| {q:.3f} (the posterior) | {' | '.join(numbers)} |" in CHAPTER_1


def test_gap_of_the_bound_is_the_kl_to_the_posterior():
    """Check Eq. 9 and 10 by quadrature for x = sin(2z) + z + noise, where the posterior is not Gaussian."""
    z = np.linspace(-9, 9, 20_001)
    prior, q = stats.norm(0, 1), stats.norm(0.5, 0.7)
    log_likelihood = stats.norm.logpdf(1.3, np.sin(2 * z) + z, 0.4)

    def integral(values):
        return integrate.simpson(values, x=z)

    log_evidence = math.log(integral(np.exp(log_likelihood + prior.logpdf(z))))
    log_posterior = log_likelihood + prior.logpdf(z) - log_evidence
    to_prior = integral(q.pdf(z) * (q.logpdf(z) - prior.logpdf(z)))
    to_posterior = integral(q.pdf(z) * (q.logpdf(z) - log_posterior))
    elbo = integral(q.pdf(z) * log_likelihood) - to_prior
    assert elbo < log_evidence and to_posterior > 0.1
    assert log_evidence - to_posterior == pytest.approx(elbo, abs=1e-8)
    weights = np.exp(log_likelihood + prior.logpdf(z) - log_posterior)
    assert weights == pytest.approx(np.full_like(z, math.exp(log_evidence)))  # one posterior sample is enough


# --- section 1.4: the loss -------------------------------------------------------------------------------------------


def test_reconstruction_is_the_cross_entropy():
    """Compare the last line of Eq. 11d for one sample with the log-probability of Eq. 5."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(784, 16, generator=generator, dtype=torch.float64)
    levels = torch.randint(16, (784,), generator=generator)
    one_hot = torch.eye(16, dtype=torch.float64)[levels]
    by_hand = -(one_hot * logits.softmax(1).log()).sum()
    torch.testing.assert_close(by_hand, -D.Categorical(logits=logits).log_prob(levels).sum())


def test_regularization_of_the_example():
    mean, log_std = torch.tensor([0.5, -1.0]), torch.tensor([-0.5, 0.0])
    by_torch = D.kl_divergence(D.Normal(mean, log_std.exp()), D.Normal(0.0, 1.0))
    by_hand = ((2 * log_std).exp() + mean**2 - 1 - 2 * log_std) / 2  # Eq. 13
    torch.testing.assert_close(by_hand, by_torch)
    assert_quoted(CHAPTER_1, *(f"{each:.4f}" for each in (*by_torch.tolist(), by_torch.sum().item())))


# --- section 1.5: gradients ------------------------------------------------------------------------------------------


def test_spread_of_two_estimates_of_a_gradient():
    """The gradient is that of E[z²] for z = 1 + e; its estimates z² e (Eq. 14a) and 2 z (Eq. 14b) have mean 2."""
    score, through_sample = (lambda e: (1 + e) ** 2 * e), (lambda e: 2 * (1 + e))
    spreads = []
    for estimate in (score, through_sample):
        mean = expected(estimate)
        assert mean == pytest.approx(2)
        spreads.append(math.sqrt(expected(lambda e, f=estimate: f(e) ** 2) - mean**2))
    assert spreads[1] == pytest.approx(2)
    assert_quoted(CHAPTER_1, f"{spreads[0]:.2f}")


def test_spread_of_the_score_function_estimate_in_twenty_dimensions():
    """The estimate is (z_1² + rest) e_1, where rest is the sum of the other 19 squares and independent of e_1."""
    mean, square = expected(lambda e: (1 + e) ** 2), expected(lambda e: (1 + e) ** 4)
    rest, rest_squared = 19 * mean, 19 * (square - mean**2) + (19 * mean) ** 2
    second = expected(lambda e: (1 + e) ** 4 * e**2) + 2 * rest * expected(lambda e: (1 + e) ** 2 * e**2) + rest_squared
    assert_quoted(CHAPTER_1, f"{math.sqrt(second - 4):.1f}")
    e = np.random.default_rng(0).standard_normal((200_000, 20))
    estimates = ((1 + e) ** 2).sum(1) * e[:, 0]
    # five standard errors of a standard deviation, computed from the kurtosis of the estimates
    allowed = 5 * math.sqrt((stats.kurtosis(estimates) + 2) / len(estimates)) / 2
    assert estimates.std() == pytest.approx(math.sqrt(second - 4), rel=allowed)


def test_gradient_of_a_density_is_no_density():
    def gradient(z, step=1e-5):  # derivative of the density of N(0.3, 0.5²) with respect to its mean
        return (stats.norm.pdf(z, 0.3 + step, 0.5) - stats.norm.pdf(z, 0.3 - step, 0.5)) / (2 * step)

    assert integrate.quad(gradient, -5, 5)[0] == pytest.approx(0, abs=1e-6)
    assert gradient(0.0) < 0 < gradient(0.6)


# --- section 1.6: building the model ---------------------------------------------------------------------------------


def bpd(nats, pixels=784):
    return nats / math.log(2) / pixels


def test_bits_per_dimension():
    uniform = 784 * math.log(16)
    assert bpd(uniform) == pytest.approx(4) and bpd(784 * math.log(256)) == pytest.approx(8)
    assert_quoted(CHAPTER_1, f"{uniform:.1f}", f"{1 / math.log(2):.4f}", f"{bpd(260 + 25):.3f}")


def test_sizes_of_convolutions():
    for n in (7, 8, 14, 28, 32):
        conv = nn.Conv2d(1, 1, 3, stride=2, padding=1)
        assert conv(torch.zeros(1, 1, n, n)).shape[-1] == (n + 2 - 3) // 2 + 1  # Eq. 14d
    for n, output_padding, size in [(4, 0, 7), (4, 1, 8), (7, 1, 14), (14, 1, 28)]:
        transposed = nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=output_padding)
        formula = (n - 1) * 2 - 2 + 3 + output_padding
        assert transposed(torch.zeros(1, 1, n, n)).shape[-1] == formula == size


def test_recommended_architecture_has_as_many_parameters_as_the_text_says():
    for network in (CNNEncoder(), CNNDecoder()):
        assert_quoted(CHAPTER_1, f"{sum(weight.numel() for weight in network.parameters()):,}")


def test_percentiles_of_the_manifold():
    points = stats.norm.ppf((np.arange(20) + 0.5) / 20)
    assert_quoted(CHAPTER_1, f"{points[-1]:.2f}", f"{stats.norm.ppf(0.975):.2f}")
    assert points[0] == pytest.approx(-points[-1])


# --- appendix A ------------------------------------------------------------------------------------------------------


def bits(p):
    return stats.entropy(p, base=2)


def test_units():
    assert_quoted(APPENDIX_A, f"{1 / math.log(2):.4f}", f"{math.log(2):.4f}")


def test_entropies():
    assert bits([1.0]) == 0 and bits([0.5, 0.5]) == pytest.approx(1) and bits([1 / 16] * 16) == pytest.approx(4)
    assert_quoted(APPENDIX_A, f"{bits(coin(0.1)):.3f}", f"{bits([1 / 6] * 6):.3f}", f"{bits([1 / 26] * 26):.3f}")
    assert float(load_draw().coin_entropy(np.array(0.1))) == pytest.approx(bits(coin(0.1)))


def test_code_of_the_weather():
    rows = re.findall(r"^\| \w+ \| 1/(\d) \| ([01]+) \| (\d) \| (\d) \|$", APPENDIX_A, re.MULTILINE)
    p, words = [1 / int(row[0]) for row in rows], [row[1] for row in rows]
    assert len(rows) == 4 and sum(p) == 1
    assert not any(b.startswith(a) for a, b in itertools.permutations(words, 2))
    assert all(len(row[1]) == int(row[2]) == int(row[3]) == math.log2(int(row[0])) for row in rows)
    length = sum(share * len(word) for share, word in zip(p, words, strict=True))
    assert length == bits(p)
    uniform = [1 / 4] * 4
    assert -sum(a * math.log2(b) for a, b in zip(p, uniform, strict=True)) == 2
    assert kl(p, uniform) / math.log(2) == pytest.approx(2 - length)
    assert_quoted(APPENDIX_A, f"{length:.2f}", f"{2 - length:.2f}", f"{kl(p, uniform):.4f}")


def test_kl_is_not_a_distance():
    for a, b in [(0.5, 0.1), (0.1, 0.5), (0.5, 0.25), (0.25, 0.1)]:
        assert f"| {a} | {b} | {kl(coin(a), coin(b)):.3f} |" in APPENDIX_A
    detour = kl(coin(0.5), coin(0.25)) + kl(coin(0.25), coin(0.1))
    assert detour < kl(coin(0.5), coin(0.1))
    assert_quoted(APPENDIX_A, f"{detour:.3f}")


def test_differential_entropy():
    for std in (1, 0.1):
        formula = 0.5 * math.log(2 * math.pi * math.e * std**2)
        assert formula == pytest.approx(float(stats.norm(0, std).entropy()))
        assert_quoted(APPENDIX_A, minus(formula, 3))


def test_cross_entropy_of_two_gaussians():
    p, q = stats.norm(1.0, 0.5), stats.norm(-0.3, 0.8)
    formula = 0.5 * math.log(2 * math.pi * 0.8**2) + (0.5**2 + 1.3**2) / (2 * 0.8**2)
    assert formula == pytest.approx(integrate.quad(lambda x: -p.pdf(x) * q.logpdf(x), -9, 9)[0])
    assert formula - float(p.entropy()) == pytest.approx(gaussian_kl(1.0, 0.5, -0.3, 0.8))


# --- the table of questions ------------------------------------------------------------------------------------------


def test_table_of_questions_agrees_with_the_rubric():
    table = (HANDOUT / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| \[(\d\.\d)\]\(\S+\) \| (\d+) \| (\d*) ?\| (\d*) ?\| (\d*) ?\|", table, re.MULTILINE)
    points = {name: [float(cell or 0) for cell in cells] for name, *cells in rows}
    questions = rubric.read().questions
    assert points == {name: [q.points, q.automatic, q.evidence, q.manual] for name, q in questions.items()}
