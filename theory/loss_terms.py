# %% [markdown]
# # What each term of the VAE's loss does
# For Q1.5 and Exercise 13. The data are 36 images of 8 x 8 pixels: a white square in each of 6 x 6 positions. We train
# a VAE with a 2-dimensional z three times: with the reconstruction term, the regularization term, and their sum.
#
# **Predict before you run it**
# 1. With only the reconstruction term, what happens to the standard deviations of q(z|x)? And to the means?
# 2. With only the regularization term, what information does a code contain about its image?
# 3. We estimate both terms for one image with one sample and with 100. How much noisier is the former?

# %%
import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

parser = argparse.ArgumentParser(description="The reconstruction and regularization terms, separately and together.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.set_default_dtype(torch.double)
COLOURS = ["#0072B2", "#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00"]  # for the six rows

# %%
images = torch.zeros(36, 64)
for n in range(36):
    images.view(36, 8, 8)[n, n // 6 : n // 6 + 3, n % 6 : n % 6 + 3] = 1


class SmallVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 4))
        self.decoder = nn.Sequential(nn.Linear(2, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 64))

    def q(self, x):
        mean, log_std = self.encoder(x).chunk(2, dim=1)
        return Normal(mean, log_std.exp())  # each [B, 2]

    def reconstruction(self, x, z):  # -log p(x|z), summed over the pixels: [B, 64] and [..., B, 2] -> [..., B], in nats
        return -Bernoulli(logits=self.decoder(z)).log_prob(x).sum(dim=-1)

    def regularization(self, x):  # KL(q(z|x)‖p(z)): [B, 64] -> [B], in nats; you implement it in Q1.7
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
assert sum(both[:2]) < min(sum(rec_alone[:2]), sum(reg_alone[:2]))  # both: the best ELBO
assert rec_alone[2] < 0.5 * both[2] and abs(reg_alone[2] - 1) < 0.05

# %% [markdown]
# ## Both terms for one image, estimated with 1, 10 and 100 samples
# Exact: an integral over a grid of z, and a closed form. Estimated: means of -log p(x|z) and of log q(z|x) - log p(z).

# %%
vae, x = trained["both"], images[14:15]
with torch.no_grad():
    q = vae.q(x)
    along = (torch.linspace(m - 6 * s, m + 6 * s, 101) for m, s in torch.cat([q.mean, q.stddev]).T)
    grid = torch.cartesian_prod(*along)  # [101², 2]
    weight = q.log_prob(grid).sum(dim=1).softmax(dim=0)  # the density at the grid points, normalized to sum to 1
    exact = (weight * vae.reconstruction(x, grid)).sum()
    variance = (weight * (vae.reconstruction(x, grid) - exact) ** 2).sum()
    draws = {L: q.sample((2000, L)) for L in (1, 10, 100)}  # [2000, L, 1, 2] each
    rec = {L: vae.reconstruction(x, z).mean(dim=(1, 2)) for L, z in draws.items()}  # [2000] each
    reg = {L: (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(dim=-1).mean(dim=(1, 2)) for L, z in draws.items()}
estimated = {"reconstruction": (rec, exact), "regularization": (reg, vae.regularization(x).item())}
for name, (estimates, exact) in estimated.items():
    for L, estimate in estimates.items():
        print(f"{name}, {L:3} samples: {estimate.mean():.2f} ± {estimate.std():.2f} nats; exactly {exact:.2f}")
        assert abs(estimate.mean() - exact) < 5 * estimate.std() / 2000**0.5  # unbiased, even with one sample
assert all(abs(rec[L].std() / (variance / L) ** 0.5 - 1) < 0.2 for L in draws)  # 100 samples: a tenth of the noise

# %%
fig, (*maps, last) = plt.subplots(1, 4, figsize=(14, 3.7), layout="constrained")
for ax, (name, vae) in zip(maps, trained.items(), strict=True):
    q = vae.q(images)
    for mean, std, n in zip(q.mean.detach(), q.stddev.detach(), range(36), strict=True):
        ax.errorbar(*mean, *std.flip(0), fmt="o", markersize=4, color=COLOURS[n // 6])
    limit = max(3.0, 1.1 * (q.mean.abs() + q.stddev).max().item())
    ax.add_patch(plt.Circle((0, 0), 2, fill=False, linestyle="--"))
    ax.set(title=name, xlabel="z₁", ylabel="z₂", xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
for (name, (estimates, exact)), colour in zip(estimated.items(), COLOURS[::5], strict=True):
    boxes = last.boxplot(estimates.values(), showfliers=False, showmeans=True, tick_labels=list(estimates))
    plt.setp(boxes["medians"] + boxes["means"], color=colour, markerfacecolor=colour, markeredgecolor=colour)
    last.axhline(exact, color=colour, linestyle="--", label=f"{name}, exact")
last.set(title="One image (triangles: means)", xlabel="samples L", ylabel="estimate (nats)", yscale="log")
last.legend(fontsize="small", loc=(0.28, 0.66))
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "loss_terms.png", dpi=120)

# %% [markdown]
# Colours: the square's row. Bars: standard deviations of q(z|x). Dashed circles: radius 2.
# **What to try**: weights 1 and 4 (a "beta-VAE"), or 1 and 0.1; draw z from the prior and decode it in each case.
