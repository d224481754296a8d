# %% [markdown]
# # Three encoders and their q(z)
#
# For Q2.1 and Q2.7. q(z), the distribution of all codes, is the mean of q(z|x) over the data. An adversarial
# autoencoder makes q(z) resemble the prior. We do this with three encoders, and with a simple distance instead of a
# discriminator. The data x lie on a circle: they have two coordinates, but one intrinsic dimension.
#
# **Predict before you run it**
#
# 1. The data lie on a circle, and a deterministic encoder is a function of x. Where in the plane can its codes lie?
# 2. Which encoders can fill the plane: those with a point, a Gaussian, or an arbitrary distribution for each x?
# 3. Where are the holes between the codes, and do they shrink or grow as the dimension of z increases?

# %%
import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.distributions import Normal

parser = argparse.ArgumentParser(description="q(z) of a deterministic, a Gaussian and a universal encoder.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.manual_seed(0)
STYLES = {"deterministic": ("#0072B2", "o-"), "Gaussian": ("#E69F00", "s--"), "universal": ("#009E73", "^:")}


# %%
def network(inputs, outputs, width=128):
    hidden = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


class Encoder(nn.Module):
    """Draws one z from q(z|x) for each x: [N, 2] -> [N, D]."""

    def __init__(self, kind, D):
        super().__init__()
        self.kind, self.D = kind, D
        self.net = network(2 + D if kind == "universal" else 2, 2 * D if kind == "Gaussian" else D)

    def forward(self, x):
        if self.kind == "deterministic":
            return self.net(x)  # q(z|x) is one point
        if self.kind == "Gaussian":
            mean, log_std = self.net(x).chunk(2, dim=1)
            return Normal(mean, log_std.exp()).rsample()
        return self.net(torch.cat([x, torch.randn(len(x), self.D)], dim=1))  # noise as a second input


def data(n):
    angle = 2 * torch.pi * torch.rand(n)
    return torch.stack([angle.cos(), angle.sin()], dim=1)  # [N, 2]


def energy_distance(a, b):
    """Compute the energy distance (Székely and Rizzo) between two sets of draws: two [N, D] -> scalar."""
    n = len(a)
    return 2 * torch.cdist(a, b).mean() - (torch.cdist(a, a).sum() + torch.cdist(b, b).sum()) / (n * (n - 1))


def train(kind, D):
    """Train an encoder whose q(z) resembles the prior, while a decoder can recover x from z."""
    torch.manual_seed(1)
    model = nn.ModuleDict({"encoder": Encoder(kind, D), "decoder": network(D, 2)})
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(250 if quick else 1200):
        x = data(128)
        z = model["encoder"](x)
        reconstruction = (model["decoder"](z) - x).square().sum(dim=1).mean()
        loss = energy_distance(z, torch.randn(128, D)) + 0.1 * reconstruction
        adam.zero_grad()
        loss.backward()
        adam.step()
    return model["encoder"]


# %% [markdown]
# ## Holes
# A draw from the prior lies in a hole if no code is within a radius r; for 95 % of draws, another draw is within r.


# %%
def share_in_holes(codes, D):
    prior, others = torch.randn(2, len(codes), D)
    near = torch.cdist(prior, others).amin(dim=1).quantile(0.95)  # distance to the nearest draw
    return (torch.cdist(prior, codes).amin(dim=1) > near).float().mean().item()


dimensions = [1, 2] if quick else [1, 2, 4, 8, 16]
holes, planes = {kind: [] for kind in STYLES}, {}
for kind in STYLES:
    for D in dimensions:
        codes = train(kind, D)(data(2000)).detach()
        holes[kind].append(share_in_holes(codes, D))
        planes |= {kind: codes} if D == 2 else {}
    print(f"{kind:13}", ", ".join(f"D = {D}: {h:.0%}" for D, h in zip(dimensions, holes[kind], strict=True)))
assert abs(share_in_holes(torch.randn(2000, 2), 2) - 0.05) < 0.03  # codes from the prior itself
assert holes["deterministic"][0] < 0.25 and min(holes["deterministic"][1:]) > 0.6
assert all(h < 0.3 for kind in ("Gaussian", "universal") for h in holes[kind][:2])

# %%
fig, (*maps, last) = plt.subplots(1, 4, figsize=(14, 3.7), layout="constrained")
for ax, (kind, codes) in zip(maps, planes.items(), strict=True):
    ax.scatter(*torch.randn(2000, 2).T, s=2, color="lightgrey")
    ax.scatter(*codes.T, s=2, color=STYLES[kind][0])
    ax.set(title=f"{kind} (grey: prior)", xlabel="z₁", ylabel="z₂", xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
for kind, (colour, line) in STYLES.items():
    last.plot(dimensions, [100 * h for h in holes[kind]], line, color=colour, label=kind)
last.axhline(5, color="black", linewidth=0.8, label="codes from the prior")
last.set(title="Holes", xlabel="dimensions of z", ylabel="draws from the prior in a hole (%)", ylim=(0, 100))
last.legend(fontsize="small", loc=(0.3, 0.35))
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "posteriors.png", dpi=120)

# %% [markdown]
# **What to try**: omit the reconstruction: what does each Gaussian q(z|x) become? Then let x fill a disc.
