"""Tests that any command line or file leads to a message and an exit status, never to a traceback.

hypothesis generates the cases, the same ones each time. The slow tests generate more of them.
"""

import argparse
import io
import json
import shutil
import string
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from archive_cases import PACKERS
from archive_cases import PARTS as FILES
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from bench import __main__ as bench
from bench.record import Record
from course import __main__ as students
from course import data, download, rubric, submission
from course.runs import compare, diagnose, report
from course.runs import folder as runs
from course.stored_flags import CHECKPOINT_FORMAT
from part1_vae import train as vae_program
from part2_aae import train as aae_program
from part3_gpt import generate
from part3_gpt import train as gpt_program
from staff import __main__ as staff
from staff.grading import archives, gradescope
from staff.grading.evidence import runs as handed_in
from staff.grading.inside import stored_runs
from staff.release import build as release

THOROUGH = pytest.param(200, marks=pytest.mark.slow)


def cases(count: int):
    """Return hypothesis settings for `count` cases, the same ones each time."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


# --- command lines ---------------------------------------------------------------------------------------------------

ODD = [
    "", "-", "--", "-1", "0", "1", "2", "3.5", "1e400", "-0.0", "nan", "inf", "٣", "1_000", "9" * 30, "True", "none",
    "last", "~", "~no-such-user/there", ".", "..", "/", "/dev/null", "/proc/self/mem", "a/b", "x" * 300, "x/" * 3000,
    "a b", "\udcff", "\n", "{}", "%s", "%(prog)s", "0,1", ",", "1/0", "1/2", "gpt2", "auto", "cpu", "mnist", "@file",
]  # fmt: skip
SAFE = st.characters(exclude_characters="\0/", exclude_categories=())  # no NUL: arguments cannot have it; no slash


class Seen(Exception):
    """An exception that carries a parser out of the function that created it."""


def options(parse: Callable, *argv: str) -> list[str]:
    """Return the flags of a command line, found by calling `parse`."""

    def show(self, *args, **kwargs):
        raise Seen(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", show)
        patch.setattr(argparse.ArgumentParser, "parse_known_args", show)
        with pytest.raises(Seen) as caught:
            parse(list(argv))
    parsers = [caught.value.args[0]]
    for action in parsers[0]._actions:
        parsers += list(action.choices.values()) if isinstance(action, argparse._SubParsersAction) else []
    return sorted({flag for parser in parsers for action in parser._actions for flag in action.option_strings})


def command_lines(names: list[str]) -> st.SearchStrategy[list[str]]:
    value = st.sampled_from(ODD) | st.text(SAFE, max_size=8) | st.text(string.digits + "-.,e", max_size=6)
    pair = st.tuples(st.sampled_from(names), value).map(list)
    joined = st.tuples(st.sampled_from(names), value).map(lambda words: ["=".join(words)])
    words = st.one_of(pair, pair, joined, st.sampled_from(names).map(lambda name: [name]), value.map(lambda v: [v]))
    return st.lists(words, max_size=4).map(lambda parts: [word for part in parts for word in part])


COMMANDS = {
    "vae": (vae_program.parse_args, []),
    "aae": (aae_program.parse_args, []),
    "gpt": (gpt_program.parse_args, []),
    "generate": (generate.parse_args, []),
    "data": (download.main, []),
    "compare": (students.main, ["compare"]),
    "submission": (students.main, ["submission"]),
    "gradescope": (gradescope.main, []),
    "grade": (staff.main, ["grade"]),
    "merge": (staff.main, ["merge"]),
    "release": (staff.main, ["release"]),
    "check": (staff.main, ["check"]),
    "report": (students.main, ["report"]),
    "diagnose": (students.main, ["diagnose"]),
    "bench": (bench.main, []),
}


@pytest.mark.parametrize("count", [25, THOROUGH])
@pytest.mark.parametrize("name", list(COMMANDS))
def test_command_lines(name, count, tmp_path, monkeypatch):
    parse, before = COMMANDS[name]
    monkeypatch.chdir(tmp_path)
    errors = io.BytesIO()  # like Python's stderr, which escapes what it cannot encode
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(errors, errors="backslashreplace", write_through=True))
    stand_in_for_slow_work(monkeypatch, tmp_path)

    @cases(count)
    @given(command_lines(options(parse, *before)))
    @example(["--accelerator=--"])
    @example(["--checkpoint=--"])
    @example(["--log_dir", "x" * 300, "--resume", "last"])
    @example(["--resume", "x" * 300])
    @example(["--checkpoint", "x" * 300])
    @example(["--data_dir", "x" * 300])
    @example(["--log_dir", "x/" * 3000])
    @example(["--log_dir", "~no-such-user/there"])
    def never_a_traceback(argv):
        try:
            status = parse([*before, *argv])
        except SystemExit as end:
            status = end.code
        assert isinstance(status, argparse.Namespace) or status in (0, 1, 2)
        assert b"Traceback" not in errors.getvalue()

    never_a_traceback()


def stand_in_for_slow_work(monkeypatch, folder: Path) -> None:
    """Replace the slow work that follows flag parsing with stubs."""

    def refuse(*args, **kwargs):
        raise download.DataError("nothing is fetched here")

    def no_course(**_):
        raise release.ReleaseError("nothing is released here")

    monkeypatch.setattr(data, "_fetch", refuse)
    monkeypatch.setattr(download, "fetch", refuse)
    monkeypatch.setattr(release, "read_course", no_course)
    monkeypatch.setattr(gradescope, "grade", lambda root: None)
    monkeypatch.setattr(gradescope, "build_autograder", lambda out: out)
    monkeypatch.setattr(archives, "find", lambda paths, own: ([], []))
    monkeypatch.setattr(bench, "MEASUREMENTS", dict.fromkeys(bench.MEASUREMENTS, lambda args, folder: Record()))
    monkeypatch.setattr(bench, "RESULTS", folder / "bench" / "results")
    monkeypatch.setattr(submission, "find_runs", lambda *args: ([], []))
    monkeypatch.setattr(submission, "missing_code", lambda *args: [])


# --- files -----------------------------------------------------------------------------------------------------------


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Generate arbitrary bytes, or the content with some bytes cut, inserted or changed."""
    place = st.integers(0, len(content))
    cut = place.map(lambda at: content[:at])
    put_in = st.tuples(place, st.binary(max_size=20)).map(lambda p: content[: p[0]] + p[1] + content[p[0] :])
    change = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))

    def changed(changes: list[tuple[int, int]]) -> bytes:
        copy = bytearray(content)
        for at, byte in changes:
            copy[at] = byte
        return bytes(copy)

    return st.one_of(st.binary(max_size=200), cut, put_in, st.lists(change, min_size=1, max_size=8).map(changed))


@pytest.mark.parametrize("count", [30, THOROUGH])
def test_images_and_labels(count, tmp_path, capsys):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    names = list(download.FILES["mnist"].md5)

    @cases(count)
    @given(st.lists(damaged(b"\0\0\x08\x03\0\0\0\x02\0\0\0\x1c\0\0\0\x1c" + bytes(1568)), min_size=4, max_size=4))
    def never_a_traceback(contents):
        for name, content in zip(names, contents, strict=True):
            (raw / name).write_bytes(content)
        with pytest.raises(download.DataError, match="missing or damaged"):
            data.load("mnist", "train", tmp_path, download=False)

    never_a_traceback()


@pytest.mark.parametrize("count", [30, THOROUGH])
def test_checkpoints(count, tmp_path, capsys):
    path = tmp_path / "last.ckpt"
    run = {"format": CHECKPOINT_FORMAT, "program": "vae", "flags": {"z_dim": 2, "lr": 0.1}, "epochs_done": 1}
    run |= {"events": {}, "processes": 1, "sums": {}}
    torch.save({"state_dict": {"weight": torch.zeros(3)}, "run": run}, path)
    assert vae_program.parse_args(["--resume", str(path)]).z_dim == 2

    @cases(count)
    @given(damaged(path.read_bytes()))
    def never_a_traceback(content):
        path.write_bytes(content)
        for parse, flag in ((vae_program.parse_args, "--resume"), (generate.parse_args, "--checkpoint")):
            try:
                parse([flag, str(path)])
            except SystemExit as end:
                assert end.code == 2 and f"{flag} {path}: " in capsys.readouterr().err

    never_a_traceback()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize("count", [50, THOROUGH])
def test_summaries(count, tmp_path):
    """Read each summary as if it came from a submitted run."""
    run = tmp_path / "logs" / "vae" / "version_0"
    run.mkdir(parents=True)
    part = next(iter(rubric.read().parts.values()))
    keys = st.sampled_from(["flags", "history", "results", "best", "z_dim"])
    content = st.dictionaries(keys, JSON | st.dictionaries(keys, JSON, max_size=3), max_size=5).map(json.dumps)

    @cases(count)
    @given(content.map(str.encode) | content.map(str.encode).flatmap(damaged))
    def never_a_traceback(content):
        (run / "summary.json").write_bytes(content)
        try:
            handed_in.find_run(tmp_path, part, {"z_dim": 2})
        except handed_in.Doubt as doubt:
            assert str(doubt)

    never_a_traceback()


ROW = st.dictionaries(st.sampled_from(["epoch", "train/bpd", "val/bpd", "val/regularization", "val/kl"]), JSON)


@pytest.mark.parametrize("count", [25, THOROUGH])
def test_pages_and_remarks(count, tmp_path):
    """Report on and diagnose a run whose summary contains odd values."""
    run = tmp_path / "logs" / "vae" / "version_0"
    run.mkdir(parents=True)
    flags_of_run = st.dictionaries(st.sampled_from(["z_dim", "epochs", "lr", "limit_batches", "dataset"]), JSON)
    content = st.fixed_dictionaries(
        {"program": st.just("vae"), "flags": flags_of_run, "history": st.lists(ROW, max_size=3)},
        optional={name: ROW for name in ("results", "best", "first_step", "machine", "versions")}
        | {name: JSON for name in ("training_seconds", "peak_memory_gb", "finished", "git_commit", "parameters")},
    )

    @cases(count)
    @given(content)
    @example({"program": "vae", "flags": {"z_dim": 10**400}, "history": [{"val/bpd": 10**400}]})
    def never_a_traceback(content):
        (run / "summary.json").write_text(json.dumps(content))
        found = runs.read(run)
        assert diagnose.text(found) and report.write(run).read_text("utf-8").startswith("<!DOCTYPE html>")

    never_a_traceback()


@pytest.mark.parametrize("count", [50, THOROUGH])
def test_event_files(count, tmp_path):
    """Events before the damage can still be read."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        for step in range(3):
            writer.add_scalar("train/bpd", 4 - step, step)
            writer.add_histogram("val/kl", torch.arange(3), step)
    path = next(tmp_path.iterdir())

    @cases(count)
    @given(damaged(path.read_bytes()))
    def never_a_traceback(content):
        path.write_bytes(content)
        for steps, values in stored_runs.event_curves([str(path)]).values():
            assert len(steps) == len(values) <= 3

    never_a_traceback()


@pytest.mark.parametrize("count", [15, THOROUGH])
@pytest.mark.parametrize("kind", sorted(set(PACKERS) - {"folder"}))
def test_archives(kind, count, tmp_path):
    source = PACKERS[kind](tmp_path / f"a.{kind}", FILES)

    @cases(count)
    @given(damaged(source.read_bytes()))
    def never_a_traceback(content):
        source.write_bytes(content)
        found, _ = archives.find([source])
        for each in found:
            shutil.rmtree(tmp_path / "staged", ignore_errors=True)
            try:
                root = archives.stage(archives.Submission("a", each.path), tmp_path / "staged").root
                assert Path(root).is_relative_to(tmp_path)
            except archives.SubmissionError as error:
                assert str(error)

    never_a_traceback()


@pytest.mark.parametrize("count", [50, THOROUGH])
def test_pictures(count, tmp_path):
    from course.figures import save_image

    path = save_image(torch.rand(3, 4, 5), tmp_path / "a.png")

    @cases(count)
    @given(damaged(path.read_bytes()))
    def never_a_traceback(content):
        path.write_bytes(content)
        try:
            assert compare.read_image(path).shape[0] == 3
        except runs.RunError as error:
            assert str(path) in str(error)

    never_a_traceback()
