"""The SLURM scripts, with a srun and a scontrol that stand in for SLURM's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from small_runs import PARTS, REPOSITORY, SMALL, SMALL_NETWORK

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the program through /proc")


def test_a_preempted_job_is_queued_again_and_goes_on(program, tmp_path):
    part = PARTS[program.name]
    for folder in ("course", part):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    (tmp_path / "bin").mkdir()
    for name, script in {"srun": 'exec "$@"', "scontrol": 'echo "$@" >> scontrol.txt'}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHON": sys.executable, "SLURM_JOB_ID": "7",
        "SLURM_SUBMIT_DIR": str(tmp_path), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    flags = [*SMALL, *SMALL_NETWORK[program.name], "--data_dir", str(program.data)]
    flags += ["--epochs", "6", "--limit_batches", "100"]
    command = ["bash", str(REPOSITORY / part / "train.job"), *flags]

    job = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in job.stdout:
        if line.startswith("epoch 1/6"):
            break
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    _, err = job.communicate(timeout=120)
    assert job.returncode == 143, err
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 7\n"

    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "epoch 6/6" in again.stdout and "epoch 1/6" not in again.stdout
    assert [path.name for path in (tmp_path / "logs" / "job_7" / program.name).iterdir()] == ["version_0"]
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 7\n", "a job that is done is not queued again"
