"""What the parts' measurements have in common: train.py as a user starts it, rounds that take turns, tables."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms
from tqdm import tqdm

from course.data import ImageDataset
from course.flags import REPOSITORY

TRAIN_IMAGES = 54_000


def run_train(part: str, data: Path, *flags: str) -> dict:
    """An epoch of a part's train.py in a process of its own; return its summary."""
    with tempfile.TemporaryDirectory() as logs:
        command = [sys.executable, str(REPOSITORY / part / "train.py"), "--epochs", "1", "--accelerator", "cpu"]
        places = ["--data_dir", str(data), "--log_dir", logs, "--no-progress_bar"]
        subprocess.run([*command, *places, *flags], check=True, stdout=subprocess.DEVNULL)
        return json.loads(next(Path(logs).glob("*/version_0/summary.json")).read_text())


def own_loop(part: str, batch_size: int, data: Path, batches: int | None) -> float:
    """Seconds of an epoch of train.py: Lightning, metrics, TensorBoard, NaN guard; no validation, test, pictures."""
    summary = run_train(part, data, *(["--limit_batches", str(batches)] if batches else []))
    return (batches or TRAIN_IMAGES // batch_size) * batch_size / summary["history"][0]["train/images_per_second"]


def bare_batches(dataset: ImageDataset, batch_size: int, batches: int | None):
    """Tensors in memory, a permutation, an index: the floor."""
    for index in torch.randperm(len(dataset)).split(batch_size)[: batches or len(dataset) // batch_size]:
        yield dataset.transform(dataset.images[index]), None


def usual_batches(data: Path, batch_size: int, batches: int | None, transform: Callable[[Tensor], Tensor]):
    """torchvision's MNIST: a PIL image and transforms for each example, a DataLoader with 2 workers."""
    transform = transforms.Compose([transforms.ToTensor(), transform])
    dataset = Subset(datasets.MNIST(data, train=True, transform=transform), range(TRAIN_IMAGES))
    return islice(DataLoader(dataset, batch_size, shuffle=True, num_workers=2, drop_last=True), batches)


def speed_table(title: str, ways: dict[str, Callable], goals: dict[str, float], args, data: Path) -> str:
    """Interleaved rounds -> Markdown tables of medians, and of the ratios of "train.py" to the others.

    Args:
        ways: name -> function of the data folder and the number of batches (None: all) that gives seconds.
        goals: name of another way -> the largest ratio that is good.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tqdm(total=args.rounds * len(ways), desc=title) as bar:
        for _ in range(args.rounds):
            for name, way in ways.items():
                seconds[name].append(way(data, args.batches))
                bar.update()
    what = f"{args.batches} batches" if args.batches else "an epoch"
    lines = [f"\n| {title} | seconds for {what}: median | rounds |", "| --- | --- | --- |"]
    for name, values in seconds.items():
        rounds = ", ".join(f"{value:.1f}" for value in values)
        lines.append(f"| {name} | {statistics.median(values):.1f} | {rounds} |")
    lines += ["", "| ratio | median over rounds | goal |", "| --- | --- | --- |"]
    for other, goal in goals.items():
        ratios = [ours / theirs for ours, theirs in zip(seconds["train.py"], seconds[other], strict=True)]
        lines.append(f"| train.py / {other} | {statistics.median(ratios):.3f} | at most {goal} |")
    return "\n".join(lines) + "\n"
