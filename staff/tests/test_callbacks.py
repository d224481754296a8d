"""Each callback can be left out: training, testing and figures finish, and its output alone is missing."""

import json

import pytest
import pytorch_lightning as pl
from pytorch_lightning.trainer.trainer import Trainer

OUTPUT = {  # callback -> what a run lacks without it: files of its folder, and entries of summary.json
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
    "DataOnDevice": set(),
}  # fmt: skip


def left_out(monkeypatch, name: str) -> None:
    def trainer(**flags):
        callbacks = [each for each in flags["callbacks"] if type(each).__name__ != name]
        assert len(callbacks) == len(flags["callbacks"]) - 1, f"{name} is not in the list"
        return Trainer(**{**flags, "callbacks": callbacks})

    monkeypatch.setattr(pl, "Trainer", trainer)


def outputs(run) -> set[str]:
    """The files of a run's folder, and what is in its summary."""
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
