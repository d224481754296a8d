"""Tests of the demos in theory/: each runs, its assertions hold, its figure is not empty, and its format is correct."""

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import matplotlib
import numpy as np
import pytest
import torch

from course.flags import REPOSITORY

THEORY = REPOSITORY / "theory"
SCRIPTS = sorted(THEORY.glob("*.py"))
MOST_LINES = 120
# the colours of Okabe and Ito, which people with any kind of colour blindness can distinguish, and grey
COLOURS = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999"}


def cells(path: Path) -> list[tuple[str, str]]:
    """Return the cells of a script in the percent format: ("markdown" or "code", their text)."""
    parts = re.split(r"^# %%(.*)\n", path.read_text("utf-8"), flags=re.MULTILINE)
    assert not parts[0].strip(), "there is text before the first cell"
    kinds = {"": "code", " [markdown]": "markdown"}
    return [(kinds[mark], text) for mark, text in zip(parts[1::2], parts[2::2], strict=True)]


@pytest.fixture
def undisturbed(monkeypatch):
    """Restore sys.path and PyTorch's defaults and modes after the test, since a script may change them."""
    import matplotlib.pyplot as plt

    matplotlib.use("Agg")
    monkeypatch.setattr(sys, "path", sys.path[:])
    dtype, state = torch.get_default_dtype(), torch.get_rng_state()
    yield
    torch.set_default_dtype(dtype)
    torch.set_flush_denormal(False)
    torch.set_rng_state(state)
    plt.close("all")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_runs_and_draws_its_figure(script, undisturbed, monkeypatch, tmp_path, request, capsys):
    if "data.load(" in script.read_text("utf-8"):
        request.getfixturevalue("mnist_files")
    monkeypatch.setattr(sys, "argv", [str(script), "--quick"])
    committed = {path: path.stat().st_mtime_ns for path in (THEORY / "figures").iterdir()}
    fig = runpy.run_path(str(script), run_name="__main__")["fig"]
    assert {path: path.stat().st_mtime_ns for path in (THEORY / "figures").iterdir()} == committed
    printed = capsys.readouterr().out
    for code_page in ("cp1252", "cp1250", "cp932"):  # Windows uses a local code page for output redirected to files
        printed.encode(code_page)

    fig.savefig(tmp_path / "figure.png")
    for ax in fig.axes:
        assert ax.get_xlabel() or ax.get_ylabel(), f"an axis of {ax.get_title()!r} has no label"
        if "colorbar" not in ax.get_label():
            assert ax.get_xlabel() and ax.get_ylabel(), f"an axis of {ax.get_title()!r} has no label"
        assert ax.has_data() or "colorbar" in ax.get_label(), f"{ax.get_title()!r} is empty"
    _is_not_empty(tmp_path / "figure.png")
    _titles_and_legends_fit(fig)


def _titles_and_legends_fit(fig) -> None:
    for ax in fig.axes:
        legend = ax.get_legend()
        for text, around in [(ax.title, fig.bbox), *([(legend, ax.bbox)] if legend else [])]:
            box = text.get_window_extent()
            fits = around.x0 - 3 <= box.x0 and box.x1 <= around.x1 + 3 and box.y1 <= around.y1 + 3  # pixels
            assert fits, f"{type(text).__name__} of {ax.get_title()!r} is clipped, or wider than its axes"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_committed_figure_is_not_empty(script):
    _is_not_empty(THEORY / "figures" / f"{script.stem}.png")


def _is_not_empty(png: Path) -> None:
    from PIL import Image

    pixels = np.asarray(Image.open(png).convert("RGB")).reshape(-1, 3)[::7]  # some of the pixels are enough
    assert (pixels != 255).any(axis=1).mean() > 0.02, f"{png.name} is nearly white"
    assert len(np.unique(pixels, axis=0)) > 50, f"{png.name} has hardly any colours"


def test_every_figure_has_its_script():
    assert sorted(path.stem for path in (THEORY / "figures").iterdir()) == [path.stem for path in SCRIPTS]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_form(script):
    text = script.read_text("utf-8")
    assert text.count("\n") <= MOST_LINES
    found = cells(script)
    (first, title), (last, end) = found[0], found[-1]
    assert first == last == "markdown"
    assert title.startswith("# # ") and "\n# For " in title and "**Predict before you run it**" in title
    assert "**What to try**" in end
    for kind, cell in found:
        if kind == "markdown":
            assert all(line.startswith("#") for line in cell.split("\n") if line), "text that is not commented out"
        else:
            compile(cell, script.name, "exec")  # each cell is valid Python on its own
    assert "assert " in text
    assert set(re.findall(r"#[0-9A-Fa-f]{6}\b", text)) <= COLOURS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_is_in_the_table(script):
    table = (THEORY / "README.md").read_text("utf-8")
    assert f"[{script.name}]({script.name})" in table


def test_wrong_flag_is_refused(undisturbed, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["information.py", "--qick"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(THEORY / "information.py"), run_name="__main__")
    assert exit_.value.code == 2
    assert "--qick" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["transposed_convolution", "gradients"])
def test_runs_as_a_notebook(name, undisturbed, monkeypatch):
    """Run the script cell by cell as in Jupyter, with Jupyter's command line and without __file__."""
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    namespace = {"__name__": "__main__"}
    for kind, cell in cells(THEORY / f"{name}.py"):
        if kind == "code":
            exec(compile(cell, name, "exec"), namespace)
    assert namespace["fig"].axes


def test_objective_names_the_blank_that_comes_first(undisturbed, monkeypatch, mnist_files):
    def blank(self, *sizes):
        raise NotImplementedError("Q2.4: the layers that lead from an image to its code")

    monkeypatch.setattr(sys, "argv", ["objective.py", "--quick"])
    monkeypatch.setattr("part2_aae.models.AdversarialAE.__init__", blank)
    with pytest.raises(SystemExit, match=r"^Q2\.4: .* \(to be filled in: "):
        runpy.run_path(str(THEORY / "objective.py"), run_name="__main__")
