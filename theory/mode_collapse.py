# %% [markdown]
# # Mode collapse: a GAN and an adversarial autoencoder on eight Gaussians
# For Q2.2. The data are eight clusters on a circle. Both models play the same game with a discriminator: in the GAN, it
# compares the generator's output with the data; in the adversarial autoencoder, the encoder's codes with the prior. The
# discriminator returns scores, and all losses are squared errors, as in a least-squares GAN (Mao et al., 2017).
#
# **Predict before you run it**
# 1. The GAN's generator produces perfect points, but only in one cluster. Is its loss high?
# 2. The autoencoder gives two clusters the same code. Is its loss (Eq. 15) high?
# 3. If we decode draws from the prior, how many of the eight clusters do they reach? Does every draw reach a cluster?

# %%
import argparse
import sys
from math import exp
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

parser = argparse.ArgumentParser(description="How many of eight clusters a GAN and an adversarial autoencoder cover.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
ANGLES = 2 * torch.pi * torch.arange(8) / 8
CENTRES, SPREAD = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1), 0.2  # [8, 2], and a standard deviation


# %%
def data(n):
    return torch.normal(CENTRES[torch.randint(8, (n,))], SPREAD)  # [n, 2]


def noise(n):
    return torch.randn(n, 2)  # the prior


def network(outputs):
    return nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs))


def error(scores, target):
    """Compute the mean squared distance of the scores from the target: 1 for "real", 0 for "fake"."""
    return (scores - target).square().mean()


def step(adam, loss):
    adam.zero_grad()
    loss.backward()
    adam.step()


def play(generate, players, real, extra_loss, steps):
    """Play the game: `generate` returns a batch and fakes made from it; fakes should resemble samples from `real`."""
    D = network(1)  # its learning rate is five times lower, so it is never the best possible discriminator
    adam, opponent = torch.optim.Adam(players, lr=5e-3), torch.optim.Adam(D.parameters(), lr=1e-3)
    for _ in range(steps):
        with torch.no_grad():
            _, fake = generate()
        step(opponent, error(D(fake), 0) + error(D(real(128)), 1))
        batch, fake = generate()
        step(adam, extra_loss(batch, fake) + error(D(fake), 1))


def gan(seed, steps):
    torch.manual_seed(seed)
    generator = network(2)
    play(lambda: (None, generator(noise(128))), generator.parameters(), data, lambda _, fake: 0.0, steps)
    return generator(noise(2000)).detach()


def adversarial_autoencoder(seed, steps):
    torch.manual_seed(seed)
    encoder, decoder = model = nn.ModuleList([network(2), network(2)])

    def generate():
        x = data(128)
        return x, encoder(x)

    play(generate, model.parameters(), noise, lambda x, z: 199 * (decoder(z) - x).square().mean(), steps)  # λ = 0.995
    return decoder(noise(2000)).detach()


# %% [markdown]
# ## Count the clusters
# A cluster counts as covered if more than 1 % of the draws are within three standard deviations of its centre. Draws
# spread over the whole plane would cover all eight clusters, so we also report the fraction of draws near a cluster.


# %%
def coverage(samples):
    near = torch.cdist(samples, CENTRES) < 3 * SPREAD  # [N, 8]
    return int((near.float().mean(dim=0) > 0.01).sum()), near.any(dim=1).float().mean().item()


assert coverage(data(2000))[0] == 8 and abs(coverage(data(20_000))[1] - (1 - exp(-4.5))) < 0.01  # Rayleigh: 98.9 %
seeds, steps = (range(1), 500) if quick else (range(5), 3000)
models = {"GAN": gan, "adversarial autoencoder": adversarial_autoencoder}
drawn = {name: [model(seed, steps) for seed in seeds] for name, model in models.items()}
found = {name: [coverage(samples) for samples in each] for name, each in drawn.items()}
for name, each in found.items():
    print(f"{name:23}:", ", ".join(f"{count} of 8 ({share:.0%} of the draws near one)" for count, share in each))
gan_counts, aae_counts = ([count for count, _ in each] for each in found.values())
assert min(gan_counts) <= 4 and sum(gan_counts) < sum(aae_counts)
assert all(share > 0.15 for each in found.values() for _, share in each)  # neither model's draws are arbitrary

# %%
fig, axes = plt.subplots(2, len(seeds), figsize=(12, 5.6), layout="constrained", squeeze=False)
for row, (name, each) in zip(axes, drawn.items(), strict=True):
    for ax, samples, (count, share) in zip(row, each, found[name], strict=True):
        ax.scatter(*data(1000).T, s=1, color="#999999")
        ax.scatter(*samples.T, s=1, color="#0072B2" if name == "GAN" else "#E69F00")
        ax.set(xlabel="x₁", ylabel="x₂", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal")
        ax.set_title(f"{name}\n{count} of 8 clusters, {share:.0%} near one", fontsize="small")
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "mode_collapse.png", dpi=120)

# %% [markdown]
# Grey: data. Colour: draws, one seed per column. The prior has no gaps, so some draws must fall between clusters.
# **What to try**: more seeds; a reconstruction weight of 0.5 instead of 199; players with equal learning rates.
