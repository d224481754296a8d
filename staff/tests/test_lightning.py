"""Tests of the Lightning internals that `course.training` uses, and of the limits of Lightning's callbacks.

They fail if a version of Lightning changes these internals or makes our replacements unnecessary.
"""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.core import module
from pytorch_lightning.trainer.connectors.logger_connector.result import _Metadata, _ResultMetric
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from course.training.checkpoints import BestCheckpoint
from course.training.midepoch import add_sums, sum_up
from course.training.run import Run
from course.training.speed import log_faster, move_sums, read_signature


class Line(pl.LightningModule):
    """A model that learns the mean of x as its weight, and logs like the parts' models."""

    def __init__(self, values=(4.0, 3.0, 2.0, 1.0)):
        super().__init__()
        self.weight, self.values = torch.nn.Parameter(torch.zeros(())), list(values)

    def training_step(self, batch, batch_idx):
        x = batch[0]
        self.log_dict({"train/x": x.mean()}, on_step=False, on_epoch=True, batch_size=len(x))
        self.log_dict({"train/x_step": x.mean()}, on_step=True, on_epoch=False)
        return (self.weight - x.mean()) ** 2

    def validation_step(self, batch, batch_idx):
        self.log("val/x", torch.tensor(self.values[self.current_epoch]), batch_size=1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class LineOfIterator(Line):
    """A `Line` that fetches its own batches, so Lightning cannot know their size."""

    def training_step(self, dataloader_iter):
        return super().training_step(next(dataloader_iter)[0], 0)


BATCHES = [(torch.tensor([1.0]),), (torch.tensor([2.0, 3.0, 4.0]),), (torch.tensor([6.0, 8.0]),)]


def fit(callbacks, model=None, folder=None, **flags) -> pl.Trainer:
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    flags = {"max_epochs": 1, "enable_checkpointing": folder is not None, "default_root_dir": folder, **flags}
    trainer = pl.Trainer(num_sanity_val_steps=0, callbacks=callbacks, **quiet, **flags)
    loader = DataLoader(BATCHES, batch_size=None)
    trainer.fit(model or Line(), loader, DataLoader(BATCHES[:1], batch_size=None))
    return trainer


def test_the_sums_of_an_epoch_are_where_exact_resume_looks_for_them():
    """`trainer._results` stores for each key the sum over the examples and their number (cumulated_batch_size)."""
    seen = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            seen.append(sum_up(trainer))

    fit([Look()])
    assert seen == [{"training_step.train/x": sums} for sums in [(1.0, 1.0), (10.0, 4.0), (24.0, 6.0)]]


def test_sums_that_are_added_count_in_the_mean():
    """Pretend that four examples with the sum 40 were seen before the run was stopped."""

    class Add(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 0:
                add_sums(trainer, {"training_step.train/x": (40.0, 4.0)})

    assert fit([Add()]).callback_metrics["train/x"] == pytest.approx((40 + 24) / (4 + 6))


def test_lightning_moves_the_sums_at_each_log_and_log_faster_only_if_needed(monkeypatch):
    """If this test fails, `log_faster` is no longer needed or no longer has an effect."""
    moves = []
    monkeypatch.setattr(_ResultMetric, "to", lambda self, device: moves.append(device) or move_sums(self, device))
    plain = fit([]).callback_metrics
    assert len(moves) > 2 * len(BATCHES), "two values in each training step, and one in validation"
    moves.clear()
    monkeypatch.setattr("course.training.speed.move_sums", _ResultMetric.to)
    log_faster()
    assert fit([]).callback_metrics == plain and not moves
    metric = _ResultMetric(_Metadata("training_step", "x", on_epoch=True), is_tensor=True)
    assert metric.to(torch.device("meta")).value.is_meta and metric.cumulated_batch_size.is_meta and len(moves) == 1


def test_lightning_reads_a_signature_at_each_log_and_log_faster_once(monkeypatch):
    """If this test fails, `log_faster` is no longer needed or no longer has an effect."""
    reads = []

    def read(*args, **kwargs):
        reads.append(args)
        return read_signature(*args, **kwargs)

    monkeypatch.setattr(module, "is_param_in_hook_signature", read)
    plain = fit([]).callback_metrics
    assert len(reads) == 2 * len(BATCHES), "two values in each step"
    reads.clear()
    monkeypatch.setattr("course.training.speed.read_signature", read)
    monkeypatch.setattr(_ResultMetric, "to", move_sums)  # `log_faster` replaces it too
    log_faster()
    assert fit([]).callback_metrics == plain and len(reads) == 1
    with pytest.raises(MisconfigurationException, match="batch_size"):
        fit([], LineOfIterator())


def test_lightning_saves_no_sums_itself(tmp_path):
    trainer = fit([], folder=tmp_path)
    saved = trainer.strategy.load_checkpoint(next(tmp_path.rglob("*.ckpt")), weights_only=True)
    assert "_results" not in saved["loops"]["fit_loop"]["epoch_loop.state_dict"]


def test_lightnings_early_stopping_ends_a_run_with_nan_as_if_it_were_complete():
    trainer = fit([EarlyStopping("val/x", check_finite=True)], Line([float("nan")] * 3), max_epochs=3)
    assert trainer.current_epoch == 1 and trainer.state.status == "finished"


def best(folder, monitor="val/x") -> BestCheckpoint:
    return BestCheckpoint(Run(SimpleNamespace(), folder), monitor)


def test_the_best_value_is_kept_where_the_folder_was_moved(tmp_path):
    """Lightning's own callback would forget the value, and overwrite best.ckpt with a worse epoch."""
    (old, new) = (tmp_path / name for name in ("old", "new"))
    saved = {}
    for name, callback in {
        "ours": best(old),
        "lightning's": ModelCheckpoint(old / "checkpoints", "best", monitor="val/x", enable_version_counter=False),
    }.items():
        fit([callback], folder=tmp_path, max_epochs=2)
        saved[name] = callback.state_dict()
        assert callback.best_model_score == 3
    old.rename(new)
    ours = best(new)
    ours.load_state_dict(saved["ours"])
    assert ours.best_model_score == 3 and ours.best_model_path == str(new / "checkpoints" / "best.ckpt")
    assert ours.run.best == {"epoch": 2, "metric": "val/x", "value": 3}
    theirs = ModelCheckpoint(new / "checkpoints", "best", monitor="val/x", enable_version_counter=False)
    with pytest.warns(UserWarning, match="The dirpath has changed"):
        theirs.load_state_dict(saved["lightning's"])
    assert theirs.best_model_score is None, "Lightning keeps the score itself now: BestCheckpoint is not needed"


def test_a_copied_checkpoint_brings_no_best_file(tmp_path):
    callback = best(tmp_path / "old")
    fit([callback], folder=tmp_path, max_epochs=2)
    copied = best(tmp_path / "elsewhere")
    copied.load_state_dict(callback.state_dict())
    assert copied.best_model_score is None and copied.best_model_path == "" and not copied.run.best
