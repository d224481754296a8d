"""Helpers for `bench.gpu`: sizes of the measurements, measurements that may fail, and tables."""

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.record import Table
from part3_gpt.gpt import GPTConfig

VAE_EPOCHS = 80
NO_DROPOUT = {"embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0}


@dataclass(frozen=True)
class Scale:
    """The sizes of the measurements.

    Args:
        flags: flags for train.py in parts 1 and 2; `gpt_flags`: in part 3.
        epochs: number of epochs in the VAE's full run; the other runs have `few`.
        batches: batches per epoch of the bare loops; None means all.
        config, batch, steps: the GPT, the number of sequences per step, and the number of timed steps.
        rows, prompt, new: texts per batch, prompt tokens and new tokens when generating.
    """

    device: torch.device
    flags: tuple[str, ...]
    gpt_flags: tuple[str, ...]
    epochs: int
    few: int
    batches: int | None
    config: GPTConfig
    batch: int
    steps: int
    rows: tuple[int, ...]
    prompt: int
    new: int


def whole() -> Scale:
    """Return the sizes of the full benchmark, with smaller batches of text for a GPU with at most 60 GB."""
    batch = 32 if torch.cuda.get_device_properties(0).total_memory > 60e9 else 8
    gpt_flags = ("--model_type=gpt2", "--block_size=1024", f"--batch_size={batch}", "--lr=3e-4")
    config = GPTConfig("gpt2", vocab_size=50257, block_size=1024, tie_weights=True, **NO_DROPOUT)
    sizes = {"epochs": VAE_EPOCHS, "few": 5, "batches": None, "config": config, "batch": batch, "steps": 20}
    texts = {"rows": (1, 8, 64), "prompt": 64, "new": 128}
    return Scale(torch.device("cuda"), ("--accelerator=gpu",), gpt_flags, **sizes, **texts)


def quick(batches: int) -> Scale:
    """Return the sizes for a quick check: `batches` batches of tiny networks, on a GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    flags = ("--accelerator=auto", f"--limit_batches={batches}", "--num_filters=2", "--z_dim=2")
    gpt_flags = ("--model_type=gpt-nano", "--block_size=16", "--batch_size=4", f"--limit_batches={batches}")
    config = GPTConfig("gpt-nano", vocab_size=103, block_size=32, tie_weights=True, **NO_DROPOUT)
    sizes = {"epochs": 3, "few": 2, "batches": batches, "config": config, "batch": 2, "steps": batches}
    return Scale(device, flags, gpt_flags, **sizes, rows=(1, 2), prompt=4, new=max(batches, 2))


@dataclass(frozen=True)
class Timed:
    """A run of train.py: seconds per epoch (median, excluding the first epoch), total seconds, and epochs completed."""

    epoch: float
    whole: float
    epochs: int

    def of(self, epochs: int) -> float:
        """Estimate the seconds for a run of `epochs` epochs: this run's time plus that of the missing epochs."""
        return self.whole + (epochs - self.epochs) * self.epoch


class Attempts:
    """Runs measurements until the time is up. An error replaces the result and does not stop the other measurements."""

    def __init__(self, seconds: float):
        self.end = time.perf_counter() + seconds

    def left(self) -> float:
        """Return the seconds that a run of train.py may take: at most 200, ending at most 60 s after the time is up."""
        return min(200, self.end - time.perf_counter() + 60)

    def __call__(self, what: str, measure: Callable, *args):
        """Return the result of `measure(*args)`, or a sentence that says why there is none."""
        if time.perf_counter() > self.end:
            result = "skipped: the time was up"
        else:
            try:
                result = measure(*args)
            except Exception as error:
                result = f"failed: {(str(error).strip().splitlines() or [type(error).__name__])[0][:200]}"
        if torch.cuda.is_initialized():  # runs of train.py share the GPU with this process
            gc.collect()
            torch.cuda.empty_cache()
        shown = result if isinstance(result, str | float | Timed) else "done"
        print(f"{time.strftime('%H:%M:%S')} {what}: {shown}", file=sys.stderr, flush=True)
        return result


def is_number(value) -> bool:
    return isinstance(value, float)


def ratio(one: float | str, other: float | str) -> float | str:
    return one / other if is_number(one) and is_number(other) else "not known"


def table(title: str, rows: list[tuple[str, float | str, str]]) -> Table:
    """Tabulate rows of (quantity, value obtained, goal)."""
    cells = []
    for what, value, goal in rows:
        shown = (f"{value:,.0f}" if value >= 1000 else f"{value:.3g}") if is_number(value) else value.replace("|", "/")
        cells.append([what, shown, goal])
    return Table([title, "obtained", "goal"], cells)
