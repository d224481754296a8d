"""Tests of archives within a submission, and of submissions that consist of several files."""

import shutil

import pytest
from archive_cases import INITS, PACKERS, PARTS, content, folder, refused, staged, zipped

from staff.grading.archives import Submission, stage


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz", "folder"])
@pytest.mark.parametrize("inner", ["zip", "tar.gz"])
def test_an_archive_in_the_submission_is_read_where_the_parts_are_in_it(kind, inner, tmp_path):
    packed = PACKERS[inner](tmp_path / f"inner.{inner}", {f"work/{name}": text for name, text in PARTS.items()})
    source = PACKERS[kind](tmp_path / "a", {"notes.txt": b"", f"x/final.{inner}": packed.read_bytes()})
    result = staged(tmp_path, source)
    assert content(result.root) == {**PARTS, **INITS} and result.problems == []
    old = zipped(tmp_path / "old.zip", {name: b"old" for name in PARTS}).read_bytes()
    result = staged(tmp_path, zipped(tmp_path / "b.zip", {**PARTS, "old.zip": old}))
    assert content(result.root) == {**PARTS, **INITS}, "an archive is ignored if the parts are outside of it"


def test_code_and_runs_in_two_archives_are_one_submission(tmp_path):
    run = {"my logs/logs/vae/version_0/summary.json": b"{}"}
    code, logs = zipped(tmp_path / "code.zip", PARTS), zipped(tmp_path / "logs.zip", run)
    whole = {**PARTS, **INITS, "logs/vae/version_0/summary.json": b"{}"}
    shutil.rmtree(tmp_path / "staged", ignore_errors=True)
    result = stage(Submission("a", code, (logs,)), tmp_path / "staged")
    assert content(result.root) == whole and result.problems == result.missing == []
    inside = folder(tmp_path / "both", {"code.zip": code.read_bytes(), "logs.zip": logs.read_bytes()})
    assert content(staged(tmp_path, inside).root) == whole
    (inside / "logs.zip").write_bytes(b"PK damaged")
    result = staged(tmp_path, inside)
    assert content(result.root) == {**PARTS, **INITS}
    assert [each for each in result.left_out if each.startswith("logs.zip: The archive is damaged")]


def test_a_bomb_in_an_archive_in_the_submission(tmp_path):
    bomb = zipped(tmp_path / "bomb.zip", {**PARTS, "part1_vae/zeros": bytes(12_000_000)}).read_bytes()
    assert "200 times" in refused(tmp_path, zipped(tmp_path / "a.zip", {"bomb.zip": bomb}))


@pytest.mark.parametrize("around", ["", "repository/"])
def test_submission_zip_beside_the_parts_adds_what_they_lack(around, tmp_path):
    """In a pushed repository, submission.zip does not replace existing code and runs."""
    runs = {"logs/vae/version_0/summary.json": b"old", "logs/aae/version_0/summary.json": b"packed"}
    packed = {**{name: b"old" for name in PARTS}, "answers.md": b"packed", **runs}
    outside = {**PARTS, "logs/vae/version_1/summary.json": b"new"}
    source = folder(tmp_path / "a", {f"{around}{name}": text for name, text in outside.items()})
    zipped(source / around / "submission.zip", packed)
    result = staged(tmp_path, source)
    added = {"answers.md": b"packed", "logs/aae/version_0/summary.json": b"packed"}
    assert content(result.root) == {**outside, **INITS, **added} and result.left_out == result.problems == []
    zipped(source / around / "other.zip", packed)
    (source / around / "submission.zip").write_bytes(b"PK damaged")
    result = staged(tmp_path, source)
    assert content(result.root) == {**outside, **INITS}
    assert len(result.left_out) == 2 and any(
        "submission.zip: The archive is damaged" in each for each in result.left_out
    )
