"""Several processes: they resume the same run, load data after a signal, and evaluate each example once."""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from course import data
from course.training import resuming
from course.training.problems import Problem

# --- one run is resumed -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_pictures")
def test_the_first_process_decides_what_last_is(vae, monkeypatch):
    """A run that becomes the newest before the other processes start is not mixed with the first one's."""
    run = vae.finished(1)
    flags = [*vae.flags(), "--resume", "last", "--epochs", "2"]
    first = vae.train.parse_args(flags)
    inherited = os.environ["DGM_RESUMED"]
    other = shutil.copytree(run, run.with_name("version_1")) / "checkpoints" / "last.ckpt"
    os.utime(other, (2**32, 2**32))
    assert vae.train.parse_args(flags).resume == other, "a new command takes the newest"
    monkeypatch.setenv("DGM_RESUMED", inherited)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert vae.train.parse_args(flags).resume == first.resume


def test_processes_that_found_different_checkpoints():
    """As those of a cluster may, each of which looks for itself."""

    def check(step: int, first_step: int) -> None:
        checkpoint = {"global_step": step, "run": {"events": {"events.out.tfevents.1.host.1.0": 10}}}
        first = (first_step, checkpoint["run"]["events"])
        strategy = SimpleNamespace(broadcast=lambda mine: first, reduce_boolean_decision=lambda same: same)
        resuming.check_agreement(SimpleNamespace(strategy=strategy), SimpleNamespace(checkpoint=checkpoint))

    check(6, 6)
    with pytest.raises(Problem, match="--resume: the processes found different checkpoints"):
        check(6, 12)


# --- a signal to all processes of a job -------------------------------------------------------------------------------


def test_loading_goes_on_after_a_signal():
    """The run stops at the end of a batch, so it still needs what the workers load; it then ends them itself."""
    images = torch.arange(40, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_fetch", lambda *_: Path())
        patch.setattr(data, "_split", lambda *_: ((images, torch.zeros(40)),) * 3)
        train, _, _ = data.loaders("mnist", torch.Tensor.float, batch_size=4, num_workers=1)
    batches = iter(train)
    next(batches)
    [worker] = train._iterator._workers
    for signum in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, signum)
    assert len(list(batches)) == 9
    assert worker.is_alive()
    worker.terminate()  # as DataLoader does if a worker does not answer
    with suppress(RuntimeError):  # PyTorch's handler raises it where the test is when a worker ends
        worker.join(timeout=60)
    worker.join(timeout=60)
    assert not worker.is_alive()


@pytest.mark.slow
@pytest.mark.parametrize("program", ["vae", "gpt"], indirect=True)
def test_a_signal_to_all_processes_of_a_run(program):
    process = program.start("--epochs", "1000", "--num_workers", "2")
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    for pid in [*children, process.pid]:
        os.kill(int(pid), signal.SIGTERM)
    _, message = process.communicate(timeout=120)
    assert process.returncode == 143, message
    assert "stopped by SIGTERM" in message and "Traceback" not in message
    assert (program.run() / "checkpoints" / "last.ckpt").exists()
