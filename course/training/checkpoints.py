"""Write best.ckpt and last.ckpt with Lightning's ModelCheckpoint; files are written atomically."""

import io
from pathlib import Path

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from course.files import write_whole
from course.training.run import Run


class LastCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that writes last.ckpt after each epoch."""

    def __init__(self, run: Run):
        super().__init__(run.folder and run.folder / "checkpoints", filename="last", enable_version_counter=False)
        self.run = run

    def on_train_epoch_end(self, trainer, pl_module):
        self.run.check_folder()
        super().on_train_epoch_end(trainer, pl_module)

    def load_state_dict(self, state: dict) -> None:
        """Ignore the state: it contains file paths, and the folder may have been moved."""


class BestCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that writes best.ckpt when the monitored metric reaches a new minimum.

    Lightning's class forgets the best value if the run's folder has been moved, and mistakes another run's file for
    its own if a copied checkpoint is resumed.

    Args:
        monitor: a metric that the module logs, such as "val/bpd".
    """

    def __init__(self, run: Run, monitor: str):
        folder = run.folder and run.folder / "checkpoints"
        super().__init__(folder, filename="best", monitor=monitor, enable_version_counter=False)
        self.run = run

    def setup(self, trainer, pl_module, stage):
        self.run.folder = trainer.strategy.broadcast(self.run.folder)  # known only to the first process
        super().setup(trainer, pl_module, stage)

    def on_train_epoch_end(self, trainer, pl_module):
        self.run.check_folder()
        super().on_train_epoch_end(trainer, pl_module)

    def check_monitor_top_k(self, trainer, current=None):
        better = super().check_monitor_top_k(trainer, current)
        if better:
            self.run.best.update(epoch=trainer.current_epoch + 1, metric=self.monitor, value=float(current))
        return better

    def state_dict(self) -> dict:
        return {**super().state_dict(), "best": self.run.best}

    def load_state_dict(self, state: dict) -> None:
        best = Path(self.dirpath) / f"{self.filename}.ckpt"
        if not best.exists():  # a copied checkpoint is being resumed in a new folder
            return
        moved = {"dirpath": self.dirpath, "best_model_path": str(best), "kth_best_model_path": str(best)}
        super().load_state_dict({**state, **moved, "best_k_models": {str(best): state["best_model_score"]}})
        self.run.best.update(state["best"])


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints atomically.

    Lightning first writes to the folder for temporary files. If that is on another disk, as /tmp is on most clusters,
    moving the file means copying it, and a program killed at that moment leaves an incomplete checkpoint.
    """

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        Path(path).parent.mkdir(exist_ok=True)  # fails if the run's folder was deleted
        write_whole(path, buffer.getvalue())  # not getbuffer(): if a traceback keeps it alive, Python 3.12.1 crashes
