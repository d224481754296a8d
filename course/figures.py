"""Figures that a run writes as PNG: image grids and curves."""

import io
import textwrap
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from course.files import write_whole

# distinguishable with protanopia, deuteranopia and tritanopia, too (simulated as in Machado et al., 2009)
LINES = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000"]  # Okabe and Ito, 2008
Curves = dict[str, tuple[list[float], list[float]]]  # name -> (epochs, values)


def save_image(image: Tensor, path: str | Path, scale: int = 1) -> Path:
    """Save an image [1 or 3, H, W] with values in 0..1 as PNG, each pixel drawn `scale` times as large."""
    image = image.detach().float().cpu().clamp(0, 1)
    image = image.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    picture = to_pil_image((image * 255).round().to(torch.uint8))
    if image.size(0) == 3 and torch.equal(image[0], image[1]) and torch.equal(image[0], image[2]):
        picture = picture.convert("L")  # a third of the bytes
    return write_whole(path, _png(picture))


def grid(images: Tensor, nrow: int, lines: bool = True) -> Tensor:
    """Images [B, 1, H, W] in 0..1, `nrow` in a row, as one image [3, H', W'], with white lines between them."""
    return make_grid(images.detach().float().cpu(), nrow=nrow, padding=int(lines), pad_value=1.0)


def save_curves(
    curves: Curves,
    path: str | Path,
    ylabel: str,
    title: str,
    log: bool = False,
    xlabel: str = "epoch",
) -> Path:
    """Draw curves over epochs, or over another quantity named by `xlabel`, to a file; see `curves_png`."""
    return write_whole(path, curves_png(curves, ylabel, title, log, xlabel))


def curves_png(
    curves: Curves,
    ylabel: str,
    title: str,
    log: bool = False,
    xlabel: str = "epoch",
) -> bytes:
    """Draw curves over epochs, or over another quantity named by `xlabel`, as PNG.

    If the curves look flat after a steep beginning, an inset shows the rest at its own scale.

    Args:
        ylabel: the quantity and its unit.
        log: whether the vertical axis is logarithmic (tick labels are plain numbers either way); if so, values that
            are not positive are skipped.
    """
    from matplotlib.ticker import FuncFormatter

    # large text, because a phone shows it at a third of its size; no layout, which would take as long as drawing
    figure = new_figure(5.6, 3.9, layout=None, dpi=140)
    axes = figure.add_axes((0.2, 0.13, 0.76, 0.75))
    _plot(axes, curves)
    every = [value for _, values in curves.values() for value in values if value > 0]
    if log and every:
        axes.set_yscale("log", nonpositive="mask")
        axes.set_yticks(_log_ticks(min(every), max(every)), minor=False)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(textwrap.fill(title, 66), fontsize=10)
    rest = _flat_rest(curves)
    axes.legend(frameon=False, loc="upper right" if rest else "best", fontsize=8)
    if rest:
        inset = axes.inset_axes((0.4, 0.3, 0.57, 0.42))
        _plot(inset, rest)
        inset.tick_params(labelsize=8)
    return _png(Image.fromarray(_pixels(figure)))


def _plot(axes, curves: Curves) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_prop_cycle(color=LINES)
    for name, (places, values) in curves.items():
        axes.plot(places, values, marker="o" if len(places) < 30 else None, markersize=3.5, linewidth=1.6, label=name)


def _flat_rest(curves: Curves) -> Curves:
    """The curves after a fifth of the epochs, if their range is then less than a tenth of the whole range."""
    last = max((place for places, _ in curves.values() for place in places), default=0)
    rest = {}
    for name, curve in curves.items():
        pairs = [(place, value) for place, value in zip(*curve, strict=True) if place >= last / 5]
        rest[name] = ([place for place, _ in pairs], [value for _, value in pairs])
    ranges = [
        max(values) - min(values)
        for each in (rest, curves)
        if (values := [value for _, values in each.values() for value in values])
    ]
    return rest if last >= 20 and ranges and ranges[0] < 0.1 * ranges[-1] else {}


def new_figure(width: float, height: float, layout: str | None = "constrained", dpi: int = 110):
    """A matplotlib figure, sized in inches, that does not need a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout)
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
