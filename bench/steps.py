"""`steps`: find out where a training step on the CPU spends its time, and measure ways to reduce it."""

import os
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from bench import part1, part2
from bench.epochs import (
    TRAIN_IMAGES,
    alone,
    bare_batches,
    operations,
    ratio_rows,
    seconds_of,
    take_turns,
    value_table,
)
from bench.record import Record, Table
from course.training.network import channels_last
from course.training.speed import flush_subnormals, keep_memory

STEPS, FIRST = 60, 15  # timed steps, and the warm-up steps before them: the first steps of a new process are slower
CPU = torch.device("cpu")
WIDTH = 2048  # width of the matrices whose product measures the processor's peak speed
PARTS = {f"VAE, batch {part1.BATCH}": part1, f"AAE, batch {part2.BATCH}": part2}
# name of an operation in PyTorch's profiler -> kind of operation; all others are "the rest"
WORK = {
    "aten::convolution_backward": "convolutions, backward",
    "aten::mkldnn_convolution": "convolutions, forward",
    "aten::_convolution": "convolutions, forward",  # transposed convolutions
    "aten::gelu_backward": "GELU",
    "aten::gelu": "GELU",
    "aten::_log_softmax": "cross-entropy",
    "aten::_log_softmax_backward_data": "cross-entropy",
    "aten::nll_loss2d_forward": "cross-entropy",
    "aten::nll_loss2d_backward": "cross-entropy",
    "aten::mm": "linear layers",
    "aten::addmm": "linear layers",
    "Optimizer.step#Adam.step": "Adam",
    "aten::_fused_adam_": "Adam",
    "aten::copy_": "copies",
}


def warm_step(
    part: ModuleType, data: Path, first: int, plain: bool, kept_memory: bool, flush: bool, compiled: bool = False
) -> tuple[Callable[[Tensor], Tensor], list]:
    """Return a training step that has already run `first` times, and STEPS batches for its next calls."""
    if kept_memory:
        keep_memory()
    flush_subnormals(flush)
    step, dataset = part.bare_step(plain, compiled=compiled), part.mnist(data, part.BATCH)[0].dataset
    batches = [images for images, _ in bare_batches(dataset, part.BATCH, first + STEPS)]
    for images in batches[:first]:
        step(images)
    return step, batches[first:]


def milliseconds(
    name: str,
    data: Path,
    count: int,
    plain: bool = False,
    kept_memory: bool = True,
    flush: bool = True,
    threads: int | None = None,
    late: bool = False,
    compiled: bool = False,
) -> float:
    """Return the mean milliseconds per step; if `late`, time the last steps of an epoch (except in a quick check)."""
    if threads:
        torch.set_num_threads(threads)
    first = TRAIN_IMAGES // PARTS[name].BATCH - STEPS if late and count == STEPS else FIRST
    step, batches = warm_step(PARTS[name], data, first, plain, kept_memory, flush, compiled)
    start = time.perf_counter()
    for images in batches[:count]:
        step(images)
    return 1000 * (time.perf_counter() - start) / len(batches[:count])


def convolutions(part: ModuleType, data: Path) -> Callable[[], None]:
    """Return a function that runs each convolution of a train.py step, forward and backward, on its usual input."""
    network, calls = channels_last(part.network()), []

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        x, gradient = inputs[0].detach().requires_grad_(inputs[0].requires_grad), torch.randn_like(output)

        def call() -> None:
            x.grad = module.weight.grad = module.bias.grad = None
            module(x).backward(gradient)

        calls.append(call)

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    [images] = [images for images, _ in bare_batches(part.mnist(data, part.BATCH)[0].dataset, part.BATCH, 1)]
    network(images)
    for hook in hooks:
        hook.remove()

    def all_of_them() -> None:
        for call in calls:
            call()

    return all_of_them


def alone_milliseconds(name: str, data: Path, count: int) -> float:
    """Return the mean milliseconds that a step's convolutions take without the other operations, over `count` runs."""
    keep_memory()
    flush_subnormals(True)
    return 1000 * seconds_of(convolutions(PARTS[name], data), count, CPU, warm_up=FIRST) / count


def product_milliseconds(name: str, data: Path, count: int) -> float:
    """Return the milliseconds that as many operations take in products of large matrices: the best case."""
    a, b = torch.randn(2, WIDTH, WIDTH)
    rate = 2 * WIDTH**3 * count / seconds_of(lambda: a @ b, count, CPU, warm_up=2)  # operations per second
    return 1000 * operations(convolutions(PARTS[name], data)) / rate


# --- variants of the operations in a step -----------------------------------------------------------------------------


def pieces() -> dict[str, tuple[Tensor, dict[str, Callable[[Tensor], Tensor]]]]:
    """Return operation name -> (its input in channels-last layout, its variants); train.py uses the first variant."""
    logits, x = torch.randn(part1.BATCH, 16, 28, 28), torch.randn(part1.BATCH, 32, 14, 14)
    grey = torch.randint(16, (part1.BATCH, 1, 28, 28))
    cross_entropies = {
        "one row per pixel": lambda logits: part1.network._reconstruction(logits, grey),
        "over dimension 1": lambda logits: part1.Plain._reconstruction(logits, grey),
        "log_softmax and gather": lambda logits: -F.log_softmax(logits, 1).gather(1, grey).sum(dim=(1, 2, 3)),
    }
    gelus = {"on [B, H, W, C]": channels_last(nn.Sequential(nn.GELU())), "on [B, C, H, W]": nn.GELU()}
    made = {"cross-entropy": (logits, cross_entropies), "GELU": (x, gelus)}
    return {name: (x.to(memory_format=torch.channels_last).requires_grad_(), ways) for name, (x, ways) in made.items()}


def forward_and_backward(way: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> None:
    x.grad = None
    way(x).backward(gradient)


def updates() -> dict[str, Callable[[], object]]:
    """Return variants of a step of Adam; train.py uses the first."""
    weights = list(part1.network().parameters())
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    ways = {
        "all weights in one kernel": {"fused": True},
        "PyTorch's default": {},
        "one weight at a time": {"foreach": False},
    }
    return {way: torch.optim.Adam(weights, **how).step for way, how in ways.items()}


def piece_table(count: int) -> Table:
    """Tabulate the milliseconds of each variant of some operations in a step: medians of `count` interleaved calls."""
    keep_memory()
    flush_subnormals(True)
    calls = {"Adam": updates()}
    for name, (x, ways) in pieces().items():
        gradient = torch.randn_like(next(iter(ways.values()))(x))
        calls[name] = {way: partial(forward_and_backward, call, x, gradient) for way, call in ways.items()}
    rows = []
    for name, ways in calls.items():
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(FIRST + count):
            for way, call in ways.items():
                start = time.perf_counter()
                call()
                taken[way].append(1000 * (time.perf_counter() - start))
        rows += [[name, way, f"{statistics.median(times[FIRST:]):.2f}"] for way, times in taken.items()]
    return Table(["operation of a VAE step", "variant (train.py uses the first)", "milliseconds: median"], rows)


# --- shares of the operations -----------------------------------------------------------------------------------------


def shares(name: str, data: Path, count: int, plain: bool) -> dict[str, float]:
    """Profile `count` steps with PyTorch's profiler; return kind of operation -> fraction of the time."""
    step, batches = warm_step(PARTS[name], data, FIRST, plain, kept_memory=not plain, flush=not plain)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for images in batches[:count]:
            step(images)
    parts: dict[str, float] = {}
    for event in profiler.key_averages():
        kind = WORK.get(event.key, "the rest")
        parts[kind] = parts.get(kind, 0) + event.self_cpu_time_total
    return {kind: value / sum(parts.values()) for kind, value in parts.items()}


def share_table(title: str, ways: dict[str, dict[str, float]]) -> Table:
    """Tabulate the fraction of the time that each kind of operation takes in each variant, largest first."""
    kinds = sorted(set().union(*ways.values()), key=lambda kind: -max(way.get(kind, 0) for way in ways.values()))
    rows = [[kind, *(f"{way.get(kind, 0):.1%}" for way in ways.values())] for kind in kinds]
    return Table([f"{title}: share of a step", *ways], rows)


def steps(args, data: Path) -> Record:
    """Measure several variants of a training step of the VAE and the AAE, and the share of each operation."""
    count = min(args.batches or STEPS, STEPS)
    tables, rows = [], []
    for name in PARTS:
        plain = {"plain": True, "kept_memory": False, "flush": False}
        ways = {
            "plain": plain,
            "plain, memory kept": plain | {"kept_memory": True},
            "channels last, fused optimizers": {"kept_memory": False, "flush": False},
            "as in train.py": {},
            "as in train.py, one thread": {"threads": 1},
            "as in train.py, --compile": {"compiled": True},
            "plain, at the end of an epoch": plain | {"late": True},
            "plain, subnormals flushed, at the end of an epoch": plain | {"flush": True, "late": True},
            "as in train.py, at the end of an epoch": {"late": True},
        }
        if not shutil.which(os.environ.get("CXX", "g++")):
            del ways["as in train.py, --compile"]
        timed = {way: partial(alone, partial(milliseconds, name, data, count, **how)) for way, how in ways.items()}
        timed["convolutions alone"] = partial(alone, alone_milliseconds, name, data, count)
        timed["the same operation count in matrix products"] = partial(alone, product_milliseconds, name, data, count)
        values = take_turns(name, timed, args.rounds)
        profiles = {way: alone(shares, name, data, count, way == "plain") for way in ("plain", "as in train.py")}
        tables += [value_table(name, "milliseconds per step", values), share_table(name, profiles)]
        for when in ("", ", at the end of an epoch"):
            [row] = ratio_rows(values, {(f"as in train.py{when}", f"plain{when}"): 0.8}, "at most")
            rows.append(replace(row, measure=f"{name}: {row.measure}"))
        floors = ("convolutions alone", "the same operation count in matrix products")
        for row in ratio_rows(values, {(floor, "plain"): None for floor in floors}, "at most"):
            rows.append(replace(row, measure=f"{name}: {row.measure}"))
    tables.append(alone(piece_table, count))
    return Record("ratio, median over rounds", rows, tables)
