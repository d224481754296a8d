"""Draw figures 4 and 5 of the handout: `python handout/figures/draw_part2.py`.

With the same versions of Python, NumPy and matplotlib, the output is identical. Shapes and colours come from `draw.py`.
"""

import numpy as np
from draw import BLACK, BLUE, GREEN, GREY, ORANGE, Figures, arrow, canvas, digit, main, network, picture
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

PURPLE = "#CC79A7"  # for the discriminator; from Okabe and Ito's palette, like the colours in draw.py


# --- shared pieces ---------------------------------------------------------------------------------------------------


def prior(ax: Axes, x: float, y: float, label: str, below: bool = True) -> None:
    """Draw a standard normal as two dashed circles, and one sample from it."""
    for radius in (0.35, 0.7):
        ax.add_patch(Circle((x, y), radius, fill=False, edgecolor=ORANGE, ls="--", lw=1.6))
    ax.plot(x + 0.16, y + 0.22, "D", color=BLACK, ms=6, zorder=5)
    at, side = (y - 0.8, "top") if below else (y + 0.8, "bottom")
    ax.text(x, at, label, color=ORANGE, ha="center", va=side)


def discriminator(ax: Axes, x: float, y: float) -> None:
    """Draw a box with rounded corners, 1.9 wide and 1.3 high, centred at x, y."""
    corner = (x - 0.95, y - 0.65)
    box = FancyBboxPatch(corner, 1.9, 1.3, "round,pad=0,rounding_size=0.2", facecolor=PURPLE, alpha=0.3, lw=0)
    ax.add_patch(box)
    ax.text(x, y + 0.04, "discriminator", ha="center", va="bottom", fontsize=12)
    ax.text(x, y - 0.04, "$D$", ha="center", va="top", fontsize=15)


def verdict(ax: Axes, x: float, y: float, question: str, height: float) -> None:
    """Draw the arrow that leaves the discriminator's top, labelled with the question that it answers."""
    arrow(ax, (x, y + 0.68), (x, y + 0.68 + height))
    ax.text(x, y + 0.75 + height, question, ha="center", va="bottom")


# --- figure 4: the GAN -----------------------------------------------------------------------------------------------


def figure_4() -> Figure:
    """Draw a GAN: noise becomes a generated image, and the discriminator sees either this image or a real one."""
    figure, ax = canvas(5.6, 4.1, (0.0, 8.0), (-0.75, 5.1))
    prior(ax, 0.95, 1.1, "noise $p(\\mathbf{z})$")
    network(ax, 3.0, 1.1, "generator", "$G(\\mathbf{z})$", GREEN, 0.4, 0.75)
    picture(ax, digit(blurred=True), 4.4, 0.5, 1.2, "generated")
    picture(ax, digit(blurred=False), 4.4, 3.3, 1.2, "real")
    ax.text(1.0, 3.9, "training\nimages $\\mathbf{x}$", color=BLUE, ha="center", va="center")
    arrow(ax, (1.95, 3.9), (4.3, 3.9), BLUE)
    arrow(ax, (1.2, 1.28), (1.95, 1.15))
    arrow(ax, (4.0, 1.1), (4.33, 1.1))
    discriminator(ax, 6.9, 2.45)
    arrow(ax, (5.7, 3.9), (6.25, 3.17), BLUE)
    arrow(ax, (5.7, 1.1), (6.25, 1.75), GREEN)
    verdict(ax, 6.9, 2.45, "real or\ngenerated?", 0.7)
    ax.plot([7.4, 7.4, 3.0], [1.75, -0.45, -0.45], color=GREY, lw=1.6, ls=":")
    arrow(ax, (3.0, -0.47), (3.0, 0.45), GREY)
    ax.text(6.5, -0.37, "gradient", color="#666666", ha="center", va="bottom")
    return figure


# --- figure 5: the AAE -----------------------------------------------------------------------------------------------


def codes(ax: Axes, x: float, y: float) -> None:
    """Draw the codes of many images as dots, and highlight the code of one image."""
    dots = 0.36 * np.random.default_rng(3).standard_normal((70, 2))
    dots = dots[np.hypot(*dots.T) < 0.8]
    ax.scatter(x + dots[:, 0], y + dots[:, 1], s=12, color=BLUE, alpha=0.45, lw=0)
    ax.plot(x - 0.05, y - 0.1, "D", color=BLACK, ms=6, zorder=5)


def figure_5() -> Figure:
    """Draw the AAE: an autoencoder above, and a discriminator that compares its codes with the prior."""
    figure, ax = canvas(5.6, 5.5, (-0.3, 7.4), (-0.55, 7.0))
    picture(ax, digit(blurred=False), 0.15, 5.5, 1.3, r"image $\mathbf{x}$")
    picture(ax, digit(blurred=True), 0.15, 2.75, 1.3, "reconstruction")
    network(ax, 3.15, 6.15, "encoder", r"$E(\mathbf{x})$", BLUE, 0.75, 0.45)
    network(ax, 3.15, 3.4, "decoder", r"$R(\mathbf{z})$", GREEN, 0.75, 0.45)
    codes(ax, 6.1, 4.8)
    ax.text(6.35, 5.65, r"codes, $q(\mathbf{z})$", color=BLUE, ha="center", va="bottom")
    arrow(ax, (1.5, 6.15), (2.15, 6.15))
    arrow(ax, (4.15, 6.15), (5.95, 4.85), BLUE)
    arrow(ax, (5.95, 4.6), (4.15, 3.4))
    arrow(ax, (2.15, 3.4), (1.5, 3.4))
    ax.text(5.15, 3.75, r"$\mathbf{z}$", ha="left", va="top", fontsize=16)
    arrow(ax, (0.4, 5.05), (0.4, 4.12), GREY, "<|-|>")
    ax.text(0.57, 4.58, "compared: Eq. 18", ha="left", va="center")
    prior(ax, 3.15, 1.0, r"prior $p(\mathbf{z})$")
    discriminator(ax, 6.1, 1.0)
    arrow(ax, (3.4, 1.2), (5.1, 1.0), ORANGE)
    arrow(ax, (6.1, 4.5), (6.1, 1.72), BLUE)
    ax.text(4.5, 1.13, "Eq. 17", color=ORANGE, ha="center", va="bottom")
    ax.text(6.2, 2.6, "Eq. 16", color=BLUE, ha="left", va="center")
    arrow(ax, (6.1, 0.32), (6.1, -0.12))
    ax.text(6.1, -0.17, "prior or code?", ha="center", va="top")
    return figure


# --- writing ---------------------------------------------------------------------------------------------------------

FIGURES: Figures = {"4": figure_4, "5": figure_5}


if __name__ == "__main__":
    main(FIGURES, __doc__.splitlines()[0])
