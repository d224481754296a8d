# %% [markdown]
# # Attention as alignment: rewriting lists of dates
#
# For Section 3.1 (Eq. 19 to 21). A sequence-to-sequence model rewrites "03 jul 24 dec" as "0703 1224". The target has a
# different order and more tokens than the source, and the model is not told which source token belongs to which target
# token. We train the same model twice: with additive attention, and with only the encoder's last states.
#
# **Predict before you run it**
#
# 1. Without attention, all information about the source passes through one vector. How does accuracy depend on length?
# 2. How does it depend on length with attention? Does the decoder still need that vector?
# 3. The decoder writes the month of the second date. Which source tokens does it attend to?

# %%
import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

parser = argparse.ArgumentParser(description="Rewriting dates with and without additive attention.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
VOCABULARY = "0 1 2 3 4 5 6 7 8 9 jan feb mar apr may jun jul aug sep oct nov dec start".split()  # 0 to 22


# %%
def lists_of_dates(n, dates):
    """Draw sources [N, 3 dates] and targets [N, 4 dates]: "0 3 jul" becomes "0 7 0 3"."""
    day, month = torch.randint(1, 29, (n, dates)), torch.randint(1, 13, (n, dates))
    source, target = [day // 10, day % 10, 9 + month], [month // 10, month % 10, day // 10, day % 10]
    return torch.stack(source, dim=-1).flatten(1), torch.stack(target, dim=-1).flatten(1)


class Rewriter(nn.Module):
    def __init__(self, attention, C=64):
        super().__init__()
        self.attention, self.embed = attention, nn.Embedding(len(VOCABULARY), C)
        self.encoder = nn.GRU(C, C // 2, bidirectional=True, batch_first=True)  # h_j: both directions, C numbers
        self.decoder = nn.GRUCell(2 * C, C)  # f of Eq. 19a
        self.W, self.U, self.v = nn.Linear(C, C), nn.Linear(C, C, bias=False), nn.Linear(C, 1, bias=False)
        self.g = nn.Sequential(nn.Linear(2 * C, C), nn.Tanh(), nn.Linear(C, 10))

    def forward(self, source, length, target=None):
        """Return logits [B, length, 10] and weights [B, length, T]; a target provides the correct previous digits."""
        h, last = self.encoder(self.embed(source))  # [B, T, C], [2, B, C / 2]
        s = context = torch.cat([*last], dim=1)  # [B, C]: the last state of each direction
        y, Uh, logits, weights = torch.full_like(source[:, 0], 22), self.U(h), [], []
        for i in range(length):
            if self.attention:
                scores = self.v(torch.tanh(self.W(s)[:, None] + Uh))[..., 0]  # Eq. 21a, [B, T]
                weights.append(scores.softmax(dim=1))  # Eq. 21
                context = (weights[-1][:, None] @ h)[:, 0]  # Eq. 20
            s = self.decoder(torch.cat([self.embed(y), context], dim=1), s)
            logits.append(self.g(torch.cat([s, context], dim=1)))  # Eq. 19
            y = logits[-1].argmax(dim=1) if target is None else target[:, i]
        return torch.stack(logits, dim=1), torch.stack(weights, dim=1) if weights else None


def train(attention):
    torch.manual_seed(0)
    model = Rewriter(attention)
    adam = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(STEPS):
        source, target = lists_of_dates(64, int(torch.randint(1, MOST + 1, ())))
        loss = F.cross_entropy(model(source, target.size(1), target)[0].mT, target)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return model


# %%
STEPS, MOST = (500, 3) if quick else (1000, 5)
models = {"with attention": train(True), "without attention": train(False)}
lengths = list(range(1, MOST + 2))  # one more date than in training
accuracy = {name: [] for name in models}
torch.manual_seed(1)
with torch.no_grad():
    for dates in lengths:
        source, target = lists_of_dates(500, dates)
        for name, model in models.items():
            right = model(source, target.size(1))[0].argmax(dim=2) == target  # fed its own digits
            accuracy[name].append(right.all(dim=1).float().mean().item())
for name, found in accuracy.items():
    print(f"{name:17}:", ", ".join(f"{d} dates {a:.0%}" for d, a in zip(lengths, found, strict=True)))
assert accuracy["without attention"][MOST - 1] < 0.5 < 0.8 < min(accuracy["with attention"][:MOST])

# %%
# The alignment: row i has the weights of the source tokens for digit i of the target
dates = 3
source, target = lists_of_dates(500, dates)
with torch.no_grad():
    logits, weights = models["with attention"](source, target.size(1))  # weights: [500, 4 dates, 3 dates]
assert torch.allclose(weights.sum(dim=2), torch.ones(500, 4 * dates))
own = torch.arange(4 * dates)[:, None] // 4 == torch.arange(3 * dates) // 3  # the tokens of the date being written
on_own = (weights * own).sum(dim=2).mean().item()
assert on_own > 0.6, on_own  # by chance, it would be 1/3

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
for (name, found), colour, line in zip(accuracy.items(), ["#0072B2", "#E69F00"], ["o-", "s--"], strict=True):
    left.plot(lengths, [100 * a for a in found], line, color=colour, label=name)
left.axvspan(MOST + 0.5, MOST + 1.5, color="#999999", alpha=0.3, label="longer than in training")
left.set(title="Accuracy", xlabel="length of the list (dates)", ylabel="correct lists (%)", xlim=(0.5, MOST + 1.5))
left.legend(loc="lower left")
shown = right.imshow(weights[0], cmap="cividis", vmin=0, vmax=1)
right.set_xticks(range(3 * dates), [VOCABULARY[token] for token in source[0]])
right.set_yticks(range(4 * dates), [VOCABULARY[digit] for digit in logits[0].argmax(dim=1)])
right.set(title="Alignment of one list", xlabel="source (tokens)", ylabel="target (tokens)", aspect="auto")
fig.colorbar(shown, ax=right, label="attention weight (Eq. 21)")
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "alignment.png", dpi=120)

# %% [markdown]
# **What to try**: no initial state for the model with attention (`s` all zeros); an encoder that reads in only one
# direction: where does the decoder look then?
