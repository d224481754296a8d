"""Start all runs that the assignment requires, one after another: `python -m course runs` (`make runs`)."""

import argparse
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from course.flags import REPOSITORY, data_dir
from course.rubric import Part, Rubric, read
from course.runs import folder
from course.runs.folder import RunError, fits
from course.submission import missing_code


@dataclass
class Assigned:
    """A run that the assignment requires: flags for the part's train.py, the number of epochs, and the questions.

    The command trains for the part's default number of epochs, but the run counts as complete after `epochs`.
    """

    part: Part
    flags: dict
    epochs: int
    questions: list[str]

    def command(self) -> list[str]:
        words = [word for name, value in self.flags.items() for word in (f"--{name}", f"{value:g}")]
        return [f"{self.part.folder}/train.py", *words]


def assigned(rubric: Rubric) -> list[Assigned]:
    """List the runs of all questions, each once; a question that accepts any run gets one with the default flags."""
    found: dict[tuple, Assigned] = {}
    shown = {show.question for show in rubric.shows}
    for question in rubric.questions.values():
        for wanted in question.runs or [{}] * (question.id in shown):
            flags = {name: value for name, value in wanted.items() if name != "epochs"}
            key = (question.part, *sorted(flags.items()))
            run = found.setdefault(key, Assigned(rubric.parts[question.part], flags, 1, []))
            run.epochs = max(run.epochs, wanted.get("epochs", 1))
            run.questions += [question.id] * (question.id not in run.questions)
    return list(found.values())


def find(run: Assigned, logs: Path) -> tuple[folder.Run | None, bool]:
    """Return the newest complete run with these flags, else the newest unfinished one, and whether it is complete."""
    complete, unfinished = [], []
    for place in (logs / run.part.logs).glob("version_*"):
        try:
            made = folder.read(place)
        except RunError:
            continue  # treat a damaged run as missing
        if not fits(made.flags, run.flags) or made.flags.get("limit_batches"):
            continue
        if made.summary and made.done >= run.epochs:
            complete.append(made)
        elif made.flags.get("epochs", 0) >= run.epochs and (place / "checkpoints" / "last.ckpt").exists():
            unfinished.append(made)
    newest = max(complete or unfinished, key=lambda each: each.folder.stat().st_mtime, default=None)
    return newest, bool(complete)


def make(args: argparse.Namespace) -> None:
    """Start or continue each run, or list the commands.

    Raises:
        RunError: some runs are still missing.
    """
    rubric, failed = read(), 0
    where = ["--log_dir", str(args.log_dir.resolve())]
    where += ["--data_dir", str(data_dir(args.data_dir).resolve())] if args.data_dir else []
    blanks = missing_code(rubric, REPOSITORY)
    runs = assigned(rubric)
    for number, run in enumerate(runs, start=1):
        made, is_complete = find(run, args.log_dir)
        command = [f"{run.part.folder}/train.py", "--resume", str(made.folder)] if made else run.command()
        print(f"{number}/{len(runs)}  {', '.join(f'Q{id}' for id in run.questions)}: ", end="")
        if is_complete:
            print(f"complete: {made.folder} ({made.done} epochs)", flush=True)
            continue
        print(f"python {shlex.join(command)}", flush=True)
        # figures from early epochs cannot be drawn later
        missing = [line for line in blanks if run.part.folder in line]
        for line in missing:
            print(f"     first: {line}", flush=True)
        if not args.list:
            failed += bool(missing) or not train([*command, *where])
    if failed:
        raise RunError(f"{failed} of {len(runs)} runs are missing; fix the errors above and run this command again")


def train(command: list[str]) -> bool:
    """Run a training script to its end; return whether it succeeded.

    Raises:
        KeyboardInterrupt: the script was stopped by a signal.
    """
    process = subprocess.Popen([sys.executable, *command], cwd=REPOSITORY)
    # after either signal, wait until the script has written its checkpoint; the terminal sends it Ctrl-C directly
    handlers = {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: lambda *_: process.terminate()}
    previous = {signum: signal.signal(signum, handler) for signum, handler in handlers.items()}
    try:
        status = process.wait()
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
    if status in (128 + signal.SIGINT, 128 + signal.SIGTERM) or status < 0:
        raise KeyboardInterrupt
    return status == 0


def add(commands) -> None:
    """Add `runs` to the commands."""
    parser = commands.add_parser("runs", help="start or continue all runs that the assignment requires")
    parser.add_argument("--list", action="store_true", help="only list the commands and the complete runs")
    parser.add_argument("--log_dir", type=Path, default=REPOSITORY / "logs", help="the folder with the runs")
    parser.add_argument("--data_dir", help="dataset folder (default: DGM_DATA_DIR, else data/ in the repository)")
    parser.set_defaults(run=make)
