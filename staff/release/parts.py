"""Check that everything the rubric names exists: the parts' folders, the runs' flags, and the files in rules."""

import json
import os
import subprocess
import sys
from pathlib import Path

from course.rubric import Rubric

# Parse flags with a part's options.py, but skip all further checks, which take seconds.
PARSE = """
import contextlib, importlib, io, json, sys
from course import flags

flags.parse = lambda parser, argv=None, check=None: flags.parse_words(parser, argv)
for folder, words in json.load(sys.stdin):
    said, parsed = io.StringIO(), {}
    with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        parsed = vars(importlib.import_module(folder + ".options").parse_args(words))
    print(json.dumps([said.getvalue(), parsed], default=str))
"""


def missing(rubric: Rubric, root: Path) -> list[str]:
    """Return a line for each item that the rubric names but the tree lacks."""
    folders = [
        f"part {part.number}: there is no folder {part.folder} with an __init__.py"
        for part in rubric.with_code
        if not (root / part.folder / "__init__.py").is_file()
    ]
    problems = folders or _wrong_flags(rubric, root)
    for rule in rubric.forbidden:
        for field, paths in (("where", rule.where), ("allowed", rule.allowed)):
            lost = [path for path in paths if not (root / path).exists()]
            problems += [f"forbidden {rule.name}: {field}: there is no {path}" for path in lost]
    return [f"course/rubric.toml: {problem}" for problem in problems]


def _wrong_flags(rubric: Rubric, root: Path) -> list[str]:
    """Return a line for each flag of a run that train.py rejects or parses as a different value."""
    runs = [(question, run) for question in rubric.questions.values() for run in question.runs]
    calls = [(rubric.parts[question.part].folder, _words(run)) for question, run in runs]
    problems = []
    for (question, run), (said, parsed) in zip(runs, _parse(calls, root), strict=True):
        place = f"question {question.id}: runs"
        if said:
            problems.append(f"{place}: {said.strip().partition('error: ')[2] or said.strip()}")
            continue
        for name, value in run.items():
            if name not in parsed:
                problems.append(f"{place}: runs do not record a flag named --{name}")
            elif parsed[name] != value:
                problems.append(f"{place}: {name} = {value!r} should be {parsed[name]!r}, as recorded by runs")
    return problems


def _words(run: dict) -> list[str]:
    return [word for name, value in run.items() for word in (f"--{name}", str(value))]


def _parse(calls: list[tuple[str, list[str]]], root: Path) -> list[tuple[str, dict]]:
    """Call the parts' options.py and return, for each call, its output on stderr and the flags by name."""
    ended = subprocess.run(
        [sys.executable, "-B", "-c", PARSE],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        input=json.dumps(calls),
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        return [(f"the flags cannot be read: {ended.stderr.strip().splitlines()[-1]}", {})] * len(calls)
    return [tuple(json.loads(line)) for line in ended.stdout.splitlines()]
