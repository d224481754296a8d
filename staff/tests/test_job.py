"""Tests of the SLURM scripts, with stand-ins for srun and scontrol."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from course.training.extras import plugins
from course.training.problems import Problem
from small_runs import PARTS, REPOSITORY, SMALL, SMALL_NETWORK

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the program through /proc")


@pytest.fixture(params=list(PARTS.items()), ids=list(PARTS))
def job(request, tmp_path):
    """Return a function: job(flags..., PYTHON=...) starts the part's script, with the test in the role of SLURM."""
    program, part = request.param
    for folder in ("course", part):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    (tmp_path / "bin").mkdir()
    for name, script in {"srun": 'exec "$@"', "scontrol": 'echo "$@" >> scontrol.txt'}.items():
        executable(tmp_path / "bin" / name, script)
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SRUN_"))}
    environment = {
        **outside, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHON": sys.executable, "SLURM_JOB_ID": "7",
        "SLURM_SUBMIT_DIR": str(tmp_path), "OMP_NUM_THREADS": "1",
    }  # fmt: skip

    def start(*flags: str, **more: str) -> subprocess.Popen:
        command = ["bash", str(REPOSITORY / part / "train.job"), *flags]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env={**environment, **more}, text=True, **pipes)

    start.program, start.part = program, part
    return start


def executable(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    return str(path)


def preempt(process: subprocess.Popen, line: str) -> tuple[str, str]:
    """Wait for a line, then stop the job as SLURM does; return the rest of the output."""
    for said in process.stdout:
        if said.startswith(line):
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    return process.communicate(timeout=120)


def test_a_job_is_queued_again_when_the_program_was_stopped(job, tmp_path):
    """A stand-in for the program prints its flags; the first time, it then waits until it is stopped."""
    checkpoints = f"logs/job_7/{job.program}/version_0/checkpoints"
    python = executable(
        tmp_path / "python",
        f"""echo "$@"
        [ -e stopped ] && exit "$(cat stopped)"
        trap 'mkdir -p {checkpoints}; touch {checkpoints}/last.ckpt; echo 0 > stopped; exit 143' TERM
        echo waiting; while true; do sleep 0.01; done""",
    )
    first = job("--epochs", "6", PYTHON=python)
    preempt(first, "waiting")
    assert first.returncode == 143 and (tmp_path / "scontrol.txt").read_text() == "requeue 7\n"
    said, _ = job("--epochs", "6", PYTHON=python).communicate()
    words = f"{job.part}/train.py --accelerator gpu --no-progress_bar --log_dir logs/job_7 --epochs 6 --resume last"
    assert said.splitlines()[-1] == words
    (tmp_path / "stopped").write_text("2")
    ended = job(PYTHON=python)
    ended.communicate()
    assert ended.returncode == 2
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 7\n", "a finished or failed job is not queued again"


def test_a_job_that_never_comes_to_a_checkpoint_is_given_up(job, tmp_path):
    """A job reaches no checkpoint if --time is so short that the signal arrives while the program is starting."""
    python = executable(tmp_path / "python", 'echo "$@"; exit 143')
    for count, requeued in (("", 1), ("1", 2), ("2", 2)):
        stopped = job(PYTHON=python, **({"SLURM_RESTART_COUNT": count} if count else {}))
        _, message = stopped.communicate()
        assert stopped.returncode == 143
        assert (tmp_path / "scontrol.txt").read_text() == "requeue 7\n" * requeued
    assert message == "error: stopped three times before the first checkpoint; give sbatch a longer --time\n"
    assert job("--resume", "logs/job_6", PYTHON=python, SLURM_RESTART_COUNT="2").communicate()[1] == ""
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 7\n" * 3
    checkpoint = tmp_path / "logs" / "job_7" / job.program / "version_0" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    said, message = job("--resume", "copy.ckpt", PYTHON=python, SLURM_RESTART_COUNT="2").communicate()
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 7\n" * 4
    assert message == "" and said.endswith("--resume copy.ckpt --resume last\n"), "not from the copy again"


def test_a_job_does_not_take_a_folder_for_its_runs(job, tmp_path):
    """With --log_dir, the job would look in the wrong place for its checkpoint and start over after each requeue."""
    refused = job("--log_dir", "/scratch", PYTHON="true")
    _, message = refused.communicate()
    assert refused.returncode == 2
    assert message.startswith("error: --log_dir: a job looks for its checkpoint in logs/job_7;")


def test_the_program_gets_all_cpus_of_a_task(job, tmp_path):
    """Since SLURM 22.05, srun reads the CPU count from SRUN_CPUS_PER_TASK, but sbatch sets SLURM_CPUS_PER_TASK."""
    python = executable(tmp_path / "python", 'echo "${SRUN_CPUS_PER_TASK-none}"')
    for variables, said in (({"SLURM_CPUS_PER_TASK": "4"}, "4\n"), ({}, "none\n")):
        assert job(PYTHON=python, **variables).communicate() == (said, "")


@pytest.mark.slow
def test_a_preempted_job_is_queued_again_and_goes_on(job, mnist_files, tmp_path):
    flags = [*SMALL, *SMALL_NETWORK[job.program], "--data_dir", str(mnist_files)]
    flags += ["--epochs", "6", "--limit_batches", "100"]
    first = job(*flags)
    _, err = preempt(first, "epoch 1/6")
    assert first.returncode == 143, err
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 7\n"

    again = job(*flags)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert "epoch 6/6" in out and "epoch 1/6" not in out
    assert [path.name for path in (tmp_path / "logs" / "job_7" / job.program).iterdir()] == ["version_0"]
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 7\n", "a finished job is not queued again"


@pytest.mark.parametrize(
    ("devices", "nodes", "job"),
    [
        (2, 1, {"SLURM_NTASKS": "1"}),  # it would silently train on one device
        (2, 1, {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1"}),
        (2, 1, {"SLURM_NTASKS": "2"}),  # Lightning needs --ntasks-per-node
        (2, 1, {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2"}),
        ([0, 1, 3], 1, {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}),
        (1, 1, {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}),  # two models would be trained
    ],
)
def test_tasks_that_are_not_what_the_flags_ask_for(monkeypatch, devices, nodes, job):
    started_by_slurm(monkeypatch, job)
    with pytest.raises(Problem, match=r"^--devices . --num_nodes 1: the SLURM job has . task") as caught:
        plugins(SimpleNamespace(devices=devices, num_nodes=nodes))
    count = len(devices) if isinstance(devices, list) else devices
    assert f"call sbatch with --nodes=1 --ntasks-per-node={count} --gpus-per-node={count}" in str(caught.value)
    assert caught.value.status == 2


@pytest.mark.parametrize(
    ("devices", "nodes", "job"),
    [
        (1, 1, {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "1"}),
        (1, 1, {"SLURM_NTASKS": "1"}),
        (2, 1, {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}),
        ([1, 3], 2, {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2"}),
    ],
)
def test_tasks_that_are_what_the_flags_ask_for(monkeypatch, devices, nodes, job):
    started_by_slurm(monkeypatch, job)
    _, environment = plugins(SimpleNamespace(devices=devices, num_nodes=nodes))
    assert environment.creates_processes_externally and not environment.auto_requeue
    assert environment.world_size() == int(job["SLURM_NTASKS"])
    environment.validate_settings(len(devices) if isinstance(devices, list) else devices, nodes)


def started_by_slurm(monkeypatch, variables: dict[str, str]) -> None:
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    for name, value in {"SLURM_JOB_NAME": "vae", **variables}.items():
        monkeypatch.setenv(name, value)
