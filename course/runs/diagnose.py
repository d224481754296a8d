"""List unusual numbers in a run and their likely causes: `python -m course diagnose RUN ...`.

It uses only the numbers, not the code or the figures, so its remarks say "may". A rule is a function that yields
remarks about a run; `course.runs.remarks` has the rules that the parts share, `course.runs.symptoms` the others.
"""

import argparse
from pathlib import Path

from course.runs.folder import Run, RunError, read
from course.runs.remarks import FOR_ALL, LOSS, Remark, first_epoch
from course.runs.symptoms import RULES


def remarks(run: Run) -> list[Remark]:
    """Return all remarks about a run.

    Raises:
        RunError: the run does not belong to a part.
    """
    if run.program not in RULES:
        raise RunError(f"{run.folder}: a run of {run.program!r}; only runs of {', '.join(RULES)} can be diagnosed")
    if not run.done:
        return list(first_epoch(run))
    return [remark for rule in (*RULES[run.program], *FOR_ALL) for remark in rule(run)]


def text(run: Run) -> str:
    """Format the remarks about a run as text: its progress, the symptoms, then the notes."""
    found = remarks(run)
    loss = f"val/{LOSS[run.program]}"
    value = run.last(loss)
    stands = f", {loss} {value:.4g}" if value is not None else ""
    lines = [f"{run.folder}: {run.program}, {run.done} of {run.flags.get('epochs', '?')} epochs{stands}"]
    lines += [f"  note: {note}" for note in run.notes]
    lines += [f"- {remark.seen}\n  {remark.look}" for remark in found if not remark.minor]
    if all(remark.minor for remark in found):
        lines.append("  nothing unusual in the numbers")
    return "\n".join([*lines, *(f"  note: {remark.seen}; {remark.look}" for remark in found if remark.minor)])


def command(args: argparse.Namespace) -> None:
    """Print the remarks about each run."""
    print("\n".join([text(read(folder)) for folder in args.runs]))


def add(commands) -> None:
    """Add `diagnose` to the commands."""
    parser = commands.add_parser("diagnose", help="list unusual numbers in a run and their likely causes")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, e.g. logs/vae/version_0")
    parser.set_defaults(run=command)
