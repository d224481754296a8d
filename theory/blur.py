# %% [markdown]
# # Why the squared error blurs
#
# For Exercises 18, 19 and 20. Why do autoencoders produce blurry images? The code of an image does not contain all
# information about it. Suppose a code leaves two images equally likely: a stroke, and the same stroke three pixels to
# the right. The decoder must give one answer for both. We search for the best answer under four losses.
#
# **Predict before you run it**
#
# 1. What does the best answer under the squared error look like? How much better is it than one of the two strokes?
# 2. What is the best answer under the squared error of the image gradients (the edges)? Under the absolute error?
# 3. A decoder outputs the mean of a Gaussian for each pixel and maximizes log p(x|z). Is its answer sharper?

# %%
import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch.distributions import Normal

parser = argparse.ArgumentParser(description="The best single answer to two equally likely strokes, under four losses.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.manual_seed(0)
torch.set_default_dtype(torch.double)
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#999999"

# %%
strokes = torch.zeros(2, 1, 16, 16)  # black 0, white 1
strokes[0, :, 3:13, 5:7] = 1
strokes[1, :, 3:13, 8:10] = 1
sobel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]) / 8
SOBEL = torch.stack([sobel, sobel.T])[:, None]  # [2, 1, 3, 3]: edges across and down


def gradients(images):
    return F.conv2d(images, SOBEL, padding=1)  # [B, 1, H, W] -> [B, 2, H, W]


def corners(images):
    """Compute Harris and Stephens' measure, which is high where an image changes in both directions (same shape)."""
    across, down = gradients(images).split(1, dim=1)
    products = torch.cat([across**2, down**2, across * down], dim=1)  # [B, 3, H, W]
    a, b, c = F.avg_pool2d(products, 3, stride=1, padding=1).split(1, dim=1)
    return a * b - c**2 - 0.05 * (a + b) ** 2


LOSSES = {  # answer [1, 1, H, W], targets [2, 1, H, W] -> the mean over both targets
    "squared error": lambda answer, targets: (answer - targets).square().mean(),
    "absolute error": lambda answer, targets: (answer - targets).abs().mean(),
    "gradient error": lambda answer, targets: (gradients(answer) - gradients(targets)).square().mean(),
    "corner error": lambda answer, targets: (corners(answer) - corners(targets)).square().mean(),
}

# %% [markdown]
# ## The best answer to both
# We run gradient descent on the pixels of the answer, starting from grey noise.


# %%
def best_answer(loss):
    answer = torch.normal(0.5, 0.05, (1, 1, 16, 16)).requires_grad_()
    adam = torch.optim.Adam([answer], lr=0.05)
    scheduler = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, total_iters=STEPS)
    for _ in range(STEPS):
        value = loss(answer, strokes)
        adam.zero_grad()
        value.backward()
        adam.step()
        scheduler.step()
    return answer.detach()


STEPS = 600 if quick else 3000
answers = {name: best_answer(loss) for name, loss in LOSSES.items()}
for name, loss in LOSSES.items():
    one_stroke, best = loss(strokes[:1], strokes), loss(answers[name], strokes)
    print(f"{name:15} one of the strokes {one_stroke:.2e}, best answer {best:.2e} ({best / one_stroke:.0%})")
mean = strokes.mean(dim=0, keepdim=True)
squared, absolute, gradient, corner = LOSSES.values()
assert (answers["squared error"] - mean).abs().max() < 1e-3  # the mean of both: two grey strokes
assert torch.isclose(squared(mean, strokes), squared(strokes[:1], strokes) / 2)  # half the error of each stroke
assert torch.isclose(gradient(mean, strokes), gradient(strokes[:1], strokes) / 2)  # a linear filter: the same result
assert (answers["gradient error"] - mean).abs().max() < 0.1
assert torch.isclose(absolute(mean, strokes), absolute(strokes[:1], strokes))  # a median: any grey is equally good
assert corner(answers["corner error"], strokes) < 0.9 * corner(mean, strokes)  # not linear: the mean is not the best

# %% [markdown]
# ## A Gaussian decoder minimizes the squared error
# -log N(x; mean, s²) = (x - mean)² / 2s² + a constant, so the gradients differ only by the factor 1/2s².

# %%
decoded, s = torch.rand(1, 1, 16, 16, requires_grad=True), 0.5
(from_squares,) = torch.autograd.grad((strokes[:1] - decoded).square().sum(), decoded)
(from_gaussian,) = torch.autograd.grad(-Normal(decoded, s).log_prob(strokes[:1]).sum(), decoded)
assert torch.allclose(from_gaussian, from_squares / (2 * s**2))

# %%
fig, axes = plt.subplots(2, 4, figsize=(12, 5.6), layout="constrained")
pictures = {"one stroke": strokes[:1], "the other": strokes[1:], **answers}
for ax, (name, picture) in zip([*axes[:, 0], *axes[:, 1], *axes[:, 2]], pictures.items(), strict=True):
    shown = ax.imshow(picture[0, 0], cmap="gray", vmin=0, vmax=1)
    ax.set(title=name, xlabel="column (pixels)", ylabel="row (pixels)", xticks=[0, 5, 10, 15], yticks=[0, 5, 10, 15])
fig.colorbar(shown, ax=axes[:, 2], label="grey value")
for ax, names in [(axes[0, 3], ["squared error", "absolute error"]), (axes[1, 3], ["gradient error", "corner error"])]:
    for name, colour, line in zip(["one stroke", *names], [GREY, BLUE, ORANGE], ["-", "-", "--"], strict=True):
        ax.plot(pictures[name][0, 0, 8], line, color=colour, label=name)
    ax.set(title="across the strokes", xlabel="column (pixels)", ylabel="grey value in row 8", ylim=(-1.4, 1.9))
    ax.legend(fontsize="small", loc="lower right")
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "blur.png", dpi=120)

# %% [markdown]
# The squared error and the gradient error average images. The corner error averages corners. Because many images have
# the same corners, it does not determine the image (shown clipped to 0..1). A discriminator could reject these answers.
#
# **What to try**: a shift of one pixel; one stroke twice as likely as the other; the corner error plus squared error.
