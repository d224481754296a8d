"""Runs in separate processes, for tests that kill them or fill their disk."""

import os
import subprocess

import pytest

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def wait_for(process: subprocess.Popen, start: str) -> None:
    for line in process.stdout:
        if line.startswith(start):
            return
    pytest.fail(process.stderr.read())
