"""The benchmarks' plots as PNG: the growth of costs, and all numbers relative to their goals."""

import io

import numpy as np
from matplotlib.figure import Figure

from bench.record import ABOUT, Row


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def readable_ticks(low: float, high: float) -> list[float]:
    """Return ticks between `low` and `high`: powers of ten and, if fewer than four fit, values between them."""
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = [step * 10.0**power for power in range(-9, 10) for step in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 4:
            break
    return inside


def growth_png(title: str, xlabel: str, panels: dict[str, dict[str, tuple]]) -> bytes:
    """Plot costs against sizes on logarithmic axes, with a power law fitted at the larger sizes.

    Args:
        panels: label of the vertical axis -> name of a cost -> (sizes, values, (factor, exponent), fitted sizes).
    """
    figure = Figure(figsize=(7 * len(panels), 4.6), dpi=110, layout="constrained")
    for axes, (ylabel, costs) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for number, (name, (sizes, values, (factor, power), upper)) in enumerate(costs.items()):
            ends = np.array([upper[0], upper[-1]])
            label = f"{name}: exponent {power:.2f}"
            axes.plot(sizes, values, "o", color=f"C{number}", markersize=5, label=label)
            axes.plot(ends, factor * ends**power, "-", color=f"C{number}", linewidth=1.3)
        axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.xaxis.minorticks_off()
        axes.grid(alpha=0.3)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** (0.1 * len(costs)))  # room for the legend
        ticks = readable_ticks(*axes.get_ylim())
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.yaxis.minorticks_off()
        axes.legend(frameon=False, loc="upper left")
    figure.suptitle(title, fontsize=10)
    return _png(figure)


def goals_png(rows: list[tuple[str, Row]]) -> bytes:
    """Draw a bar for each number that has a goal, from the goal to the value obtained, relative to the goal.

    Args:
        rows: pairs of a measurement's name and one of its rows.
    """
    figure = Figure(figsize=(10, 1.3 + 0.34 * max(len(rows), 1)), dpi=110, layout="constrained")
    axes = figure.subplots()
    for place, (_, row) in enumerate(rows):
        share, colour = row.value / row.goal, "C0" if row.met else "C1"
        if row.relation == "about":
            axes.barh(place, 2 * ABOUT, left=1 - ABOUT, height=0.8, color="0.92")
        axes.barh(place, share - 1, left=1, height=0.5, color=colour)
        axes.plot(share, place, "o", color=colour, markersize=5)
        text = f"{row.shown}, {row.wanted}" + ("" if row.met else ": not met")
        axes.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5)
    axes.axvline(1, color="black", linewidth=1.2)
    shares = [row.value / row.goal for _, row in rows]
    axes.set(xscale="log", xlim=(min(0.5, *shares, 1) / 1.1, max(2, *shares, 1) * 1.1), ylim=(len(rows) - 0.4, -0.6))
    low, high = axes.get_xlim()
    ticks = [tick for tick in (0.01, 0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 5, 10, 100) if low < tick < high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.minorticks_off()
    labels = [f"{name}: {row.measure}".replace("`", "") for name, row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=8.5)
    axes.set_xlabel("obtained / goal (black line: the goal); blue: goal met; orange: goal not met")
    axes.grid(axis="x", alpha=0.3)
    return _png(figure)
