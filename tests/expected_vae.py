"""What several graded tests of part 1 expect, and their random inputs."""

import torch
from torch import distributions as D


def draw(rng, *shape, low=-1.0, high=1.0, dtype=torch.float32):
    return low + (high - low) * torch.rand(*shape, generator=rng, dtype=dtype)


def images(rng, batch):
    return torch.randint(0, 16, (batch, 1, 28, 28), generator=rng)


# --- KL divergence ---------------------------------------------------------------------------------------------------


def kl_oracle(mean, log_std):
    prior = D.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return D.kl_divergence(D.Normal(mean, log_std.exp()), prior).sum(-1)


def kl_mistakes(mean, log_std):
    mean, log_std = mean.double(), log_std.double()
    square, std, variance = mean.square(), log_std.exp(), (2 * log_std).exp()
    right = (variance + square - 1) / 2 - log_std  # of each dimension
    yield "it is half of what it should be: is there a factor 1/2 too many?", right.sum(-1) / 2
    yield "it is twice what it should be: is the factor 1/2 missing?", 2 * right.sum(-1)
    yield "is log_std used where log_var belongs?", (std + square - 1 - log_std).sum(-1) / 2
    yield "the logarithm of the variance is 2 log_std, not log_std", (variance + square - 1 - log_std).sum(-1) / 2
    yield "the variance is exp(2 log_std), not exp(log_std)", ((std + square - 1) / 2 - log_std).sum(-1)
    yield "the mean is to be squared", ((variance + mean - 1) / 2 - log_std).sum(-1)
    yield "the -1 of Eq. 13 is missing", (right + 0.5).sum(-1)
    yield "it has the wrong sign", -right.sum(-1)
    yield "log sigma has the wrong sign", (right + 2 * log_std).sum(-1)
    yield "it is the mean over the latent dimensions; Eq. 13 sums over them", right.mean(-1)
    yield "it is summed over the batch too: one number for each image is wanted", right.sum()
    yield "it is averaged over the batch: one number for each image is wanted", right.sum(-1).mean()
    yield "it is averaged over everything: one number for each image is wanted", right.mean()
    yield "it is not summed over the latent dimensions", right
    for dim in range(mean.dim() - 1):
        yield (
            f"it is summed over dimension {dim}: Eq. 13 sums over the latent dimensions, the last ones",
            right.sum(dim),
        )
    yield (
        "it is the divergence of N(0, I) from q(z|x), not the other way round",
        (((1 + square) / variance - 1) / 2 + log_std).sum(-1),
    )


# --- VAE.forward -----------------------------------------------------------------------------------------------------


def linear_decoder(rng, z_dim, scale=1.0):
    weight = torch.randn(16, 28, 28, z_dim, generator=rng) * scale
    return weight, torch.randn(16, 28, 28, generator=rng)
