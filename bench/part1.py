"""Part 1: compare the speed of train.py with that of other loops (`speed`), and measure its memory use (`memory`).

All loops train the same network with the same optimizer and batch size on the training set. The bare loop is the lower
bound: the arithmetic of train.py alone. The plain loop is a bare loop without the optimizations: channels-last weights,
a fused optimizer, cross-entropy with one row per pixel, memory kept between steps, and flushing of subnormal numbers.
The usual pipeline is the plain loop with PIL images and a DataLoader.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.epochs import SEED, alone, bare_loop, bare_seconds, own_loop, run_train, speed_table, usual_batches
from bench.record import Record, Row
from course.training import recipe
from course.training.network import channels_last
from course.training.speed import fuse
from part1_vae import train
from part1_vae.mnist import discretize, mnist

BATCH = 128


def stepper(vae: train.VAE, optimizer: torch.optim.Optimizer) -> Callable[[Tensor], Tensor]:
    """Return a function that runs one training step on a batch of images and returns the loss."""

    def step(imgs: Tensor) -> Tensor:
        _, _, loss = vae(imgs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


class Plain(train.VAE):
    """A VAE whose cross-entropy runs over dimension 1 in any memory layout."""

    @staticmethod
    def _reconstruction(logits: Tensor, imgs: Tensor) -> Tensor:
        return F.cross_entropy(logits, imgs.squeeze(1), reduction="none").sum(dim=(1, 2))


network = train.VAE  # the module that a step trains; its input is a batch of images


def bare_step(plain: bool = False, fast: bool = False, compiled: bool = False) -> Callable[[Tensor], Tensor]:
    """Return the training step of a new VAE on the CPU.

    Args:
        plain: use PyTorch's defaults: no channels-last layout, no fused optimizer, the class `Plain`.
        fast: use the optimizer of `--recipe fast`.
        compiled: compile the network, as `--compile` does.
    """
    torch.manual_seed(SEED)
    vae = Plain() if plain else train.VAE()
    optimizer = vae.configure_optimizers()
    if fast:
        optimizer = recipe.with_muon(optimizer)
    if not plain:
        channels_last(vae)
        fuse(optimizer)
    if compiled:
        vae.compile()
    return stepper(vae, optimizer)


def usual_pipeline(data: Path, batches: int | None) -> float:
    batches = usual_batches(data, BATCH, batches, partial(discretize, num_values=16))
    return bare_seconds(bare_step(plain=True), batches)


def speed(args, data: Path) -> Record:
    ways = {
        "train.py": partial(own_loop, "part1_vae", BATCH),
        "bare loop": partial(alone, partial(bare_loop, bare_step, mnist, BATCH, plain=False)),
        "plain loop": partial(alone, partial(bare_loop, bare_step, mnist, BATCH, plain=True)),
        "usual pipeline": partial(alone, usual_pipeline),
    }
    goals = {"bare loop": 1.05, "plain loop": 0.8, "usual pipeline": 0.75}
    return speed_table(f"VAE, batch {BATCH}, train.py with --channels_last", ways, goals, args, data)


def memory(args, data: Path) -> Record:
    """Measure the peak resident memory of two runs of train.py with the default network."""
    training = run_train("part1_vae", data, "--limit_batches", "60")["peak_memory_gb"]
    testing = run_train("part1_vae", data, "--limit_batches", "1", "--iwae_samples", "500")["peak_memory_gb"]
    rows = [
        Row("peak memory, training", round(training, 2), "GB", 1.5, "below"),
        Row("peak memory, testing with `--iwae_samples 500`", round(testing, 2), "GB", 2, "below"),
    ]
    return Record("VAE, memory of a process", rows)
