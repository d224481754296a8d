"""What the staff's tests share: MNIST, and short runs of part 1."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from course import data
from small_runs import REPOSITORY, SMALL


@pytest.fixture(scope="session")
def mnist_files() -> Path:
    """The shared data folder with MNIST in it."""
    try:
        return data.fetch("mnist").parents[1]
    except data.DataError as error:
        pytest.skip(f"no MNIST here, and none to be had: {error}")


@pytest.fixture
def vae(mnist_files, tmp_path):
    """Call part 1's program in this process: vae("--epochs", "2") -> exit status."""
    from part1_vae import train

    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}

    def call(*argv: str, log_dir: Path = tmp_path / "logs") -> int:
        try:
            return train.main([*SMALL, "--data_dir", str(mnist_files), "--log_dir", str(log_dir), *argv])
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)

    return call


@pytest.fixture
def start_vae(mnist_files, tmp_path):
    """Start part 1's program as a user does: start_vae("--epochs", "2") -> Popen with text pipes. Killed at the end."""
    started = []

    def start(*argv: str, log_dir: Path = tmp_path / "logs", cwd: Path = REPOSITORY) -> subprocess.Popen:
        command = [sys.executable, REPOSITORY / "part1_vae" / "train.py", *SMALL, "--data_dir", str(mnist_files)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*command, "--log_dir", str(log_dir), *argv], cwd=cwd, text=True, env=environment, **pipes
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def one_thread():
    """Bit-identical results need the same number of threads in this process and in those it starts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
