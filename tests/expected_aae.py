"""What several graded tests of part 2 expect, and their random inputs."""

import math

import torch
from torch import distributions as D


def images(rng, batch):
    """Random grey values in -1..1."""
    return 2 * torch.rand(batch, 1, 28, 28, generator=rng) - 1


def codes(rng, batch, z_dim):
    return 1.5 * torch.randn(batch, z_dim, generator=rng)


def nats(logits, from_prior):
    """The binary cross-entropy of each logit with "from the prior" or "not": float64."""
    label = torch.full_like(logits, float(from_prior), dtype=torch.float64)
    return -D.Bernoulli(logits=logits.double()).log_prob(label)


def assert_logs(logs, names):
    """The log has these names, and numbers that do not hang on to the graph."""
    assert set(names) <= set(logs), f"the log should have {sorted(names)}, it has {sorted(logs)}"
    attached = [name for name in sorted(names) if math.isnan(logs[name])]
    assert not attached, f"{attached} in the log should be finite and detached from the graph"


def loss_inputs(rng, batch=6, z_dim=4):
    """x, recon_x, z_fake, and the weight and bias of a linear discriminator."""
    weight, bias = torch.randn(z_dim, generator=rng), torch.randn((), generator=rng)
    return images(rng, batch), images(rng, batch), codes(rng, batch, z_dim), weight, bias


def split_codes(seen, z_fake):
    """What the discriminator saw: codes of the prior. The others have to be all of z_fake."""
    seen, fake = (dict.fromkeys(map(tuple, z.tolist())) for z in (seen, z_fake))
    assert fake.keys() <= seen.keys(), "the discriminator should see the codes z_fake as they are"
    real = [z for z in seen if z not in fake]
    assert real, "the discriminator should see codes from the prior too"
    return torch.tensor(real)
