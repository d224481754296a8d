"""Tests of whole runs on the CPU and, if there is one, on a GPU."""

import signal

import pytest
import pytorch_lightning as pl
import torch
from gpu_cases import CPU

from course.data import EpochLoader
from course.training.exact import ExactResume
from course.training.on_device import BatchesOnDevice
from small_runs import with_callback

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


# --- whole runs on the CPU and, if there is one, on a GPU -------------------------------------------------------------


class Losses(pl.Callback):
    """A callback that records the loss of each step, and stops the run as a signal would after batch `stop_after`."""

    def __init__(self, stop_after: int | None = None):
        self.stop_after, self.seen = stop_after, []

    def on_before_backward(self, trainer, pl_module, loss):
        self.seen.append(loss.item())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx + 1 == self.stop_after:
            [stopping] = [each for each in trainer.callbacks if isinstance(each, ExactResume)]
            stopping.signum = signal.SIGTERM


@pytest.fixture
def run(program, monkeypatch, tmp_path):
    """Return a function: run(folder, callback, *flags) runs the program with one extra callback -> exit status."""

    def start(folder: str, callback: pl.Callback, *flags: str) -> int:
        monkeypatch.setattr(pl, "Trainer", with_callback(callback))
        return program("--epochs", "1", *flags, log_dir=tmp_path / folder)

    return start


def whole_and_interrupted(run, program, folder, *flags: str) -> tuple[list[float], list[float]]:
    """Return the losses of a run, and those of the same run when stopped in the middle of an epoch and resumed."""
    whole, first, second = Losses(), Losses(stop_after=3), Losses()
    assert run("whole", whole, *flags) == 0
    assert run("parts", first, *flags) == 128 + signal.SIGTERM
    assert run("parts", second, *flags, "--resume", str(program.run(folder / "parts"))) == 0
    assert first.seen and second.seen
    return whole.seen, first.seen + second.seen


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    "program", ["vae", *(pytest.param(name, marks=pytest.mark.slow) for name in ("aae", "gpt"))], indirect=True
)
def test_data_that_were_moved_change_nothing(run, program, tmp_path, monkeypatch, one_thread):
    usual = Losses()
    assert run("usual", usual) == 0
    monkeypatch.setattr(EpochLoader, "source", property(lambda self: BatchesOnDevice(self, CPU)))
    whole, parts = whole_and_interrupted(run, program, tmp_path)
    assert len(usual.seen) == (12 if program.name == "aae" else 6)
    assert whole == parts == usual.seen


@pytest.fixture
def exact(monkeypatch):
    """Use full float32 products without TF32, as on the CPU, and the same noise on all devices."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda precision: None)
    monkeypatch.setattr(torch, "randn_like", lambda tensor: torch.randn(tensor.shape).to(tensor))


@on_a_gpu
def test_the_losses_of_a_gpu_are_those_of_the_cpu(run, exact):
    """The losses agree to 1e-4 over 20 steps; only the order of summation differs."""
    cpu, gpu = Losses(), Losses()
    for callback, accelerator in ((cpu, "cpu"), (gpu, "gpu")):
        assert run(accelerator, callback, "--limit_batches", "20", "--accelerator", accelerator) == 0
    torch.testing.assert_close(gpu.seen, cpu.seen, rtol=1e-4, atol=1e-4)


@on_a_gpu
def test_a_run_on_a_gpu_goes_on_in_the_middle_of_an_epoch(run, program, tmp_path, exact):
    whole, parts = whole_and_interrupted(run, program, tmp_path, "--accelerator", "gpu")
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)  # some sums on a GPU have no fixed order


class Synchronizations(pl.Callback):
    """A callback that fails if anything waits for the GPU during three steps between two progress bar updates."""

    seen = False

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        assert {tensor.device.type for tensor in batch} == {"cuda"}
        if batch_idx in (11, 14):
            self.seen = batch_idx == 14
            torch.cuda.set_sync_debug_mode("default" if self.seen else "error")


@on_a_gpu
@pytest.mark.parametrize("flags", [[], ["--precision", "bf16-mixed"], ["--progress_bar"]])
def test_no_step_waits_for_a_gpu(run, program, flags):
    flags = [*flags, "--generate_every_n_steps", "0"] if program.name == "gpt" else flags
    watch = Synchronizations()
    try:
        assert run("gpu", watch, "--limit_batches", "16", "--accelerator", "gpu", *flags) == 0
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert watch.seen


@pytest.mark.slow
@on_a_gpu
def test_compiled_on_a_gpu(run):
    """CUDA graphs draw different noise, so only the average losses are compared."""
    eager, compiled = Losses(), Losses()
    for callback, flags in ((eager, []), (compiled, ["--compile"])):
        assert (
            run(flags[0] if flags else "eager", callback, "--limit_batches", "60", "--accelerator", "gpu", *flags) == 0
        )
    last = [sum(each.seen[-20:]) / 20 for each in (eager, compiled)]
    assert last[1] == pytest.approx(last[0], rel=0.1)
