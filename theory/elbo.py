# %% [markdown]
# # The ELBO, log p(x), and the gap between them
#
# For Q1.3, Q1.4 and Exercises 9 and 10. With one latent dimension, every integral can be computed on a grid, so we can
# see all three terms of Eq. 10: log p(x), the ELBO, and KL(q(z|x)‖p(z|x)).
#
# **Predict before you run it**
#
# 1. Which term of Eq. 10 makes the ELBO a lower bound?
# 2. We first train only the encoder, then encoder and decoder. In which of the two phases can log p(x) change?
# 3. Can the gap close completely? Can it grow while the ELBO rises?

# %%
import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch.distributions import Normal, kl_divergence

parser = argparse.ArgumentParser(description="log p(x), ELBO and their gap, by quadrature, while the ELBO is raised.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.set_default_dtype(torch.double)
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"

# %% [markdown]
# ## The model
# z ~ N(0, 1) and x|z ~ N(f(z), 0.4²). The decoder f is curved, so p(z|x) is not Gaussian. Each of the three data points
# has its own mean and standard deviation of q(z|x), as if from an encoder that can output anything.

# %%
x = torch.tensor([-1.2, 0.3, 1.6])  # [N]
z = torch.linspace(-6, 6, 601)  # [G]: the grid for integrals
log_prior = Normal(0.0, 1.0).log_prob(z)  # [G]


def log_likelihood(theta):
    f_of_z = theta[0] + theta[1] * torch.tanh(2 * z) + theta[2] * z
    return Normal(f_of_z, 0.4).log_prob(x[:, None])  # log p(x|z), [N, G]


def three_terms(theta, mean, log_std):
    """Compute log p(x), ELBO and KL(q(z|x)‖p(z|x)), each [N] in nats and from its definition."""
    log_joint = log_likelihood(theta) + log_prior
    log_p = torch.trapezoid(log_joint.exp(), z).log()  # Eq. 6
    q = Normal(mean[:, None], log_std.exp()[:, None])
    log_q = q.log_prob(z)  # [N, G]
    reconstruction = torch.trapezoid(log_q.exp() * log_likelihood(theta), z)
    elbo = reconstruction - kl_divergence(q, Normal(0.0, 1.0))[:, 0]  # Eq. 9
    log_posterior = log_joint - log_p[:, None]  # Bayes: p(z|x) = p(x|z) p(z) / p(x)
    gap = torch.trapezoid(log_q.exp() * (log_q - log_posterior), z)
    return log_p, elbo, gap


# %% [markdown]
# ## A check with a known answer
# With a linear decoder f(z) = b z, all distributions are Gaussian, including p(x) = N(0, b² + 0.4²) and the posterior.

# %%
b, variance = 0.8, 0.4**2
posterior_mean = b * x / (b**2 + variance)
posterior_std = torch.full((3,), variance / (b**2 + variance)).sqrt()
log_p, elbo, gap = three_terms(torch.tensor([0.0, 0.0, b]), posterior_mean, posterior_std.log())
assert torch.allclose(log_p, Normal(0.0, (b**2 + variance) ** 0.5).log_prob(x))
assert gap.abs().max() < 1e-6 and torch.allclose(elbo, log_p)  # q is the posterior: no gap

# %% [markdown]
# ## Raise the ELBO: first by training only phi, then theta and phi

# %%
steps = 150 if quick else 300
theta = torch.tensor([0.0, 1.0, 0.1], requires_grad=True)
mean, log_std = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)  # phi
history, snapshots = [], []
for phase in ([mean, log_std], [mean, log_std, theta]):
    adam = torch.optim.Adam(phase, lr=0.02)
    snapshots.append([t.detach().clone() for t in (theta, mean, log_std)])
    for _ in range(steps):
        log_p, elbo, gap = three_terms(theta, mean, log_std)
        history.append(torch.stack([log_p.mean(), elbo.mean(), gap.mean()]).detach())
        assert (log_p - elbo - gap).abs().max() < 1e-6 and (gap > 0).all()  # Eq. 10
        adam.zero_grad()
        (-elbo.mean()).backward()  # Eq. 11
        adam.step()
snapshots.append([t.detach().clone() for t in (theta, mean, log_std)])
log_p, elbo, gap = torch.stack(history).T  # [2 steps] each

# %%
for name, at in [("at first", 0), ("after phi", steps - 1), ("after both", -1)]:
    print(f"{name:10} log p(x) = {log_p[at]:.3f}, ELBO = {elbo[at]:.3f}, gap = {gap[at]:.3f} nats")
assert (log_p[:steps] == log_p[0]).all() and gap[steps - 1] < 0.5 * gap[0]
assert log_p[-1] > log_p[0] + 0.1
both_rise = (gap.diff() > 0) & (elbo.diff() > 0)
assert both_rise[steps:].any() and not both_rise[: steps - 1].any()  # prediction 3: sometimes, while theta is trained
assert gap[-1] > 1e-3  # no Gaussian equals this posterior

# %%
fig, axes = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained", width_ratios=[1.6, 1, 1, 1])
axes[0].plot(log_p, color=BLUE, label="log p(x)")
axes[0].plot(elbo, "--", color=ORANGE, label="ELBO")
axes[0].fill_between(range(2 * steps), elbo, log_p, color=GREY, alpha=0.4, label="gap: KL(q(z|x)‖p(z|x))")
axes[0].axvline(steps, color="black", linestyle=":")
axes[0].set(title="phi alone | phi and theta", xlabel="step", ylabel="mean over the data (nats)", ylim=(-3.2, None))
axes[0].legend(loc="lower right")
for ax, title, (theta, mean, log_std) in zip(axes[1:], ["at first", "after phi", "after both"], snapshots, strict=True):
    joint = (log_likelihood(theta) + log_prior).exp()
    posterior = joint / torch.trapezoid(joint, z)[:, None]
    for n, colour in enumerate([BLUE, ORANGE, GREEN]):
        ax.fill_between(z, posterior[n], color=colour, alpha=0.3, label=f"p(z|x = {x[n]:.1f})")
        ax.plot(z, Normal(mean[n], log_std[n].exp()).log_prob(z).exp(), color=colour)
    ax.set(title=f"{title}: q (lines)", xlabel="z", ylabel="density", xlim=(-3, 3), ylim=(0, 2.9))
    ax.legend(fontsize="small")
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "elbo.png", dpi=120)

# %% [markdown]
# Filled: the exact posteriors. Lines: q(z|x), which is initially the prior for all three data points.
# **What to try**: a noisier decoder; training only theta, with the poor initial q: how does log p(x) change?
