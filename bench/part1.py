"""Part 1: `speed`, seconds per epoch of train.py against a bare loop and the usual pipeline, and `memory`.

All three loops train the same network with the same optimizer and batch size on the training set; what differs is what
stands around the arithmetic.
"""

import time
from functools import partial
from pathlib import Path

import torch

from bench.epochs import bare_batches, own_loop, run_train, speed_table, usual_batches
from bench.record import Record, Row
from part1_vae import train
from part1_vae.mnist import discretize, mnist

BATCH = 128


def steps(batches) -> float:
    """Train a new VAE on the batches, with nothing around it; return the seconds."""
    torch.manual_seed(0)
    vae = train.VAE()
    optimizer = vae.configure_optimizers()
    start = time.perf_counter()
    for imgs, _ in batches:
        loss = vae.training_step((imgs, None), 0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def bare_loop(data: Path, batches: int | None) -> float:
    return steps(bare_batches(mnist(data, BATCH)[0].dataset, BATCH, batches))


def usual_pipeline(data: Path, batches: int | None) -> float:
    return steps(usual_batches(data, BATCH, batches, partial(discretize, num_values=16)))


def speed(args, data: Path) -> Record:
    ways = {
        "train.py": partial(own_loop, "part1_vae", BATCH),
        "bare loop": bare_loop,
        "usual pipeline": usual_pipeline,
    }
    return speed_table(f"VAE, batch {BATCH}", ways, {"bare loop": 1.05, "usual pipeline": 0.75}, args, data)


def memory(args, data: Path) -> Record:
    """The peak resident memory of two runs of train.py with the default network."""
    training = run_train("part1_vae", data, "--limit_batches", "60")["peak_memory_gb"]
    testing = run_train("part1_vae", data, "--limit_batches", "1", "--iwae_samples", "500")["peak_memory_gb"]
    rows = [
        Row("peak memory, training", round(training, 2), "GB", 1.5, "below"),
        Row("peak memory, testing with `--iwae_samples 500`", round(testing, 2), "GB", 2, "below"),
    ]
    return Record("VAE, memory of a process", rows)
