# %% [markdown]
# # Entropy, cross-entropy and the KL divergence
#
# For Appendix A and Exercises 1, 2, 3 and 7. According to Appendix A, the KL divergence is the length that a code
# wastes. Here we encode messages with a good and a bad code, and count the bits.
#
# **Predict before you run it**
# 1. Which has the highest entropy: a fair coin, a fair die, a random letter of the alphabet, a letter of real text?
# 2. You know two consecutive letters in a text. How many bits of information does the next letter still carry?
# 3. One source, two codes: how many bits per symbol does the wrong code waste?
# 4. Let p = (0.5, 0.5) and q = (0.1, 0.9): which is larger, KL(p‖q) or KL(q‖p)?

# %%
import argparse
import sys
from math import log, log2
from pathlib import Path
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import torch

parser = argparse.ArgumentParser(description="Entropy, cross-entropy and KL divergence, counted in bits and nats.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
torch.manual_seed(0)
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#999999"

# %% [markdown]
# ## The three formulas, in bits
# Base 2 gives bits, base e gives nats; 1 nat is log2(e) = 1.443 bits.


# %%
def entropy(p):  # Eq. 24
    return -torch.special.xlogy(p, p).sum() / log(2)  # xlogy(p, p) = p log p, and 0 for p = 0


def cross_entropy(p, q):  # Eq. 25
    return -torch.special.xlogy(p, q).sum() / log(2)


def kl(p, q):  # Eq. 3
    return torch.special.xlogy(p, p / q).sum() / log(2)


def close(a, b, tolerance=1e-9):
    return abs(float(a) - float(b)) < tolerance


# %%
for name, n in [("coin", 2), ("die", 6), ("letter of the alphabet", 26)]:
    h = entropy(torch.full((n,), 1 / n))
    print(f"{name:22}  {h:.3f} bits")
    assert close(h, log2(n), 1e-6)

# %% [markdown]
# ## Real text
# The entropy of the next letter, given the k letters before it, is H(k + 1 letters) - H(k letters).

# %%
text = "\n".join(topics.values()).lower()[: 10**5 if quick else None]  # Python's language reference
letters = torch.tensor([ord(c) - ord("a") for c in text if "a" <= c <= "z"])
block_entropy = [torch.tensor(0.0)]
for k in range(1, 4):
    windows = letters.unfold(0, k, 1)  # [N, k]: every k letters in a row
    counts = torch.bincount(windows @ 26 ** torch.arange(k), minlength=26**k)
    block_entropy.append(entropy(counts.double() / counts.sum()))
next_letter = [float(b - a) for a, b in zip(block_entropy, block_entropy[1:], strict=False)]
print("next letter, given 0, 1, 2 before it:", ", ".join(f"{h:.2f}" for h in next_letter), "bits")
assert log2(26) > next_letter[0] > next_letter[1] > next_letter[2] > 0
assert close(next_letter[0], 4.14, 0.1)  # Shannon (1951) counted 4.14 bits for English

# %% [markdown]
# ## The wrong code
# An optimal code gives a symbol of probability p a code word of log2(1/p) bits, so frequent symbols get short words.
# These two prefix codes are optimal for p and for q, respectively. The symbols are drawn from p.

# %%
p = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8], dtype=torch.double)  # of the symbols A, B, C, D
q = torch.tensor([1 / 8, 1 / 8, 1 / 4, 1 / 2], dtype=torch.double)
code_p, code_q = ["0", "10", "110", "111"], ["110", "111", "10", "0"]
n = 20_000 if quick else 200_000
message = torch.multinomial(p, n, replacement=True)
length_p, length_q = (len("".join(code[s] for s in message.tolist())) / n for code in (code_p, code_q))
print(f"code for p: {length_p:.3f} bits per symbol, H(p)    = {entropy(p):.3f}")
print(f"code for q: {length_q:.3f} bits per symbol, H(p, q) = {cross_entropy(p, q):.3f}, KL = {kl(p, q):.3f}")
assert close(kl(p, q), cross_entropy(p, q) - entropy(p))  # KL = H(p, q) - H(p)
assert close(length_p, entropy(p), 5 / n**0.5) and close(length_q, cross_entropy(p, q), 5 / n**0.5)  # 5 sigma

# %% [markdown]
# ## Not symmetric
# These are the coins of Exercises 1 and 3. The numbers are in nats: a nat is 1.443 bits.

# %%
for name, a, b, there, back in [("0.5, 0.1", 0.5, 0.1, 0.5108, 0.3681), ("0.5, 0.3", 0.5, 0.3, 0.0872, 0.0823)]:
    first, second = torch.tensor([a, 1 - a]), torch.tensor([b, 1 - b])
    print(f"{name:8} KL(p||q) {kl(first, second) * log(2):.4f} nats, KL(q||p) {kl(second, first) * log(2):.4f} nats")
    assert close(kl(first, second) * log(2), there, 1e-4) and close(kl(second, first) * log(2), back, 1e-4)

# %%
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
heads = torch.linspace(0, 1, 201, dtype=torch.double)
left.plot(heads, [entropy(torch.stack([h, 1 - h])) for h in heads], color=BLUE)
left.set(title="Entropy of a coin", xlabel="probability of heads", ylabel="entropy (bits)")
middle.bar(range(4), [log2(26), *next_letter], color=[GREY, BLUE, BLUE, BLUE])
middle.set_xticks(range(4), ["alphabet", "text", "after\n1 letter", "after\n2 letters"])
middle.set(title="Entropy of the next letter", xlabel="what is known", ylabel="entropy (bits per letter)")
right.bar(["code for p", "code for q"], [entropy(p)] * 2, color=BLUE, label="H(p)")
right.bar(["code for q"], [kl(p, q)], bottom=entropy(p), color=ORANGE, hatch="//", label="KL(p‖q): wasted")
right.plot([0, 1], [length_p, length_q], "D", color="black", label=f"counted in {n:,} symbols")
right.set(title="Symbols from p", xlabel="code", ylabel="length (bits per symbol)", ylim=(0, 3.9))
right.legend(loc="upper left")
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "information.png", dpi=120)

# %% [markdown]
# **What to try**: a q that gives one symbol the probability 0; a q closer to p; text in another language.
