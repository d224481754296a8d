"""The progress bar."""

from collections.abc import Sequence

from pytorch_lightning.callbacks import TQDMProgressBar


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar with the metrics of the latest step, epochs counted from 1, and no version number.

    Args:
        shown: names of metrics, without train/.
    """

    def __init__(self, shown: Sequence[str]):
        super().__init__(refresh_rate=10)
        self.shown = shown

    def on_train_epoch_start(self, trainer, pl_module):
        super().on_train_epoch_start(trainer, pl_module)
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}")

    def get_metrics(self, trainer, pl_module):
        values = trainer.callback_metrics
        return {name: float(values[f"train/{name}_step"]) for name in self.shown if f"train/{name}_step" in values}
