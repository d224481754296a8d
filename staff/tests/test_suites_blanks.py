"""Tests of the outcomes of the graded tests when one blank is open and all others are filled in."""

import contextlib
import io
import json
import multiprocessing
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

from small_runs import PARTS, REPOSITORY
from test_mistakes import SLOW_IMPORTS


def blanks() -> list[tuple[str, str, str]]:
    """Return each blank: its place, like "part1_vae/utils.py KLD Q1.7", its file, and the text with this blank open."""
    from staff.release.markers import regions, template  # imported late: the judging processes must not import course

    found = []
    for part in PARTS.values():
        for path in sorted((REPOSITORY / part).glob("*.py")):
            file, text = path.relative_to(REPOSITORY).as_posix(), path.read_text("utf-8")
            for region in regions(text, file):
                lines = text.splitlines(keepends=True)
                # the others keep their solution, but lose their markers
                for other in regions(text, file):
                    if other != region:
                        lines[other.begin - 1] = lines[other.end - 1] = "\n"
                place = f"{file} {region.where} Q{region.question}"
                found.append((place, file, template("".join(lines), file)))
    return found


def needed() -> dict[str, set[str]]:
    """Map each blank's place to the tests whose markers say that they need it."""
    from staff.release.suites import graded_tests, suites  # imported late, as above

    paths = {path.relative_to(REPOSITORY).as_posix(): path for path in suites(REPOSITORY)}
    tests = [test for file, path in paths.items() for test in graded_tests(path.read_text("utf-8"), file)]
    found = {}
    for place, file, _ in blanks():
        where, question = place.split()[1:]
        found[place] = {
            test.name
            for test in tests
            if f"/test_{file[:5]}_" in test.file
            and any(f"{where}.".startswith(f"{name}.") for name in test.functions)
            and question[1:] <= test.question
        }
    return found


def failed(folder: Path, blank: tuple[str, str, str]) -> tuple[str, dict[str, str]]:
    """Return the tests of the part that fail with this blank open, and their messages; needs a separate process."""
    import torch

    place, file, text = blank
    folder = folder / str(os.getpid())
    for name in ("course", "tests", *PARTS.values(), "staff/hidden", "staff/oracles"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "setup.cfg", "staff/__init__.py"):
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / file).write_text(text, "utf-8")
    torch.set_num_threads(1)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    suites = [str(path) for path in sorted(Path().glob(f"*/**/test_part{file[4]}_*.py"))]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        status = pytest.main(["-q", "-p", "no:cacheprovider", *suites, "--points-json", "points.json"])
    assert status == 1, f"{place}: {out.getvalue()[-3000:]}"
    tests = json.loads(Path("points.json").read_text())["tests"]
    shutil.rmtree(folder)
    return place, {test["name"]: test["message"] for test in tests if test["outcome"] != "passed"}


@pytest.mark.slow
def test_an_open_blank_costs_only_what_needs_it(tmp_path):
    """Each test that does not need the unfilled blank passes, and each test that fails names a blank."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(SLOW_IMPORTS)
    with context.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        found = dict(pool.imap_unordered(partial(failed, tmp_path), blanks()))
    unclear = {place: m for place, tests in found.items() for m in tests.values() if "is not filled in yet" not in m}
    assert not unclear, unclear
    assert {place: set(tests) for place, tests in found.items()} == needed()


def test_each_blank_is_needed_by_a_test_that_says_so():
    assert all(needed().values()) and len(needed()) == 30
