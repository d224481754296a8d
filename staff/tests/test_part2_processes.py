"""Tests of part 2 with other reconstruction losses and with several processes."""

import os
import subprocess
import sys

import pytest
from part2_cases import summary

from small_runs import REPOSITORY

# --- reconstructions --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("flags", [pytest.param([], marks=pytest.mark.slow), ["--reconstruction", "msge"]])
def test_reconstructions_train(aae, flags, tmp_path):
    flags = ["--num_filters", "4", "--limit_batches", "25", "--z_dim", "6", "--lr", "0.003", *flags]
    assert aae("--epochs", "1", *flags) == 0
    assert aae("--epochs", "2", "--resume", "last", *flags) == 0
    history = summary(aae.run())["history"]
    assert history[1]["train/recon_loss"] < history[0]["train/recon_loss"]
    assert ("val/mse" in history[0]) == ("msge" in flags)


# --- several processes -----------------------------------------------------------------------------------------------


SAME_WEIGHTS = """
import sys
sys.path.insert(0, {repository!r})
import torch
from part2_aae import train

class Check(train.Figures):
    def on_train_batch_end(self, trainer, pl_module, *_):
        weights = torch.cat([p.detach().flatten() for p in pl_module.parameters()])
        everyones = pl_module.all_gather(weights)
        assert len(everyones) == 2 and torch.equal(everyones[0], everyones[1]), "the processes have drifted apart"
        print("agreed" if trainer.is_global_zero else "", flush=True)

train.Figures = Check
sys.exit(train.main())
"""


@pytest.mark.slow
def test_two_processes_have_the_same_weights(aae, tmp_path):
    """Both optimizers average the gradients of the processes, which see different images and noise."""
    (tmp_path / "script.py").write_text(SAME_WEIGHTS.format(repository=str(REPOSITORY)))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), *aae.flags(), "--epochs", "1", "--devices", "2", "--d_lr", "0.1"],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agreed") == 6


@pytest.mark.slow
@pytest.mark.parametrize("lambda_", ["0.99", "1"])
def test_two_processes_train_to_the_figures_of_one(aae, tmp_path, lambda_):
    """With half the batch each, two processes compute the same in expectation, with different noise and data order."""
    common = ["--num_filters", "8", "--z_dim", "8", "--epochs", "2", "--limit_batches", "200", "--lambda_", lambda_]
    ends = {}
    for name, flags in {"one": ["--batch_size", "32"], "two": ["--batch_size", "16", "--devices", "2"]}.items():
        process = aae.start(*common, *flags, log_dir=tmp_path / name)
        out, err = process.communicate(timeout=500)
        assert process.returncode == 0, err
        assert out.count("epoch 2/2") == 1, "only the first process prints"
        ends[name] = summary(aae.run(tmp_path / name))
    assert ends["two"]["machine"]["processes"] == 2
    one, two = (ends[name]["results"] for name in ("one", "two"))
    assert one["test/recon_loss"] < 0.2 and abs(one["test/recon_loss"] - two["test/recon_loss"]) < 0.02, (one, two)
    if lambda_ != "1":
        assert abs(one["test/accuracy"] - two["test/accuracy"]) < 0.15, "the discriminator is trained in both"
    process = aae.start(
        *common, "--batch_size", "16", "--devices", "2", "--epochs", "3", "--resume", "last", log_dir=tmp_path / "two"
    )
    _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    longer = summary(aae.run(tmp_path / "two"))
    assert longer["history"][:2] == ends["two"]["history"] and len(longer["history"]) == 3
    assert longer["results"]["test/recon_loss"] < two["test/recon_loss"]
