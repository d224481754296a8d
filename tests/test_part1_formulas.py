"""Part 1, graded: reparameterization, KL divergence and bits per dimension (Q1.7).

PYTEST_DONT_REWRITE is a keyword for pytest: it then shows only our own messages.
"""

import math
from functools import partial

import pytest
import torch

from adapters import part1
from inputs import uniform
from judge import (
    assert_independent,
    assert_moments,
    assert_nan,
    assert_shape,
    assert_standard_normal,
    assert_value,
    check_samples,
)

# --- reparameterization ----------------------------------------------------------------------------------------------


def assert_draws(mean, std, spread, n=20_000):
    """Check the mean and standard deviation of n draws of z [D]; spread: the oracle's standard deviation."""
    z = part1.run_sample_reparameterize(mean.expand(n, -1), std.expand(n, -1))
    assert_shape("z", z, (n, len(mean)), "it should have the shape of the mean")
    assert_moments("many draws of z", z, mean, spread)


def assert_gaussian(shape):
    """Check that the draws' distribution has the shape of a Gaussian as well, by a Kolmogorov-Smirnov test."""
    z = part1.run_sample_reparameterize(torch.zeros(shape), torch.ones(shape))
    assert_standard_normal("z, for a mean of 0 and a std of 1,", z)


@pytest.mark.question("1.7", points=0.5, needs=["sample_reparameterize"])
def test_reparameterize_mean_and_spread(rng, expected):
    mean, std = uniform(rng, 5, low=-3, high=3), uniform(rng, 5, low=0.1, high=4)
    std[:2] = torch.tensor([1e-3, 30])  # std must not be clamped
    spread = expected("spread", std=std)["std"]  # the standard deviation that z should have
    # bounds are 5 sigma, see judge.py: with 20 000 draws, 2.5 % of a standard deviation, and 0.035 of one for the mean
    check_samples(assert_draws, mean, std, spread)
    check_samples(assert_gaussian, (20_000, 5))


def assert_fresh_noise(shape):
    """Check that each element of a tensor of this shape gets its own noise in each of two calls."""
    first, again = (part1.run_sample_reparameterize(torch.zeros(shape), torch.ones(shape)) for _ in range(2))
    assert_shape("z", first, shape, "it should have the shape of the mean")
    assert_independent("the noise", first.reshape(-1, shape[-1]), again.reshape(-1, shape[-1]))


@pytest.mark.question("1.7", points=0.5, needs=["sample_reparameterize"])
def test_reparameterize_noise_is_independent(rng):
    # a batch of one must work, and a NaN must stay, but only in its own element
    alone = part1.run_sample_reparameterize(torch.tensor([[0.0, torch.nan]]), torch.ones(1, 2))
    assert_shape("z for a batch of one", alone, (1, 2))
    assert_nan("z", alone, torch.tensor([[False, True]]))
    for shape in [(20_000, 6), (40, 50, 6)]:  # also with three dimensions
        check_samples(assert_fresh_noise, shape)


@pytest.mark.question("1.7", points=0.5, needs=["sample_reparameterize"])
def test_reparameterize_gradients(rng, expected):
    mean, std, weight = uniform(rng, 7, 3), uniform(rng, 7, 3, low=0.2, high=2), uniform(rng, 7, 3, low=0.5, high=2)
    answer = expected("reparameterized_gradient", weight=weight)
    got = part1.run_sample_reparameterize_gradients(mean, std, weight)
    assert_value("the gradient with respect to the mean", got["to_mean"], answer["mean"], rtol=1e-5)  # float32
    # `wider` is z for twice the std and the same noise: the change of z is compared with std times the gradient
    change = weight * (got["wider"] - got["z"])
    assert change.all(), "some elements of z do not change when std is doubled: does each use its own std?"
    hint = "is something detached?" if got["to_std"].any() else "no gradient arrives: is something detached?"
    # loose, as both z are rounded to float32
    assert_value("std times the gradient with respect to std", got["to_std"] * std, change, 1e-4, 1e-4, hint)


@pytest.mark.question("1.7", points=0.5, needs=["KLD", "KLD_per_dim"])
def test_kld_values(rng, expected):
    for shape in [(4, 20), (1, 1), (3, 2), (5, 128), (2, 3, 4, 7), (20,)]:
        mean, log_std = uniform(rng, *shape, low=-3, high=3), uniform(rng, *shape, low=-3, high=2)
        answer = expected("kld", mean=mean, log_std=log_std)
        # float32: sums of up to 128 terms
        assert_value(
            f"KLD of mean and log_std {list(shape)}", part1.run_kld(mean, log_std), answer["kld"], rtol=1e-4, atol=1e-4,
            hint=f"it should be one number per vector of {shape[-1]}, the second sum of Eq. 13",
            again=partial(part1.run_kld, mean, log_std),
        )  # fmt: skip
        assert_value(
            "KLD_per_dim", part1.run_kld_per_dim(mean, log_std), answer["per_dim"], rtol=1e-4, atol=1e-4,
            hint="it should be one number per dimension, the terms of the second sum of Eq. 13",
            again=partial(part1.run_kld_per_dim, mean, log_std),
        )  # fmt: skip
    broken = part1.run_kld(torch.tensor([[0.0, math.nan], [0.0, 0.0]]), torch.zeros(2, 2))
    assert_nan("KLD", broken, torch.tensor([True, False]))
    zero = part1.run_kld(torch.zeros(3, 5), torch.zeros(3, 5))
    assert_value("KLD of N(0, I) from itself", zero, torch.zeros(3), atol=1e-5)  # float32, 5 terms


@pytest.mark.question("1.7", points=0.5, needs=["KLD", "KLD_per_dim"])
def test_kld_gradients(rng, expected):
    mean, log_std = (uniform(rng, 4, 6, low=-2, high=2, dtype=torch.float64) for _ in range(2))
    answer = expected("kld", mean=mean, log_std=log_std)
    to_mean, to_log_std = part1.run_kld_gradients(mean, log_std)
    # float64: a difference beyond the last digits means a different formula
    assert_value("the gradient of KLD with respect to the mean", to_mean, answer["to_mean"], rtol=1e-9, atol=1e-9)
    assert_value("the gradient of KLD with respect to log_std", to_log_std, answer["to_log_std"], rtol=1e-9, atol=1e-9)


# --- bits per dimension ----------------------------------------------------------------------------------------------


@pytest.mark.question("1.7", points=1, needs=["elbo_to_bpd"])
def test_bpd(rng, expected):
    for shape in [(4, 1, 28, 28), (1, 1, 28, 28), (7, 3, 5, 11), (2, 1, 1, 1), (3, 2, 9, 4)]:
        elbo = uniform(rng, shape[0], low=1, high=3000)
        answer = expected("bpd", elbo=elbo, shape=shape)
        # float32: a few multiplications
        assert_value(
            f"bits per dimension of images {list(shape)}", part1.run_elbo_to_bpd(elbo, torch.Size(shape)),
            answer["bpd"], rtol=1e-5, atol=1e-6, hint="it should be bits per dimension, one number per image",
            again=partial(part1.run_elbo_to_bpd, elbo, torch.Size(shape)),
        )  # fmt: skip
    broken = part1.run_elbo_to_bpd(torch.tensor([math.nan, math.inf, 1.0]), torch.Size((3, 1, 2, 2)))
    assert_nan("bits per dimension", broken[[0, 2]], torch.tensor([True, False]))
    assert broken[1].isinf(), (
        f"an infinite number of nats is an infinite number of bits, not {broken[1]:g}: is it replaced or clamped?"
    )
