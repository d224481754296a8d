"""Tests of Appendix C of the handout, sections C.1 to C.3: check its numbers and formulas independently.

The oracles are torch.distributions, autograd, SciPy and quadrature. Each number is computed here and searched for in
the exercise that prints it, so neither can change without the other.
"""

import math
import re

import numpy as np
import pytest
import torch
from handout_exercises import EXERCISES, HANDOUT, TEXT, assert_quoted, assert_row, shown
from scipy import integrate, optimize, special, stats
from torch import distributions as D


def coin(heads):
    return D.Bernoulli(torch.tensor(heads, dtype=torch.float64))


def normal(mean, std):
    return D.Normal(*torch.tensor([mean, std], dtype=torch.float64))


def kl(p, q):
    return D.kl_divergence(p, q).item()


# --- section C.1: entropy and the KL divergence ----------------------------------------------------------------------


def test_two_coins_in_both_directions():
    fair, rare = coin(0.5), coin(0.1)
    for p, q in ((fair, rare), (rare, fair)):
        assert_quoted(1, f"{kl(p, q):.4f}", f"{kl(p, q) / math.log(2):.4f}")
    terms = special.rel_entr([0.5, 0.5, 0.1, 0.9], [0.1, 0.9, 0.5, 0.5])
    assert "{:.4f} - {:.4f}".format(*abs(terms[:2])) in EXERCISES["1"]
    assert "-{:.4f} + {:.4f}".format(*abs(terms[2:])) in EXERCISES["1"]


def test_cross_entropies_of_the_coins():
    def cross_entropy(p, q):
        return -stats.bernoulli(p).expect(lambda x: stats.bernoulli(q).logpmf(x))

    for name, p, q in (("$p$ fair, $q$ with 0.1", 0.5, 0.1), ("$p$ and $q$ exchanged", 0.1, 0.5)):
        entropy = stats.bernoulli(p).entropy()
        assert cross_entropy(p, q) - entropy == pytest.approx(kl(coin(p), coin(q)))
        assert_row(2, name, *(f"{x:.4f}" for x in (cross_entropy(p, q), entropy, kl(coin(p), coin(q)))))
    assert cross_entropy(0.5, 0.5) == pytest.approx(stats.bernoulli(0.5).entropy())
    misprint = stats.bernoulli(0.5).expect(lambda x: 1 / stats.bernoulli(0.1).logpmf(x))
    assert_quoted(2, shown(misprint))


@pytest.mark.parametrize("name, p, q", [("q \\parallel p", 0.5, 0.3), ("p \\parallel q", 0.3, 0.5)])
def test_terms_of_the_unfair_coin(name, p, q):
    nats = kl(coin(p), coin(q))
    terms = special.rel_entr([p, 1 - p], [q, 1 - q])
    cells = [shown(x) for x in (*terms, nats, nats / math.log(2))]
    assert terms.min() < 0 < nats
    assert_row(3, f"$D_{{\\mathrm{{KL}}}}({name})$", *cells)


@pytest.mark.parametrize("a", [0.02, 0.3, 0.5, 0.9])
def test_derivative_of_the_divergence_of_two_coins(a):
    b = torch.linspace(0.01, 0.99, 99, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(D.kl_divergence(coin(a), D.Bernoulli(b)).sum(), b)
    torch.testing.assert_close(slope, (b - a) / (b * (1 - b)))  # Eq. C.2


def test_triangle_inequality_fails():
    steps, direct = [kl(coin(0.5), coin(0.3)), kl(coin(0.3), coin(0.1))], kl(coin(0.5), coin(0.1))
    assert_quoted(4, *(f"{x:.4f}" for x in (*steps, sum(steps), direct)))
    assert direct > 2 * sum(steps)
    means = [normal(mean, 1) for mean in (0, 1, 2)]
    assert [kl(means[0], means[1]), kl(means[1], means[2]), kl(means[0], means[2])] == pytest.approx([0.5, 0.5, 2])
    assert math.sqrt(kl(normal(-1, 3), normal(4, 3))) == pytest.approx(5 / (math.sqrt(2) * 3))


@pytest.mark.parametrize("name, p, q", [("$p$ to $q$", (1, 2), (0, 1)), ("$q$ to $p$", (0, 1), (1, 2))])
def test_cross_entropy_of_two_gaussians(name, p, q):
    first, second = stats.norm(*p), stats.norm(*q)
    cross_entropy = -integrate.quad(lambda x: first.pdf(x) * second.logpdf(x), -30, 30)[0]
    by_formula = 0.5 * math.log(2 * math.pi * q[1] ** 2) + (p[1] ** 2 + (p[0] - q[0]) ** 2) / (2 * q[1] ** 2)
    assert by_formula == pytest.approx(cross_entropy)  # Eq. C.3
    divergence = kl(normal(*p), normal(*q))
    assert divergence == pytest.approx(cross_entropy - first.entropy())
    assert_row(5, name, *(f"{x:.4f}" for x in (cross_entropy, first.entropy(), divergence)))


def test_units_change_the_entropy_only():
    assert_quoted(5, f"{stats.norm(100, 200).entropy() - stats.norm(1, 2).entropy():.4f}")
    assert kl(normal(100, 200), normal(0, 100)) == pytest.approx(kl(normal(1, 2), normal(0, 1)))
    free = len(torch.tril_indices(20, 20)[0])
    assert f"= {free}$" in EXERCISES["5"]


def log_two_modes(x):
    return np.logaddexp(stats.norm.logpdf(x, -2, 0.5), stats.norm.logpdf(x, 2, 0.5)) - math.log(2)


def to_gaussian(mean, std):
    """Return the KL divergence from the two modes to a Gaussian."""
    x = np.linspace(-8, 8, 2001)
    return integrate.trapezoid(np.exp(log_two_modes(x)) * (log_two_modes(x) - stats.norm.logpdf(x, mean, std)), x)


def from_gaussian(mean, std):
    """Return the KL divergence from a Gaussian to the two modes."""
    x = mean + std * np.linspace(-10, 10, 2001)
    log_density = stats.norm.logpdf(x, mean, std)
    return integrate.trapezoid(np.exp(log_density) * (log_density - log_two_modes(x)), x)


def test_broad_gaussian_is_best_in_one_direction():
    best = optimize.minimize(lambda v: to_gaussian(v[0], math.exp(v[1])), [0.5, 0], method="Nelder-Mead")
    assert best.x == pytest.approx([0, math.log(4.25) / 2], abs=1e-3)
    std = math.sqrt(0.5**2 + 2**2)
    assert_quoted(6, f"{std:.4f}", f"{to_gaussian(0, std):.4f}", f"{from_gaussian(0, std):.4f}")


def test_one_mode_is_best_in_the_other_direction():
    starts = ([2, -0.7], [0, 0.7], [1, 0])  # at a mode, at the broad Gaussian, and in between
    found = [optimize.minimize(lambda v: from_gaussian(v[0], math.exp(v[1])), s, method="Nelder-Mead") for s in starts]
    best = min(found, key=lambda result: result.fun)
    assert_quoted(6, f"{best.x[0]:.4f}", f"{math.exp(best.x[1]):.4f}", f"{math.log(2):.4f}")
    assert from_gaussian(2, 0.5) == pytest.approx(math.log(2), abs=2e-4)
    assert 0 < from_gaussian(2, 0.5) - best.fun < 1e-5
    assert_quoted(6, f"{to_gaussian(2, 0.5):.4f}")


def test_infinite_divergence():
    assert kl(coin(0.5), coin(0.0)) == math.inf
    assert_quoted(7, f"{kl(coin(0.0), coin(0.5)):.4f}")


# --- section C.2: likelihood, bound, gradients -----------------------------------------------------------------------

Z = np.linspace(-12, 12, 24_001)
JOINT = stats.norm.logpdf(1, 2 * Z, 1) + stats.norm.logpdf(Z)  # log p(x = 1, z) for x = 2z + e
EVIDENCE = math.log(integrate.simpson(np.exp(JOINT), x=Z))


def test_likelihood_of_the_linear_model():
    assert stats.norm.logpdf(1, 0, math.sqrt(5)) == pytest.approx(EVIDENCE)
    inside = integrate.simpson(stats.norm.pdf(Z) * stats.norm.logpdf(1, 2 * Z, 1), x=Z)
    for value in (EVIDENCE, inside):
        assert f"= {value:.4f}$" in EXERCISES["8"]


@pytest.mark.parametrize(
    "name, mean, variance",
    [
        ("$\\mathcal N(0, 1)$, the prior", 0, 1),
        ("$\\mathcal N(0.5, 0.5^2)$", 0.5, 0.25),
        ("$\\mathcal N(0.4, 0.2)$, the posterior", 0.4, 0.2),
    ],
)
def test_bound_of_the_linear_model(name, mean, variance):
    q = stats.norm(mean, math.sqrt(variance))
    elbo = integrate.simpson(q.pdf(Z) * (JOINT - q.logpdf(Z)), x=Z)
    to_prior = kl(normal(mean, math.sqrt(variance)), normal(0, 1))
    gap = kl(normal(mean, math.sqrt(variance)), normal(0.4, math.sqrt(0.2)))
    assert EVIDENCE - elbo == pytest.approx(gap, abs=1e-9)
    assert_row(9, name, *(shown(x) for x in (elbo + to_prior, to_prior, elbo, gap)))


def test_weights_of_the_two_coins():
    q, joint = np.array([0.4, 0.6]), 0.5 * np.array([0.2, 0.9])
    weights = joint / q
    assert f"0.5 \\cdot 0.2 / 0.4 = {weights[0]:g}$" in EXERCISES["10"]
    assert f"0.5 \\cdot 0.9 / 0.6 = {weights[1]:g}$" in EXERCISES["10"]
    mean, mean_log = q @ weights, q @ np.log(weights)
    assert f"= {mean:.2f}$" in EXERCISES["10"]
    assert_quoted(10, shown(math.log(mean)), shown(mean_log))
    assert f"| {shown(mean_log)} |" in (HANDOUT / "01_variational_autoencoders.md").read_text("utf-8")


def test_both_gradient_estimators_with_three_draws():
    theta = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    noise = torch.tensor([0.3, -1.1, 0.5], dtype=torch.float64)
    each = torch.autograd.functional.jacobian(lambda t: (t + noise) ** 2, theta)
    assert "{:g}, {:g} and {:.1f}".format(*(theta + noise).tolist()) in EXERCISES["11"]
    assert "{:g}, {:g} and {:.1f}".format(*each.tolist()) in EXERCISES["11"]
    x = (theta + noise).detach()
    score = torch.autograd.functional.jacobian(lambda t: D.Normal(t, 1.0).log_prob(x), theta)
    values = (x**2 * score).tolist()
    assert f"{values[0]:g}, {shown(values[1], 3)} and {values[2]:.1f}" in EXERCISES["11"]
    assert_quoted(11, f"{each.mean():.1f}", f"{np.mean(values):.3f}")


def test_spread_of_both_gradient_estimators():
    e, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = weights / weights.sum()
    reparameterized, score = 2 * (1.5 + e), (1.5 + e) ** 2 * e
    stds = []
    for estimate in (reparameterized, score):
        assert weights @ estimate == pytest.approx(3)  # unbiased
        stds.append(math.sqrt(weights @ (estimate - 3) ** 2))
    assert stds[0] == pytest.approx(2)
    assert_quoted(11, f"{stds[1]:.2f}")


def test_gradient_needs_the_product():
    theta, v = torch.tensor(0.5, requires_grad=True), torch.tensor([1.0, -1.0])
    x = 1 + theta * v
    slope_of_f = torch.autograd.functional.jacobian(lambda t: 1 + t * v, theta.detach())
    slope_of_loss = torch.autograd.functional.jacobian(lambda y: (y**2).sum(), x.detach())
    (exact,) = torch.autograd.grad((x**2).mean(), theta)
    table = torch.stack([v, x.detach(), slope_of_f, slope_of_loss, slope_of_f * slope_of_loss], dim=1)
    for row in table.tolist():
        assert_row(12, *(f"{value:g}".replace("-", "−") for value in row))
    assert_row(12, "mean", *(f"{value:g}" for value in table[:, 1:].mean(0).tolist()))
    assert exact == table[:, 4].mean() != table[:, 2].mean() * table[:, 3].mean()


def test_chain_rule_for_vectors():
    theta, u, v = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(3))

    def f(t):
        return torch.stack([(t * u).sum() * v[0], t.prod() + v.sum()])

    x = f(theta)
    (by_autograd,) = torch.autograd.grad(x.pow(3).sum(), theta)
    jacobian = torch.autograd.functional.jacobian(f, theta)
    torch.testing.assert_close(by_autograd, jacobian.T @ (3 * x**2))  # Eq. C.7


# --- section C.3: the variational autoencoder ------------------------------------------------------------------------


def test_size_of_the_decoders_output():
    assert f"= {torch.empty(128, 16, 28, 28).numel()}$" in EXERCISES["13"]


@pytest.mark.parametrize("std", [1, 0.5, 0.1, 0.01])
def test_price_of_a_narrow_posterior(std):
    nodes, weights = np.polynomial.hermite_e.hermegauss(10)
    means = torch.from_numpy(math.sqrt(1 - std**2) * nodes)
    each = D.kl_divergence(D.Normal(means, torch.full_like(means, std)), D.Normal(torch.zeros_like(means), 1.0))
    assert weights @ each.numpy() / weights.sum() == pytest.approx(-math.log(std), abs=1e-9)  # Eq. C.8


def test_information_in_codes():
    bits = [0, *(-math.log2(std) for std in (0.5, 0.1, 0.01))]
    assert_row(14, "mean KL divergence in bits", "0", *(f"{b:.2f}" for b in bits[1:]))
    assert f"= {math.log2(54_000):.1f}$" in EXERCISES["14"] and torch.finfo(torch.float32).bits == 32
    assert_quoted(14, f"{25 / math.log(2):.1f}")


def test_one_sample_of_the_linear_model():
    z, noise = 0.7, -0.2
    assert f"$2 \\cdot 0.7 = {2 * z:.1f}$" in EXERCISES["15"] and f"= {2 * z + noise:.1f}$" in EXERCISES["15"]
    density = [integrate.simpson(np.exp(stats.norm.logpdf(x, 2 * Z, 1)) * stats.norm.pdf(Z), x=Z) for x in (0, 3)]
    assert density == pytest.approx(stats.norm(0, math.sqrt(5)).pdf([0, 3]))  # variance 5; the means alone: 2² = 4


# --- the chapter as a whole ------------------------------------------------------------------------------------------


def test_each_exercise_has_one_folded_answer():
    assert list(EXERCISES) == [str(number) for number in range(1, 23)]
    for number, text in EXERCISES.items():
        task, answer = text.split("<details>\n<summary>Answer</summary>\n\n")
        assert task.strip() and answer.rstrip().endswith("\n</details>"), number


def test_links_lead_somewhere():
    def anchors(text):
        titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
        return slugs | set(re.findall(r'<a id="([^"]+)">', text))

    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        file, _, anchor = target.partition("#")
        path = HANDOUT / file if file else HANDOUT / "C_exercises.md"
        assert path.is_file(), target
        assert not anchor or anchor in anchors(path.read_text("utf-8")), target
