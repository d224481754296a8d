"""Tests of Chapter 2 of the handout: check its formulas and numbers independently.

The oracles are SciPy, quadrature, autograd and MNIST itself. Each number is computed here and searched for in the text,
so neither can change without the other.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate, optimize, special, stats
from scipy.spatial.distance import jensenshannon
from torch import nn

from course.data import DataError
from part2_aae.mnist import mnist
from part2_aae.models import ConvDecoder, ConvEncoder, Discriminator
from part2_aae.utils import mmd_to_normal

HANDOUT = Path(__file__).parents[2] / "handout"
CHAPTER_2 = (HANDOUT / "02_adversarial_autoencoders.md").read_text("utf-8")
THREE_KINDS = np.array([0.5, 0.3, 0.2]), np.array([0.5, 0.5, 0.0])  # data, generator


def assert_quoted(*numbers):
    """Check that the text contains each number as printed, with a typographic minus sign outside formulas."""
    for number in numbers:
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d]|\.\d)", CHAPTER_2), f"{number} is not in the text"


def assert_row(*cells):
    """Check that the text contains a table row that begins with these cells."""
    assert "| " + " | ".join(cells) + " |" in CHAPTER_2, cells


def minus(value, digits=4):
    return f"{value:.{digits}f}".replace("-", "−")


def optimal(data, generated):
    """Return the optimal discriminator of Eq. 14h."""
    return data / (data + generated)


def value(data, generated, d):
    """Return the value of Eq. 14f for discrete distributions, with 0 log 0 = 0."""
    terms = [p * math.log(x) for p, x in zip(data, d, strict=True) if p]
    terms += [g * math.log(1 - x) for g, x in zip(generated, d, strict=True) if g]
    return sum(terms)


# --- section 2.1: generative adversarial networks --------------------------------------------------------------------


@pytest.mark.parametrize(("data", "generated"), [(0.5, 0.5), (0.3, 0.5), (0.9, 0.02)])
def test_optimal_discriminator(data, generated):
    def negative(d):
        return -(data * math.log(d) + generated * math.log(1 - d))

    found = optimize.minimize_scalar(negative, bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-10})
    assert optimal(data, generated) == pytest.approx(found.x, abs=1e-6)


def test_value_of_three_kinds():
    data, generated = THREE_KINDS
    d = optimal(data, generated)
    divergence = jensenshannon(data, generated) ** 2
    assert value(data, generated, d) == pytest.approx(-math.log(4) + 2 * divergence)  # Eq. 14i
    assert_row("$D^{\\star}$", *(f"{x:.3g}" for x in d))
    assert_quoted(f"{value(data, generated, d):.4f}", f"{divergence:.4f}")


def test_no_other_discriminator_has_a_larger_value():
    data, generated = THREE_KINDS
    best = value(data, generated, optimal(data, generated))
    for d in np.random.default_rng(0).uniform(0.001, 0.999, (500, 3)):
        assert value(data, generated, d) < best


def test_value_at_the_equilibrium_and_without_overlap():
    p = np.array([0.2, 0.8])
    assert value(p, p, optimal(p, p)) == pytest.approx(-math.log(4))
    assert value([1, 0], [0, 1], [1, 0]) == 0 == pytest.approx(-math.log(4) + 2 * jensenshannon([1, 0], [0, 1]) ** 2)
    assert_quoted(f"{-math.log(4):.4f}", f"{math.log(2):.4f}")


def test_value_of_two_gaussians():
    p, g = stats.norm(0, 1), stats.norm(1.5, 0.7)

    def integrand(x):
        logit = p.logpdf(x) - g.logpdf(x)  # logit of Eq. 14h, which itself rounds to 1 far from g
        return -p.pdf(x) * np.logaddexp(0, -logit) - g.pdf(x) * np.logaddexp(0, logit)

    def divergence(x):
        m = (p.pdf(x) + g.pdf(x)) / 2
        return (special.rel_entr(p.pdf(x), m) + special.rel_entr(g.pdf(x), m)) / 2

    played, _ = integrate.quad(integrand, -6, 7)
    jsd, _ = integrate.quad(divergence, -6, 7)
    assert played == pytest.approx(-math.log(4) + 2 * jsd, abs=1e-7)


def test_gradients_of_the_two_losses():
    chance = (0.01, 0.5, 0.99)
    losses = {"minimax": lambda d: torch.log1p(-d), "non-saturating": lambda d: -torch.log(d)}
    for name, loss in losses.items():
        logits = torch.logit(torch.tensor(chance, dtype=torch.float64)).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(torch.sigmoid(logits)).sum(), logits)
        assert_row(name, *(f"{g:.2g}".replace("-", "−") for g in gradient.tolist()))


def test_table_of_mode_collapse():
    for share in (1, 0.9, 0.5):
        data, generated = np.array([0.5, 0.5]), np.array([share, 1 - share])
        d = optimal(data, generated)
        assert_row(f"{share:g}", *(f"{x:.3g}" for x in d), minus(value(data, generated, d)))


def test_best_answer_to_a_fixed_discriminator_is_one_image():
    log_fake = np.log1p(-np.array([0.2, 0.6, 0.5]))
    found = optimize.linprog(log_fake, A_eq=np.ones((1, 3)), b_eq=[1], bounds=(0, 1))
    assert found.x == pytest.approx([0, 1, 0])


# --- section 2.2: the distribution of the codes ----------------------------------------------------------------------


def test_aggregated_posterior_and_mutual_information():
    posterior = np.array([[0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]])
    images, prior = np.array([0.25, 0.25, 0.5]), np.full(4, 0.25)
    q = images @ posterior
    assert_row("$q(z)$", *(f"{x:g}" for x in q))
    each = images @ [stats.entropy(row, prior) for row in posterior]
    together = stats.entropy(q, prior)
    joint = images[:, None] * posterior
    information = stats.entropy(images) + stats.entropy(q) - stats.entropy(joint.ravel())
    assert each == pytest.approx(together + information)  # Eq. 14l
    assert f"{each:.4f} = {together:.4f} + {information:.4f}" in CHAPTER_2


def test_dirac_delta_is_the_limit_of_narrow_gaussians():
    for point in (-0.7, 0.0, 1.3):
        narrow, _ = integrate.quad(lambda z, a=point: math.cos(z) * stats.norm.pdf(z, a, 1e-3), point - 1, point + 1)
        assert narrow == pytest.approx(math.cos(point), abs=1e-6)  # Eq. 14m


def test_mean_over_codes_is_a_mean_over_images():
    encode = np.tanh  # with x ~ N(0, 1); the change of variables z = tanh(x) gives the density of the codes
    density = lambda z: stats.norm.pdf(np.arctanh(z)) / (1 - z**2)  # noqa: E731
    over_codes, _ = integrate.quad(lambda z: math.exp(z) * density(z), -1, 1)
    over_images, _ = integrate.quad(lambda x: math.exp(encode(x)) * stats.norm.pdf(x), -10, 10)
    assert over_codes == pytest.approx(over_images, abs=1e-6)  # Eq. 14n


# --- section 2.3: the objective --------------------------------------------------------------------------------------


def test_terms_per_pixel_and_as_a_sum():
    weight, loss = 0.995, 0.05
    adversarial = (1 - weight) * math.log(2)
    assert_row("$\\lambda \\cdot$ reconstruction loss", f"{weight * loss:.4f}", f"{weight * loss * 784:.1f}")
    assert_row("$(1 - \\lambda) \\cdot$ generator loss, $0.005 \\cdot \\log 2$", *[f"{adversarial:.4f}"] * 2)
    assert f"{adversarial / (weight * loss):.0%}" == "7%" and adversarial / (weight * loss * 784) < 1e-4
    assert_quoted(f"{loss * 784:.1f}")


def test_losses_are_binary_cross_entropies():
    prior, code = torch.randn(2, 50, dtype=torch.float64)
    d_prior, d_code = torch.sigmoid(prior), torch.sigmoid(code)
    real = F.binary_cross_entropy_with_logits(prior, torch.ones_like(prior))
    fake = F.binary_cross_entropy_with_logits(code, torch.zeros_like(code))
    torch.testing.assert_close(-(d_prior.log().mean() + (1 - d_code).log().mean()) / 2, (real + fake) / 2)  # Eq. 18a
    generator = F.binary_cross_entropy_with_logits(code, torch.ones_like(code))
    torch.testing.assert_close(-d_code.log().mean(), generator)  # Eq. 18c


# --- section 2.4: the networks and the numbers to compare with -------------------------------------------------------


def test_recommended_networks_have_as_many_parameters_as_the_text_says():
    for network in (ConvEncoder(8), ConvDecoder(8), Discriminator(8)):
        assert_quoted(f"{sum(p.numel() for p in network.parameters()):,}")


def test_discriminator_of_the_table():
    layers = nn.Linear(8, 512), nn.Linear(512, 512), nn.Linear(512, 1)
    assert_quoted(f"{sum(p.numel() for layer in layers for p in layer.parameters()):,}")


@pytest.fixture(scope="module")
def images():
    """Return the training and validation images in -1..1, [54000, 784] and [6000, 784]."""
    try:
        datasets = [loader.dataset for loader in mnist(None, 64, 0)[:2]]
    except DataError as error:
        pytest.skip(f"MNIST is not available: {error}")
    return [dataset.transform(dataset.images).flatten(1) for dataset in datasets]


@pytest.fixture(scope="module")
def labels(images):
    """Return the labels of the training images, [54000]."""
    return torch.as_tensor(mnist(None, 64, 0)[0].dataset.labels)


def test_losses_of_a_black_image_and_of_the_mean_image(images):
    training, validation = images
    assert_row("a black image", f"{(validation + 1).square().mean():.3f}")
    assert_row("the mean of all training images", f"{(validation - training.mean(dim=0)).square().mean():.3f}")


def levina_bickel(points, neighbours):
    """Return the maximum-likelihood estimate of the dimension; the inverse estimates are averaged over the points."""
    distances = torch.cdist(points, points).fill_diagonal_(torch.inf)
    nearest = distances.topk(neighbours, largest=False).values.log()
    return 1 / (nearest[:, -1:] - nearest[:, :-1]).mean().item()


def test_estimate_of_the_dimension_is_right_where_it_is_known():
    plane = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0))
    in_ten = torch.cat([plane, plane.sin(), plane.cos(), plane * plane, plane], dim=1)
    assert levina_bickel(in_ten, 10) == pytest.approx(2, abs=0.15)


def test_intrinsic_dimension_of_digits(images):
    for neighbours in (10, 20):
        assert_quoted(f"{levina_bickel(images[0][:5000], neighbours):.1f}")


def test_intrinsic_dimension_differs_between_digits(images, labels):
    each = [levina_bickel(images[0][:5000][labels[:5000] == digit], 10) for digit in range(10)]
    assert each.index(min(each)) == 1 and each.index(max(each)) == 8
    assert_quoted(f"{min(each):.1f}", f"{max(each):.1f}")
    assert sum(value < 8 for value in each) == 1 and max(each) < 20  # 8 is near the low end, and 20 exceeds all of them


def gaussian_kernel_mean(point, width, nodes=60):
    """Return E[exp(-|point - e|² / (2 width))] for e ~ N(0, I), by quadrature in each dimension."""
    e, weights = np.polynomial.hermite_e.hermegauss(nodes)
    each = np.exp(-((np.asarray(point)[:, None] - e) ** 2) / (2 * width)) @ weights / weights.sum()
    return each.prod()


def test_mmd_is_that_of_the_text():
    codes = torch.randn(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.5 + 0.3
    pairs = [math.exp(-(a - b).square().sum() / 4) for i, a in enumerate(codes) for b in codes[:i]]
    between = [gaussian_kernel_mean(code, 2) for code in codes.numpy()]
    e, weights = np.polynomial.hermite_e.hermegauss(60)
    within = np.array([gaussian_kernel_mean([x], 2) for x in e]) @ weights / weights.sum()
    expected = np.mean(pairs) - 2 * np.mean(between) + within**2  # Eq. 18d
    assert mmd_to_normal(codes).item() == pytest.approx(expected, abs=1e-6)


def mean_distance_to_the_nearest(dimension, codes=54_000):
    """Return E[distance from a sample to the nearest of many codes], all from N(0, I), by quadrature over lengths."""
    share = (np.arange(200) + 0.5) / 200
    lengths = stats.chi2(dimension).ppf(share)  # |sample|²
    r = np.linspace(0, 1.5 if dimension == 2 else 12, 6001)[1:]
    inside = stats.ncx2.cdf(r[:, None] ** 2, dimension, lengths)
    none_within = np.exp(codes * np.log1p(-np.clip(inside, 0, 1 - 1e-16)))
    return integrate.trapezoid(none_within.mean(axis=1), r) + r[0]


def test_distance_to_the_nearest_code():
    row = ["mean distance from a sample to the nearest code"]
    row += [f"{mean_distance_to_the_nearest(d):.{digits}f}" for d, digits in ((2, 3), (8, 2), (20, 2))]
    assert_row(*row)
    assert_row("typical distance $\\sqrt{2 d_z}$ between two samples", *(f"{math.sqrt(2 * d):.1f}" for d in (2, 8, 20)))


def test_a_curve_has_no_area():
    t = np.linspace(0, 2 * np.pi, 20_001)
    curve = np.stack([np.cos(t), np.sin(2 * t)], axis=1)
    samples = np.random.default_rng(0).standard_normal((4000, 2))
    nearest = np.array([np.hypot(*(curve - sample).T).min() for sample in samples])
    shares = [(nearest < width).mean() for width in (0.2, 0.02, 0.002)]
    assert shares[0] > 5 * shares[1] > 10 * shares[2]  # proportional to the width, so 0 in the limit
