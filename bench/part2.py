"""Part 2: compare the speed of train.py with that of a bare loop, a plain loop and the usual pipeline (`speed`).

part1.py explains these loops.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torchvision import transforms

from bench.epochs import SEED, alone, bare_loop, bare_seconds, own_loop, speed_table, usual_batches
from bench.record import Record
from course.training import recipe
from course.training.network import channels_last
from course.training.speed import fuse
from part2_aae.mnist import mnist
from part2_aae.models import AdversarialAE
from part2_aae.train import LitAAE

BATCH = 64


def stepper(lit: LitAAE, adam: torch.optim.Optimizer, sgd: torch.optim.Optimizer) -> Callable[[Tensor], Tensor]:
    """Return a function that steps both optimizers on a batch of images and returns the autoencoder's loss."""
    model = lit.model

    def step(x: Tensor) -> Tensor:
        model.discriminator.requires_grad_(False)
        recon_x, z = model(x)
        loss, _ = model.get_loss_autoencoder(x, recon_x, z, lit.hparams.lambda_)
        adam.zero_grad()
        loss.backward()
        adam.step()
        model.discriminator.requires_grad_(True)
        d_loss, _ = model.get_loss_discriminator(z.detach())
        sgd.zero_grad()
        d_loss.backward()
        sgd.step()
        return loss

    return step


network = AdversarialAE  # the module that a step trains; its input is a batch of images


def bare_step(plain: bool = False, fast: bool = False, compiled: bool = False) -> Callable[[Tensor], Tensor]:
    """Return the training step of a new adversarial autoencoder on the CPU.

    Args:
        plain: use PyTorch's defaults: no channels-last layout, no fused optimizers.
        fast: use the optimizers of `--recipe fast`.
        compiled: compile the model, as `--compile` does.
    """
    torch.manual_seed(SEED)
    lit = LitAAE()
    optimizers = lit.configure_optimizers()
    if fast:
        optimizers = recipe.replaced(optimizers)
    if not plain:
        channels_last(lit)
        optimizers = map(fuse, optimizers)
    if compiled:
        lit.model.compile()
    return stepper(lit, *optimizers)


def usual_pipeline(data: Path, batches: int | None) -> float:
    batches = usual_batches(data, BATCH, batches, transforms.Normalize((0.5,), (0.5,)))
    return bare_seconds(bare_step(plain=True), batches)


def speed(args, data: Path) -> Record:
    ways = {
        "train.py": partial(own_loop, "part2_aae", BATCH),
        "bare loop": partial(alone, partial(bare_loop, bare_step, mnist, BATCH, plain=False)),
        "plain loop": partial(alone, partial(bare_loop, bare_step, mnist, BATCH, plain=True)),
        "usual pipeline": partial(alone, usual_pipeline),
    }
    goals = {"bare loop": 1.07, "plain loop": 0.8, "usual pipeline": 0.75}
    return speed_table(f"AAE, batch {BATCH}, train.py with --channels_last", ways, goals, args, data)
