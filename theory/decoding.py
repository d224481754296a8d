# %% [markdown]
# # Decoding draws from the prior: a plain autoencoder and a VAE
#
# For Q1.1, Exercise 15, and the food for thought "autoencoder or VAE?" in Section 1.1.1. Both models have the same
# network and see the same 2,000 MNIST images. The plain autoencoder minimizes only the reconstruction term, without
# noise: its code is the mean. The VAE minimizes both terms of Eq. 11.
#
# **Predict before you run it**
#
# 1. Which of the two models reconstructs images better?
# 2. The plain autoencoder's loss does not determine where codes lie. Where are they, and how far do they spread?
# 3. We decode draws from N(0, I) with both decoders. What do the images look like?

# %%
import argparse
import sys
from math import log
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Bernoulli, Categorical, MultivariateNormal, Normal, kl_divergence

if "__file__" in globals():  # run as a script: import from this repository, not from an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from course import data

parser = argparse.ArgumentParser(description="Draws from the prior, decoded by a plain autoencoder and by a VAE.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.set_flush_denormal(True)  # subnormal numbers in Adam's state would slow it down
COLOURS = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00"] * 2  # two digits may share a colour

# %%
try:
    images, labels = data.load("mnist", "t10k")
except data.DataError as error:
    sys.exit(f"decoding.py: {error}")
images, labels = F.avg_pool2d(images[:2000] / 255, 2).flatten(1), labels[:2000]  # [2000, 196] in 0..1: 14 x 14 pixels


class Autoencoder(nn.Module):
    def __init__(self, dims=2):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(196, 256), nn.ReLU(), nn.Linear(256, 2 * dims))
        self.decoder = nn.Sequential(nn.Linear(dims, 256), nn.ReLU(), nn.Linear(256, 196))  # logits

    def q(self, x):
        mean, log_std = self.encoder(x).chunk(2, dim=1)
        return Normal(mean, log_std.exp())  # each [B, D]; the plain autoencoder ignores the standard deviation

    def loss(self, x, is_vae):
        q = self.q(x)
        logits = self.decoder(q.rsample() if is_vae else q.mean)
        reconstruction = -Bernoulli(logits=logits, validate_args=False).log_prob(x).sum(dim=1)  # grey values allowed
        return (reconstruction + is_vae * kl_divergence(q, Normal(0.0, 1.0)).sum(dim=1)).mean()  # nats per image


def train(is_vae):
    torch.manual_seed(0)
    model = Autoencoder()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(600 if quick else 4000):
        loss = model.loss(images[torch.randint(len(images), (64,))], is_vae)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return model


models = {"autoencoder": train(False), "VAE": train(True)}

# %% [markdown]
# ## Where are the codes, and what do draws decode to?
# A decoded draw gets the label of the most similar image. If the draws are like the data, the entropy of the labels is
# near that of the data, log2(10) = 3.32 bits.


# %%
def label_entropy(pictures):
    nearest = labels[torch.cdist(pictures, images).argmin(dim=1)]  # [N]
    return Categorical(torch.bincount(nearest, minlength=10) / len(pictures)).entropy().item() / log(2)


torch.manual_seed(1)
with torch.no_grad():
    codes = {name: model.q(images).mean for name, model in models.items()}  # [2000, 2] each
    errors = {name: (m.decoder(codes[name]).sigmoid() - images).square().mean() for name, m in models.items()}
    fitted = MultivariateNormal(codes["autoencoder"].mean(dim=0), codes["autoencoder"].T.cov())  # a fitted prior
    z = torch.randn(1000, 2)
    drawn = {name: model.decoder(z).sigmoid() for name, model in models.items()}  # [1000, 196]
    drawn["fitted Gaussian"] = models["autoencoder"].decoder(fitted.sample((1000,))).sigmoid()
spread = {name: c.std(dim=0).mean().item() for name, c in codes.items()}
variety = {name: label_entropy(pictures) for name, pictures in drawn.items()}
for name in models:
    print(f"{name:11}: squared error {errors[name]:.4f}, standard deviation of the codes {spread[name]:.2f}")
print("entropy of the labels in bits:", variety)
assert errors["autoencoder"] < errors["VAE"]  # without noise and regularization, it reconstructs better
assert abs(spread["VAE"] - 1) < 0.25 and spread["autoencoder"] > 1.3  # only the VAE's codes are spread like the prior
assert variety["autoencoder"] < min(variety["VAE"], variety["fitted Gaussian"]) - 0.1

# %%
fig, axes = plt.subplots(1, 5, figsize=(17, 3.8), layout="constrained")
for ax, (name, c) in zip(axes, codes.items(), strict=False):
    low, high = c.min().item() - 0.5, c.max().item() + 0.5
    for digit in range(10):
        ax.scatter(*c[labels == digit][:60].T, s=25, marker=f"${digit}$", linewidth=0.2, color=COLOURS[digit])
    ax.add_patch(plt.Circle((0, 0), 2, fill=False, linestyle="--"))
    ax.set(title=f"{name}: codes", xlabel="z₁", ylabel="z₂", xlim=(low, high), ylim=(low, high), aspect="equal")
for ax, (name, pictures) in zip(axes[2:], drawn.items(), strict=True):
    ax.imshow(pictures[:64].view(8, 8, 14, 14).transpose(1, 2).reshape(112, 112), cmap="gray", extent=(0, 8, 8, 0))
    ax.set(title=f"{name}: draws", xlabel="column of draws", ylabel="row of draws")
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "decoding.png", dpi=120)

# %% [markdown]
# Dashed circle: radius 2. "Fitted Gaussian": the same autoencoder, with draws from a Gaussian fitted to its codes.
# **What to try**: `dims=8`; a regularization term with ten times the weight.
