"""Shared helpers for the benchmarks: run train.py as a user would, time loops in interleaved rounds, make tables."""

import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import datasets, transforms
from tqdm import tqdm

from bench.record import Record, Row, Table
from course.data import ImageDataset, Shuffle
from course.flags import REPOSITORY
from course.training.speed import flush_subnormals, keep_memory

RESULTS = Path(__file__).parent / "results"
TRAIN_IMAGES = 54_000
SEED = 42  # for the weights and the order of the data, as in train.py; the number of subnormals depends on both


def train_once(part: str, data: Path, logs: Path, *flags: str, most: float | None = None) -> Path:
    """Run one epoch of a part's train.py in a new process; return the run folder. Parts 1 and 2 use --channels_last.

    Raises:
        RuntimeError: train.py is still running after `most` seconds.
    """
    command = [sys.executable, str(REPOSITORY / part / "train.py"), "--epochs", "1", "--accelerator", "cpu"]
    command += ["--channels_last"] * (part != "part3_gpt")
    places = ["--data_dir", str(data), "--log_dir", str(logs), "--no-progress_bar"]
    try:
        subprocess.run([*command, *places, *flags], check=True, stdout=subprocess.DEVNULL, timeout=most)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{part}/train.py was still running after {most:g} s") from None
    return next(logs.glob("*/version_0"))


def run_train(part: str, data: Path, *flags: str, most: float | None = None) -> dict:
    """Run one epoch as `train_once` does; return the run's summary."""
    with tempfile.TemporaryDirectory() as logs:
        return json.loads((train_once(part, data, Path(logs), *flags, most=most) / "summary.json").read_text())


def own_loop(part: str, batch_size: int, data: Path, batches: int | None) -> float:
    """Return the seconds that train.py trains for an epoch, including Lightning, metrics, TensorBoard and NaN guard."""
    summary = run_train(part, data, *(["--limit_batches", str(batches)] if batches else []))
    return (batches or TRAIN_IMAGES // batch_size) * batch_size / summary["history"][0]["train/images_per_second"]


def alone(way: Callable, *args):
    """Call `way(*args)` in a new process, since memory left over from one variant would affect the next one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(way, *args).result()


@contextmanager
def settled(plain: bool) -> Iterator[None]:
    """Keep memory between steps and flush subnormal numbers to 0, as train.py does, unless `plain`.

    Enter this before building anything: it does not affect threads that already exist.
    """
    if not plain:
        keep_memory()
        flush_subnormals(True)
    try:
        yield
    finally:
        flush_subnormals(False)


def wait_for(device: torch.device) -> None:
    """Wait until a CUDA device has finished all its work; do nothing for other devices."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(step: Callable[[], object], count: int, device: torch.device, warm_up: int) -> float:
    """Return the seconds that `count` calls to `step` take, after `warm_up` untimed calls."""
    for _ in range(warm_up):
        step()
    wait_for(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    wait_for(device)
    return time.perf_counter() - start


def operations(work: Callable[[], object]) -> int:
    """Count the floating-point operations of the convolutions and matrix products in a call to `work`."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def bare_seconds(step: Callable[[Tensor], object], batches) -> float:
    """Return the seconds that a loop with one step per batch, and nothing else, takes."""
    start = time.perf_counter()
    for images, _ in batches:
        step(images)
    return time.perf_counter() - start


def bare_batches(dataset: ImageDataset, batch_size: int, batches: int | None):
    """Yield batches by indexing tensors in memory (the lower bound), in the order of train.py's first epoch."""
    order = torch.tensor(list(Shuffle(len(dataset), SEED)))
    for index in order.split(batch_size)[: batches or len(dataset) // batch_size]:
        yield dataset.transform(dataset.images[index]), None


def bare_loop(
    make_step: Callable, mnist: Callable, batch_size: int, data: Path, batches: int | None, plain: bool
) -> float:
    """Return the seconds per epoch of a part's bare loop, or of its plain loop if `plain`.

    Args:
        make_step, mnist: the part's functions `bare_step` and `mnist`, which makes the data loaders.
    """
    with settled(plain):
        images = bare_batches(mnist(data, batch_size)[0].dataset, batch_size, batches)
        return bare_seconds(make_step(plain), images)


def usual_batches(data: Path, batch_size: int, batches: int | None, transform: Callable[[Tensor], Tensor]):
    """Return batches from a DataLoader with 2 workers that applies transforms to torchvision's MNIST as PIL images."""
    transform = transforms.Compose([transforms.ToTensor(), transform])
    dataset = Subset(datasets.MNIST(data, train=True, transform=transform), range(TRAIN_IMAGES))
    return islice(DataLoader(dataset, batch_size, shuffle=True, num_workers=2, drop_last=True), batches)


def take_turns(title: str, ways: dict[str, Callable], rounds: int) -> dict[str, list]:
    """Call each variant once per round, in turn; return variant name -> its values, one per round."""
    values: dict[str, list] = {name: [] for name in ways}
    with tqdm(total=rounds * len(ways), desc=title) as bar:
        for _ in range(rounds):
            for name, way in ways.items():
                values[name].append(way())
                bar.update()
    return values


def value_table(title: str, unit: str, values: dict[str, list[float]], digits: int = 1) -> Table:
    """Tabulate each variant's median and its values in all rounds."""
    rows = []
    for name, of_rounds in values.items():
        rounds = ", ".join(f"{value:.{digits}f}" for value in of_rounds)
        rows.append([name, f"{statistics.median(of_rounds):.{digits}f}", rounds])
    return Table([title, f"{unit}: median", "rounds"], rows)


def ratio_rows(values: dict[str, list[float]], goals: dict[tuple[str, str], float | None], relation: str) -> list[Row]:
    """Return a row for each pair of variants: the median of their ratio over the rounds, and the goal, if any."""
    rows = []
    for (one, other), goal in goals.items():
        ratios = [ours / theirs for ours, theirs in zip(values[one], values[other], strict=True)]
        value = round(statistics.median(ratios), 3)
        rows.append(Row(f"{one} / {other}", value, "", goal, None if goal is None else relation))
    return rows


def speed_table(title: str, ways: dict[str, Callable], goals: dict[str, float], args, data: Path) -> Record:
    """Time the variants in interleaved rounds; report their medians and the ratios of "train.py" to the others.

    Args:
        ways: name -> function of the data folder and the number of batches (None: all) that returns seconds.
        goals: name of another variant -> the largest ratio that meets the goal.
    """
    seconds = take_turns(title, {name: partial(way, data, args.batches) for name, way in ways.items()}, args.rounds)
    what = f"{args.batches} batches" if args.batches else "an epoch"
    ratios = ratio_rows(seconds, {("train.py", other): goal for other, goal in goals.items()}, "at most")
    return Record("ratio, median over rounds", ratios, [value_table(title, f"seconds for {what}", seconds)])


def rate_table(
    title: str, ways: dict[str, Callable], goals: dict[tuple[str, str], float | None], rounds: int, digits: int = 1
) -> Record:
    """Measure rates, where higher is better, in interleaved rounds; report their medians and ratios.

    Args:
        ways: name -> function without arguments that returns tokens per second.
        goals: two variants -> the smallest ratio of the first to the second that meets the goal, or None for no goal.
        digits: decimal places of the rates.
    """
    rates = take_turns(title, ways, rounds)
    ratios = ratio_rows(rates, goals, "at least")
    return Record("ratio, median over rounds", ratios, [value_table(title, "tokens/s", rates, digits)])
