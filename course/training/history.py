"""The metrics of each epoch: a row in summary.json and a line in the terminal."""

import time
from collections.abc import Sequence

import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from course.training.run import Run


class History(Callback):
    """Collects the metrics that a module logs with `self.log`: one row in `run.history` and a printed line per epoch.

    Also logs values that Lightning omits: the first step, the learning rate, and units (such as images) per second.

    Args:
        shown: names of the metrics in the printed line, without train/ or val/.
        unit, per_example: the unit of the throughput, and the number of units per example.
    """

    def __init__(self, run: Run, shown: Sequence[str], unit: str = "images", per_example: int = 1):
        self.run, self.shown, self.unit, self.per_example = run, shown, unit, per_example
        self.clock, self.examples = 0.0, 0  # the start time, and the number of examples since then
        self.rate = 0.0
        self.epoch_ended: int | None = None  # the step at which the epoch ended; None once the next epoch has begun
        self.charts_missing = run.is_new

    def state_dict(self) -> dict:
        return {"history": self.run.history, "first_step": self.run.first_step, "epoch_ended": self.epoch_ended}

    def load_state_dict(self, state: dict) -> None:
        self.run.history[:] = state["history"]
        self.run.first_step.update(state["first_step"])
        self.epoch_ended = state["epoch_ended"]

    def on_fit_start(self, trainer, pl_module):
        if trainer.logger and self.epoch_ended is not None and not self.run.is_new:
            # Lightning logs an epoch's training means after saving its checkpoint, so they were cut from the event file
            row = {tag: value for tag, value in self.run.history[-1].items() if tag.startswith("train/")}
            trainer.logger.log_metrics(row, self.epoch_ended)

    def on_train_start(self, trainer, pl_module):
        self.on_train_epoch_start(trainer, pl_module)  # Lightning does not call it for a resumed epoch

    def on_train_epoch_start(self, trainer, pl_module):
        self.clock, self.examples = time.perf_counter(), 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.examples += len(batch[0]) * trainer.world_size
        self.epoch_ended = None
        if not self.run.first_step:
            values = trainer.callback_metrics.items()
            self.run.first_step.update({tag: float(value) for tag, value in values if tag.endswith("_step")})
            if trainer.logger and trainer.log_every_n_steps > 1:  # with 1, Lightning itself logs the first step
                trainer.logger.log_metrics(self.run.first_step, 0)

    def on_validation_start(self, trainer, pl_module):  # called before the end of the training epoch
        self.rate = self.examples * self.per_example / (time.perf_counter() - self.clock)

    def on_train_epoch_end(self, trainer, pl_module):
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        own = {"train/lr": lr, f"train/{self.unit}_per_second": self.rate}
        pl_module.log_dict(own, rank_zero_only=True)
        values = {tag: float(value) for tag, value in trainer.callback_metrics.items() if not tag.endswith("_step")}
        row = {tag: values[tag] for stage in ("train/", "val/") for tag in values if tag.startswith(stage)} | own
        row |= {tag: value for tag, value in self.run.vectors.items() if tag.startswith("val/")}
        epoch, self.epoch_ended = trainer.current_epoch + 1, trainer.fit_loop.epoch_loop.total_batch_idx
        self.run.history.append({"epoch": epoch, **row})
        if trainer.logger and (epoch == 1 or self.charts_missing):
            from course.training.board import add_charts

            add_charts(trainer.logger.experiment, self.run.args.program, row)
            self.charts_missing = False
        self._print(trainer, pl_module, row)

    def _print(self, trainer, pl_module, row: dict) -> None:
        tags = [f"{stage}/{name}" for name in self.shown for stage in ("train", "val")]
        shown = [f"{tag} {row[tag]:.4f}" for tag in tags if tag in row]
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        line = "  ".join([epoch, *shown, f"{self.rate:.0f} {self.unit}/s"])
        if self.run.args.progress_bar:
            pl_module.print(line)  # above the progress bar
        elif trainer.is_global_zero:
            print(line, flush=True)


def record_vector(run: Run, trainer, tag: str, values: Tensor) -> None:
    """Record a vector, which `self.log` does not support, as a list in the epoch's row and as a histogram.

    Args:
        values: [D], such as the KL divergence of each latent dimension.
    """
    run.vectors[tag] = values.tolist()
    if trainer.logger:
        step = trainer.fit_loop.epoch_loop.total_batch_idx
        trainer.logger.experiment.add_histogram(tag, torch.as_tensor(run.vectors[tag]), step)
