"""Part 2: `speed`, seconds per epoch of train.py against a bare loop and the usual pipeline.

All three loops train the same networks with the same optimizers and batch size on the training set; what differs is
what stands around the arithmetic.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torchvision import transforms

from bench.epochs import bare_batches, own_loop, speed_table, usual_batches
from part2_aae.mnist import mnist
from part2_aae.train import LitAAE

BATCH = 64


def stepper(lit: LitAAE, adam: torch.optim.Optimizer, sgd: torch.optim.Optimizer) -> Callable[[Tensor], None]:
    """A step of both on the images of a batch, with nothing around it."""
    model = lit.model

    def step(x: Tensor) -> None:
        model.discriminator.requires_grad_(False)
        recon_x, z = model(x)
        loss, _ = model.get_loss_autoencoder(x, recon_x, z, lit.hparams.lambda_)
        adam.zero_grad()
        loss.backward()
        adam.step()
        model.discriminator.requires_grad_(True)
        loss, _ = model.get_loss_discriminator(z.detach())
        sgd.zero_grad()
        loss.backward()
        sgd.step()

    return step


def steps(batches) -> float:
    """Train a new adversarial autoencoder on the batches; return the seconds."""
    torch.manual_seed(0)
    lit = LitAAE()
    step = stepper(lit, *lit.configure_optimizers())
    start = time.perf_counter()
    for x, _ in batches:
        step(x)
    return time.perf_counter() - start


def bare_loop(data: Path, batches: int | None) -> float:
    return steps(bare_batches(mnist(data, BATCH)[0].dataset, BATCH, batches))


def usual_pipeline(data: Path, batches: int | None) -> float:
    return steps(usual_batches(data, BATCH, batches, transforms.Normalize((0.5,), (0.5,))))


def speed(args, data: Path) -> str:
    ways = {
        "train.py": partial(own_loop, "part2_aae", BATCH),
        "bare loop": bare_loop,
        "usual pipeline": usual_pipeline,
    }
    return speed_table(f"AAE, batch {BATCH}", ways, {"bare loop": 1.07, "usual pipeline": 0.75}, args, data)
