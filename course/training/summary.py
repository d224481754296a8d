"""summary.json and the report of a run that is complete."""

import json
import platform
import re
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from course.files import write_whole
from course.flags import REPOSITORY, defining_flags
from course.training.problems import Stopped, say
from course.training.run import Run


def write_summary(run: Run, model, trainer) -> None:
    gpu = torch.cuda.get_device_name() if trainer.strategy.root_device.type == "cuda" else None
    summary = {
        "program": run.args.program,
        "results": run.results,
        "best": run.best,
        "first_step": run.first_step,
        "training_seconds": round(run.seconds, 1),
        "peak_memory_gb": round(_peak_memory_gb(), 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "flags": defining_flags(run.args),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "machine": {
            "processor": gpu or platform.processor() or platform.machine(),
            "device": str(trainer.strategy.root_device),
            "processes": trainer.world_size,
            "threads": torch.get_num_threads(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torchvision", "pytorch-lightning", "numpy")},
        },
        "git_commit": _git_commit(),
        "history": run.history,
    }
    write_whole(run.folder / "summary.json", json.dumps(summary, indent=2).encode() + b"\n")


def write_report(run: Run) -> None:
    """Write the page of the run. A failure is only reported: the training is complete and saved."""
    try:
        from course.runs import report  # here: a run that starts does not wait for Jinja2

        print(f"report: {report.write(run.folder)}")
    except Stopped:
        raise
    except Exception as error:
        say(f"without a report: {error}; python -m course report {run.folder} makes one")


def _peak_memory_gb() -> float:
    """The largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage counts what the parent had when it started this process
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kibibytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _git_commit() -> str | None:
    """The commit of the code that ran, with "+changes" where the tree differs from it; None outside git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", REPOSITORY, *words], capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None
