"""Measure the growth of costs with the batch size, the context length, and the number of submissions or reported runs.

The size is doubled from one measurement to the next. A power law is fitted to the costs at the larger sizes, where
fixed costs matter least. `--batches N` sets the largest size to N, but at least 4 (for the context, 32).
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from bench import grading, part1, part2, part3
from bench.epochs import bare_seconds, settled, take_turns, train_once
from bench.plots import growth_png
from bench.record import Record, Row, Table, significant
from course import rubric
from course.runs import folder as runs
from course.runs import report
from part3_gpt.dataset import CharTokenizer, TextDataset
from part3_gpt.gpt import GPT, GPTConfig
from part3_gpt.streaming import stream
from part3_gpt.texts import read_text

EACH = {"s": "ms", "MB": "kB"}  # unit of the total -> unit of the cost per item, a thousand times smaller
WORDS = {"s": "seconds", "MB": "megabytes"}
LONGEST, LARGEST_BATCH, SUBMISSIONS, RUNS, EPOCHS = 1024, 512, 40, 64, 20


def doubling(largest: int, count: int) -> list[int]:
    """Return `count` sizes up to the largest, each twice the previous one; fewer if the first would be below 1."""
    return [largest >> power for power in reversed(range(count)) if largest >> power]


def upper(sizes: list[int]) -> list[int]:
    """Return the upper half of the sizes, including the middle one, to which the power law is fitted."""
    return sizes[(len(sizes) - 1) // 2 :]


def power_law(sizes: list[int], costs: list[float]) -> tuple[float, float]:
    """Return a and b of the best fit a n^b, by least squares on the logarithms."""
    slope, offset = np.polyfit(np.log(sizes), np.log(costs), 1)
    return float(np.exp(offset)), float(slope)


def fixed_and_each(sizes: list[int], costs: list[float]) -> tuple[float, float]:
    """Return a and b of the best fit a + b n, by least squares on the relative errors."""
    each, fixed = np.polyfit(sizes, costs, 1, w=1 / np.array(costs))
    return float(fixed), float(each)


LINE = "The fixed cost and the cost per item come from a straight line, fitted by least squares on the relative errors."


def line_rows(name: str, one: str, sizes: list[int], costs: list[float], unit: str) -> list[Row]:
    """Return rows for the straight line fitted to the costs of `name`; `one` is the name of an item ("submission")."""
    fixed, each = fixed_and_each(sizes, costs)
    parts = {"fixed cost": fixed, f"cost per {one}": each}
    return [Row(f"{name}: {part}", significant(value), unit) for part, value in parts.items()]


@dataclass
class Cost:
    """The cost of something at each size, in s or MB, and the goal for its exponent, such as "at most" 1.1."""

    values: list[float]
    goal: float | None = None
    relation: str | None = None
    unit: str = "s"


def measured(title: str, ways: dict[str, Callable[[], list[float]]], rounds: int) -> dict[str, list[float]]:
    """Measure the variants in interleaved rounds; return the median of each variant at each size."""
    values = take_turns(title, ways, rounds)
    return {name: np.median(of_rounds, axis=0).tolist() for name, of_rounds in values.items()}


def growth_record(name: str, title: str, size: str, sizes: list[int], costs: dict[str, Cost], notes: str) -> Record:
    """Return a record with a table of the costs, their exponents, and the plot.

    Args:
        name: the name of the measurement.
        size: the name of the items that the sizes count, such as "submissions".
    """
    head, columns, rows, panels = [size], [], [], {}
    fitted = upper(sizes)
    for what, cost in costs.items():
        law = power_law(fitted, cost.values[-len(fitted) :])
        rows.append(Row(f"{what}: exponent, sizes {fitted[0]} and up", round(law[1], 2), "", cost.goal, cost.relation))
        head += [f"{what}: {cost.unit}", f"{EACH[cost.unit]} each"]
        columns += [cost.values, [1000 * value / n for value, n in zip(cost.values, sizes, strict=True)]]
        panels.setdefault(WORDS[cost.unit], {})[what] = (sizes, cost.values, law, fitted)
    cells = [[str(n), *(f"{significant(column[index]):g}" for column in columns)] for index, n in enumerate(sizes)]
    file = f"{name}.png"
    picture = growth_png(title, size, panels)
    return Record(
        title, rows, [Table(head, cells)], notes, {file: f"{title}: cost against {size}"}, "", {file: picture}
    )


def medians(args) -> str:
    return f"Each value is the median over the rounds (number of rounds: {args.rounds})."


# --- batch size -------------------------------------------------------------------------------------------------------


def steps_at(size: int) -> int:
    """Return the number of steps to time at a batch size: more steps for small batches, whose steps are short."""
    return max(4, 64 // size)


def image_step(part: ModuleType, image: torch.Tensor, size: int) -> float:
    """Return the seconds per training step of part 1 or 2 on a batch of copies of one image [1, 28, 28]."""
    count = steps_at(size)
    with settled(plain=False):
        batches = [(image.expand(size, -1, -1, -1).contiguous(), None)] * count
        return bare_seconds(part.bare_step(), batches) / count


def text_step(config: GPTConfig, dataset: TextDataset, size: int) -> float:
    """Return the seconds per training step of the GPT on a batch of windows."""
    count = min(steps_at(size), len(dataset) // size)
    rate = part3.bare_rate(partial(GPT, config), part3.our_loss, dataset, size, count)
    return size * dataset.block_size / rate


def text_of(model_type: str, block_size: int) -> tuple[GPTConfig, TextDataset]:
    """Return the configuration of a model without dropout, and a dataset of windows of the built-in text."""
    text = read_text()
    tokenizer = CharTokenizer.of(text)
    dropouts = {"embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0}
    config = GPTConfig(model_type, vocab_size=tokenizer.vocab_size, block_size=block_size, **dropouts)
    return config, TextDataset(text, block_size, tokenizer, stride=max(1, block_size // 4))


def batch(args, data: Path) -> Record:
    """Measure a training step of each part: its fixed cost, and its cost per example."""
    sizes = doubling(max(args.batches or LARGEST_BATCH, 4), 10)
    steps = {
        "VAE": partial(image_step, part1, torch.randint(16, (1, 28, 28))),
        "AAE": partial(image_step, part2, 2 * torch.rand(1, 28, 28) - 1),
        "GPT (gpt-micro, block 128)": partial(text_step, *text_of("gpt-micro", 128)),
    }
    ways = {name: lambda step=step: [step(size) for size in sizes] for name, step in steps.items()}
    title = "a training step"
    seconds = measured(title, ways, args.rounds)
    costs = {name: Cost(values, 1.1, "at most") for name, values in seconds.items()}
    record = growth_record("growth_batch", title, "examples in a batch", sizes, costs, medians(args))
    for name, values in seconds.items():
        record.rows += line_rows(name, "example", sizes, [1000 * value for value in values], "ms")
    record.notes += f" {LINE} A negative fixed cost means that the cost grows faster than the batch size."
    return record


# --- context length ---------------------------------------------------------------------------------------------------


def seconds_to_reach(model: GPT, lengths: list[int], use_cache: bool) -> list[float]:
    """Return the seconds until a text that starts with one token reaches each of the lengths."""
    start = time.perf_counter()
    tokens = stream(model, torch.zeros(1, 1, dtype=torch.int64), lengths[-1] - 1, use_cache=use_cache)
    reached = [time.perf_counter() - start for _ in tokens]  # the first entry is the time of the second token
    return [reached[max(length - 2, 0)] for length in lengths]


@torch.no_grad()
def forward_seconds(config: GPTConfig, dataset: TextDataset, size: int) -> float:
    model, count = GPT(config).eval(), steps_at(size)
    x, y = dataset.__getitems__(list(range(size)))
    start = time.perf_counter()
    for _ in range(count):
        model(x, y)
    return (time.perf_counter() - start) / count


def context(args, data: Path, model_type: str = "gpt-mini", size: int = 4) -> Record:
    """Measure generation with and without the cache, a training step and a forward pass, at several context lengths.

    The model is small, because GPT-2 would be very slow without the cache. The largest length is at least 32 tokens.
    """
    lengths = doubling(max(args.batches or LONGEST, 32), 5)
    texts = [text_of(model_type, length) for length in lengths]
    torch.manual_seed(0)
    writer = GPT(texts[-1][0]).eval()
    ways = {
        "generation with the cache": partial(seconds_to_reach, writer, lengths, use_cache=True),
        "generation, recomputing": partial(seconds_to_reach, writer, lengths, use_cache=False),
        f"a training step, batch {size}": lambda: [text_step(*text, size) for text in texts],
        f"a forward pass, batch {size}": lambda: [forward_seconds(*text, size) for text in texts],
    }
    title = f"{model_type}, characters"
    seconds = measured(title, ways, args.rounds)
    goals = {"generation with the cache": (1, "about"), "generation, recomputing": (2, "about")}
    costs = {name: Cost(values, *goals.get(name, ())) for name, values in seconds.items()}
    notes = f"Generation starts from a single token. {medians(args)}"
    return growth_record("growth_context", title, "tokens in the context", lengths, costs, notes)


# --- submissions ------------------------------------------------------------------------------------------------------


def submissions(args, data: Path) -> Record:
    """Measure `python -m staff grade` on classes like those of the benchmark `grading`."""
    sizes = doubling(max(args.batches or SUBMISSIONS, 4), 4)
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            grading.make_class(Path(folder, f"class_{size}"), size)

        def graded(size: int) -> float:
            with tempfile.TemporaryDirectory() as out:  # a new folder: an old one would already contain the results
                return grading.grade(Path(folder, f"class_{size}"), Path(out, "grades"))[0]

        title = "a class, two submissions at a time"
        ways = {"python -m staff grade": lambda: [graded(size) for size in sizes]}
        costs = {name: Cost(values, 1.1, "at most") for name, values in measured(title, ways, args.rounds).items()}
    notes = f"The times include startup and exports. {medians(args)} {LINE}"
    record = growth_record("growth_submissions", title, "submissions", sizes, costs, notes)
    for name, cost in costs.items():
        record.rows += line_rows(name, "submission", sizes, cost.values, "s")
    return record


# --- runs in a report -------------------------------------------------------------------------------------------------


def copies(run: Path, count: int) -> list[Path]:
    """Copy a run `count` times into its parent folder, with different learning rates and curves over EPOCHS epochs."""
    summary = json.loads((run / "summary.json").read_text())
    made = []
    for number in range(1, count + 1):
        made.append(run.with_name(f"version_{number}"))
        shutil.copytree(run, made[-1], ignore=shutil.ignore_patterns("checkpoints", "events.*", report.FILE))
        history = [_other(summary["history"][0], epoch, number) for epoch in range(1, EPOCHS + 1)]
        other = summary | {"history": history, "flags": summary["flags"] | {"lr": number / 1000, "epochs": EPOCHS}}
        (made[-1] / "summary.json").write_text(json.dumps(other))
    return made


def _other(row: dict, epoch: int, number: int) -> dict:
    """Derive the metrics of an epoch of copy `number` from the metrics of another epoch."""
    factor = (1 + number / 1000) / epoch**0.5
    return {tag: value * factor if isinstance(value, float) else value for tag, value in row.items()} | {"epoch": epoch}


def pages(folders: list[Path]) -> tuple[float, float]:
    """Make a page for each run; return the seconds taken and the size of all pages in MB."""
    start = time.perf_counter()
    texts = [report.page_of_run(runs.read(folder), rubric.read()) for folder in folders]
    return time.perf_counter() - start, sum(len(text.encode()) for text in texts) / 1e6


def side_by_side(folders: list[Path]) -> tuple[float, float]:
    """Make a single page for all runs; return the seconds taken and its size in MB."""
    start = time.perf_counter()
    text = report.page_of_several([runs.read(folder) for folder in folders], rubric.read())
    return time.perf_counter() - start, len(text.encode()) / 1e6


def reports(args, data: Path) -> Record:
    """Measure the pages of `python -m course report` for copies of a short VAE run, excluding Python's startup."""
    sizes = doubling(max(args.batches or RUNS, 4), 7)
    kinds = {"a page each": pages, "one page, side by side": side_by_side}
    with tempfile.TemporaryDirectory() as logs:
        flags = ["--limit_batches", "6", "--num_filters", "2"]
        folders = copies(train_once("part1_vae", data, Path(logs), *flags), sizes[-1])
        pages(folders[:1])  # imports matplotlib
        ways = {name: lambda made=made: [made(folders[:n]) for n in sizes] for name, made in kinds.items()}
        title = "report on VAE runs"
        found = measured(title, ways, args.rounds)
    costs = {name: Cost([seconds for seconds, _ in each], 1.1, "at most") for name, each in found.items()}
    costs |= {f"{name}, size": Cost([size for _, size in each], 1.1, "at most", "MB") for name, each in found.items()}
    return growth_record("growth_runs", title, "runs", sizes, costs, medians(args))
