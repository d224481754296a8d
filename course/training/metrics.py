"""Average what the steps return over an epoch, and log it."""

import time

import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from course.training import board
from course.training.finite import stop_unless_finite
from course.training.intervals import BAR_EVERY_N_STEPS, is_logged
from course.training.run import Run


class Metrics(Callback):
    """Average what the steps return over an epoch, and write it: to TensorBoard, to the terminal, to `run.history`.

    Tags are `train/…`, `val/…` and `test/…`; `train/…_step` is the value of single steps. Means are over examples, of
    all processes. A module may have `derived_metrics(means) -> dict` for what follows from the means of an epoch, and
    `throughput`: what to count for the rate, and how many of it are in an example ("images", 1).
    """

    def __init__(self, run: Run):
        self.run = run
        self.train: dict[str, float | list[float]] = {}  # the means of the epoch that just ended
        self.val: dict[str, float | list[float]] = {}
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.clock, self.examples = 0.0, 0  # since when, and how many, for the rate
        self.charts_missing = run.is_new

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        sums, count = self._totals(trainer, pl_module)
        checkpoint.setdefault("run", {}).update(sums=sums, count=count)

    def on_load_checkpoint(self, trainer, pl_module, checkpoint):
        if trainer.is_global_zero:  # they are those of all processes
            self.sums, self.count = dict(checkpoint["run"]["sums"]), checkpoint["run"]["count"]

    def on_train_start(self, trainer, pl_module):  # a run resumed in mid-epoch has no epoch start
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer, pl_module):
        self.clock, self.examples = time.perf_counter(), 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        outputs = self._add({name: value for name, value in outputs.items() if name != "loss"}, batch)
        self.examples += len(batch[0]) * trainer.world_size
        if is_logged(trainer.fit_loop.epoch_loop.total_batch_idx):
            values = {f"train/{name}_step": float(value) for name, value in outputs.items() if value.ndim == 0}
            if not self.run.first_step:
                self.run.first_step.update(values)
            self._log(trainer, values)
        is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if self.run.args.progress_bar and (is_last or (batch_idx + 1) % BAR_EVERY_N_STEPS == 0):
            for name in pl_module.printed_metrics:
                if name in outputs:
                    # on the CPU, as Lightning looks at it after each batch from now on
                    pl_module.log(name, outputs[name].cpu(), prog_bar=True, logger=False)

    def on_validation_epoch_start(self, trainer, pl_module):
        self.train = self._means(trainer, pl_module, "train")  # validation comes before the end of the training epoch
        what, of_each = self._throughput(pl_module)
        self.train[f"train/{what}_per_second"] = self.examples * of_each / (time.perf_counter() - self.clock)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self._add(outputs, batch)

    def on_validation_epoch_end(self, trainer, pl_module):
        self.val = self._means(trainer, pl_module, "val")
        for name in pl_module.printed_metrics:
            if f"val/{name}" in self.val:
                stop_unless_finite(self.run, trainer, f"val/{name}", torch.tensor(self.val[f"val/{name}"]))
        # for callbacks that watch a metric, such as EarlyStopping
        scalars = {tag: value for tag, value in self.val.items() if not isinstance(value, list)}
        pl_module.log_dict(scalars, logger=False)

    def on_train_epoch_end(self, trainer, pl_module):
        epoch = trainer.current_epoch + 1
        row = {**self.train, **self.val, "train/lr": trainer.optimizers[0].param_groups[0]["lr"]}
        self.run.history.append({"epoch": epoch, **row})
        self._log(trainer, row)
        if trainer.loggers and (epoch == 1 or self.charts_missing):
            board.add_charts(trainer.logger.experiment, self.run.args.program, row)
            self.charts_missing = False
        shown = [
            f"{stage}/{name} {row[f'{stage}/{name}']:.4f}"
            for name in pl_module.printed_metrics
            for stage in ("train", "val")
            if f"{stage}/{name}" in row
        ]
        what, _ = self._throughput(pl_module)
        rate = f"{row[f'train/{what}_per_second']:.0f} {what}/s"
        line = "  ".join([f"epoch {epoch}/{trainer.max_epochs}", *shown, rate])
        if self.run.args.progress_bar:
            pl_module.print(line)  # above the bar
        elif trainer.is_global_zero:
            print(line, flush=True)

    @staticmethod
    def _throughput(pl_module) -> tuple[str, int]:
        return getattr(pl_module, "throughput", ("images", 1))

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self._add(outputs, batch)

    def on_test_epoch_end(self, trainer, pl_module):
        self.run.results.update(self._means(trainer, pl_module, "test"))
        self._log(trainer, self.run.results)

    def _add(self, outputs: dict[str, Tensor | float], batch) -> dict[str, Tensor]:
        """Add what a step returned, numbers or tensors, to the sums; return it as tensors without their graph."""
        size = len(batch[0])
        outputs = {name: torch.as_tensor(value).detach() for name, value in outputs.items()}
        for name, value in outputs.items():
            value = value.double() if value.device.type == "cpu" else value.float()
            self.sums[name] = self.sums.get(name, 0) + value * size
        self.count += size
        return outputs

    def _means(self, trainer, pl_module, stage: str) -> dict[str, float | list[float]]:
        sums, count = self._totals(trainer, pl_module)
        means = {name: total / count for name, total in sums.items()}
        self.sums, self.count = {}, 0
        if hasattr(pl_module, "derived_metrics"):
            means.update(pl_module.derived_metrics(means))
        return {f"{stage}/{name}": value.tolist() for name, value in means.items()}

    def _totals(self, trainer, pl_module) -> tuple[dict[str, Tensor], float]:
        """The sums and the count of all processes together, on the CPU."""

        def total(value: Tensor) -> Tensor:
            return trainer.strategy.reduce(value.to(pl_module.device), reduce_op="sum").cpu()

        sums = {name: total(value) for name, value in self.sums.items()}
        return sums, total(torch.tensor(float(self.count))).item()

    def _log(self, trainer, values: dict) -> None:
        """Numbers as scalars, lists as histograms, at the number of steps done."""
        if not trainer.loggers:
            return
        step = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        trainer.logger.log_metrics({tag: value for tag, value in values.items() if not isinstance(value, list)}, step)
        for tag, value in values.items():
            if isinstance(value, list):
                trainer.logger.experiment.add_histogram(tag, torch.tensor(value), step)
