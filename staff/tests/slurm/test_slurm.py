"""Tests of the job scripts with a real SLURM: `pytest -m slurm`, with slurm-wlm and munge installed (see cluster.py).

A requeued job waits for 10 seconds instead of 120. Otherwise the jobs run as in the scripts, but on the CPU.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cluster import Cluster, Unavailable
from resuming_cases import assert_same_end, checkpoint

from small_runs import PARTS, REPOSITORY, SMALL, SMALL_NETWORK, Program
from staff.release import build as release

pytestmark = pytest.mark.slurm
REQUEUE_DELAY = 10  # seconds, instead of SLURM's 120
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        with Cluster(REQUEUE_DELAY) as cluster:
            yield cluster
    except Unavailable as error:
        pytest.skip(f"SLURM cannot be started here: {error}")


class Desk:
    """A folder that looks like the repository, from which jobs are submitted; their runs and output go there too."""

    def __init__(self, cluster: Cluster, folder: Path, data: Path):
        self.cluster, self.folder, self.data = cluster, folder, data
        folder.mkdir(exist_ok=True)
        for name in ("course", "staff", "tests", "conftest.py", "setup.cfg", *PARTS.values()):
            (folder / name).symlink_to(REPOSITORY / name)

    def submit(self, *words: str) -> str:
        variables = {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "DGM_DATA_DIR": str(self.data)}
        return self.cluster.submit(self.folder, *words, **variables)

    def train(self, name: str, *flags: str, options: tuple[str, ...] = ()) -> str:
        """Submit a part's train.job with a small network; return the job ID."""
        return self.submit(*options, f"{PARTS[name]}/train.job", *SMALL, *SMALL_NETWORK[name], *flags)

    def run(self, name: str, job: str) -> Path:
        return self.folder / "logs" / f"job_{job}" / name / "version_0"

    def said(self, job: str) -> str:
        path = self.folder / f"slurm_{job}.out"
        return path.read_text() if path.exists() else ""

    def wait_until_said(self, job: str, text: str) -> None:
        row = self.cluster.wait(job, lambda row: text in self.said(job) or row["JobState"] in ENDED)
        assert text in self.said(job), f"{row['JobState']}: {self.said(job)}"

    def wait_for_end(self, job: str, state: str, seconds: float = 180) -> dict[str, str]:
        """Wait until the job has ended; check that it is in this state, and return its fields."""
        row = self.cluster.wait(job, lambda row: row["JobState"] in ENDED, seconds)
        assert row["JobState"] == state, self.said(job)
        return row


@pytest.fixture
def desk(cluster, mnist_files, tmp_path) -> Iterator[Desk]:
    yield Desk(cluster, tmp_path / "repository", mnist_files)
    cluster.call("scancel", "--me")
    cluster.wait_until_idle()


def test_a_job_at_its_time_limit_goes_on(desk, tmp_path):
    """The job gets the signal two minutes before the limit, as train.job requests, or up to a minute earlier."""
    flags = ["--epochs", "100", "--limit_batches", "100", "--generate_every_n_steps", "0"]
    job = desk.train("gpt", *flags)
    unbroken = Program("gpt", desk.data, tmp_path / "unbroken")
    process = unbroken.start(*flags)
    desk.wait_until_said(job, "epoch 3/")
    end = datetime.now().replace(microsecond=0) + timedelta(seconds=155)  # counted from the third epoch
    desk.cluster.call("scontrol", "update", f"JobId={job}", f"EndTime={end.isoformat()}")
    waiting = desk.cluster.wait(job, lambda row: row["JobState"] == "PENDING")
    desk.cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=30")
    stopped = (desk.run("gpt", job) / "checkpoints" / "last.ckpt").stat().st_mtime
    early = end.timestamp() - stopped
    assert 110 < early < 190, desk.said(job)
    assert (waiting["Restarts"], waiting["Reason"]) == ("1", "BeginTime")
    assert desk.said(job).count("stopped by SIGTERM") == 1

    again = desk.wait_for_end(job, "COMPLETED", 400)
    waited = datetime.fromisoformat(again["StartTime"]).timestamp() - stopped
    assert REQUEUE_DELAY <= waited < REQUEUE_DELAY + 30, "the job waits until SLURM's credentials expire"
    print(f"stopped {early:.0f} s before its end, restarted after {waited:.0f} s")
    assert process.wait(timeout=400) == 0
    assert_same_end(desk.run("gpt", job), unbroken.run())


def test_two_tasks_with_two_devices_go_on_after_a_preemption(desk):
    options = ("--ntasks-per-node=2", "--gpus=2")
    flags = ["--devices", "2", "--epochs", "20", "--limit_batches", "30"]
    job = desk.train("vae", *flags, options=options)
    desk.wait_until_said(job, "epoch 2/")
    assert desk.cluster.job(job)["TresPerJob"] == "gres:gpu:2"
    step = desk.cluster.call("scontrol", "-o", "show", "step", f"{job}.0")
    assert " Tasks=2 " in step and "TresPerTask=cpu:4" in step, "as train.job requests"
    desk.cluster.call("scancel", "--signal=TERM", job)  # signals the job steps, as before a time limit
    desk.cluster.wait(job, lambda row: row["Restarts"] == "1")
    stopped = checkpoint(desk.run("vae", job))["run"]
    assert stopped["processes"] == 2 and 2 <= stopped["epochs_done"] < 20
    desk.wait_for_end(job, "COMPLETED")
    assert desk.said(job).count("epoch 1/20") == 1
    summary = json.loads((desk.run("vae", job) / "summary.json").read_text())
    assert summary["machine"]["processes"] == 2 and len(summary["history"]) == 20
    assert [path.name for path in desk.run("vae", job).parent.iterdir()] == ["version_0"]


def test_a_job_that_is_cancelled_stays_cancelled(desk):
    job = desk.train("aae", "--epochs", "1000")
    desk.wait_until_said(job, "epoch 1/")
    desk.cluster.call("scancel", job)
    desk.wait_for_end(job, "CANCELLED")
    said = desk.said(job)
    time.sleep(REQUEUE_DELAY + 10)
    row = desk.cluster.job(job)
    assert (row["JobState"], row["Restarts"]) == ("CANCELLED", "0") and desk.said(job) == said


def test_a_job_array_grades_a_class(desk):
    released = release.contents(release.read_course(), "2026")
    template = {file: content for file, content in released.items() if file.split("/")[0] in PARTS.values()}
    for student in ("ada", "bob", "cy", "dan"):
        for file, content in template.items():
            path = desk.folder / "class" / student / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    utils = "part1_vae/utils.py"
    shutil.copy(REPOSITORY / utils, desk.folder / "class" / "bob" / utils)
    job = desk.submit("--array=1-2", "--cpus-per-task=1", "--mem=4G", "staff/grading/grade.job", "class")
    for task in (1, 2):
        row = desk.cluster.wait(f"{job}_{task}", lambda row: row["JobState"] not in ("PENDING", "RUNNING"), 300)
        assert row["JobState"] == "COMPLETED", (desk.folder / f"slurm_grade_{task}.out").read_text()
    python = [sys.executable, "-m", "staff"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DGM_DATA_DIR": str(desk.data)}
    merge = [*python, "merge", "grades-1", "grades-2", "-o", "grades"]
    subprocess.run(merge, cwd=desk.folder, env=environment, check=True, timeout=120)
    shards = [{path.stem for path in desk.folder.glob(f"grades-{task}/results/*.json")} for task in (1, 2)]
    assert all(shards) and not shards[0] & shards[1] and shards[0] | shards[1] == {"ada", "bob", "cy", "dan"}
    rows = json.loads((desk.folder / "grades" / "grades.json").read_text())["students"]
    assert {row["student"]: row["automatic"] > 0 for row in rows} == {
        "ada": False, "bob": True, "cy": False, "dan": False,
    }  # fmt: skip
    assert {row["status"] for row in rows} == {"graded"}


def test_a_node_that_is_drained(desk):
    """Running jobs continue on the node; a requeued job waits until the node is back."""
    host = desk.cluster.host
    stays = desk.train("vae", "--epochs", "8")
    moves = desk.train("aae", "--epochs", "150")
    desk.wait_until_said(moves, "epoch 1/")
    desk.cluster.call("scontrol", "update", f"NodeName={host}", "State=DRAIN", "Reason=test")
    try:
        desk.cluster.call("scancel", "--signal=TERM", moves)
        desk.wait_for_end(stays, "COMPLETED")
        time.sleep(REQUEUE_DELAY + 10)
        row = desk.cluster.job(moves)
        assert (row["JobState"], row["Restarts"]) == ("PENDING", "1")
    finally:
        desk.cluster.call("scontrol", "update", f"NodeName={host}", "State=RESUME")
    desk.wait_for_end(moves, "COMPLETED")
    assert desk.said(moves).count("epoch 1/150") == 1


def test_a_node_that_loses_its_power(desk):
    """SLURM requeues the job, and training continues after the last complete epoch."""
    job = desk.train("vae", "--epochs", "40", "--limit_batches", "30")
    desk.wait_until_said(job, "epoch 3/")
    desk.cluster.kill_node()
    done = checkpoint(desk.run("vae", job))["run"]["epochs_done"]
    desk.cluster.wait(job, lambda row: row["JobState"] == "PENDING")
    desk.cluster.start_node()
    row = desk.wait_for_end(job, "COMPLETED")
    assert row["Restarts"] == "1"
    assert done >= 2 and [desk.said(job).count(f"epoch {epoch}/40") for epoch in range(1, done + 1)] == [1] * done


@pytest.mark.parametrize("left", [0, 32_000])
def test_a_disk_that_gets_full(cluster, mnist_files, left):
    """The whole submit folder, including the job's output, is on the full disk."""
    desk = Desk(cluster, cluster.disk / f"{left}-bytes-left", mnist_files)
    job = desk.train("vae", "--epochs", "1000")
    desk.wait_until_said(job, "epoch 2/")
    state = os.statvfs(cluster.disk)
    ballast = cluster.disk / "ballast"
    ballast.write_bytes(bytes(max(0, state.f_bavail * state.f_frsize - left)))
    row = desk.wait_for_end(job, "FAILED")
    [error] = [line for line in desk.said(job).splitlines() if line.startswith("error: ")]
    assert "No space left on device" in error and f"continue with --resume logs/job_{job}/vae/version_0" in error
    assert "Traceback" not in desk.said(job)
    time.sleep(REQUEUE_DELAY + 10)
    row = desk.cluster.job(job)
    assert (row["JobState"], row["Restarts"], row["ExitCode"]) == ("FAILED", "0", "1:0")
    ballast.unlink()
