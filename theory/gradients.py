# %% [markdown]
# # Two ways to compute a gradient through a sample
#
# For Q1.6 and Exercises 11 and 12. Let x ~ N(θ, 1). We want the gradient of E[x²] with respect to θ. The exact
# gradient is known: E[x²] = θ² + 1, so it is 2θ.
#
# **Predict before you run it**
# 1. `Normal(theta, 1).sample()` and then `backward()`: what is the gradient of θ?
# 2. The score-function estimate is x² d/dθ log p(x); the reparameterized one is d/dθ x². Which of them is unbiased?
# 3. By what factor is the variance of the score-function estimate higher at θ = 2: 2, 20 or 200?

# %%
import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch.distributions import Normal

parser = argparse.ArgumentParser(description="The gradient of E[x²]: score function versus reparameterization.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.manual_seed(0)
torch.set_default_dtype(torch.double)
BLUE, ORANGE = "#0072B2", "#E69F00"

# %% [markdown]
# ## Two estimates
# `Normal` has two methods that draw samples: `sample` and `rsample`. Q1.6 asks about the difference; in Q1.7, you
# implement it. Each sample has its own copy of θ, so that autograd computes the gradient of each sample. In Exercise
# 12, x is any function of θ and of noise, and `backward` applies the same chain rule.


# %%
def f(x):
    return (x**2).sum(dim=-1)  # [N, D] -> [N]


def score_function(theta, n):
    theta = theta.expand(n, -1).clone().requires_grad_()  # [N, D]
    p = Normal(theta, 1.0)
    x = p.sample()
    log_prob = p.log_prob(x).sum(dim=-1)  # [N]
    (f(x) * log_prob).sum().backward()  # f(x) is only a weight: no gradient flows through it
    return theta.grad


def reparameterized(theta, n):
    theta = theta.expand(n, -1).clone().requires_grad_()
    f(Normal(theta, 1.0).rsample()).sum().backward()  # the gradient flows through f
    return theta.grad


assert not Normal(torch.tensor(2.0, requires_grad=True), 1.0).sample().requires_grad  # nothing to differentiate
estimators = {"score function": score_function, "reparameterized": reparameterized}

# %% [markdown]
# ## Both are unbiased, but how noisy are they?
# The variances are θ⁴ + 14θ² + 15 and 4. (The moments of u = x - θ are E[u²] = 1, E[u⁴] = 3 and E[u⁶] = 15.)

# %%
n = 20_000 if quick else 1_000_000
thetas = torch.linspace(-3, 3, 7)[:, None]  # [7, 1]: D = 1
closed_form = {"score function": lambda t: t**4 + 14 * t**2 + 15, "reparameterized": lambda t: 0 * t + 4}
variances = {name: [] for name in estimators}
for name, estimate in estimators.items():
    for t in thetas:
        gradients = estimate(t, n)[:, 0]  # [N]
        assert abs(gradients.mean() - 2 * t) < 5 * gradients.std() / n**0.5  # 5 standard errors
        assert abs(gradients.var() / closed_form[name](t) - 1) < (0.2 if quick else 0.03)
        variances[name].append(gradients.var().item())
    print(f"{name}: variance {variances[name][5]:.1f} at theta = 2")

# %% [markdown]
# ## More dimensions
# Let f(x) = x₁² + ... + x_D² at θ = (1, ..., 1). The weight f(x) grows with D and contains the noise of all
# coordinates: the variance of the first coordinate's gradient is 30 for D = 1 (as above) and grows with D².

# %%
dimensions = [1, 3, 10, 30, 100]
grown = {name: [g(torch.ones(D), 20_000)[:, 0].var().item() for D in dimensions] for name, g in estimators.items()}
assert all(abs(v / 4 - 1) < 0.1 for v in grown["reparameterized"])
exact = [30 + 22 * (D - 1) + 4 * (D - 1) ** 2 for D in dimensions]  # from E[(x₁² + rest)² u₁²] - 2²
assert all(abs(v / e - 1) < 0.2 for v, e in zip(grown["score function"], exact, strict=True))

# %% [markdown]
# ## Does it matter? Gradient descent on E[x²] with one sample per step, 500 times

# %%
paths = {}
for name, estimate in estimators.items():
    path = [torch.full((500, 1), 3.0)]
    for _ in range(150):
        path.append(path[-1] - 0.02 * estimate(path[-1], 500))
    paths[name] = torch.cat(path, dim=1)  # [500, 151]
assert all(path[:, -1].mean().abs() < 0.1 for path in paths.values())  # on average, both reach the minimum at 0
assert paths["score function"][:, -1].std() > 1.5 * paths["reparameterized"][:, -1].std()

# %%
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
fine = torch.linspace(-3, 3, 100)
for name, colour, marker, line in [("score function", BLUE, "o", "-"), ("reparameterized", ORANGE, "x", "--")]:
    left.plot(fine, closed_form[name](fine), line, color=colour, label=f"{name}, exact")
    left.plot(thetas, variances[name], marker, color=colour, label="measured")
    middle.plot(dimensions, grown[name], marker + line, color=colour, label=name)
    right.plot(paths[name][0], line, color=colour, label=name)
    right.fill_between(range(151), *paths[name].quantile(torch.tensor([0.05, 0.95]), dim=0), color=colour, alpha=0.3)
left.set(title="One dimension", xlabel="θ", ylabel="variance of one sample's gradient", yscale="log", ylim=(2, 2000))
middle.loglog()
middle.set(title="θ = (1, ..., 1)", xlabel="dimensions D", ylabel="variance of one sample's gradient of θ₁")
right.set(title="500 descents: one, and 90 % of them", xlabel="step", ylabel="θ")
left.legend(fontsize="x-small", ncols=2, loc="upper center")
right.legend()
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "gradients.png", dpi=120)

# %% [markdown]
# **What to try**: subtract a constant (a baseline) from f(x) in `score_function`: is the estimate still unbiased?
# Then set f(x) = sign(x): which of the two estimates is wrong, and why?
