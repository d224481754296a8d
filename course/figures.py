"""Pictures that a run writes: grids of images and curves, as PNG."""

import io
from pathlib import Path

import torch
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
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return write_whole(path, buffer.getvalue())


def grid(images: Tensor, nrow: int) -> Tensor:
    """Images [B, 1, H, W] in 0..1, `nrow` in a row, as one image [3, H', W'] with white lines between them."""
    return make_grid(images.detach().float().cpu(), nrow=nrow, padding=1, pad_value=1.0)


def save_curves(
    curves: dict[str, tuple[list[float], list[float]]], path: str | Path, ylabel: str, title: str, log: bool = False
) -> Path:
    """Draw curves over epochs.

    Args:
        curves: name -> (epochs, values).
        ylabel: the quantity and its unit.
        log: whether the vertical axis is logarithmic (it has plain numbers on it either way).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=(7, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, (epochs, values) in curves.items():
        axes.plot(epochs, values, marker="o" if len(epochs) < 30 else None, markersize=3.5, linewidth=1.6, label=name)
    if log:
        axes.set_yscale("log")
        every = [value for _, values in curves.values() for value in values if value > 0]
        ticks = _log_ticks(min(every), max(every)) if every else []
        axes.set_yticks(ticks, minor=False)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=ylabel)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return write_whole(path, buffer.getvalue())


def _log_ticks(low: float, high: float) -> list[float]:
    """Readable ticks around low..high: 1, 1.2, 1.5, 2, 3, 4, 5, 6, 8 times powers of ten, thinned to at most ten."""
    steps = [1, 1.2, 1.5, 2, 3, 4, 5, 6, 8]
    ticks = [step * 10.0**power for power in range(-6, 7) for step in steps]
    inside = [tick for tick in ticks if low / 1.15 <= tick <= high * 1.15]
    return inside[:: len(inside) // 10 + 1]
