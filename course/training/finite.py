"""Stop a run whose loss is no longer finite."""

import math

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from course.training.run import Run

EVERY_N_STEPS = 50  # on a GPU, where reading a value must wait for all earlier operations


class StopOnNaN(Callback):
    """Ends the run with an error if the loss is no longer finite, before a checkpoint is affected.

    Lightning's EarlyStopping(check_finite=True) ends a run as if it were complete, and checks only once per epoch.
    """

    def __init__(self, run: Run):
        self.run, self.total = run, torch.zeros(())

    def on_before_backward(self, trainer, pl_module, loss):
        # a sum with one NaN or infinity never becomes finite again, so occasional checks are enough on a GPU
        self.total = self.total.to(loss.device) + loss.detach()
        if loss.device.type == "cpu" or trainer.global_step % EVERY_N_STEPS == 0:
            stop_unless_finite(self.run, trainer, "the loss", self.total)

    def on_validation_start(self, trainer, pl_module):
        stop_unless_finite(self.run, trainer, "the loss", self.total)
        self.total = torch.zeros(())

    def on_validation_epoch_end(self, trainer, pl_module):
        for tag, value in trainer.callback_metrics.items():
            if tag.startswith("val/"):
                stop_unless_finite(self.run, trainer, tag, value)


def stop_unless_finite(run: Run, trainer: pl.Trainer, what: str, value: Tensor) -> None:
    """End the run, with a message that names `what`, if `value` has a non-finite element in any process."""
    finite = bool(torch.isfinite(value).all()) if value.dim() else math.isfinite(value)  # math is faster for a scalar
    if trainer.world_size > 1:
        finite = trainer.strategy.reduce_boolean_decision(finite)
    if not finite:
        from course.training.explain import not_finite

        raise not_finite(what, run, trainer)
