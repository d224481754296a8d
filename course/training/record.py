"""Write the outputs of a completed run: summary.json, the report, and its row in TensorBoard's table."""

import json
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from course.files import write_whole
from course.flags import REPOSITORY
from course.stored_flags import defining_flags
from course.training import board
from course.training.problems import say
from course.training.run import Run


def write(run: Run, trainer, results: list[dict] | None) -> None:
    """Print the results, and write all outputs if the run has a folder; see `course.training.run.summarize`."""
    if results is not None:
        vectors = {tag: values for tag, values in run.vectors.items() if tag.startswith("test/")}
        run.results.update(results[0] | vectors)
    else:
        best = next((row for row in run.history if row["epoch"] == run.best.get("epoch")), {})
        run.results.update({tag: value for tag, value in best.items() if tag.startswith("val/")})
    for tag, value in run.results.items():
        if isinstance(value, float):
            print(f"{tag}: {value:.4f}")
    if run.folder:
        _write_outputs(run, trainer)


def _write_outputs(run: Run, trainer) -> None:
    run.check_folder()
    best = {run.best["metric"].replace("val/", "Best "): run.best["value"]} if run.best else {}
    board.add_result(run.folder, defining_flags(run.args), best, trainer.fit_loop.epoch_loop.total_batch_idx)
    write_summary(run, trainer)
    print(f"summary: {run.folder / 'summary.json'}")
    write_report(run)
    print("figures:")
    for path in sorted((run.folder / "figures").glob("*")):
        print(f"  {path}")


def write_summary(run: Run, trainer) -> None:
    gpu = torch.cuda.get_device_name() if trainer.strategy.root_device.type == "cuda" else None
    summary = {
        "program": run.args.program,
        "results": run.results,
        "best": {name: run.best[name] for name in ("epoch", "value") if run.best},
        "first_step": run.first_step,
        "training_seconds": round(run.seconds, 3),
        "peak_memory_gb": round(_peak_memory_gb(), 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "flags": defining_flags(run.args),
        "parameters": sum(parameter.numel() for parameter in trainer.lightning_module.parameters()),
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
    """Write the run's report. Errors are only printed, because the training is already complete and saved."""
    try:
        from course.runs import report  # imported here, so that a run starts without Jinja2

        print(f"report: {report.write(run.folder)}")
    except Exception as error:
        say(f"the report could not be written: {error}; run: python -m course report {run.folder}")


def _peak_memory_gb() -> float:
    """Return the peak resident memory of this process so far, in GB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage would include the memory that the parent used at the fork
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text("utf-8"))[1]) * 1024 / 1e9
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 1e9
    else:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kibibytes elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _git_commit() -> str | None:
    """Return the commit of the code, with "+changes" if tracked files differ from it; None outside git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", REPOSITORY, *words], capture_output=True, check=True, timeout=20)
        return done.stdout.decode("utf-8", "replace").strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None
