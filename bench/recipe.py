"""Time to quality: `recipe` compares `--recipe fast` (three seeds) with the assignment's recipe.

`recipe_80` measures the VAE after 80 epochs of `--recipe fast`. Both take hours on a CPU, so they run only when
named. The runs are kept in build/recipe: an interrupted run is resumed, and a complete run is not repeated.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from torch import Tensor

from bench import part1, part2
from bench.epochs import bare_batches, operations
from bench.record import Record, Row, Table, significant
from course.flags import REPOSITORY

RUNS = REPOSITORY / "build" / "recipe"
SEEDS = (42, 43, 44)


@dataclass(frozen=True)
class Plan:
    """Runs of a part that differ only in their seed: their flags, and the metrics to report, each with its epoch."""

    part: ModuleType
    folder: str
    flags: tuple[str, ...]
    metrics: dict[str, str]  # tag -> "best epoch" or "last epoch"
    seeds: tuple[int, ...] = SEEDS


BPD, CODES = {"test/bpd": "best epoch"}, {"val/recon_loss": "best epoch", "val/mmd": "last epoch"}
PLANS = {
    "vae_fast": Plan(part1, "part1_vae", ("--recipe", "fast"), BPD),
    "vae_fast_80": Plan(part1, "part1_vae", ("--recipe", "fast", "--epochs", "80"), BPD, seeds=(42,)),
    "aae_fast": Plan(part2, "part2_aae", ("--recipe", "fast"), CODES),
    "aae_assignment": Plan(part2, "part2_aae", (), CODES, seeds=(42,)),
}
GOALS = {  # goals for the mean over the seeds
    ("vae_fast", "test/bpd"): ("at most", 0.52),
    ("aae_fast", "val/recon_loss"): ("below", 0.05),
}
LAST = 30  # the assignment's recipe makes the MMD fluctuate, so its median over this many final epochs is reported
WORTH = {"vae_fast": 20, "aae_fast": 10}  # goal: no more operations than in this many epochs of the assignment's recipe


def summary_of(name: str, seed: int, data: Path, batches: int | None) -> dict:
    """Return the summary of a run; unless the run is complete, start or resume it first."""
    plan, logs = PLANS[name], RUNS / (f"{name}_{seed}" + (f"_quick_{batches}" if batches else ""))
    if not list(logs.glob("*/version_*/summary.json")):
        command = [sys.executable, str(REPOSITORY / plan.folder / "train.py"), *plan.flags, "--seed", str(seed)]
        command += ["--data_dir", str(data), "--log_dir", str(logs), "--accelerator", "cpu"]
        if list(logs.glob("*/version_*/checkpoints/last.ckpt")):
            command += ["--resume", "last"]
        if batches:
            command += ["--epochs", "1", "--limit_batches", str(batches)]
        subprocess.run(command, check=True)
    return json.loads(next(logs.glob("*/version_*/summary.json")).read_text())


def of_epoch(summary: dict, metric: str, which: str) -> float:
    """Return a metric of the best or the last epoch; test metrics are always from the best epoch."""
    best = next(row for row in summary["history"] if row["epoch"] == summary["best"]["epoch"])
    if metric.startswith("test/"):
        return summary["results"][metric]
    return (best if which == "best epoch" else summary["history"][-1])[metric]


def per_image(step: Callable[[Tensor], object], images: Tensor) -> float:
    """Count the operations of a training step, per image."""
    step(images)  # the first step may create state that later steps reuse
    return operations(lambda: step(images)) / len(images)


def extra(plan: Plan, data: Path) -> float:
    """Return the operations per image of a step with Muon, as a multiple of those with the assignment's recipe."""
    dataset = plan.part.mnist(data)[0].dataset
    images = {size: next(bare_batches(dataset, size, 1))[0] for size in (64, plan.part.BATCH)}  # --recipe fast uses 64
    return per_image(plan.part.bare_step(fast=True), images[64]) / per_image(
        plan.part.bare_step(), images[plan.part.BATCH]
    )


def made(plans: list[str], args, data: Path) -> tuple[Record, dict[tuple[str, str], float]]:
    """Carry out the runs of each plan, one per seed; return the record and the mean of each metric over the seeds."""
    table, rows, means = Table(["run", "finished", "threads", "epochs", "best epoch", "obtained"], []), [], {}
    for name in plans:
        plan = PLANS[name]
        summaries = [summary_of(name, seed, data, args.batches) for seed in plan.seeds]
        for seed, summary in zip(plan.seeds, summaries, strict=True):
            run = " ".join([f"{plan.folder}/train.py", *plan.flags, "--seed", str(seed)])
            found = [f"{tag} ({which}) {of_epoch(summary, tag, which):.4g}" for tag, which in plan.metrics.items()]
            numbers = [summary["machine"]["threads"], len(summary["history"]), summary["best"]["epoch"]]
            table.rows.append([f"`{run}`", summary["finished"][:10], *map(str, numbers), ", ".join(found)])
        for metric, which in plan.metrics.items():
            values = [of_epoch(summary, metric, which) for summary in summaries]
            means[name, metric] = statistics.mean(values)
            relation, goal = GOALS.get((name, metric), (None, None))
            spread = f", {len(values)} seeds, standard deviation {statistics.stdev(values):.2g}" if values[1:] else ""
            measure = f"{name}: {metric} of the {which}{spread}"
            rows.append(Row(measure, significant(means[name, metric], 4), "", goal, relation))
        if name in WORTH:
            worth = len(summaries[0]["history"]) * extra(plan, data)
            measure = f"{name}: operations, in epochs of the assignment's recipe"
            rows.append(Row(measure, round(worth, 1), "", WORTH[name], "at most"))
    return Record("mean over seeds", rows, [table]), means


def recipe(args, data: Path) -> Record:
    """Report the VAE's test bpd and the AAE's metrics after a few epochs, and the AAE's metrics after 100 epochs."""
    record, means = made(["vae_fast", "aae_fast", "aae_assignment"], args, data)
    [seed] = PLANS["aae_assignment"].seeds
    last = [row["val/mmd"] for row in summary_of("aae_assignment", seed, data, args.batches)["history"][-LAST:]]
    usual = statistics.median(last)
    spread = f"{min(last):.2g} to {max(last):.2g}"
    fast, at_the_end = means["aae_fast", "val/mmd"], means["aae_assignment", "val/mmd"]
    record.rows += [
        Row("val/mmd of the last epochs: aae_fast / aae_assignment", round(fast / at_the_end, 2), "", 1, "at most"),
        Row(f"aae_assignment: val/mmd, median of the last {len(last)} epochs ({spread})", significant(usual, 2)),
        Row("val/mmd: aae_fast / that median", round(fast / usual, 2)),
    ]
    return record


def recipe_80(args, data: Path) -> Record:
    """Report the test bpd of the VAE's best epoch in a run of 80 epochs with `--recipe fast`."""
    return made(["vae_fast_80"], args, data)[0]
