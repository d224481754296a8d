# %% [markdown]
# # The KL divergence between Gaussians, and between a Gaussian and two modes
#
# For Section 1.1.2 and Exercises 4, 5 and 6. The VAE's loss contains a KL divergence between Gaussians (Eq. 13). You
# implement it in Q1.7; here, `torch.distributions` computes it, and we check it in two other ways.
#
# **Predict before you run it**
#
# 1. KL is the integral of p(x) log(p(x)/q(x)). Is the integrand negative anywhere? Can the integral be negative?
# 2. KL is 0.5 nats from N(0, 1) to N(1, 1), and 0.5 nats from N(1, 1) to N(2, 1). Is it 1 nat from N(0, 1) to N(2, 1)?
# 3. p has two modes, and q is one Gaussian. Where does q end up if we minimize KL(p‖q)? And if we minimize KL(q‖p)?

# %%
import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence

parser = argparse.ArgumentParser(description="KL divergence of Gaussians: computed in three ways, minimized in two.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.manual_seed(0)
torch.set_default_dtype(torch.double)
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"

# %% [markdown]
# ## One number, computed in three ways

# %%
x = torch.linspace(-15, 15, 3001)  # a grid for integrals


def kl_by_quadrature(p, q):
    """Integrate p log(p/q) over x, in nats."""
    return torch.trapezoid(p.log_prob(x).exp() * (p.log_prob(x) - q.log_prob(x)), x)


p, q = Normal(0.0, 1.0), Normal(1.0, 2.0)
draws = p.sample((10_000 if quick else 1_000_000,))
terms = p.log_prob(draws) - q.log_prob(draws)  # log p(x)/q(x), x ~ p
exact, integral, monte_carlo = kl_divergence(p, q), kl_by_quadrature(p, q), terms.mean()
print(f"KL(p||q): {exact:.4f} nats exactly, {integral:.4f} by quadrature, {monte_carlo:.4f} from {len(draws):,} draws")
assert abs(integral - exact) < 1e-9
assert abs(monte_carlo - exact) < 5 * terms.std() / len(draws) ** 0.5  # 5 standard errors

# %% [markdown]
# ## A divergence, not a distance
# KL is never negative, and 0 only for p = q. But it is not symmetric, and a detour can be shorter than going directly.

# %%
means, stds = torch.randn(2, 10_000), torch.rand(2, 10_000) + 0.1
random_pairs = kl_divergence(Normal(means[0], stds[0]), Normal(means[1], stds[1]))  # [10000]
print(f"smallest of {len(random_pairs):,} random pairs: {random_pairs.min():.6f} nats")
assert (random_pairs > 0).all() and kl_divergence(p, p) == 0

a, b, c = Normal(0.0, 1.0), Normal(1.0, 1.0), Normal(2.0, 1.0)
detour, direct = kl_divergence(a, b) + kl_divergence(b, c), kl_divergence(a, c)
print(f"N(0,1) to N(1,1) to N(2,1): {detour:.2f} nats; directly: {direct:.2f} nats")
assert detour == 1 and direct == 2  # (difference of the means)² / 2: no triangle inequality

# %% [markdown]
# ## Two modes, one Gaussian
# We fit q to a mixture by minimizing both divergences with gradient descent; for KL(q‖p), from two starting points.

# %%
two_modes = MixtureSameFamily(Categorical(torch.tensor([0.6, 0.4])), Normal(torch.tensor([-2.0, 2.5]), 0.7))


def fit(divergence, start):
    mean, log_std = torch.tensor(start, requires_grad=True), torch.tensor(0.0, requires_grad=True)
    adam = torch.optim.Adam([mean, log_std], lr=0.05)
    for _ in range(300 if quick else 1000):
        loss = divergence(Normal(mean, log_std.exp()))
        adam.zero_grad()
        loss.backward()
        adam.step()
    return mean.item(), log_std.exp().item()


covering = fit(lambda q: kl_by_quadrature(two_modes, q), start=1.0)
seeking_left, seeking_right = (fit(lambda q: kl_by_quadrature(q, two_modes), start) for start in (-2.0, 2.0))
for name, (mean, std) in {"KL(p||q)": covering, "KL(q||p)": seeking_left, "KL(q||p) again": seeking_right}.items():
    print(f"minimum of {name:13}: mean {mean:5.2f}, standard deviation {std:.2f}")
# the minimum of KL(p‖q) has the mean and the variance of p
assert abs(covering[0] - two_modes.mean) < 0.01 and abs(covering[1] - two_modes.stddev) < 0.01
# the minimum of KL(q‖p) is at one of the modes
assert abs(seeking_left[0] + 2.0) < 0.05 and abs(seeking_right[0] - 2.5) < 0.05
assert abs(seeking_left[1] - 0.7) < 0.05 and abs(seeking_right[1] - 0.7) < 0.05

# %%
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
integrand = p.log_prob(x).exp() * (p.log_prob(x) - q.log_prob(x))
left.plot(x, p.log_prob(x).exp(), color=BLUE, label="p = N(0, 1²)")
left.plot(x, q.log_prob(x).exp(), "--", color=ORANGE, label="q = N(1, 2²)")
left.fill_between(x, integrand, color=GREEN, alpha=0.5, label=f"p log(p/q), in nats: area {exact:.2f}")
left.set(title="Negative in places, never as a whole", xlabel="x", ylabel="density", xlim=(-4, 6), ylim=(-0.12, 0.62))
left.legend()
middle.fill_between(x, two_modes.log_prob(x).exp(), color="lightgrey", label="p")
styles = [(covering, BLUE, "-", "KL(p‖q)"), (seeking_left, ORANGE, "--", "KL(q‖p), start -2")]
for (mean, std), colour, line, label in [*styles, (seeking_right, GREEN, ":", "KL(q‖p), start 2")]:
    middle.plot(x, Normal(mean, std).log_prob(x).exp(), line, color=colour, label=label)
middle.set(title="The q that minimizes each", xlabel="x", ylabel="density", xlim=(-6.5, 6.5), ylim=(0, 0.95))
middle.legend(loc="upper center", ncols=2, fontsize="x-small")
centre = torch.linspace(-4, 4.5, 200)
right.plot(centre, [kl_by_quadrature(two_modes, Normal(m, 0.7)) for m in centre], color=BLUE, label="KL(p‖q)")
right.plot(centre, [kl_by_quadrature(Normal(m, 0.7), two_modes) for m in centre], "--", color=ORANGE, label="KL(q‖p)")
right.set(title="q = N(m, 0.7²)", xlabel="m, the mean of q", ylabel="divergence (nats)", yscale="log")
right.legend()
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "kl.png", dpi=120)

# %% [markdown]
# **What to try**: modes closer together; `start=1.0` for KL(q‖p), where q gets stuck between the modes. The encoder
# of a VAE minimizes KL(q‖p), with the true posterior as p (Eq. 10): what does it miss?
