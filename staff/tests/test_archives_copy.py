"""Tests of the grader's working copy of a submission."""

import os

import pytest
from archive_cases import PACKERS, PARTS, content, folder, refused, staged, zipped

from staff.grading import archives
from staff.grading.archives import Limits, Submission, stage, staging

# --- the copy ---------------------------------------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_not_touched(tmp_path):
    target = folder(tmp_path / "staged", {"kept": b"1"})
    with pytest.raises(FileExistsError):
        stage(Submission("a", zipped(tmp_path / "a.zip", PARTS)), target)
    assert content(target) == {"kept": b"1"}


def test_what_the_system_refuses_is_not_the_students_fault(tmp_path, monkeypatch):
    source = zipped(tmp_path / "a.zip", PARTS)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging, "_write", full)
    with pytest.raises(OSError, match="No space"):
        staged(tmp_path, source)
    assert not (tmp_path / "staged").exists()
    with pytest.raises(FileNotFoundError):
        staged(tmp_path, tmp_path / "gone.zip")


def test_no_file_stays_open(tmp_path):
    sources = [PACKERS[kind](tmp_path / f"a.{kind}", PARTS) for kind in PACKERS]
    before = len(os.listdir("/proc/self/fd"))
    for source in sources:
        staged(tmp_path, source)
        refused(tmp_path, source, Limits(files=1))
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_modules_that_the_tests_load():
    needed = archives.needed_modules()
    assert needed["part1_vae"] >= {"utils", "cnn_encoder_decoder", "train"}
    assert needed["part2_aae"] >= {"models"}
    assert needed["part3_gpt"] >= {"gpt"}
