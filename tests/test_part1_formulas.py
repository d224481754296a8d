"""Part 1, graded: reparameterization, KL divergence and bits per dimension (Q1.7).

PYTEST_DONT_REWRITE: a message says what is wrong in the assignment's terms, pytest adds nothing to it.
"""

import math

import pytest
import torch

from adapters import part1
from expected_vae import draw, kl_mistakes, kl_oracle
from judge import SIGMAS, assert_independent, assert_shape, assert_standard_normal, assert_value

# --- reparameterization ----------------------------------------------------------------------------------------------


def spreads(std):
    """What goes wrong with the spread of z, where it should be std."""
    yield "std is squared: the variance is used where the standard deviation belongs", std**2
    yield "the root of std is taken: it is a standard deviation, not a variance", std.sqrt()
    yield "exp(std) is used: std is a standard deviation, not its logarithm", std.exp()
    yield "std is not used", torch.ones_like(std)
    yield "there is no noise, or one noise for the whole batch", torch.zeros_like(std)
    yield "the noise is uniform: torch.rand in place of torch.randn?", std / math.sqrt(12)


@pytest.mark.question("1.7", points=0.5)
def test_reparameterize_mean_and_spread(rng):
    n = 20_000
    mean, std = draw(rng, 5, low=-3, high=3), draw(rng, 5, low=0.1, high=4)
    z = part1.run_sample_reparameterize(mean.expand(n, 5), std.expand(n, 5))
    assert_shape("z", z, (n, 5), "it has the shape of the mean")
    noise = (z - mean) / std
    # the spread of n draws is known to 1 / sqrt(2n) of itself, their mean to std / sqrt(n)
    assert_value(
        "the standard deviation of many draws of z", z.std(0), std, rtol=SIGMAS / math.sqrt(2 * n), atol=1e-6,
        mistakes=spreads(std),
    )  # fmt: skip
    assert_value(
        "the mean of the noise, (z - mean) / std", noise.mean(0), torch.zeros(5), atol=SIGMAS / math.sqrt(n),
        hint="z should have the given mean",
    )  # fmt: skip
    assert_standard_normal("the noise, (z - mean) / std,", noise)


@pytest.mark.question("1.7", points=0.5)
def test_reparameterize_noise_is_independent(rng):
    for shape in [(20_000, 6), (40, 50, 6)]:
        mean, std = draw(rng, *shape), draw(rng, *shape, low=0.5, high=2)
        first, again = (part1.run_sample_reparameterize(mean, std) for _ in range(2))
        assert_shape("z", first, shape, "it has the shape of the mean")
        first, again = (((z - mean) / std).reshape(-1, 6) for z in (first, again))
        assert_independent("the noise", first, again)


@pytest.mark.question("1.7", points=0.5)
def test_reparameterize_gradients(rng):
    mean, std, weight = draw(rng, 7, 3), draw(rng, 7, 3, low=0.2, high=2), draw(rng, 7, 3, low=0.5, high=2)
    z, to_mean, to_std = part1.run_sample_reparameterize_gradients(mean, std, weight)
    cut = "no gradient arrives: is something detached, or does torch.normal draw z?", torch.zeros_like(mean)
    # of sum(weight * z): dz/dmean is 1, and dz/dstd the noise, which comes back from z with a few roundings
    assert_value("the gradient with respect to the mean", to_mean, weight, rtol=1e-5, mistakes=[cut])
    noise = (z - mean) / std
    assert_value(
        "the gradient with respect to std", to_std, weight * noise, rtol=1e-4, atol=1e-4, mistakes=[cut],
        hint="dz/dstd is the noise",
    )  # fmt: skip


@pytest.mark.question("1.7", points=0.5)
def test_kld_values(rng):
    for shape in [(4, 20), (1, 1), (3, 2), (5, 128), (2, 3, 4, 7), (20,)]:
        mean, log_std = draw(rng, *shape, low=-3, high=3), draw(rng, *shape, low=-3, high=2)
        kld = part1.run_kld(mean, log_std)
        # float32: sums of up to 128 terms
        assert_value(
            f"KLD of mean and log_std {list(shape)}", kld, kl_oracle(mean, log_std), rtol=1e-4, atol=1e-4,
            mistakes=kl_mistakes(mean, log_std), hint=f"one number for each vector of {shape[-1]}, see Eq. 13",
        )  # fmt: skip
    zero = part1.run_kld(torch.zeros(3, 5), torch.zeros(3, 5))
    assert_value("KLD of N(0, I) from itself", zero, torch.zeros(3), atol=1e-5)


@pytest.mark.question("1.7", points=0.5)
def test_kld_gradients(rng):
    mean = draw(rng, 4, 6, low=-2, high=2, dtype=torch.float64)
    log_std = draw(rng, 4, 6, low=-2, high=2, dtype=torch.float64)
    obtained = part1.run_kld_gradients(mean, log_std)
    mean.requires_grad_(), log_std.requires_grad_()
    kl_oracle(mean, log_std).sum().backward()
    for name, ours, theirs in zip(("the mean", "log_std"), obtained, (mean.grad, log_std.grad), strict=True):
        ours = torch.zeros_like(theirs) if ours is None else ours
        # float64: what differs in more than the last digits is another formula
        assert_value(
            f"the gradient of KLD with respect to {name}", ours, theirs, rtol=1e-9, atol=1e-9,
            mistakes=[("no gradient arrives: is something detached?", torch.zeros_like(theirs))],
        )  # fmt: skip


# --- bits per dimension ----------------------------------------------------------------------------------------------


def bpd_mistakes(elbo, shape):
    dimensions = math.prod(shape[1:])
    right = elbo.double() / math.log(2) / dimensions
    yield "it is in nats: a nat is log2(e) bits", elbo / dimensions
    yield "it is multiplied by ln 2: bits are nats divided by ln 2, times log2(e)", elbo * math.log(2) / dimensions
    yield "the batch is counted as a dimension", right / shape[0]
    yield "it has the wrong sign", -right
    yield "it is averaged over the batch: one number for each image is wanted", right.mean()
    yield "it is summed over the batch: one number for each image is wanted", right.sum()
    yield "the channels are dimensions too", right * shape[1]
    yield "it is not divided by the number of dimensions", right * dimensions
    yield "the number of dimensions is that of img_shape, not always 784", right * dimensions / 784
    yield "the divisor is the sum of height and width, not their product", right * dimensions / sum(shape[1:])


@pytest.mark.question("1.7", points=1)
def test_bpd(rng):
    for shape in map(torch.Size, [(4, 1, 28, 28), (1, 1, 28, 28), (7, 3, 5, 11), (2, 1, 1, 1), (3, 2, 9, 4)]):
        elbo = draw(rng, shape[0], low=1, high=3000)
        # one nat is 1/ln(2) bits
        expected = elbo.double() / math.log(2) / math.prod(shape[1:])
        assert_value(
            f"bits per dimension of images {list(shape)}", part1.run_elbo_to_bpd(elbo, shape), expected,
            rtol=1e-5, atol=1e-6, mistakes=bpd_mistakes(elbo, shape), hint="one number for each image",
        )  # fmt: skip
    uniform = part1.run_elbo_to_bpd(torch.tensor([28 * 28 * math.log(16)]), torch.Size([1, 1, 28, 28]))
    assert_value("bits per dimension of 16 equally likely grey levels", uniform, torch.tensor([4.0]), rtol=1e-5)
