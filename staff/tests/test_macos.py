"""Tests for macOS that run on other systems: spawned workers, and a stand-in for MPS."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from course.data import EpochLoader
from course.machine import check_machine
from course.training import exact
from course.training.midepoch import sum_up
from course.training.on_device import DataOnDevice
from course.training.speed import FusedOptimizers
from part1_vae.options import parse_args
from part3_gpt import options as gpt_options
from small_runs import PARTS, REPOSITORY

MPS = torch.device("mps")
SPAWN = "import multiprocessing\nmultiprocessing.set_start_method('spawn', force=True)\n"


@pytest.fixture
def mac(monkeypatch):
    """Make PyTorch report that MPS is available."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def trainer() -> SimpleNamespace:
    model = torch.nn.Linear(2, 2)
    optimizers = [torch.optim.Adam(model.parameters()), torch.optim.SGD(model.parameters(), lr=0.1)]
    strategy = SimpleNamespace(root_device=MPS, reduce=lambda value, reduce_op: value)
    return SimpleNamespace(strategy=strategy, optimizers=optimizers, global_rank=0, current_epoch=0, world_size=1)


# --- spawn, the start method of macOS and Windows ---------------------------------------------------------------------


@pytest.mark.slow
def test_spawned_workers_load_the_same_batches(program, tmp_path):
    """A spawned worker imports train.py again and receives a pickled dataset."""
    (tmp_path / "sitecustomize.py").write_text(SPAWN)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    rows = []
    for workers, python in (("0", {"PYTHONPATH": ""}), ("1", {})):
        logs = tmp_path / workers
        command = [sys.executable, REPOSITORY / PARTS[program.name] / "train.py", *program.flags(logs)]
        command += ["--epochs", "1", "--num_workers", workers]
        done = subprocess.run(
            command, cwd=REPOSITORY, env={**environment, **python}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        (row,) = json.loads((program.run(logs) / "summary.json").read_text())["history"]
        rows.append({name: value for name, value in row.items() if not name.endswith("_per_second")})
    assert rows[0] == rows[1]


def test_the_start_method_is_spawn(tmp_path):
    """Check that the test above really uses spawned workers."""
    (tmp_path / "sitecustomize.py").write_text(SPAWN)
    code = "import multiprocessing; print(multiprocessing.get_start_method())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "spawn\n"


# --- MPS --------------------------------------------------------------------------------------------------------------


def test_the_flags_know_mps(mac, capsys):
    assert parse_args(["--accelerator", "mps", "--fast_dev_run"]).accelerator == "mps"
    assert gpt_options.parse_args(["--accelerator", "mps", "--fast_dev_run"]).accelerator == "mps"
    with pytest.raises(SystemExit):
        parse_args(["--accelerator", "mps", "--devices", "2"])
    assert "this machine has 1 MPS devices" in capsys.readouterr().err
    args = SimpleNamespace(accelerator="auto", precision="16-mixed", devices=1)
    check_machine(SimpleNamespace(error=pytest.fail), args)  # "auto" selects MPS, which supports half precision


def test_a_mac_without_mps_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        parse_args(["--accelerator", "mps"])
    assert "--accelerator mps: PyTorch finds no such hardware" in capsys.readouterr().err


def test_optimizers_are_not_fused(trainer):
    FusedOptimizers().on_fit_start(trainer, None)
    assert not [group for each in trainer.optimizers for group in each.param_groups if group.get("fused")]
    trainer.strategy.root_device = torch.device("cpu")
    FusedOptimizers().on_fit_start(trainer, None)
    assert all(group["fused"] for each in trainer.optimizers for group in each.param_groups)


def test_the_noise_of_the_device_is_seeded(trainer, monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.mps, "manual_seed", seeds.append)
    exact.Reproducible(seed=1).on_train_batch_start(trainer, None, None, 0)
    exact.Reproducible(seed=1).on_train_batch_start(trainer, None, None, 1)
    first, second = seeds
    assert first != second and torch.default_generator.initial_seed() == second


class OnMPS:
    """A number on MPS that refuses float64, like PyTorch's tensors on MPS."""

    device = MPS

    def __init__(self, value: float):
        self.value = value

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")

    def item(self) -> float:
        return self.value


def test_a_run_is_stopped_within_an_epoch_without_float64(trainer):
    metric = SimpleNamespace(meta=SimpleNamespace(on_epoch=True), value=OnMPS(1.5), cumulated_batch_size=OnMPS(6))
    trainer._results = SimpleNamespace(valid_items=lambda: [("train/bpd", metric)])
    assert sum_up(trainer) == {"train/bpd": (1.5, 6)}


def test_the_data_is_moved_to_the_device(trainer):
    moved = []
    dataset = SimpleNamespace(to=moved.append)
    loader, with_workers = EpochLoader(dataset), EpochLoader(dataset, num_workers=2)
    DataOnDevice((loader, with_workers)).setup(trainer, None, "fit")
    assert moved == [MPS] and with_workers.source is None
    assert with_workers.pin_memory is False, "memory is pinned for CUDA only"
