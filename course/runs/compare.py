"""Put the figures of several runs side by side in one image (Q2.6): `python -m course compare RUN RUN ...`."""

import argparse
import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from course.command_line import WrongFlag
from course.flag_types import whole_number
from course.runs.folder import Figures, RunError, differences, figures_of, read, read_png

if TYPE_CHECKING:
    from torch import Tensor


def titles(runs: list[Path]) -> list[str]:
    """Return a title per run, wrapped to the column width: the flags that differ, or the folder; see `differences`."""
    return [textwrap.fill(text, 45) for text in differences(runs, [_flags_of(run) for run in runs])]


def _flags_of(run: Path) -> dict:
    try:
        return read(run).flags
    except RunError:
        return {}


def choose(runs: list[Path], names: list[str] | None, epochs: list[int] | None) -> list[tuple[str, int]]:
    """Choose the figures to show, as rows: each name at each epoch.

    Args:
        names: names of figures; None: all figures that every run has.
        epochs: None: the last epoch at which every run has all of these figures.

    Raises:
        ValueError: a run lacks one of the figures.
    """
    found = {run: figures_of(run) for run in runs}
    for run, files in found.items():
        if not files:
            raise ValueError(f"{run}: no figures/NAME_epoch_NNN.png; is it a run's folder?")
    common = set.intersection(*(set(files) for files in found.values()))
    if names is None:
        names = sorted({name for name, _ in common})
    if epochs is None:
        shared = [{epoch for name, epoch in common if name == wanted} for wanted in names]
        epochs = sorted(set.intersection(*shared))[-1:] if shared else []
    wanted = [(name, epoch) for name in names for epoch in epochs]
    for run, files in found.items():
        for name, epoch in wanted:
            if (name, epoch) not in files:
                raise ValueError(f"{run}: no {name} at epoch {epoch}; {_what_there_is(files)}")
    if not wanted:
        there = "; ".join(f"{run} {_what_there_is(files)}" for run, files in found.items())
        raise ValueError(f"these runs have no figures in common: {there}")
    return wanted


def _what_there_is(files: Figures) -> str:
    epochs = ", ".join(str(epoch) for epoch in sorted({epoch for _, epoch in files}))
    return f"has {', '.join(sorted({name for name, _ in files}))} at epochs {epochs}"


def read_image(path: Path) -> "Tensor":
    """Read a PNG as an image [3, H, W] in 0..1.

    Raises:
        RunError: the file cannot be read.
    """
    import torch
    from matplotlib.image import imread

    picture = torch.from_numpy(imread(io.BytesIO(read_png(path))))  # [H, W] or [H, W, 3 or 4] in 0..1
    return picture.expand(3, -1, -1) if picture.ndim == 2 else picture[..., :3].permute(2, 0, 1)


def compare(runs: list[Path], names: list[str] | None, epochs: list[int] | None) -> "Tensor":
    """Draw one image [3, H, W] with a column for each run; see `choose`."""

    wanted = choose(runs, names, epochs)
    columns = []
    for run in runs:
        files = figures_of(run)
        columns.append([read_image(files[row]) for row in wanted])
    return side_by_side(columns, titles(runs), [f"{name}\nepoch {epoch}" for name, epoch in wanted])


def command(args: argparse.Namespace) -> None:
    """Write the image."""
    if args.output.suffix != ".png":
        raise WrongFlag(f"--output {args.output}: the name must end in .png")
    from course import figures  # imported here: --help and wrong flags need not wait for PyTorch

    try:
        picture = compare(args.runs, args.figures, args.epochs)
    except (ValueError, RunError) as error:
        raise WrongFlag(str(error)) from error
    try:
        print(figures.save_image(picture, args.output))
    except OSError as error:
        raise WrongFlag(f"--output {args.output}: cannot be written: {error.strerror or error}") from error


def add(commands) -> None:
    """Add `compare` to the commands."""
    parser = commands.add_parser("compare", help="put the figures of several runs side by side in one image")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, e.g. logs/aae/version_0")
    parser.add_argument("--figures", nargs="+", metavar="NAME", help="e.g. samples (default: those that every run has)")
    parser.add_argument(
        "--epochs", nargs="+", type=whole_number(0), metavar="N", help="default: the last epoch that all runs have"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("compare.png"), help="the image file to write")
    parser.set_defaults(run=command)


def side_by_side(columns: "list[list[Tensor]]", titles: list[str], rows: list[str]) -> "Tensor":
    """Arrange images in a grid with titles and row names, as one image [3, H, W] with values in 0..1.

    Args:
        columns: one list of images [3, H, W] per title, with one image per row.
    """
    from course.figures import as_image, new_figure

    width = 4.4  # inches; a row of eight 28x28 images at twice their size has about 470 pixels
    heights = [max(column[row].size(1) / column[row].size(2) for column in columns) * width for row in range(len(rows))]
    figure = new_figure(width * len(columns) + 0.5, sum(heights) + 0.3 * len(rows) + 0.6)
    grid = figure.subplots(len(rows), len(columns), squeeze=False, height_ratios=heights)
    for column, images in enumerate(columns):
        for row, image in enumerate(images):
            axes = grid[row][column]
            axes.imshow(image.permute(1, 2, 0).numpy())
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        grid[0][column].set_title(titles[column], fontsize=12)
    for row, name in enumerate(rows):
        grid[row][0].set_ylabel(name, fontsize=8)
    return as_image(figure)
