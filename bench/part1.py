"""Part 1: `speed`, seconds per epoch of train.py against a bare loop and the usual pipeline, and `memory`.

All three loops train the same network with the same optimizer and batch size on the training set; what differs is what
stands around the arithmetic.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms
from tqdm import tqdm

from course.flags import REPOSITORY
from part1_vae import train
from part1_vae.mnist import discretize, mnist

BATCH = 128


def run_train(data: Path, *flags: str) -> dict:
    """An epoch of train.py in a process of its own, as a user starts it; return its summary."""
    with tempfile.TemporaryDirectory() as logs:
        command = [sys.executable, str(REPOSITORY / "part1_vae" / "train.py"), "--epochs", "1", "--accelerator", "cpu"]
        places = ["--data_dir", str(data), "--log_dir", logs, "--no-progress_bar"]
        subprocess.run([*command, *places, *flags], check=True, stdout=subprocess.DEVNULL)
        return json.loads((Path(logs) / "vae" / "version_0" / "summary.json").read_text())


def own_loop(data: Path, batches: int | None) -> float:
    """An epoch of train.py: Lightning, metrics, TensorBoard, NaN guard. Without validation, test and pictures."""
    summary = run_train(data, *(["--limit_batches", str(batches)] if batches else []))
    return (batches or 54_000 // BATCH) * BATCH / summary["history"][0]["train/images_per_second"]


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
    """Tensors in memory, a permutation, an index: the floor."""
    dataset = mnist(data, BATCH)[0].dataset

    def epoch():
        for index in torch.randperm(len(dataset)).split(BATCH)[: batches or len(dataset) // BATCH]:
            yield dataset.images[index].long(), None

    return steps(epoch())


def to_four_bits(image: torch.Tensor) -> torch.Tensor:
    return discretize(image, num_values=16)


def usual_pipeline(data: Path, batches: int | None) -> float:
    """torchvision's MNIST: a PIL image and transforms for each example, a DataLoader with 2 workers."""
    transform = transforms.Compose([transforms.ToTensor(), to_four_bits])
    dataset = Subset(datasets.MNIST(data, train=True, transform=transform), range(54_000))
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=2, drop_last=True)
    return steps(islice(loader, batches))


def speed(args, data: Path) -> str:
    """Interleaved rounds -> Markdown tables of medians and ratios."""
    ways = {"train.py": own_loop, "bare loop": bare_loop, "usual pipeline": usual_pipeline}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tqdm(total=args.rounds * len(ways), desc="part 1") as bar:
        for _ in range(args.rounds):
            for name, way in ways.items():
                seconds[name].append(way(data, args.batches))
                bar.update()
    what = f"{args.batches} batches" if args.batches else "an epoch"
    lines = [f"\n| VAE, batch {BATCH} | seconds for {what}: median | rounds |", "| --- | --- | --- |"]
    for name, values in seconds.items():
        rounds = ", ".join(f"{value:.1f}" for value in values)
        lines.append(f"| {name} | {statistics.median(values):.1f} | {rounds} |")
    lines += ["", "| ratio | median over rounds | goal |", "| --- | --- | --- |"]
    for other, goal in (("bare loop", 1.05), ("usual pipeline", 0.75)):
        ratios = [ours / theirs for ours, theirs in zip(seconds["train.py"], seconds[other], strict=True)]
        lines.append(f"| train.py / {other} | {statistics.median(ratios):.3f} | at most {goal} |")
    return "\n".join(lines) + "\n"


def memory(args, data: Path) -> str:
    """The peak resident memory of two runs of train.py with the default network -> a Markdown table."""
    training = run_train(data, "--limit_batches", "60")["peak_memory_gb"]
    testing = run_train(data, "--limit_batches", "1", "--iwae_samples", "500")["peak_memory_gb"]
    return (
        "\n| VAE, peak memory of a process | GB | goal |\n| --- | --- | --- |\n"
        f"| training | {training:.2f} | below 1.5 |\n"
        f"| testing with `--iwae_samples 500` | {testing:.2f} | below 2 |\n"
    )
