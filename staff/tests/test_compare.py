"""Tests of `python -m course compare`, which shows the figures from several runs in one picture."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from course import __main__ as command_line
from course import figures
from course.runs import compare


def make_run(folder: Path, colours: dict[str, tuple[float, float, float]], flags: dict | None = None) -> Path:
    """Write a run's folder with single-colour figures (file name -> colour) and, if flags are given, a checkpoint."""
    for name, colour in colours.items():
        figures.save_image(torch.tensor(colour)[:, None, None].expand(3, 40, 40), folder / "figures" / name)
    if flags is not None:
        (folder / "checkpoints").mkdir(parents=True)
        torch.save({"run": {"program": "aae", "flags": flags}}, folder / "checkpoints" / "last.ckpt")
    return folder


def outcome(argv: list[str], capsys) -> tuple[str, int]:
    """Run a command; return the last line of standard error and the exit status."""
    try:
        status = command_line.main(argv)
    except SystemExit as end:  # raised by argparse
        status = end.code
    return capsys.readouterr().err.splitlines()[-1], status


RED, GREEN, BLUE, YELLOW = (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    """Return two runs that differ in lambda_; one has pictures from epochs 0 and 20, the other from 20 and 50."""
    first = {"samples_epoch_000.png": (0, 0, 0), "samples_epoch_020.png": RED, "codes_epoch_020.png": GREEN}
    second = {"samples_epoch_050.png": (0, 0, 0), "samples_epoch_020.png": BLUE, "codes_epoch_020.png": YELLOW}
    return [
        make_run(tmp_path / "a" / "version_0", {**first, "curve.png": RED}, {"lambda_": 1, "z_dim": 2}),
        make_run(tmp_path / "b" / "version_0", {**second, "spread_epoch_020.png": RED}, {"lambda_": 0.5, "z_dim": 2}),
    ]


def test_columns_are_runs_and_rows_are_figures(runs, tmp_path, capsys):
    output = tmp_path / "out" / "both.png"
    assert command_line.main(["compare", *map(str, runs), "-o", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    picture = Image.open(output).convert("RGB")
    width, height = picture.size
    places = {GREEN: (0.3, 0.25), YELLOW: (0.75, 0.25), RED: (0.3, 0.75), BLUE: (0.75, 0.75)}
    for colour, (x, y) in places.items():
        assert picture.getpixel((int(x * width), int(y * height))) == tuple(255 * c for c in colour), (colour, x, y)


def test_what_is_chosen(runs):
    assert compare.choose(runs, None, None) == [("codes", 20), ("samples", 20)], "the last epoch that both runs drew"
    assert compare.choose(runs, ["samples"], None) == [("samples", 20)]
    assert compare.choose(runs[:1], ["samples"], [0, 20]) == [("samples", 0), ("samples", 20)]


def test_titles_are_the_flags_that_differ(runs, tmp_path):
    assert compare.titles(runs) == ["lambda_ 1", "lambda_ 0.5"]
    without = make_run(tmp_path / "c" / "version_3", {})
    assert compare.titles([runs[0], without])[1].endswith("c/version_3")
    (without / "checkpoints").mkdir(parents=True)
    (without / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
    assert compare.titles([runs[0], without])[1].endswith("c/version_3")
    assert compare.titles([runs[0], runs[0]])[0].endswith("a/version_0")
    other_part = make_run(tmp_path / "d" / "version_4", {}, {"lambda_": 1, "num_filters": 3})
    assert compare.titles([runs[0], other_part])[1].endswith("d/version_4")
    longer = make_run(tmp_path / "e" / "version_5", {}, {"lambda_": 1, "z_dim": 3, "epochs": 7})
    shorter = make_run(tmp_path / "e" / "version_6", {}, {"lambda_": 1, "z_dim": 4, "epochs": 9})
    assert compare.titles([longer, shorter]) == ["z_dim 3", "z_dim 4"], "the label of the row names the epoch"


def test_what_is_refused(runs, tmp_path, capsys):
    (runs[1] / "figures" / "samples_epoch_021.png").write_bytes(b"no picture")
    (runs[0] / "figures" / "samples_epoch_021.png").write_bytes(b"no picture")
    alone = make_run(tmp_path / "alone", {"spread_epoch_007.png": RED})
    (tmp_path / "file").write_text("")
    both = [str(run) for run in runs]
    cases = [
        ([str(tmp_path / "nothing")], ["nothing", "is it a run's folder"]),
        ([*both, "--figures", "spread"], ["a/version_0", "spread", "codes, samples"]),
        ([*both, "--figures", "samples", "--epochs", "50"], ["a/version_0", "epoch 50", "at epochs 0, 20"]),
        ([*both, "--figures", "samples", "--epochs", "21"], ["samples_epoch_021.png", "not a readable PNG"]),
        ([both[0], str(alone)], ["no figures in common", "spread at epochs 7"]),
        ([*both, "--figures", "codes", "-o", "picture.jpg"], ["--output picture.jpg", ".png"]),
        ([*both, "--figures", "codes", "-o", str(tmp_path / "file" / "x.png")], ["--output", "file/x.png"]),
        ([*both, "--epochs", "-1"], ["--epochs", "-1"]),
    ]
    for argv, expected in cases:
        message, status = outcome(["compare", *argv], capsys)
        assert status == 2 and all(text in message for text in expected), (argv, message)
