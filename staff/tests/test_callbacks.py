"""Tests that each callback can be left out: the run finishes, and only the output of that callback is missing."""

import json

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.trainer import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from course.training.extras import extras
from part1_vae.mnist import mnist
from part1_vae.options import parse_args
from part1_vae.train import VAE

OUTPUT = {  # callback -> its output, which a run without the callback lacks: files and entries in summary.json
    "Reproducible": set(),
    "StopOnNaN": set(),
    "LatentUse": {"results test/kl_per_dim", "results test/active_dims"},
    "ImportanceWeightedBound": set(),
    "History": {"figures/bpd_curve.png", "history", "first_step", "best epoch's row"},
    "Figures": {"figures/bpd_curve.png", *(f"figures/{name}_epoch_{at:03d}.png" for name in
                ("samples", "reconstructions", "manifold") for at in (0, 1))},
    "BestCheckpoint": {"checkpoints/best.ckpt", "best"},
    "LastCheckpoint": {"checkpoints/last.ckpt"},
    "ExactResume": {"training_seconds"},
    "FusedOptimizers": set(),
}  # fmt: skip


def left_out(monkeypatch, name: str) -> None:
    def trainer(**flags):
        callbacks = [each for each in flags["callbacks"] if type(each).__name__ != name]
        assert len(callbacks) == len(flags["callbacks"]) - 1, f"{name} is not in the list"
        return Trainer(**{**flags, "callbacks": callbacks})

    monkeypatch.setattr(pl, "Trainer", trainer)


def outputs(run) -> set[str]:
    """Return the files in a run's folder and the entries in its summary."""
    summary = json.loads((run / "summary.json").read_text())
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    found = {file for file in files if file.startswith(("figures/", "checkpoints/")) and "epoch=" not in file}
    found |= {name for name in ("history", "first_step", "best") if summary[name]}
    found |= {f"results {tag}" for tag in summary["results"]}
    return found | ({"training_seconds"} if summary["training_seconds"] else set())


@pytest.mark.parametrize("name", [None, *OUTPUT])
def test_a_run_without_one_callback(vae, monkeypatch, name):
    if name:
        left_out(monkeypatch, name)
    assert vae("--epochs", "1", "--limit_batches", "3") == 0
    whole = set().union(*OUTPUT.values()) - {"best epoch's row"}
    whole |= {f"results test/{name}" for name in ("bpd", "reconstruction", "regularization")}
    assert outputs(vae.run()) == whole - OUTPUT.get(name, set())


def test_all_callbacks_of_the_assignments_run_are_tried(vae, monkeypatch):
    seen = []
    monkeypatch.setattr(pl, "Trainer", lambda **flags: seen.extend(flags["callbacks"]) or Trainer(**flags))
    assert vae("--epochs", "1", "--limit_batches", "1") == 0
    assert {type(each).__name__ for each in seen} == set(OUTPUT)


@pytest.mark.parametrize(
    "flags, name",
    [
        (["--channels_last"], "ChannelsLast"),
        (["--recipe", "fast"], "Fast"),
        (["--compile"], "Compile"),
        (["--progress_bar"], "ProgressBar"),
        (["--devices", "2"], "TrainsSomething"),
    ],
)
def test_a_flag_adds_its_callback(flags, name):
    added, usual = (extras(parse_args([*words, "--accelerator", "cpu"]), (), ["bpd"]) for words in (flags, []))
    assert [type(each).__name__ for each in added] == [*(type(each).__name__ for each in usual), name]


def test_a_gpu_adds_its_callback(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    for accelerator, added in {"auto": True, "gpu": True, "cpu": False}.items():
        args = parse_args(["--accelerator", "cpu"])
        args.accelerator = accelerator
        assert ("DataOnDevice" in [type(each).__name__ for each in extras(args, (), ["bpd"])]) == added


def test_a_trainer_of_ones_own(tmp_path, mnist_files):
    """Train with a Trainer as in Lightning's documentation, without any of our callbacks."""
    train, val, test = mnist(mnist_files, batch_size=16)
    limits = {f"limit_{stage}_batches": 2 for stage in ("train", "val", "test")}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    where = {"accelerator": "cpu", "default_root_dir": tmp_path}
    trainer = pl.Trainer(max_epochs=1, log_every_n_steps=1, **where, **limits, **quiet)
    trainer.fit(VAE(num_filters=2, z_dim=3), train, val)
    [scores] = trainer.test(dataloaders=test, verbose=False)
    assert set(scores) == {f"test/{name}" for name in ("bpd", "reconstruction", "regularization")}
    tags = EventAccumulator(trainer.logger.log_dir).Reload().Tags()["scalars"]
    assert {"train/bpd", "train/bpd_step", "val/bpd", "test/bpd"} <= set(tags)


def test_load_from_checkpoint(vae):
    """Load a trained model with Lightning's own method."""
    path = vae.finished(1) / "checkpoints" / "best.ckpt"
    model = VAE.load_from_checkpoint(path, weights_only=True)
    assert (model.hparams.num_filters, model.hparams.z_dim) == (2, 2)
    stored = torch.load(path, weights_only=True)["state_dict"]
    assert stored.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, stored[name]), name
