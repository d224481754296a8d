# %% [markdown]
# # Attention and long sequences
# For Q3.1 and Eq. 22. Why divide scores by sqrt(d_k)? Why are long sequences hard? (You implement attention in Q3.2.)
#
# **Predict before you run it**
# 1. q and k have independent entries of variance 1. Does the variance of q·k depend on d_k, on the length, or on both?
# 2. If the length doubles, how does the number of multiplications grow? And if a token sees only the last 128 tokens?

# %%
import argparse
import sys
from pathlib import Path
from time import process_time
from timeit import repeat

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

parser = argparse.ArgumentParser(description="Why attention divides by sqrt(d_k), and what long sequences cost.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.manual_seed(0)
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
W, D = 128, 64  # tokens in the window, width of a token

# %% [markdown]
# ## The variance of a score
# q·k is a sum of d_k products, each of variance 1. The length T only determines the number of such sums. With the
# identity as V, attention returns its weights. If one key gets nearly all the weight, the softmax's gradient vanishes.

# %%
widths, lengths = [4, 16, 64, 256], [256, 512, 1024] if quick else [256, 512, 1024, 2048, 4096]
by_width = [(torch.randn(20_000, d) * torch.randn(20_000, d)).sum(dim=1).var() for d in widths]
by_length = [torch.einsum("td,sd->ts", *torch.randn(2, T, 64)).var() for T in lengths]  # all T² scores
print("variances:", {f"d_k = {d}": round(v.item(), 1) for d, v in zip(widths, by_width, strict=True)})
assert all(abs(v / d - 1) < 0.15 for v, d in zip(by_width + by_length, widths + [64] * len(lengths), strict=True))


def largest_weight(d, scale):
    q, k, v = torch.randn(500, 1, d), torch.randn(500, 64, d), torch.eye(64).expand(500, 64, 64)
    return F.scaled_dot_product_attention(q, k, v, scale=scale).amax(dim=-1).mean().item()  # of [500, 1, 64]


scaled, unscaled = ([largest_weight(d, scale) for d in widths] for scale in (None, 1.0))  # None: 1/sqrt(d_k), Eq. 22
assert max(scaled) < 0.2 and unscaled[-1] > 0.8

# %% [markdown]
# ## Four ways to process a sequence
# We compare plain attention; PyTorch's fused kernel, which computes the T × T weights in blocks without storing them; a
# window of W tokens; and linear attention (Eq. 22e), phi(Q)(phi(K)ᵀV), without a T × T matrix. Shapes: [1, 1, T, D].


# %%
def plain(q, k, v):
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(q, k, v)


def window(q, k, v):
    q = q.view(-1, 1, W, D)  # [T/W, 1, W, D]: each block of W queries sees its own keys and the previous block
    k, v = (F.pad(t, (0, 0, W, 0)).unfold(2, 2 * W, W)[0, 0].mT[:, None] for t in (k, v))  # [T/W, 1, 2W, D]
    mask = torch.ones(len(q), 1, W, 2 * W, dtype=torch.bool).tril(W).triu(1)
    mask[0, :, :, :W] = False  # before the first block, there is only padding
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).view(1, 1, -1, D)


def linear(q, k, v):
    q, k = F.elu(q) + 1, F.elu(k) + 1  # phi
    return q @ (k.mT @ v) / (q @ k.sum(dim=2)[..., None])


q, k, v, band = *torch.randn(3, 1, 1, 512, D), torch.ones(512, 512, dtype=torch.bool).tril().triu(1 - W)
torch.testing.assert_close(window(q, k, v), F.scaled_dot_product_attention(q, k, v, attn_mask=band))
sums = torch.einsum("bhtd,bhsd,bhse->bhte", F.elu(q) + 1, F.elu(k) + 1, F.pad(v, (0, 1), value=1))  # [1, 1, T, D + 1]
torch.testing.assert_close(linear(q, k, v), sums[..., :-1] / sums[..., -1:])  # the last is the denominator of Eq. 22e

# %%
METHODS = {"plain": plain, "fused": F.scaled_dot_product_attention, "window": window, "linear": linear}
multiplications, kept, seconds = ({name: [] for name in METHODS} for _ in range(3))
for name, method in METHODS.items():
    for T in lengths:
        q, k, v = (torch.randn(1, 1, T, D, requires_grad=True) for _ in range(3))
        saved = {}  # bytes by address, so that a tensor kept twice counts once
        hooks = saved_tensors_hooks(lambda t, saved=saved: saved.update({t.data_ptr(): t.nbytes}) or t, lambda t: t)
        with FlopCounterMode(display=False) as counter, hooks:
            method(q, k, v)
        seconds[name].append(min(repeat(lambda m=method, t=(q, k, v): m(*t), timer=process_time, number=1)))
        multiplications[name].append(counter.get_total_flops() / 2)  # the counter also counts additions
        kept[name].append(sum(saved.values()))
squares, none = [2 * T**2 * D for T in lengths], [0] * len(lengths)  # PyTorch 2.11 does not count its CPU kernel
assert multiplications["plain"] == squares and multiplications["fused"] in (squares, none)
assert multiplications["window"] in ([4 * T * W * D for T in lengths], none)
assert multiplications["linear"] == [2 * T * D**2 + T * D for T in lengths]
assert kept["plain"] == [4 * (T**2 + 3 * T * D) for T in lengths]  # 4 bytes per number: the weights, q, k, v
assert kept["fused"] == [4 * (4 * T * D + T) for T in lengths]  # q, k, v, the output, and a normalizer for each token

# %%
fig, axes = plt.subplots(1, 5, figsize=(17, 3.7), layout="constrained")
axes[0].loglog(widths, by_width, "o-", color=BLUE, base=2, label="over d_k")
axes[0].loglog(lengths, by_length, "s--", color=ORANGE, base=2, label="over T, with d_k = 64")
axes[0].set(title="Variance of a score q·k", xlabel="d_k, or length T (tokens)", ylabel="variance")
axes[1].semilogx(widths, unscaled, "o-", color=ORANGE, base=2, label="q·k")
axes[1].semilogx(widths, scaled, "s--", color=BLUE, base=2, label="q·k / sqrt(d_k)")
axes[1].set(title="Softmax over 64 keys", xlabel="d_k", ylabel="largest attention weight", ylim=(0, 1))
labels = ["multiplications", "bytes kept for the backward pass", "CPU time on this machine (s)"]
for ax, label, counts in zip(axes[2:], labels, (multiplications, kept, seconds), strict=True):
    for name, colour, line in zip(METHODS, [BLUE, ORANGE, GREEN, PURPLE], ["o-", "s:", "^--", "d-."], strict=True):
        ax.semilogx(lengths, counts[name], line, color=colour, base=2, label=name)
    ax.set(xlabel="length T (tokens)", ylabel=label, yscale="log")
for ax in axes:
    ax.legend()
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "long_sequences.png", dpi=120)

# %% [markdown]
# **What to try**: a window of 256; causal linear attention. What do you lose with a window? With linear attention?
