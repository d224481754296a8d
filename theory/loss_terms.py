# %% [markdown]
# # What each term of the VAE's loss does
#
# For Q1.5. The data are 36 images of 8 x 8 pixels: a white square at each of 6 x 6 places. We train a VAE with a
# two-dimensional z three times, with the reconstruction term, with the regularization term, and with their sum.
#
# **Predict before you run it**
#
# 1. With the reconstruction term alone, what happens to the standard deviations of q(z|x)? And to the means?
# 2. With the regularization term alone, what does a code tell about its image?
# 3. How much noisier is the reconstruction term of an image with one sample than with 100?

# %%
import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

parser = argparse.ArgumentParser(description="The reconstruction and the regularization term, alone and together.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.set_default_dtype(torch.double)
COLOURS = ["#0072B2", "#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00"]  # for the six rows

# %%
images = torch.zeros(36, 8, 8)
for n in range(36):
    images[n, n // 6 : n // 6 + 3, n % 6 : n % 6 + 3] = 1
images = images.flatten(1)  # [36, 64]


class SmallVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 4))
        self.decoder = nn.Sequential(nn.Linear(2, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 64))

    def q(self, x):
        mean, log_std = self.encoder(x).chunk(2, dim=1)
        return Normal(mean, log_std.exp())  # each [B, 2]

    def reconstruction(self, x, z):
        # -log p(x|z), summed over the pixels: [B, 64] and [..., B, 2] -> [..., B], in nats
        return -Bernoulli(logits=self.decoder(z)).log_prob(x).sum(dim=-1)

    def regularization(self, x):
        # KL(q(z|x)‖p(z)): [B, 64] -> [B], in nats; in Q1.7 you write it yourself
        return kl_divergence(self.q(x), Normal(0.0, 1.0)).sum(dim=1)


def train(a, b):
    torch.manual_seed(0)
    vae = SmallVAE()
    adam = torch.optim.Adam(vae.parameters(), lr=2e-3)
    for _ in range(300 if quick else 1500):
        z = vae.q(images).rsample()  # one sample for each image: L = 1
        loss = a * vae.reconstruction(images, z) + b * vae.regularization(images)
        adam.zero_grad()
        loss.mean().backward()
        adam.step()
    return vae


# %%
trained = {"reconstruction alone": train(1, 0), "regularization alone": train(0, 1), "both": train(1, 1)}
terms = {}
for name, vae in trained.items():
    with torch.no_grad():
        q = vae.q(images)
        rec, reg = vae.reconstruction(images, q.sample((100,))).mean(), vae.regularization(images).mean()
    terms[name] = (rec.item(), reg.item(), q.stddev.mean().item())
    print(f"{name:20}: reconstruction {rec:5.2f}, regularization {reg:5.2f}, sum {rec + reg:5.2f} nats")
rec_alone, reg_alone, both = terms.values()
assert rec_alone[0] < both[0] < reg_alone[0] and reg_alone[1] < 0.01 < both[1] < rec_alone[1]
assert sum(both[:2]) < sum(rec_alone[:2]) and sum(both[:2]) < sum(reg_alone[:2])  # both: the best ELBO
assert rec_alone[2] < 0.5 * both[2] and abs(reg_alone[2] - 1) < 0.05  # nearly points; the prior itself

# %% [markdown]
# ## One image, estimated with 1, 10 and 100 samples
# The exact reconstruction term is an integral over the plane of z, computed on a grid.

# %%
vae, x = trained["both"], images[14:15]
with torch.no_grad():
    q = vae.q(x)
    axes = [torch.linspace(m - 6 * s, m + 6 * s, 101) for m, s in torch.cat([q.mean, q.stddev]).T]
    grid = torch.cartesian_prod(*axes)  # [101², 2]
    weight = q.log_prob(grid).sum(dim=1).softmax(dim=0)  # the density there, made to sum to 1
    exact = (weight * vae.reconstruction(x, grid)).sum()
    variance = (weight * (vae.reconstruction(x, grid) - exact) ** 2).sum()
    estimates = {L: vae.reconstruction(x, q.sample((2000, L))).mean(dim=(1, 2)) for L in (1, 10, 100)}  # [2000] each
for L, estimate in estimates.items():
    print(f"{L:3} samples: {estimate.mean():.2f} ± {estimate.std():.2f} nats; exactly {exact:.2f}")
    assert abs(estimate.mean() - exact) < 5 * estimate.std() / 2000**0.5  # unbiased, even with one sample
    assert abs(estimate.std() / (variance / L) ** 0.5 - 1) < 0.2  # 100 times the samples: a tenth of the noise

# %%
fig, (*maps, last) = plt.subplots(1, 4, figsize=(14, 3.7), layout="constrained")
for ax, (name, vae) in zip(maps, trained.items(), strict=True):
    q = vae.q(images)
    for n in range(36):
        ax.errorbar(*q.mean[n].detach(), *q.stddev[n].detach().flip(0), fmt="o", markersize=4, color=COLOURS[n // 6])
    limit = max(3.0, 1.1 * (q.mean.abs() + q.stddev).max().item())
    ax.add_patch(plt.Circle((0, 0), 2, fill=False, linestyle="--"))
    ax.set(title=name, xlabel="z₁", ylabel="z₂", xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
last.boxplot(estimates.values(), tick_labels=list(estimates), showfliers=False, showmeans=True)
last.axhline(exact, color="#D55E00", linestyle="--", label="exact; triangles: means")
last.set(title="One image, both terms", xlabel="samples L", ylabel="reconstruction term (nats)", ymargin=0.25)
last.legend()
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "loss_terms.png", dpi=120)

# %% [markdown]
# Each colour is a row of the image; the bars are standard deviations of q(z|x); the dashed circle has radius 2.
#
# **What to try**: weights 1 and 4 (a "beta-VAE"), or 1 and 0.1; draw z from the prior and decode it in each case.
