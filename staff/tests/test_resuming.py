"""Tests that a run that was stopped and resumed ends in the same state as an uninterrupted run."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from resuming_cases import RunsCode, assert_same_end, checkpoint, events, history, strike_at

from course.files import write_whole
from course.training.finite import StopOnNaN
from course.training.problems import Problem
from course.training.run import Run
from small_runs import PARTS, REPOSITORY, with_callback

SLOW = pytest.mark.slow  # marks the same tests for other parts, points in time and signals


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("program", ["vae", pytest.param("aae", marks=SLOW)], indirect=True)
def test_state_in_another_layout(program, tmp_path):
    """A run continues identically if the optimizer state in its checkpoint has a different memory layout."""
    assert program("--epochs", "1", "--channels_last") == 0
    run, other = program.run(), tmp_path / "other" / program.name / "version_0"
    shutil.copytree(run, other)
    content, changed = checkpoint(other), 0
    for optimizer in content["optimizer_states"]:
        for state in optimizer["state"].values():
            for key, value in state.items():
                changed += torch.is_tensor(value) and not value.is_contiguous()
                state[key] = value.contiguous() if torch.is_tensor(value) else value
    torch.save(content, other / "checkpoints" / "last.ckpt")
    assert changed, "no part of the state had a channels-last layout"
    assert program("--epochs", "2", "--resume", str(run)) == 0
    assert program("--epochs", "2", "--resume", str(other)) == 0
    assert_same_end(run, other, pictures=False)


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    "program", ["vae", pytest.param("aae", marks=SLOW)], indirect=True
)  # not part 3: its learning rates depend on the number of epochs
def test_two_epochs_and_two_more_are_four(program, tmp_path):
    assert program("--epochs", "4", log_dir=tmp_path / "whole") == 0
    whole = program.run(tmp_path / "whole")
    assert program("--epochs", "2", log_dir=tmp_path / "pieces") == 0
    torch.manual_seed(0)  # the global random state must not matter
    assert program("--epochs", "4", "--resume", "last", log_dir=tmp_path / "pieces") == 0
    run = program.run(tmp_path / "pieces")
    assert list(run.parent.iterdir()) == [run], "the run must continue in its own folder"
    # only the interrupted run drew figures and was tested after its second epoch
    assert events(whole).keys() == events(run).keys()
    assert len(events(whole)["train/lr"]) == 4
    assert_same_end(whole, run, pictures=False)


@pytest.mark.usefixtures("without_pictures")
def test_the_data_order_and_the_noise_matter(vae, tmp_path):
    """The metrics that the test above compares depend on the data order and the noise."""
    vae("--epochs", "1", "--seed", "43", log_dir=tmp_path / "other")
    first, second = (history(run)[0] for run in (vae.finished(1), vae.run(tmp_path / "other")))
    assert first["train/bpd"] != second["train/bpd"]


@pytest.fixture(autouse=True)
def steps_are_logged(monkeypatch):
    """Log often enough that a short run has events between two checkpoints."""
    monkeypatch.setattr(pl, "Trainer", partial(pl.Trainer, log_every_n_steps=2))


WHOLE: dict[tuple[str, bool], Path] = {}


@pytest.fixture
def whole(request, program, tmp_path_factory, one_thread) -> Path:
    """Return an uninterrupted run of three epochs of six batches, trained once with and once without figures."""
    known = (program.name, "without_pictures" in request.fixturenames)
    if known not in WHOLE:
        folder = tmp_path_factory.mktemp("whole")
        assert program("--epochs", "3", log_dir=folder) == 0
        WHOLE[known] = program.run(folder)
    return WHOLE[known]


@pytest.fixture
def pictures_if_slow(request):
    """Turn off figures in fast tests."""
    if not request.node.get_closest_marker("slow"):
        request.getfixturevalue("without_pictures")


@pytest.mark.parametrize(
    ("program", "signum", "epoch", "batch", "hook", "position"),
    [
        pytest.param(*("vae", signal.SIGTERM, 0, 0, "on_train_batch_end", (0, 1)), marks=SLOW),
        pytest.param(*("vae", signal.SIGINT, 0, 3, "on_train_batch_end", (0, 4)), marks=SLOW),
        ("vae", signal.SIGTERM, 1, 2, "on_train_batch_end", (1, 3)),
        ("vae", signal.SIGINT, 1, 5, "on_train_batch_end", (2, 0)),  # the last batch: the epoch is finished first
        pytest.param(*("vae", signal.SIGTERM, 1, 2, "on_validation_batch_end", (2, 0)), marks=SLOW),
        pytest.param(*("aae", signal.SIGTERM, 0, 3, "on_train_batch_end", (0, 4)), marks=SLOW),
        ("aae", signal.SIGINT, 1, 2, "on_validation_batch_end", (2, 0)),
        ("gpt", signal.SIGTERM, 1, 2, "on_train_batch_end", (1, 3)),
        pytest.param(*("gpt", signal.SIGINT, 0, 5, "on_train_batch_end", (1, 0)), marks=SLOW),
    ],
    indirect=["program"],
)
def test_a_signal_saves_and_says_how_to_go_on(
    pictures_if_slow, program, whole, tmp_path, monkeypatch, capsys, signum, epoch, batch, hook, position
):
    with monkeypatch.context() as patch:
        patch.setattr(program.train, "Figures", strike_at(program.train, signum, epoch, batch, hook))
        assert program("--epochs", "3", log_dir=tmp_path / "stopped") == 128 + signum
    run = program.run(tmp_path / "stopped")
    message = capsys.readouterr().err
    assert f"stopped by {signum.name}" in message and f"--resume {run}" in message and "Traceback" not in message
    batches = [state["batches_done"] for state in checkpoint(run)["callbacks"].values() if "batches_done" in state]
    assert (checkpoint(run)["run"]["epochs_done"], *batches) == position
    assert program("--epochs", "3", "--resume", str(run)) == 0
    assert_same_end(whole, run)


KILLED = """
import signal, sys
sys.path.insert(0, {tests!r})
import pytorch_lightning as pl
from functools import partial
from {part} import train
from resuming_cases import strike_at
pl.Trainer = partial(pl.Trainer, log_every_n_steps=2)
train.Figures = strike_at(train, signal.SIGKILL, {epoch}, {batch})
sys.exit(train.main(sys.argv[1:]))
"""


@SLOW
@pytest.mark.parametrize(
    ("program", "epoch", "batch"), [("vae", 1, 3), ("vae", 2, 5), ("aae", 1, 3), ("gpt", 1, 3)], indirect=["program"]
)
def test_sigkill(program, whole, tmp_path, epoch, batch):
    script = KILLED.format(tests=str(Path(__file__).parent), part=PARTS[program.name], epoch=epoch, batch=batch)
    flags = [*program.flags(tmp_path / "killed"), "--epochs", "3"]
    done = subprocess.run(
        [sys.executable, "-c", script, *flags], cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    run = program.run(tmp_path / "killed")
    assert not (run / "summary.json").exists() and checkpoint(run)["run"]["epochs_done"] == epoch
    assert program("--epochs", "3", "--resume", str(run)) == 0
    assert_same_end(whole, run)


@SLOW
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_from_another_process(vae, tmp_path, signum, status):
    process = vae.start("--epochs", "1000")
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    process.send_signal(signum)
    _, message = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"stopped by {signum.name}" in message and "Traceback" not in message
    assert f"--resume {tmp_path / 'logs' / 'vae' / 'version_0'}" in message


@pytest.mark.usefixtures("without_pictures")
def test_a_copied_checkpoint_goes_on_in_a_new_folder(vae, tmp_path):
    old = vae.finished(2)
    shutil.copy(old / "checkpoints" / "last.ckpt", tmp_path / "mine.ckpt")
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    assert vae("--resume", str(tmp_path / "mine.ckpt")) == 0  # no epochs left to train, no best checkpoint to test
    assert vae("--resume", str(tmp_path / "mine.ckpt"), "--epochs", "3") == 0
    assert before == {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    tested, longer = old.with_name("version_1"), old.with_name("version_2")
    assert [row["epoch"] for row in history(tested)] == [1, 2]
    assert [row["epoch"] for row in history(longer)] == [1, 2, 3]
    assert history(longer)[:2] == history(old)


@pytest.mark.usefixtures("without_pictures")
def test_killed_after_going_back_to_an_earlier_checkpoint(vae, monkeypatch):
    """Later epochs are dropped: TensorBoard and the history contain the same epochs."""
    run = vae.finished(1)
    earlier = shutil.copy(run / "checkpoints" / "last.ckpt", run / "checkpoints" / "earlier.ckpt")
    assert vae("--resume", str(run), "--epochs", "3") == 0
    with monkeypatch.context() as patch:
        patch.setattr(pl, "Trainer", lambda **_: os.kill(os.getpid(), signal.SIGTERM))
        assert vae("--resume", str(earlier), "--epochs", "3") == 128 + signal.SIGTERM
    assert vae("--resume", "last", "--epochs", "3") == 0
    assert [row["epoch"] for row in history(run)] == [1, 2, 3]
    assert [step for step, _ in events(run)["train/bpd"]] == [5, 11, 17]


@pytest.mark.usefixtures("without_pictures")
def test_a_clock_that_is_behind(vae, monkeypatch):
    """Another machine's clock may be behind, but TensorBoard orders event files by the times in their names."""
    run = vae.finished(1)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 120)
    for epochs in ("2", "3"):
        before = set(run.glob("events.out.tfevents.*"))
        assert vae("--resume", "last", "--epochs", epochs) == 0
        new = set(run.glob("events.out.tfevents.*")) - before
        assert min(path.name for path in new) > max(path.name for path in before)
    assert [step for step, _ in events(run)["train/bpd"]] == [5, 11, 17]


@pytest.mark.usefixtures("without_pictures")
def test_a_longer_run_takes_the_learning_rates_of_its_new_length(gpt, monkeypatch):
    rates = []

    class Watch(pl.Callback):
        def on_before_optimizer_step(self, trainer, lit, optimizer):
            rates.append([group["lr"] for group in optimizer.param_groups])

    gpt.finished(1)
    monkeypatch.setattr(pl, "Trainer", with_callback(Watch()))
    assert gpt("--resume", "last", "--epochs", "3") == 0
    resumed, rates[:] = list(rates), []
    assert gpt("--epochs", "3", log_dir=gpt.log_dir / "unbroken") == 0
    assert len(rates) == 18 and resumed == rates[6:]


@pytest.mark.usefixtures("without_pictures")
def test_the_same_checkpoint_by_a_relative_path(vae, tmp_path, monkeypatch):
    run = vae.finished(1)
    monkeypatch.chdir(run / "checkpoints")
    assert vae("--resume", "last.ckpt", "--epochs", "2") == 0
    assert len(history(run)) == 2 and [path.name for path in run.parent.iterdir()] == ["version_0"]


@pytest.mark.usefixtures("without_pictures")
def test_a_finished_run_is_only_tested_again(vae, tmp_path):
    run = vae.finished(1)
    before, events_before = checkpoint(run), events(run)
    assert vae("--resume", str(run), "--iwae_samples", "2") == 0
    assert torch.equal(before["state_dict"]["encoder.mean.bias"], checkpoint(run)["state_dict"]["encoder.mean.bias"])
    after = events(run)
    assert len(after.pop("test/bpd_iwae")) == 1
    assert after == events_before


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    "program", ["vae", *(pytest.param(name, marks=SLOW) for name in ("aae", "gpt"))], indirect=True
)
def test_a_loss_that_is_not_finite_stops_the_run(program, tmp_path, capsys):
    run = program.finished(1)
    assert program("--lr", "1e30", log_dir=tmp_path / "other") == 1
    message = capsys.readouterr().err
    assert "the loss is no longer finite at step 2 (epoch 1)" in message
    assert f"lower --{'ae_lr' if program.name == 'aae' else 'lr'} (it was 1e+30)" in message
    assert "There is no checkpoint yet" in message
    assert not (program.run(tmp_path / "other") / "checkpoints").exists()
    # weights that become non-finite in the last batch of an epoch are found before anything is drawn or saved
    assert program("--lr", "1e30", "--epochs", "1", "--limit_batches", "1", log_dir=tmp_path / "last") == 1
    assert "no longer finite at step 1" in capsys.readouterr().err
    assert not (program.run(tmp_path / "last") / "checkpoints").exists()
    # a run whose loss becomes non-finite later keeps its last good checkpoint
    broken = checkpoint(run)
    broken["optimizer_states"][0]["param_groups"][0]["lr"] = 1e30
    broken["optimizer_states"][0]["state"][0]["exp_avg"].fill_(1e38)  # the GPT's schedule would reset its learning rate
    torch.save(broken, run / "checkpoints" / "last.ckpt")
    kept = (run / "checkpoints" / "last.ckpt").read_bytes()
    assert program("--epochs", "2", "--resume", str(run)) == 1
    assert f"The last good checkpoint is {run / 'checkpoints' / 'last.ckpt'}" in capsys.readouterr().err
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == kept


def test_a_loss_that_turned_bad_between_two_looks_is_found_before_validation():
    """On a GPU, the loss is checked only at some steps."""
    stop = StopOnNaN(Run(SimpleNamespace(lr=0.1), folder=None))
    stop.total = torch.tensor(float("nan"))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=6))
    with pytest.raises(Problem, match="the loss is no longer finite at step 7"):
        stop.on_validation_start(SimpleNamespace(world_size=1, fit_loop=loop, current_epoch=0), None)


def test_a_file_is_replaced_and_never_written_into(tmp_path):
    path = write_whole(tmp_path / "new" / "file", b"old")
    with open(path, "rb") as reader:
        write_whole(path, b"newer")
        assert reader.read() == b"old", "a concurrent reader sees either the old or the new content"
    assert path.read_bytes() == b"newer" and [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.usefixtures("without_pictures")
def test_a_full_disk_leaves_the_last_good_checkpoint(vae, tmp_path, capsys, monkeypatch):
    run = vae.finished(1)
    kept = {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    capsys.readouterr()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)  # the new content is written, but the old file is still there
    assert vae("--epochs", "3", "--resume", str(run)) == 1
    message = capsys.readouterr().err
    assert "No space left on device" in message and str(run / "checkpoints") in message and "Traceback" not in message
    assert {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()} == kept


def test_checkpoints_that_are_refused(vae, tmp_path, capsys):
    run = vae.finished(1)
    good = run / "checkpoints" / "last.ckpt"
    bad = {name: tmp_path / name for name in ("missing", "text", "truncated", "code", "foreign", "part2", "misfit")}
    bad["text"].write_text("not a checkpoint")
    bad["truncated"].write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    torch.save({"run": RunsCode(tmp_path / "touched")}, bad["code"])
    torch.save({"state_dict": {}}, bad["foreign"])
    torch.save({**checkpoint(run), "run": {**checkpoint(run)["run"], "program": "aae"}}, bad["part2"])
    torch.save({**checkpoint(run), "state_dict": {}}, bad["misfit"])
    capsys.readouterr()
    for name, path in bad.items():
        try:
            status = vae("--resume", str(path), log_dir=tmp_path / "new")
        except SystemExit as exit:
            status = exit.code
        message = capsys.readouterr().err
        assert status == 2, name
        assert f"--resume {path}" in message and "Traceback" not in message, name
    assert not (tmp_path / "touched").exists(), "loading ran code"
    assert not (tmp_path / "new").exists(), "something was written"


def test_flags_that_contradict_the_run_are_refused(vae, tmp_path, capsys):
    vae.finished(1)
    for argv in (["--num_filters", "3"], ["--lr", "0.01"], ["--seed", "6"]):
        with pytest.raises(SystemExit) as caught:
            vae("--resume", "last", *argv)
        assert caught.value.code == 2
        assert f"{argv[0]} {argv[1]}: the run being resumed has" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        vae("--resume", "last", log_dir=tmp_path / "empty")
    assert "has a checkpoint; a run writes" in capsys.readouterr().err
