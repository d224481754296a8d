# %% [markdown]
# # Why VAEs are not trained with samples from the prior
#
# For Q1.2 and Exercise 8. Eq. 8 estimates log p(x) with samples of z. We test this on a model with a known log p(x):
# z ~ N(0, I) in D dimensions, and x is z with a little noise, x ~ N(z, 0.3² I).
#
# **Predict before you run it**
#
# 1. With 1,000 samples from the prior, how accurate is the estimate of log p(x) for D = 1? And for D = 20?
# 2. How does the number of samples needed grow with D: linearly, quadratically, or exponentially?
# 3. The estimate is unbiased for p(x). Is its logarithm too high or too low on average?

# %%
import argparse
import sys
from math import pi
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch.distributions import Normal

parser = argparse.ArgumentParser(description="log p(x) by Monte Carlo, from the prior and from near the posterior.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.manual_seed(0)
torch.set_default_dtype(torch.double)
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
NOISE = 0.3


# %% [markdown]
# By the third line of Eq. 9, the mean of p(x|z) p(z)/q(z) over z ~ q is p(x), for any q. With the prior as q, this is
# Eq. 8. The other q is close to the posterior: its mean is exact, but its standard deviations are 20 % too large.


# %%
def log_weights(D, name, shape):
    """Compute log p(x|z) p(z)/q(z) for draws of z from q and the image x = (1, ..., 1)."""
    prior = Normal(torch.zeros(D), 1.0)
    q = prior if name == "prior" else Normal(torch.ones(D) / (1 + NOISE**2), 1.2 * NOISE / (1 + NOISE**2) ** 0.5)
    z = q.sample(shape)  # [..., D]
    return (Normal(z, NOISE).log_prob(torch.ones(D)) + prior.log_prob(z) - q.log_prob(z)).sum(dim=-1)


log_p_of_one_pixel = Normal(0.0, (1 + NOISE**2) ** 0.5).log_prob(torch.tensor(1.0))  # the variances of z and noise add

# %% [markdown]
# ## 200 estimates with 1,000 samples each, in 1 to 20 dimensions

# %%
repeats, L = (50, 300) if quick else (200, 1000)
dimensions = [1, 2, 5, 10, 15, 20]
errors = {"prior": [], "posterior": []}  # estimate of log p(x) minus the truth, in nats
for D in dimensions:
    for name, found in errors.items():
        estimate = torch.logsumexp(log_weights(D, name, (repeats, L)), dim=1) - torch.tensor(L).log()  # Eq. 8
        found.append(estimate - D * log_p_of_one_pixel)  # [repeats]
    off = {name: f"{found[-1].median():.2f}" for name, found in errors.items()}
    print(f"D = {D:2}: off by {off} nats (median)")
assert errors["prior"][0].abs().median() < 0.1 and errors["prior"][-1].median() < -5
assert all(e.abs().max() < 1.0 for e in errors["posterior"])

# %% [markdown]
# ## Samples needed for an error of 10 %
# If a sample has relative variance r, r/0.1² samples are needed. The factor E[p(x|z)²]/p(x)² for one dimension has
# a closed form, because p(x|z)² is a Gaussian in z times 1/(2 sqrt(pi) 0.3). In D dimensions, 1 + r is factor^D.

# %%
narrower = Normal(0.0, (1 + NOISE**2 / 2) ** 0.5).log_prob(torch.tensor(1.0)).exp()
factor = narrower / (2 * pi**0.5 * NOISE) / log_p_of_one_pixel.exp() ** 2
needed = (factor ** torch.arange(1, 21) - 1) / 0.1**2  # [20]: for D = 1, ..., 20
measured = {"prior": [], "posterior": []}
for D in range(1, 7):
    for name, found in measured.items():
        weights = log_weights(D, name, (100_000 if quick else 1_000_000,)).exp()  # [L]
        found.append((weights.var() / weights.mean() ** 2 / 0.1**2).item())
print(f"each dimension multiplies the samples needed by about {factor:.2f}; D = 20 needs {needed[-1]:.1e}")
assert all(abs(measured["prior"][i] / needed[i] - 1) < 0.1 for i in range(4))
assert all(found < 60 for found in measured["posterior"])

# %% [markdown]
# ## Unbiased for p(x), not for log p(x)
# By Jensen's inequality, the mean of the logarithms is below the logarithm of the mean.

# %%
D, few = 2, [1, 3, 10, 30, 100]
log_p = D * log_p_of_one_pixel
bias = []
for L_few in few:
    estimates = log_weights(D, "prior", (20_000, L_few)).exp().mean(dim=1)  # [20000]
    assert abs(estimates.mean() - log_p.exp()) < 5 * estimates.std() / 20_000**0.5  # unbiased: within 5 standard errors
    log_error = estimates.clamp_min(1e-300).log() - log_p
    assert log_error.mean() < -5 * log_error.std() / 20_000**0.5  # too low, by more than 5 standard errors
    bias.append(log_error.mean())
print("bias of the logarithm for", few, "samples:", ", ".join(f"{b:.2f}" for b in bias), "nats")
assert abs(bias[-1] / (-(factor**D - 1) / (2 * few[-1])) - 1) < 0.5  # near -r/2L, by a Taylor expansion

# %%
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for name, colour, marker, label in [("prior", BLUE, "o", "prior"), ("posterior", ORANGE, "x", "near the posterior")]:
    left.plot([], [], marker, color=colour, label=f"samples: {label}")
    for D, found in zip(dimensions, errors[name], strict=True):
        left.plot(D + 0.8 * torch.rand(repeats) - 0.4, found, marker, color=colour, markersize=3, alpha=0.4)
    middle.plot(range(1, 7), measured[name], marker, color=colour, label=f"{label}, measured")
left.axhline(0, color="black", linewidth=0.8)
left.set(title=f"{L:,} samples, {repeats} times over", xlabel="dimensions of z", ylabel="error of log p(x) (nats)")
left.legend(loc="lower left")
middle.plot(range(1, 21), needed, color=BLUE, label="prior, exact")
middle.set(title="For an error of 10 %", xlabel="dimensions of z", ylabel="samples needed", yscale="log")
middle.legend(fontsize="small")
right.plot(few, bias, "o-", color=BLUE, label="measured")
right.plot(few, [-(factor**2 - 1) / (2 * n) for n in few], "--", color=GREEN, label="-r/2L, for many samples")
right.set(title="Bias of the logarithm (D = 2)", xlabel="samples L", ylabel="bias of log p(x) (nats)", xscale="log")
right.legend(loc="lower right")
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "monte_carlo.png", dpi=120)

# %% [markdown]
# **What to try**: less noise (0.1); a q with the wrong mean; 100,000 samples for D = 10.
