"""Tests of several processes: they resume the same run, load data after a signal, and evaluate each example once."""

import json
import os
import random
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
from course.training.several import gather_rows
from part1_vae.evaluation import LatentUse

# --- resuming a run ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_pictures")
def test_the_first_process_decides_what_last_is(vae, monkeypatch):
    """If another run becomes the newest before the other processes start, they still resume the first process's run."""
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
    """This can happen on a cluster, where each process searches for the checkpoint on its own."""

    def check(step: int, first_step: int) -> None:
        checkpoint = {"global_step": step, "run": {"events": {"events.out.tfevents.1.host.1.0": 10}}}
        first = (first_step, checkpoint["run"]["events"])
        strategy = SimpleNamespace(broadcast=lambda mine: first, reduce_boolean_decision=lambda same: same)
        resuming.check_agreement(SimpleNamespace(strategy=strategy), SimpleNamespace(checkpoint=checkpoint))

    check(6, 6)
    with pytest.raises(Problem, match="--resume: the processes found different checkpoints"):
        check(6, 12)


# --- a signal to all processes in a job -------------------------------------------------------------------------------


def test_loading_goes_on_after_a_signal():
    """The run stops only at the end of a batch, so the workers must keep loading until the run stops them."""
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
    worker.terminate()  # as DataLoader does if a worker does not respond
    with suppress(RuntimeError):  # PyTorch's handler raises it when a worker ends
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


# --- each example counts once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "processes"), [(13, 1), (13, 2), (13, 4), (8, 4), (2, 3)])
def test_processes_share_the_examples_of_an_evaluation(monkeypatch, size, processes):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: processes)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        sampler = data.InOrder(size)
        shares.append(list(sampler))
        assert len(sampler) == len(shares[-1]) > 0, "a process without examples would not contribute to the means"
    counts = {index: sum(share.count(index) for share in shares) for index in range(size)}
    assert len(set(counts.values())) == 1, "each example has the same weight in a mean over all processes"
    assert size < processes or set(counts.values()) == {1}


def test_the_rows_of_processes_with_different_numbers():
    ours, theirs = torch.rand(3, 2), torch.rand(1, 2)

    def all_gather(value):
        if value.dim() == 0:
            return torch.tensor([len(theirs), value])
        assert len(value) == 3, "processes must gather tensors of the same size"
        return torch.stack([torch.cat([theirs, torch.full((2, 2), torch.nan)]), value])

    assert torch.equal(gather_rows(SimpleNamespace(all_gather=all_gather), ours), torch.cat([theirs, ours]))


def test_the_use_of_dimensions_is_a_mean_over_the_images_of_all_processes():
    ours, theirs = torch.rand(3, 4), torch.rand(1, 4)

    def reduce(value, reduce_op):
        assert reduce_op == "sum"
        return value + (len(theirs) if value.dim() == 0 else theirs.sum(dim=0))

    run, use = SimpleNamespace(vectors={}), LatentUse(None)
    use.run, use.batches = run, [ours[:2], ours[2:]]
    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=reduce), logger=None)
    use._record(trainer, SimpleNamespace(log=lambda *_, **__: None), "val")
    expected = torch.cat([ours, theirs]).mean(dim=0)
    torch.testing.assert_close(torch.tensor(run.vectors["val/kl_per_dim"]), expected)


@pytest.mark.slow
def test_two_processes_evaluate_as_one_does(gpt, tmp_path):
    """Two processes share 13 windows in batches of 2: one has 4 batches, the other 3."""
    letters = random.Random(1)
    (tmp_path / "text.txt").write_text("".join(letters.choice("abcdefgh ") for _ in range(10 * (13 * 16 + 1))))
    common = ["--txt_file", str(tmp_path / "text.txt"), "--epochs", "1", "--lr", "1e-30", "--limit_batches", "20"]
    ends = []
    for number in ("1", "2"):
        flags = [*common, "--batch_size", "2", "--devices", number, "--generate_every_n_steps", "0"]
        process = gpt.start(*flags, log_dir=tmp_path / number)
        _, message = process.communicate(timeout=300)
        assert process.returncode == 0, message
        [row] = json.loads((gpt.run(tmp_path / number) / "summary.json").read_text())["history"]
        ends.append({tag: value for tag, value in row.items() if tag.startswith("val/")})
    assert ends[1] == pytest.approx(ends[0], rel=1e-6)


@pytest.mark.slow
def test_a_batch_that_no_process_can_fill(vae):
    process = vae.start("--epochs", "1", "--batch_size", "30000", "--devices", "2")
    _, message = process.communicate(timeout=120)
    assert process.returncode == 2, message
    assert "--batch_size 30000: each of the 2 processes has 27000 examples" in message and "Traceback" not in message
