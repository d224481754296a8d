# %% [markdown]
# # The three terms of the adversarial autoencoder, for four values of lambda
# For Q2.3. Eq. 15 has three terms: two of the discriminator (Eq. 16, 17), and the reconstruction (Eq. 18). We train on
# 2,000 MNIST images with lambda 0, 0.5, 0.995 and 1. The demo uses your code: **fill in Q2.4 and Q2.5 first**.
#
# **Predict before you run it**
# 1. Which networks (encoder, decoder, discriminator) try to increase each term, and which try to decrease it?
# 2. Suppose the discriminator can only guess: D = 1/2. What are the values of Eq. 16 and Eq. 17 in nats?
# 3. What do the codes and the reconstructions look like for lambda = 1? And for lambda = 0?

# %%
import argparse
import logging
import sys
import warnings
from math import log
from pathlib import Path

import matplotlib.pyplot as plt
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn

if "__file__" in globals():  # run as a script: import from this repository, not from an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from course import blanks, data
from part2_aae.mnist import normalize
from part2_aae.train import LitAAE

parser = argparse.ArgumentParser(description="The three terms of Eq. 15 over training, for lambda 0, 0.5, 0.995 and 1.")
parser.add_argument("--quick", action="store_true", help="a smaller run for tests, which saves no figure")
quick = parser.parse_args([] if "ipykernel" in sys.modules else None).quick
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.simplefilter("ignore")  # Lightning's advice on data loaders
STYLES = {0.0: ("#E69F00", ":"), 0.5: ("#009E73", "-."), 0.995: ("#0072B2", "-"), 1.0: ("#CC79A7", "--")}

# %%
try:
    images, _ = data.load("mnist", "t10k")
except data.DataError as error:
    sys.exit(f"objective.py: {error}")
images = F.avg_pool2d(normalize(images[:2000]), 2).flatten(1)  # [2000, 196] in -1..1: 14 x 14 pixels are enough here


def mlp(*sizes):
    layers = [layer for pair in zip(sizes, sizes[1:], strict=False) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def train(lambda_):
    """Return Eq. 16, 17 and 18 at each step, [steps, 3], and the final codes and reconstructions."""
    torch.manual_seed(0)
    model = (lit := LitAAE(z_dim=2, lambda_=0.5, d_lr=0.02)).model  # smaller networks below, for speed
    lit.hparams.lambda_ = lambda_  # after the constructor, which omits the discriminator for lambda = 1
    model.encoder, model.decoder = mlp(196, 256, 2), mlp(2, 256, 196).append(nn.Tanh())
    model.discriminator = mlp(2, 128, 128, 1)
    history, names = [], ("loss_fake", "loss_real", "recon_loss")  # with the sign of Eq. 16, 17, 18: -, -, +

    def keep(trainer, *_):
        history.append([float(trainer.callback_metrics[f"train/{name}_step"]) for name in names])

    batches = [(images[torch.randint(len(images), (64,))], torch.zeros(64)) for _ in range(400 if quick else 2000)]
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    quiet["callbacks"] = pl.callbacks.LambdaCallback(on_train_batch_end=keep)
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", devices=1, **quiet)
    trainer.fit(lit, torch.utils.data.DataLoader(batches, batch_size=None))
    recon_x, z = (each.detach() for each in model(images))
    return torch.tensor(history) * torch.tensor([-1, -1, 1]), z, recon_x


try:
    runs = {lambda_: train(lambda_) for lambda_ in STYLES}
except NotImplementedError as error:
    sys.exit(blanks.describe(error))

# %% [markdown]
# For a discriminator that guesses, Eq. 16 = Eq. 17 = log(1/2) = -0.693 nats. If codes contain no information about the
# image, the best output is the mean image.

# %%
mean_image = (images - images.mean(dim=0)).square().mean().item()
last = {lambda_: history[-100:].mean(dim=0).tolist() for lambda_, (history, _, _) in runs.items()}
for lambda_, (eq16, eq17, eq18) in last.items():
    print(f"lambda = {lambda_:5}: Eq. 16 {eq16:6.3f} nats, Eq. 17 {eq17:6.3f} nats, Eq. 18 {eq18:.3f}")
print(f"guessing: {log(0.5):.3f} nats; the mean image: {mean_image:.3f}")
for lambda_ in (0.0, 0.5, 0.995):  # close to guessing
    assert abs(last[lambda_][0] - log(0.5)) < 0.15 and abs(last[lambda_][1] - log(0.5)) < 0.15
assert last[0.0][2] > 2 * mean_image
assert max(last[0.5][2], last[0.995][2], last[1.0][2]) < 0.9 * mean_image
assert last[1.0][0] + last[1.0][1] > 2 * log(0.5) + 0.4  # far from guessing

# %%
fig, axes = plt.subplots(2, 4, figsize=(14, 6.6), layout="constrained")
titles = ["Eq. 16: D on codes", "Eq. 17: D on the prior", "Eq. 18: reconstruction"]
for i, (ax, title) in enumerate(zip(axes[0], titles, strict=False)):
    for lambda_, (colour, line) in STYLES.items():
        smooth = runs[lambda_][0][:, i].unfold(0, 50, 50).mean(dim=1)  # means of 50 steps
        ax.plot(range(25, 50 * len(smooth), 50), smooth, line, color=colour, label=f"lambda = {lambda_}")
    ax.axhline(mean_image if i == 2 else log(0.5), color="black", linewidth=0.8)
    ax.set(title=title, xlabel="step", ylabel="squared error per pixel" if i == 2 else "mean log-probability (nats)")
axes[0, 0].legend(fontsize="small")
for row, (_, _, recon_x) in enumerate(runs.values()):
    for column in range(6):
        extent = (column, column + 1, -row - 1, -row)
        axes[0, 3].imshow(recon_x[column].view(14, 14), cmap="gray", extent=extent)
axes[0, 3].set(xlim=(0, 6), ylim=(-4, 0), title="reconstructions", xlabel="image", ylabel="lambda", xticks=[])
axes[0, 3].set_yticks([-0.5, -1.5, -2.5, -3.5], list(runs))
for ax, (lambda_, (_, z, _)) in zip(axes[1], runs.items(), strict=True):
    ax.scatter(*z.T, s=3, color=STYLES[lambda_][0])
    ax.add_patch(plt.Circle((0, 0), 2, fill=False, linestyle="--"))
    ax.set(title=f"codes, lambda = {lambda_}", xlabel="z₁", ylabel="z₂", aspect="equal", adjustable="datalim")
if "ipykernel" not in sys.modules and not quick:
    fig.savefig(Path(__file__).parent / "figures" / "objective.png", dpi=120)

# %% [markdown]
# Black lines: a discriminator that guesses, and the mean image. Dashed circles: radius 2. Look at lambda = 0: does a
# discriminator that guesses prove that q(z) is the prior?
#
# **What to try**: lambda = 0.9; a discriminator with a tenth of the learning rate; `z_dim=8`.
