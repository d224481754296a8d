# %% [markdown]
# # A neural radiance field of a small scene
#
# For Appendix B and Q3.1 of the 2022 edition. Formulas define the scene: a striped ball, and a smaller ball next to it.
# We take 24 photographs of the scene, fit a network to them, and render a view that was not photographed.
#
# **Predict before you run it**
#
# 1. A ray passes through fog of density 2 over a length of 0.5. What fraction of light passes through (Eq. B.3)?
# 2. The network gets a position (x, y, z). What is missing from the image without the sines and cosines of Eq. B.7?

# %%
import argparse
import sys
from math import cos, exp, pi, sin
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

parser = argparse.ArgumentParser(description="A radiance field, with and without positional encoding; a new view.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.manual_seed(0)
torch.set_flush_denormal(True)  # subnormal numbers would make it several times slower
COLOURS, LINES = ["#999999", "#E69F00", "#0072B2"], ["-", ":", "--"]
SIZE, NEAR, FAR = 24 if quick else 40, 2.0, 4.6  # pixels per side, and where rays begin and end


# %%
def scene(points):
    """Return the function to learn: density [..., 1] and colour [..., 3] at points [..., 3]."""
    in_big = torch.sigmoid(60 * (0.6 - points.norm(dim=-1, keepdim=True)))
    in_small = torch.sigmoid(60 * (0.3 - (points - torch.tensor([0.7, 0.45, 0.3])).norm(dim=-1, keepdim=True)))
    stripes = torch.sigmoid(8 * torch.sin(14 * points[..., 1:2]))
    colour = torch.lerp(torch.tensor([0.9, 0.62, 0.0]), torch.tensor([0.0, 0.45, 0.7]), stripes)
    share = in_small / (in_big + in_small).clamp_min(1e-9)
    return 40 * (in_big + in_small), torch.lerp(colour, torch.tensor([0.0, 0.62, 0.45]), share)


def rays(angle):
    """Return the origins and directions, [SIZE², 3] each, of the rays of a camera on a circle around the scene."""
    edge = 0.4 * (1 - 1 / SIZE)  # the centre of the outermost pixel
    u = torch.linspace(-edge, edge, SIZE)
    directions = torch.stack([u.repeat(SIZE), -u.repeat_interleave(SIZE), torch.full((SIZE**2,), -1.0)], dim=1)
    turn = torch.tensor([[cos(angle), 0.0, -sin(angle)], [0.0, 1.0, 0.0], [sin(angle), 0.0, cos(angle)]])
    return torch.tensor([[0.0, 0.0, 3.2]]).expand(SIZE**2, 3) @ turn, F.normalize(directions, dim=1) @ turn


def render(field, origins, directions, pieces):
    """Render by Eq. B.5 on a white background: colours [R, 3], and the weights of the segments [R, N]."""
    delta = (FAR - NEAR) / pieces
    t = NEAR + delta * (torch.arange(pieces) + torch.rand(len(origins), pieces))  # a random place in each segment
    density, colour = field(origins[:, None] + t[..., None] * directions[:, None])  # [R, N, 1], [R, N, 3]
    alpha = 1 - torch.exp(-density[..., 0] * delta)
    reached = torch.cumprod(torch.cat([torch.ones(len(alpha), 1), 1 - alpha], dim=1), dim=1)  # [R, N + 1]
    weights = reached[:, :-1] * alpha
    return (weights[..., None] * colour).sum(dim=1) + reached[:, -1:], weights


# Check the renderer: fog of constant density transmits the fraction exp(-density × length) of the light.
through, weights = render(lambda at: (torch.full_like(at[..., :1], 0.5), torch.zeros_like(at)), *rays(0.0), 32)
assert torch.allclose(through, torch.tensor(exp(-0.5 * (FAR - NEAR))))  # black fog in front of a white wall
assert torch.allclose(weights.sum(dim=1) + through[:, 0], torch.tensor(1.0))  # Eq. B.6


# %%
class Field(nn.Module):
    def __init__(self, frequencies):
        super().__init__()
        self.frequencies = pi * 2.0 ** torch.arange(frequencies) / 2  # the scene lies in -2..2, half of u in Eq. B.7
        first, last = nn.Linear(3 + 6 * frequencies, 64), nn.Linear(64, 4)
        self.mlp = nn.Sequential(first, nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), last)

    def forward(self, points):
        waves = (points[..., None] * self.frequencies).flatten(-2)  # [..., 3 L]
        out = self.mlp(torch.cat([points, waves.sin(), waves.cos()], dim=-1))
        return 20 * F.softplus(out[..., :1] - 5), out[..., 1:].sigmoid()


def train(frequencies):
    torch.manual_seed(0)
    adam = torch.optim.Adam((field := Field(frequencies)).parameters(), lr=2e-3)
    for _ in range(200 if quick else 1000):
        batch = torch.randint(len(colours), (256,))
        rendered, _ = render(field, origins[batch], directions[batch], 24)
        loss = F.mse_loss(rendered, colours[batch])  # Eq. B.8, with one network
        adam.zero_grad()
        loss.backward()
        adam.step()
    return field


with torch.no_grad():
    cameras = [rays(2 * pi * i / 24) for i in range(24)]
    origins, directions = (torch.cat(part) for part in zip(*cameras, strict=True))  # [24 SIZE², 3] each
    colours = render(scene, origins, directions, 128)[0]
fields = {"the scene": scene, "positions alone": train(0), "positional encoding": train(5)}

with torch.no_grad():  # a view from between two cameras
    views = {name: render(field, *rays(2 * pi * 7.5 / 24), 128)[0] for name, field in fields.items()}
psnr = {n: -10 * (view - views["the scene"]).square().mean().log10().item() for n, view in views.items()}  # in dB
print(", ".join(f"{name} {decibels:.1f} dB" for name, decibels in psnr.items()))
assert 15 < psnr["positions alone"] < psnr["positional encoding"] - (1 if quick else 3)

# %%
fig, axes = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
for ax, (name, view), colour, line in zip(axes, views.items(), COLOURS, LINES, strict=False):
    ax.imshow(picture := view.view(SIZE, SIZE, 3).clip(0, 1))
    ax.set(title=name + f": {psnr[name]:.1f} dB" * (ax != axes[0]), xlabel="column (pixels)", ylabel="row (pixels)")
    axes[3].plot(picture[:, SIZE // 2, 0], line, color=colour, label=name)
axes[3].set(title="From top to bottom", xlabel="row (pixels)", ylabel="red (0 to 1), middle column", ylim=(-0.05, 1.5))
axes[3].legend(fontsize="small", loc="upper center")
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "nerf.png", dpi=120)

# %% [markdown]
# **What to try**: 4 cameras, or all of them in one place (the food for thought in Appendix B); more frequencies.
