"""Pictures that a run writes: grids of images and curves, as PNG."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from course.files import write_whole


def save_image(image: Tensor, path: str | Path, scale: int = 1) -> Path:
    """Save an image [1 or 3, H, W] with values in 0..1 as PNG, each pixel drawn `scale` times as large."""
    image = image.detach().float().cpu().clamp(0, 1)
    image = image.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    picture = to_pil_image((image * 255).round().to(torch.uint8))
    if image.size(0) == 3 and torch.equal(image[0], image[1]) and torch.equal(image[0], image[2]):
        picture = picture.convert("L")  # a third of the bytes
    return write_whole(path, _png(picture))


def grid(images: Tensor, nrow: int) -> Tensor:
    """Images [B, 1, H, W] in 0..1, `nrow` in a row, as one image [3, H', W'] with white lines between them."""
    return make_grid(images.detach().float().cpu(), nrow=nrow, padding=1, pad_value=1.0)


def save_curves(
    curves: dict[str, tuple[list[float], list[float]]],
    path: str | Path,
    ylabel: str,
    title: str,
    log: bool = False,
    xlabel: str = "epoch",
) -> Path:
    """Draw curves over epochs, or what `xlabel` says, to a file; see `curves_png`."""
    return write_whole(path, curves_png(curves, ylabel, title, log, xlabel))


def curves_png(
    curves: dict[str, tuple[list[float], list[float]]],
    ylabel: str,
    title: str,
    log: bool = False,
    xlabel: str = "epoch",
) -> bytes:
    """Draw curves over epochs, or what `xlabel` says, as PNG.

    Args:
        curves: name -> (epochs, values).
        ylabel: the quantity and its unit.
        log: whether the vertical axis is logarithmic (it has plain numbers on it either way); what is not positive is
            left out then.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = _new_figure(7, 4.2, layout=None)  # a layout that looks for its margins takes as long as the drawing
    axes = figure.add_axes((0.16, 0.12, 0.79, 0.81))
    for name, (places, values) in curves.items():
        axes.plot(places, values, marker="o" if len(places) < 30 else None, markersize=3.5, linewidth=1.6, label=name)
    every = [value for _, values in curves.values() for value in values if value > 0]
    if log and every:
        axes.set_yscale("log", nonpositive="mask")
        axes.set_yticks(_log_ticks(min(every), max(every)), minor=False)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return _png(Image.fromarray(_pixels(figure)))


def scatter_over_normal(points: Tensor, labels: Tensor, title: str) -> Tensor:
    """Points [N, 2], coloured by their labels [N], over the contours of N(0, I), as an image [3, H, W] in 0..1."""
    from matplotlib.patches import Circle

    figure = _new_figure(6.4, 5.8)
    axes = figure.subplots()
    colours = [f"C{label}" for label in labels.tolist()]
    axes.scatter(*points.T.numpy(), s=3, linewidths=0, c=colours)  # all at once, so that no label covers another
    for label in labels.unique().tolist():
        axes.scatter([], [], s=3, linewidths=0, c=f"C{label}", label=str(label))
    for radius in (1, 2, 3):
        axes.add_patch(Circle((0, 0), radius, fill=False, linewidth=1, color="black"))
        paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
        axes.annotate(f"{radius}$\\sigma$", (0, radius), ha="center", va="center", fontsize=8, bbox=paper)
    reach = max(3.6, 1.05 * points.abs().max().item())
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, markerscale=4, bbox_to_anchor=(1, 1), loc="upper left", title="label")
    return _as_image(figure)


def spread(points: Tensor, title: str) -> Tensor:
    """The standard deviations of points [N, D], against those of N(0, I), as an image [3, H, W] in 0..1.

    Bars are those of the dimensions, the line is along the principal directions, which does not depend on how the space
    is turned; both begin with the largest.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _new_figure(6.4, 3.6)
    axes = figure.subplots()
    dims = range(1, points.size(1) + 1)
    centred = points - points.mean(dim=0)
    principal = torch.linalg.svdvals(centred) / (len(points) - 1) ** 0.5  # at most N of them
    axes.bar(dims, points.std(dim=0).sort(descending=True).values.numpy(), color="C0", label="dimensions of z")
    axes.plot(dims[: len(principal)], principal.numpy(), ".-", color="C1", label="principal directions")
    axes.axhline(1, color="black", linewidth=1, linestyle="--", label="the prior, N(0, I)")
    axes.set(xlabel="from the widest to the narrowest", ylabel="standard deviation")
    axes.set_ylim(0, 1.2 * axes.get_ylim()[1])  # room for the legend
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, ncols=3, loc="upper center", fontsize=9)
    return _as_image(figure)


def side_by_side(columns: list[list[Tensor]], titles: list[str], rows: list[str]) -> Tensor:
    """Columns of pictures under their titles, each row with its name at the left, as one image [3, H, W] in 0..1.

    Args:
        columns: of images [3, H, W], one list for each title, in each one image for each row.
    """
    width = 4.4  # inches; a grid of eight 28x28 images, doubled, has about 470 pixels
    heights = [max(column[row].size(1) / column[row].size(2) for column in columns) * width for row in range(len(rows))]
    figure = _new_figure(width * len(columns) + 0.5, sum(heights) + 0.3 * len(rows) + 0.6)
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
    return _as_image(figure)


def _new_figure(width: float, height: float, layout: str | None = "constrained"):
    """A matplotlib figure of that many inches that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _as_image(figure) -> Tensor:
    """A drawn matplotlib figure as an image [3, H, W] in 0..1."""
    return torch.from_numpy(_pixels(figure)).permute(2, 0, 1).float() / 255


def _pixels(figure) -> np.ndarray:
    """A matplotlib figure, drawn once (savefig would draw it twice): bytes [H, W, 3]."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _log_ticks(low: float, high: float) -> list[float]:
    """Readable ticks around low..high: 1, 1.2, 1.5, 2, 3, 4, 5, 6, 8 times powers of ten, thinned to at most ten."""
    steps = [1, 1.2, 1.5, 2, 3, 4, 5, 6, 8]
    ticks = [step * 10.0**power for power in range(-6, 7) for step in steps]
    inside = [tick for tick in ticks if low / 1.15 <= tick <= high * 1.15]
    return inside[:: len(inside) // 10 + 1]
