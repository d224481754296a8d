"""Part 1: `speed`, seconds per epoch of train.py against a bare loop and the usual pipeline, and `memory`.

All three loops train the same network with the same optimizer and batch size on the training set; what differs is what
stands around the arithmetic.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.epochs import bare_batches, own_loop, run_train, speed_table, usual_batches
from part1_vae import train
from part1_vae.mnist import discretize, mnist

BATCH = 128


def stepper(vae: train.VAE, optimizer: torch.optim.Optimizer) -> Callable[[Tensor], None]:
    """A step of training on the images of a batch, with nothing around it."""

    def step(imgs: Tensor) -> None:
        loss = vae.training_step((imgs, None), 0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def steps(batches) -> float:
    """Train a new VAE on the batches; return the seconds."""
    torch.manual_seed(0)
    vae = train.VAE()
    step = stepper(vae, vae.configure_optimizers())
    start = time.perf_counter()
    for imgs, _ in batches:
        step(imgs)
    return time.perf_counter() - start


def bare_loop(data: Path, batches: int | None) -> float:
    return steps(bare_batches(mnist(data, BATCH)[0].dataset, BATCH, batches))


def usual_pipeline(data: Path, batches: int | None) -> float:
    return steps(usual_batches(data, BATCH, batches, partial(discretize, num_values=16)))


def speed(args, data: Path) -> str:
    ways = {
        "train.py": partial(own_loop, "part1_vae", BATCH),
        "bare loop": bare_loop,
        "usual pipeline": usual_pipeline,
    }
    return speed_table(f"VAE, batch {BATCH}", ways, {"bare loop": 1.05, "usual pipeline": 0.75}, args, data)


def memory(args, data: Path) -> str:
    """The peak resident memory of two runs of train.py with the default network -> a Markdown table."""
    training = run_train("part1_vae", data, "--limit_batches", "60")["peak_memory_gb"]
    testing = run_train("part1_vae", data, "--limit_batches", "1", "--iwae_samples", "500")["peak_memory_gb"]
    return (
        "\n| VAE, peak memory of a process | GB | goal |\n| --- | --- | --- |\n"
        f"| training | {training:.2f} | below 1.5 |\n"
        f"| testing with `--iwae_samples 500` | {testing:.2f} | below 2 |\n"
    )
