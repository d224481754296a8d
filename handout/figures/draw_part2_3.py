"""Draw figures 4 to 6 and B.1 of the handout: `python handout/figures/draw_part2_3.py`.

The same versions of Python, NumPy and matplotlib give the same bytes. Shapes, colours and style are those of `draw.py`.
"""

import matplotlib.pyplot as plt
import numpy as np
from draw import BLACK, BLUE, GREEN, GREY, ORANGE, Figures, arrow, canvas, digit, main, network, picture
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

PURPLE = "#CC79A7"  # the discriminator; Okabe and Ito's, as the colours of draw.py


# --- shared pieces ---------------------------------------------------------------------------------------------------


def prior(ax: Axes, x: float, y: float, label: str, below: bool = True) -> None:
    """A standard normal as two dashed circles, and one sample of it."""
    for radius in (0.35, 0.7):
        ax.add_patch(Circle((x, y), radius, fill=False, edgecolor=ORANGE, ls="--", lw=1.6))
    ax.plot(x + 0.16, y + 0.22, "D", color=BLACK, ms=6, zorder=5)
    at, side = (y - 0.8, "top") if below else (y + 0.8, "bottom")
    ax.text(x, at, label, color=ORANGE, ha="center", va=side)


def discriminator(ax: Axes, x: float, y: float) -> None:
    """A box with rounded corners, 1.9 wide and 1.3 high, centred at x, y."""
    corner = (x - 0.95, y - 0.65)
    box = FancyBboxPatch(corner, 1.9, 1.3, "round,pad=0,rounding_size=0.2", facecolor=PURPLE, alpha=0.3, lw=0)
    ax.add_patch(box)
    ax.text(x, y + 0.04, "discriminator", ha="center", va="bottom", fontsize=12)
    ax.text(x, y - 0.04, "$D$", ha="center", va="top", fontsize=15)


def verdict(ax: Axes, x: float, y: float, question: str, height: float) -> None:
    """The arrow that leaves the discriminator's top, with what it decides."""
    arrow(ax, (x, y + 0.68), (x, y + 0.68 + height))
    ax.text(x, y + 0.75 + height, question, ha="center", va="bottom")


# --- figure 4: the GAN -----------------------------------------------------------------------------------------------


def figure_4() -> Figure:
    """A GAN: noise becomes a generated image, and the discriminator sees it or a real one."""
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
    """The codes of many images as dots, and that of one image."""
    dots = 0.36 * np.random.default_rng(3).standard_normal((70, 2))
    dots = dots[np.hypot(*dots.T) < 0.8]
    ax.scatter(x + dots[:, 0], y + dots[:, 1], s=12, color=BLUE, alpha=0.45, lw=0)
    ax.plot(x - 0.05, y - 0.1, "D", color=BLACK, ms=6, zorder=5)


def figure_5() -> Figure:
    """The AAE: an autoencoder above, and a discriminator that compares its codes with the prior."""
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


# --- figure 6: an alignment ------------------------------------------------------------------------------------------

SOURCE, TARGET = ["a", "white", "cat", "sleeps"], ["un", "chat", "blanc", "dort"]
SCORES = np.array([[3.0, 0.0, 0.0, -1.0], [0.5, 1.0, 3.0, 0.0], [0.0, 3.0, 1.5, -1.0], [-1.0, -0.5, 0.5, 3.0]])  # e_ij
ROW = 1  # the word that the upper part shows


def alignment() -> np.ndarray:
    """Eq. 21: the weights [target, source] that belong to SCORES, which are chosen by hand."""
    exponentials = np.exp(SCORES)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def cell(ax: Axes, x: float, y: float, label: str, color: str) -> None:
    """A vector: a rounded box with its name."""
    corner = (x - 0.5, y - 0.3)
    ax.add_patch(FancyBboxPatch(corner, 1.0, 0.6, "round,pad=0,rounding_size=0.15", facecolor=color, alpha=0.3, lw=0))
    ax.text(x, y, label, ha="center", va="center", fontsize=16)


def draw_annotations(ax: Axes, weights: np.ndarray) -> None:
    """The source words, their annotations, and one line from each to the context vector, as wide as its weight."""
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
    """Eq. 19 and 20 for the second target word."""
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
    """All weights; a row is a target word and sums to 1."""
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
    """Additive attention: how one context vector comes about, and the whole alignment."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(5, 7.2), height_ratios=[1.15, 1], layout="constrained")
    draw_mechanism(above)
    draw_matrix(below)
    return figure


# --- figure B.1: a ray -----------------------------------------------------------------------------------------------


def ray(cells: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Distance, density, transmittance and weight per unit of length along a ray: Eq. B.3 to B.5."""
    step = 6 / cells
    t = (np.arange(cells) + 0.5) * step
    density = 0.7 * np.exp(-(((t - 1.8) / 0.5) ** 2)) + 5.0 * ((t > 4) & (t < 5.2))
    opacity = 1 - np.exp(-density * step)
    transmittance = np.cumprod(1 - opacity) / (1 - opacity)  # before each piece
    return t, density, transmittance, transmittance * opacity / step


def figure_b1() -> Figure:
    """Density, transmittance and weight along a ray through a cloud and into a wall."""
    figure, axes = plt.subplots(3, 1, figsize=(5, 5.2), sharex=True, layout="constrained")
    t, *curves = ray()
    names = [r"density $\sigma$", r"transmittance $\mathcal{T}$", r"weight $\mathcal{T}\sigma$"]
    for ax, curve, name, color in zip(axes, curves, names, (BLACK, BLUE, ORANGE), strict=True):
        ax.fill_between(t, curve, color=color, alpha=0.25, lw=0)
        ax.plot(t, curve, color=color, lw=2)
        ax.set_ylim(0, 1.25 * curve.max())
        ax.set_title(name, color=color, loc="left", fontsize=13)
        ax.grid(alpha=0.3)
    axes[0].text(1.8, 1.1, "cloud", ha="center", va="bottom")
    axes[0].text(4.6, 5.15, "wall", ha="center", va="bottom")
    axes[-1].set(xlim=(0, 6), xlabel="distance $t$ from the camera")
    return figure


# --- writing ---------------------------------------------------------------------------------------------------------

FIGURES: Figures = {"4": figure_4, "5": figure_5, "6": figure_6, "B1": figure_b1}


if __name__ == "__main__":
    main(FIGURES, __doc__.splitlines()[0])
