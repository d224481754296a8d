"""Figures that a run writes as PNG: image grids and curves."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from course.files import write_whole

# apart for people with protanopia, deuteranopia and tritanopia too (simulated as Machado and others, 2009, do)
LINES = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000"]  # Okabe and Ito, 2008


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
        log: whether the vertical axis is logarithmic (tick labels are plain numbers either way); if so, values that
            are not positive are skipped.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = new_figure(7, 4.2, layout=None)  # computing a layout takes as long as drawing
    axes = figure.add_axes((0.16, 0.12, 0.79, 0.81))
    axes.set_prop_cycle(color=LINES)
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


def new_figure(width: float, height: float, layout: str | None = "constrained"):
    """A matplotlib figure, sized in inches, that does not need a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def as_image(figure) -> Tensor:
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
    """Readable ticks around low..high: 1, 1.2, 1.5, 2, 3, 4, 5, 6, 8 times powers of ten, thinned to at most ten.

    If fewer than three of them are between low and high, the ticks are evenly spaced.
    """
    from matplotlib.ticker import MaxNLocator

    steps = [1, 1.2, 1.5, 2, 3, 4, 5, 6, 8]
    ticks = [step * 10.0**power for power in range(-6, 7) for step in steps]
    inside = [tick for tick in ticks if low / 1.15 <= tick <= high * 1.15]
    if sum(low <= tick <= high for tick in inside) < 3:
        even = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high).tolist()
        return [tick for tick in even if tick > 0]
    return inside[:: len(inside) // 10 + 1]
