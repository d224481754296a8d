# %% [markdown]
# # How many latent dimensions?
#
# For Exercises 14 and 16 and Q2.7. We train autoencoders and VAEs with 1 to 64 latent dimensions on 500 MNIST images.
#
# **Predict before you run it**
#
# 1. As the code gets larger, how does the autoencoder's training error change? And its test error?
# 2. How many of its 64 latent dimensions does the VAE use?
# 3. We decode random codes. For which sizes and which model do the images show digits?

# %%
import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

if "__file__" in globals():  # run as a script: import from this repository, not from an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from course import data

parser = argparse.ArgumentParser(description="1 to 64 latent dimensions for an autoencoder and a VAE.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.set_flush_denormal(True)  # subnormal numbers in Adam's state would slow it down tenfold
STYLES = {"autoencoder": ("#E69F00", "s"), "VAE": ("#0072B2", "o")}

# %%
try:
    images, _ = data.load("mnist", "t10k")
except data.DataError as error:
    sys.exit(f"latent_size.py: {error}")
train_set, test_set = F.avg_pool2d(images[:1000] / 255, 2).flatten(1).split(500)  # [500, 196] each: 14 x 14 pixels


class Autoencoder(nn.Module):
    def __init__(self, dims):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(196, 256), nn.ReLU(), nn.Linear(256, 2 * dims))
        self.decoder = nn.Sequential(nn.Linear(dims, 256), nn.ReLU(), nn.Linear(256, 196))  # logits

    def q(self, x):
        mean, log_std = self.encoder(x).chunk(2, dim=1)
        return Normal(mean, log_std.exp())  # the autoencoder uses only the mean

    def error(self, x):  # without noise in the code
        return (self.decoder(self.q(x).mean).sigmoid() - x).square().mean().item()


def train(dims, is_vae):
    torch.manual_seed(0)
    model = Autoencoder(dims)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(300 if quick else 1500):
        x = train_set[torch.randint(500, (64,))]
        q = model.q(x)
        logits = model.decoder(q.rsample() if is_vae else q.mean)
        reconstruction = -Bernoulli(logits=logits, validate_args=False).log_prob(x).sum(dim=1)  # grey values allowed
        loss = (reconstruction + is_vae * kl_divergence(q, Normal(0.0, 1.0)).sum(dim=1)).mean()  # nats per image
        adam.zero_grad()
        loss.backward()
        adam.step()
    return model


# %% [markdown]
# A dimension counts as used if its mean KL divergence is above 0.1 nats. The VAE's codes are drawn from the prior. The
# autoencoder has no prior, so for a fair comparison, its codes are drawn from a Gaussian fitted to the images' codes.


# %%
def draw(model, is_vae, n=7):
    z = model.q(train_set).mean
    fitted = MultivariateNormal(z.mean(dim=0), z.T.cov().view(z.size(1), -1) + 1e-4 * torch.eye(z.size(1)))
    return model.decoder(torch.randn(n, z.size(1)) if is_vae else fitted.sample((n,))).sigmoid()


sizes = [1, 8, 64] if quick else [1, 2, 4, 8, 16, 32, 64]
errors, drawn, used = {name: [] for name in STYLES}, {name: [] for name in STYLES}, []
for dims in sizes:
    for name in STYLES:
        model = train(dims, name == "VAE")
        with torch.no_grad():
            errors[name].append((model.error(train_set), model.error(test_set)))
            drawn[name].append(draw(model, name == "VAE"))
            cost = kl_divergence(model.q(test_set), Normal(0.0, 1.0)).mean(dim=0)  # [D], in nats
    used.append(int((cost > 0.1).sum()))  # of the VAE, which is trained last
    print(dims, "dimensions:", {n: [round(e, 4) for e in errors[n][-1]] for n in STYLES}, "the VAE uses", used[-1])
plain, vae = (torch.tensor(errors[name]).T for name in STYLES)  # [2, sizes] each: training, test
assert (plain[0].diff() < 0).all()  # more dimensions always reduce the autoencoder's training error
assert (plain[1] > plain[0]).all() and (vae[1] > vae[0]).all()  # 500 images are too few to generalize perfectly
assert used[0] == sizes[0] and used[-1] < sizes[-1] / 2  # the VAE leaves most of its 64 dimensions at the prior

# %%
fig, axes = plt.subplots(1, 4, figsize=(15, 4.2), layout="constrained", width_ratios=[1.1, 1, 1, 1])
for name, (colour, marker) in STYLES.items():
    for line, values, kind in zip("-:", zip(*errors[name], strict=True), ["training", "test"], strict=True):
        axes[0].plot(sizes, values, marker + line, color=colour, label=f"{name}, {kind}")
axes[0].set(title="Error", xlabel="latent dimensions", ylabel="squared error per pixel", xscale="log")
axes[1].loglog(sizes, used, "o-", color=STYLES["VAE"][0], base=2, label="used by the VAE")
axes[1].loglog(sizes, sizes, "--", color="#999999", base=2, label="all")
axes[1].set(title="What the VAE uses", xlabel="latent dimensions", ylabel="used dimensions (number)")
for ax, (name, pictures) in zip(axes[2:], drawn.items(), strict=True):
    grid = torch.stack(pictures).view(-1, 7, 14, 14).transpose(1, 2).reshape(-1, 98)
    ax.imshow(grid, cmap="gray", extent=(0, 7, len(sizes), 0))
    ax.set(title=f"{name}: random codes, decoded", xlabel="draw (number)", ylabel="latent dimensions", aspect="auto")
    ax.set_yticks([i + 0.5 for i in range(len(sizes))], sizes)
for ax in axes[:2]:
    ax.set_xticks(sizes, sizes, minor=False)
    ax.legend(fontsize="small")
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "latent_size.png", dpi=120)

# %% [markdown]
# **What to try**: 5,000 images; half the weight for the KL term; drawing the autoencoder's codes from N(0, I).
