"""Draw figure 6 of the handout: `python handout/figures/draw_part3.py`.

With the same versions of Python, NumPy and matplotlib, the output is identical. Shapes and colours come from `draw.py`.
"""

import matplotlib.pyplot as plt
import numpy as np
from draw import BLACK, BLUE, GREEN, GREY, ORANGE, Figures, arrow, main
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

# --- figure 6: an alignment ------------------------------------------------------------------------------------------

SOURCE, TARGET = ["a", "white", "cat", "sleeps"], ["un", "chat", "blanc", "dort"]
SCORES = np.array([[3.0, 0.0, 0.0, -1.0], [0.5, 1.0, 3.0, 0.0], [0.0, 3.0, 1.5, -1.0], [-1.0, -0.5, 0.5, 3.0]])  # e_ij
ROW = 1  # the word that the upper part shows


def alignment() -> np.ndarray:
    """Compute Eq. 21: the weights [target, source] for SCORES, which are chosen by hand."""
    exponentials = np.exp(SCORES)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def cell(ax: Axes, x: float, y: float, label: str, color: str) -> None:
    """Draw a vector as a rounded box with its name."""
    corner = (x - 0.5, y - 0.3)
    ax.add_patch(FancyBboxPatch(corner, 1.0, 0.6, "round,pad=0,rounding_size=0.15", facecolor=color, alpha=0.3, lw=0))
    ax.text(x, y, label, ha="center", va="center", fontsize=16)


def draw_annotations(ax: Axes, weights: np.ndarray) -> None:
    """Draw the source words, their annotations, and a line from each to the context vector, as wide as its weight."""
    for j, (word, weight) in enumerate(zip(SOURCE, weights, strict=True)):
        x = 1.0 + 1.55 * j
        ax.text(x, 0.0, word, ha="center", va="center")
        arrow(ax, (x, 0.2), (x, 0.68), GREY)
        cell(ax, x, 1.0, f"$h_{j + 1}$", BLUE)
        ax.plot([x, 3.35], [1.3, 2.65], color=BLUE, lw=1 + 7 * weight, solid_capstyle="butt", zorder=1)
        shift, side = (-0.2, "right") if j < 2 else (0.2, "left")
        ax.text(x + shift, 1.36, f"{weight:.2f}", ha=side, va="bottom", color=BLUE, fontsize=12)
    ax.text(0.72, 2.0, r"weights $\alpha_{2j}$", ha="center", va="center", color=BLUE)


def draw_mechanism(ax: Axes) -> None:
    """Draw Eq. 19 and 20 for the second target word."""
    draw_annotations(ax, alignment()[ROW])
    cell(ax, 3.35, 2.95, "$c_2$", ORANGE)
    cell(ax, 1.0, 4.2, "$s_1$", GREEN)
    cell(ax, 3.35, 4.2, "$s_2$", GREEN)
    arrow(ax, (1.53, 4.2), (2.82, 4.2))
    arrow(ax, (3.35, 3.28), (3.35, 3.87))
    arrow(ax, (3.88, 4.2), (4.75, 4.2))
    ax.text(4.85, 4.2, "chat", ha="left", va="center")
    arrow(ax, (0.78, 3.87), (0.78, 2.25), GREY)
    ax.text(0.9, 3.1, "scores $e_{2j}$", ha="left", va="center", color="#666666", fontsize=12)
    ax.set(xlim=(-0.3, 6.7), ylim=(-0.3, 4.7), aspect="equal")
    ax.axis("off")


def draw_matrix(ax: Axes) -> None:
    """Draw all weights; each row belongs to a target word and sums to 1."""
    weights = alignment()
    ax.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(weights.shape):
        shade = "white" if weights[i, j] > 0.55 else BLACK
        ax.text(j, i, f"{weights[i, j]:.2f}", ha="center", va="center", color=shade, fontsize=12)
    ax.add_patch(plt.Rectangle((-0.5, ROW - 0.5), 4, 1, fill=False, edgecolor=ORANGE, lw=2.5, clip_on=False))
    ax.set_xticks(range(4), SOURCE), ax.set_yticks(range(4), TARGET)
    ax.tick_params(length=0)
    ax.set_xlabel("source position $j$"), ax.set_ylabel("target position $i$")
    ax.spines[:].set_visible(False)


def figure_6() -> Figure:
    """Draw additive attention: how one context vector is computed, and the whole alignment."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(5, 7.2), height_ratios=[1.15, 1], layout="constrained")
    draw_mechanism(above)
    draw_matrix(below)
    return figure


# --- writing ---------------------------------------------------------------------------------------------------------

FIGURES: Figures = {"6": figure_6}


if __name__ == "__main__":
    main(FIGURES, __doc__.splitlines()[0])
