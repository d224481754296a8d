"""Curves over epochs, drawn as PNG."""

import textwrap

from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from course.figures import LINES, new_figure, pixels, png

Curves = dict[str, tuple[list[float], list[float]]]  # name -> (epochs, values)


def curves_png(
    curves: Curves,
    ylabel: str,
    title: str,
    log: bool = False,
    xlabel: str = "epoch",
) -> bytes:
    """Draw curves over epochs, or over the quantity named by `xlabel`, as PNG.

    If the curves flatten out after a steep start, an inset shows the flat part at a different scale.

    Args:
        ylabel: the quantity and its unit.
        log: whether the vertical axis is logarithmic (tick labels are plain numbers either way); if so, values that
            are not positive are skipped.
    """
    # large text, because a phone shows it at a third of its size; no layout engine, which would double the time
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
    return png(Image.fromarray(pixels(figure)))


def _plot(axes, curves: Curves) -> None:
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_prop_cycle(color=LINES)
    for name, (places, values) in curves.items():
        axes.plot(places, values, marker="o" if len(places) < 30 else None, markersize=3.5, linewidth=1.6, label=name)


def _flat_rest(curves: Curves) -> Curves:
    """Return the curves without their first fifth if the range of the rest is less than a tenth of the whole range."""
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


def _log_ticks(low: float, high: float) -> list[float]:
    """Choose ticks around low..high: 1, 1.2, 1.5, 2, 3, 4, 5, 6, 8 times powers of ten, thinned to at most ten.

    If fewer than three of these lie between low and high, return evenly spaced ticks.
    """
    steps = [1, 1.2, 1.5, 2, 3, 4, 5, 6, 8]
    ticks = [step * 10.0**power for power in range(-6, 7) for step in steps]
    inside = [tick for tick in ticks if low / 1.15 <= tick <= high * 1.15]
    if sum(low <= tick <= high for tick in inside) < 3:
        even = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high).tolist()
        return [tick for tick in even if tick > 0]
    return inside[:: len(inside) // 10 + 1]
