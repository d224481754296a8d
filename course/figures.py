"""Figures that a run writes as PNG."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from course.files import write_whole

# also distinguishable under protanopia, deuteranopia or tritanopia (simulated as in Machado et al., 2009)
LINES = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000"]  # Okabe and Ito, 2008


def save_image(image: Tensor, path: str | Path, scale: int = 1) -> Path:
    """Save an image [1 or 3, H, W] with values in 0..1 as PNG, enlarged `scale` times."""
    image = image.detach().float().cpu().clamp(0, 1)
    image = image.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    picture = to_pil_image((image * 255).round().to(torch.uint8))
    if image.size(0) == 3 and torch.equal(image[0], image[1]) and torch.equal(image[0], image[2]):
        picture = picture.convert("L")  # a third of the bytes
    return write_whole(path, png(picture))


def grid(images: Tensor, nrow: int, lines: bool = True) -> Tensor:
    """Tile images [B, 1, H, W] in 0..1, `nrow` per row, into one image [3, H', W'], separated by white lines."""
    return make_grid(images.detach().float().cpu(), nrow=nrow, padding=int(lines), pad_value=1.0)


def save_curves(
    curves: dict[str, tuple[list, list]], path: str | Path, ylabel: str, title: str, log=False, xlabel="epoch"
) -> Path:
    """Draw curves, name -> (epochs, values), to a file; see `course.curves.curves_png` for the arguments."""
    from course.curves import curves_png  # imported here: matplotlib is not needed to start a run

    return write_whole(path, curves_png(curves, ylabel, title, log, xlabel))


def new_figure(width: float, height: float, layout: str | None = "constrained", dpi: int = 110):
    """Create a matplotlib figure, sized in inches, that does not need a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def as_image(figure) -> Tensor:
    """Draw a matplotlib figure as an image [3, H, W] in 0..1."""
    return torch.from_numpy(pixels(figure)).permute(2, 0, 1).float() / 255


def pixels(figure) -> np.ndarray:
    """Draw a matplotlib figure once (savefig would draw it twice): bytes [H, W, 3]."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
