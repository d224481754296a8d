"""Tests of Ctrl-C and SIGTERM inside code that catches exceptions."""

import signal
from types import SimpleNamespace

import pytest
from PIL import Image

from course.resume import read_checkpoint
from course.runs import folder, report
from course.training import record
from course.training.problems import Stopped, raise_stopped


@pytest.fixture(autouse=True)
def the_signal_arrives_in_a_reader(monkeypatch):
    """Let the signal arrive while a PNG or a checkpoint is being read, or a report is being written."""

    def interrupted(*args, **kwargs):
        raise_stopped(signal.SIGINT, None)

    monkeypatch.setattr(Image, "open", interrupted)
    monkeypatch.setattr("torch.load", interrupted)
    monkeypatch.setattr(report, "write", interrupted)


def test_a_signal_is_not_taken_for_a_damaged_file(tmp_path):
    (tmp_path / "samples.png").write_bytes(b"")
    for read in (
        lambda: folder.read_png(tmp_path / "samples.png"),
        lambda: read_checkpoint(None, "--resume", tmp_path / "last.ckpt", "vae"),
        lambda: record.write_report(SimpleNamespace(folder=tmp_path)),
    ):
        with pytest.raises(Stopped) as caught:
            read()
        assert caught.value.signum == signal.SIGINT
