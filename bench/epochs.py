"""What the parts' measurements have in common: train.py as a user starts it, rounds that take turns, tables."""

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
SEED = 42  # of weights and order, as in train.py: how many subnormal numbers there are depends on both


def train_once(part: str, data: Path, logs: Path, *flags: str, most: float | None = None) -> Path:
    """An epoch of a part's train.py in a process of its own -> the run's folder. Parts 1 and 2 have --channels_last.

    Raises:
        RuntimeError: it had not ended after `most` seconds.
    """
    command = [sys.executable, str(REPOSITORY / part / "train.py"), "--epochs", "1", "--accelerator", "cpu"]
    command += ["--channels_last"] * (part != "part3_gpt")
    places = ["--data_dir", str(data), "--log_dir", str(logs), "--no-progress_bar"]
    try:
        subprocess.run([*command, *places, *flags], check=True, stdout=subprocess.DEVNULL, timeout=most)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{part}/train.py had not ended after {most:g} s") from None
    return next(logs.glob("*/version_0"))


def run_train(part: str, data: Path, *flags: str, most: float | None = None) -> dict:
    """The same; return its summary."""
    with tempfile.TemporaryDirectory() as logs:
        return json.loads((train_once(part, data, Path(logs), *flags, most=most) / "summary.json").read_text())


def own_loop(part: str, batch_size: int, data: Path, batches: int | None) -> float:
    """Seconds of an epoch of train.py: Lightning, metrics, TensorBoard, NaN guard; no validation, test, pictures."""
    summary = run_train(part, data, *(["--limit_batches", str(batches)] if batches else []))
    return (batches or TRAIN_IMAGES // batch_size) * batch_size / summary["history"][0]["train/images_per_second"]


def alone(way: Callable, *args):
    """What `way(*args)` returns in a process of its own: what one way leaves in memory changes the time of the next."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(way, *args).result()


@contextmanager
def settled(plain: bool) -> Iterator[None]:
    """Memory is kept and subnormal numbers are flushed as in train.py, unless `plain`.

    To be entered before anything is built, as threads that are there already are not reached.
    """
    if not plain:
        keep_memory()
        flush_subnormals(True)
    try:
        yield
    finally:
        flush_subnormals(False)


def wait_for(device: torch.device) -> None:
    """Until everything that was given to a GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(step: Callable[[], object], count: int, device: torch.device, warm_up: int) -> float:
    """Seconds of so many calls, after a warm-up."""
    for _ in range(warm_up):
        step()
    wait_for(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    wait_for(device)
    return time.perf_counter() - start


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of convolutions and matrix products in a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def bare_seconds(step: Callable[[Tensor], object], batches) -> float:
    """Seconds of a step for each batch, with nothing around it."""
    start = time.perf_counter()
    for images, _ in batches:
        step(images)
    return time.perf_counter() - start


def bare_batches(dataset: ImageDataset, batch_size: int, batches: int | None):
    """Tensors in memory, a permutation (that of train.py's first epoch), an index: the floor."""
    order = torch.tensor(list(Shuffle(len(dataset), SEED)))
    for index in order.split(batch_size)[: batches or len(dataset) // batch_size]:
        yield dataset.transform(dataset.images[index]), None


def bare_loop(
    make_step: Callable, mnist: Callable, batch_size: int, data: Path, batches: int | None, plain: bool
) -> float:
    """Seconds of an epoch of a part's bare loop or, as PyTorch comes, of its plain loop.

    Args:
        make_step, mnist: the part's `bare_step` and its loaders.
    """
    with settled(plain):
        images = bare_batches(mnist(data, batch_size)[0].dataset, batch_size, batches)
        return bare_seconds(make_step(plain), images)


def usual_batches(data: Path, batch_size: int, batches: int | None, transform: Callable[[Tensor], Tensor]):
    """torchvision's MNIST: a PIL image and transforms for each example, a DataLoader with 2 workers."""
    transform = transforms.Compose([transforms.ToTensor(), transform])
    dataset = Subset(datasets.MNIST(data, train=True, transform=transform), range(TRAIN_IMAGES))
    return islice(DataLoader(dataset, batch_size, shuffle=True, num_workers=2, drop_last=True), batches)


def take_turns(title: str, ways: dict[str, Callable], rounds: int) -> dict[str, list]:
    """Interleaved rounds: each way once in each of them -> name of the way -> what it gave."""
    values: dict[str, list] = {name: [] for name in ways}
    with tqdm(total=rounds * len(ways), desc=title) as bar:
        for _ in range(rounds):
            for name, way in ways.items():
                values[name].append(way())
                bar.update()
    return values


def value_table(title: str, unit: str, values: dict[str, list[float]], digits: int = 1) -> Table:
    """The median of each way and its single rounds."""
    rows = []
    for name, of_rounds in values.items():
        rounds = ", ".join(f"{value:.{digits}f}" for value in of_rounds)
        rows.append([name, f"{statistics.median(of_rounds):.{digits}f}", rounds])
    return Table([title, f"{unit}: median", "rounds"], rows)


def ratio_rows(values: dict[str, list[float]], goals: dict[tuple[str, str], float | None], relation: str) -> list[Row]:
    """The ratios of two ways: the median over those of each round, and what is good (None: no goal)."""
    rows = []
    for (one, other), goal in goals.items():
        ratios = [ours / theirs for ours, theirs in zip(values[one], values[other], strict=True)]
        value = round(statistics.median(ratios), 3)
        rows.append(Row(f"{one} / {other}", value, "", goal, None if goal is None else relation))
    return rows


def speed_table(title: str, ways: dict[str, Callable], goals: dict[str, float], args, data: Path) -> Record:
    """Interleaved rounds -> medians, and the ratios of "train.py" to the others.

    Args:
        ways: name -> function of the data folder and the number of batches (None: all) that gives seconds.
        goals: name of another way -> the largest ratio that is good.
    """
    seconds = take_turns(title, {name: partial(way, data, args.batches) for name, way in ways.items()}, args.rounds)
    what = f"{args.batches} batches" if args.batches else "an epoch"
    ratios = ratio_rows(seconds, {("train.py", other): goal for other, goal in goals.items()}, "at most")
    return Record("ratio, median over rounds", ratios, [value_table(title, f"seconds for {what}", seconds)])


def rate_table(
    title: str, ways: dict[str, Callable], goals: dict[tuple[str, str], float | None], rounds: int, digits: int = 1
) -> Record:
    """The same for rates, of which more is better.

    Args:
        ways: name -> function without arguments that gives tokens per second.
        goals: names of two ways -> the smallest ratio of the first to the second that is good, None: no goal.
        digits: of the rates, after the point.
    """
    rates = take_turns(title, ways, rounds)
    ratios = ratio_rows(rates, goals, "at least")
    return Record("ratio, median over rounds", ratios, [value_table(title, "tokens/s", rates, digits)])
