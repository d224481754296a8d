# %% [markdown]
# # Transposed convolutions
#
# For Exercise 17 and the decoders of parts 1 and 2. A convolution is linear, so it can be written as a matrix. The
# transposed convolution is the transposed matrix, which restores the shape but not the values.
#
# **Predict before you run it**
#
# 1. A convolution with kernel 3, stride 2 and padding 1 maps 28 pixels to 14, then 7, then 4. What does the transposed
#    convolution map 4 to? Is there more than one answer?
# 2. How many times is each output pixel written to, with kernel 3 and stride 2? With kernel 4?
# 3. If you apply a convolution and then the transposed convolution with the same weights, do you get your image back?

# %%
import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

parser = argparse.ArgumentParser(description="Transposed convolutions: sizes, the matrix and its transpose, overlap.")
parser.add_argument("--quick", action="store_true", help="for tests: do not save the figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.manual_seed(0)
torch.set_default_dtype(torch.double)

# %% [markdown]
# ## Sizes
# The convolution maps n to floor((n + 2 padding - kernel) / stride) + 1. With a stride of 2, it maps two sizes to the
# same smaller size. In the opposite direction, `output_padding` selects one of the two.


# %%
def size_down(n, kernel=3, stride=2, padding=1):
    return (n + 2 * padding - kernel) // stride + 1


def size_up(n, kernel=3, stride=2, padding=1, output_padding=0):
    return (n - 1) * stride - 2 * padding + kernel + output_padding


weight = torch.randn(1, 1, 3, 3)
for n in (28, 14, 7, 4):
    image = torch.zeros(1, 1, n, n)
    smaller = F.conv2d(image, weight, stride=2, padding=1).size(-1)
    larger = [F.conv_transpose2d(image, weight, stride=2, padding=1, output_padding=o).size(-1) for o in (0, 1)]
    print(f"{n:2} pixels: down to {smaller:2}, up to {larger[0]} or (output_padding 1) {larger[1]}")
    assert smaller == size_down(n) and larger == [size_up(n), size_up(n, output_padding=1)]
    assert all(size_down(m) == n for m in larger)  # both would have been mapped down to n

# %% [markdown]
# ## The matrix
# Column j of the matrix is the convolution's output for an image in which pixel j is 1 and all other pixels are 0.


# %%
def conv(images):  # [B, 1, 7, 7] -> [B, 1, 4, 4]
    return F.conv2d(images, weight, stride=2, padding=1)


def transposed(images):  # [B, 1, 4, 4] -> [B, 1, 7, 7]
    return F.conv_transpose2d(images, weight, stride=2, padding=1)


matrix = conv(torch.eye(49).view(49, 1, 7, 7)).view(49, 16).T  # [16, 49]
x, y = torch.randn(1, 1, 7, 7), torch.randn(1, 1, 4, 4)
assert torch.allclose(conv(x).flatten(), matrix @ x.flatten())
assert torch.allclose(transposed(y).flatten(), matrix.T @ y.flatten())

# Gradients flow back through a convolution in the same way.
x.requires_grad_()
(gradient,) = torch.autograd.grad((conv(x) * y).sum(), x)
assert torch.allclose(gradient, transposed(y))

# The transposed convolution is not an inverse: 49 numbers cannot be recovered from 16.
back = transposed(conv(x))
print(f"there and back: {x.numel()} numbers, relative error {(back - x).norm() / x.norm():.2f}")
assert back.shape == x.shape and not torch.allclose(back, x) and torch.linalg.matrix_rank(matrix) == 16

# %% [markdown]
# ## Checkerboards
# With weights and inputs of 1, an output pixel counts the kernel's writes to it. Kernel size 3 is not a multiple
# of stride 2, so this number, and initially the brightness, varies between pixels. With kernel size 4, it does not.

# %%
ones = torch.ones(1, 1, 7, 7)
overlap = {k: F.conv_transpose2d(ones, torch.ones(1, 1, k, k), stride=2, padding=1)[0, 0] for k in (3, 4)}
inside = {k: sorted(set(o[1:-1, 1:-1].flatten().tolist())) for k, o in overlap.items()}
print(f"writes per pixel, away from the border: kernel 3: {inside[3]}, kernel 4: {inside[4]}")
assert inside == {3: [1.0, 2.0, 4.0], 4: [4.0]}

# %%
fig, axes = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained", width_ratios=[2.2, 1, 1.15, 1.15])
limit = matrix.abs().max()
for ax, values, title in [(axes[0], matrix, "convolution: 7 × 7 to 4 × 4"), (axes[1], matrix.T, "its transpose")]:
    shown = ax.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    ax.set(title=title, xlabel="input pixel (number)", ylabel="output pixel (number)")
fig.colorbar(shown, ax=axes[1], label="weight")
for ax, (k, values) in zip(axes[2:], overlap.items(), strict=True):
    shown = ax.imshow(values, cmap="cividis", vmin=0, vmax=4)
    ax.set(title=f"kernel {k}, stride 2", xlabel="column (pixels)", ylabel="row (pixels)")
fig.colorbar(shown, ax=axes[3], label="writes per output pixel", ticks=range(5))
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "transposed_convolution.png", dpi=120)

# %% [markdown]
# **What to try**: kernel 2; stride 3; `F.interpolate` followed by a convolution: are there checkerboards?
