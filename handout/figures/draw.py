"""Draw figures 1, 2, 3 and 7 of the handout: `python handout/figures/draw.py`.

The other scripts in this folder draw the other figures. With the same versions of Python, NumPy and matplotlib, the
output is identical, byte for byte.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, FancyBboxPatch, Polygon

Figures = dict[str, Callable[[], Figure]]  # by number

# Okabe and Ito's colours, which colour-blind readers can tell apart
BLUE, ORANGE, GREEN, GREY, BLACK = "#0072B2", "#D55E00", "#009E73", "#999999", "#222222"
STYLE = {
    "font.size": 13,
    "mathtext.fontset": "cm",
    "svg.fonttype": "path",
    "svg.hashsalt": "handout",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


# --- shared pieces ---------------------------------------------------------------------------------------------------


def canvas(width: float, height: float, xlim: tuple[float, float], ylim: tuple[float, float]) -> tuple[Figure, Axes]:
    """Create an empty drawing area without axes, in which one unit is as wide as it is high."""
    figure, ax = plt.subplots(figsize=(width, height))
    figure.subplots_adjust(0, 0, 1, 1)
    ax.set(xlim=xlim, ylim=ylim, aspect="equal")
    ax.axis("off")
    return figure, ax


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str = BLACK, style: str = "-|>"):
    ax.annotate("", end, start, arrowprops={"arrowstyle": style, "color": color, "lw": 1.6, "mutation_scale": 16})


def node(ax: Axes, x: float, y: float, label: str, observed: bool) -> None:
    """Draw a random variable of a graphical model: grey if it is observed."""
    ax.add_patch(Circle((x, y), 0.5, facecolor="#cccccc" if observed else "white", edgecolor=BLACK, lw=1.6, zorder=3))
    ax.text(x, y, label, ha="center", va="center", fontsize=20, zorder=4)


# --- figure 1: the graphical model -----------------------------------------------------------------------------------


def figure_1() -> Figure:
    """Draw a plate diagram: a latent z_n and an observed x_n for each of N images, and the decoder's weights theta."""
    figure, ax = canvas(4.6, 2.4, (0.0, 6.5), (0.2, 3.6))
    box = FancyBboxPatch((0.2, 0.35), 3.9, 3.1, "round,pad=0,rounding_size=0.2", fill=False, edgecolor=BLACK, lw=1.4)
    ax.add_patch(box)
    ax.text(3.9, 0.5, "$N$ images", ha="right", va="bottom", fontsize=14)
    node(ax, 1.05, 2.2, r"$\mathbf{z}_n$", observed=False)
    node(ax, 3.15, 2.2, r"$\mathbf{x}_n$", observed=True)
    ax.text(1.05, 1.5, "latent", ha="center", va="top", color=BLUE)
    ax.text(3.15, 1.5, "observed", ha="center", va="top", color=BLUE)
    arrow(ax, (1.55, 2.2), (2.65, 2.2))
    arrow(ax, (5.2, 2.2), (3.65, 2.2))
    ax.text(5.3, 2.2, r"$\theta$", ha="left", va="center", fontsize=22)
    ax.text(5.45, 1.5, "weights", ha="center", va="top", color=BLUE)
    return figure


# --- figure 2: prior and posterior -----------------------------------------------------------------------------------

SAMPLES = 200
SHARE = 0.9  # of the posterior, enclosed by its outer contour


def log_joint(z1: np.ndarray, z2: np.ndarray) -> np.ndarray:
    """Compute log p(x|z) + log p(z), up to a constant, for three noisy measurements x of a point z in the plane."""
    radius = np.hypot(z1 + 0.3, z2 + 0.3)
    errors = (radius - 1.7) / 0.13, (z1 - z2 - 0.1) / 0.8, (z1 + z2 - 2.0) / 0.9
    return -0.5 * (sum(error**2 for error in errors) + z1**2 + z2**2)


def posterior_grid(cells: int = 400, reach: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the axis of a square grid, and p(z|x) on the grid, which sums to 1 over the cells."""
    axis = np.linspace(-reach, reach, cells, endpoint=False) + reach / cells  # the middle of each cell
    density = np.exp(log_joint(*np.meshgrid(axis, axis)))
    return axis, density / density.sum()


def level_that_encloses(share: float, density: np.ndarray) -> float:
    """Return the density such that the cells above it contain this share of the probability."""
    falling = np.sort(density, axis=None)[::-1]
    return float(falling[np.searchsorted(falling.cumsum(), share)])


def prior_samples_in_posterior() -> tuple[np.ndarray, np.ndarray]:
    """Draw samples from the prior [SAMPLES, 2]; return them, and whether each is inside the outer contour [SAMPLES]."""
    samples = np.random.default_rng(0).standard_normal((SAMPLES, 2))
    axis, density = posterior_grid()
    cell = np.clip(np.searchsorted(axis, samples), 0, len(axis) - 1)
    return samples, density[cell[:, 1], cell[:, 0]] > level_that_encloses(SHARE, density)


def figure_2() -> Figure:
    """Draw the prior's contours and samples, and the posterior of one image, which covers few of the samples."""
    figure, ax = plt.subplots(figsize=(5, 5.1), layout="constrained")
    axis, density = posterior_grid()
    samples, inside = prior_samples_in_posterior()
    for radius in (1, 2):
        ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor=ORANGE, lw=2, ls="--"))
    ax.scatter(*samples[~inside].T, s=11, color=GREY, lw=0, zorder=1)
    ax.scatter(*samples[inside].T, s=42, color=BLACK, marker="D", lw=0, zorder=4)
    levels = [level_that_encloses(share, density) for share in (SHARE, 0.5)]
    ax.contourf(axis, axis, density, [*levels, density.max()], colors=["#9ecae1", BLUE], alpha=0.75, zorder=2)
    ax.contour(axis, axis, density, levels, colors=BLUE, linewidths=1.6, zorder=3)
    ax.text(-1.6, -1.75, r"prior $p(\mathbf{z})$", color=ORANGE, ha="right", va="top")
    ax.text(1.5, 2.1, r"posterior $p(\mathbf{z}|\mathbf{x})$", color=BLUE, ha="center", va="bottom")
    ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    ax.set_xticks(range(-3, 4)), ax.set_yticks(range(-3, 4))
    return figure


# --- figure 3: the VAE -----------------------------------------------------------------------------------------------


def digit(blurred: bool) -> np.ndarray:
    """Return an artificial seven, 28 by 28 pixels in 0..15, computed from each pixel's distance to its strokes."""
    corners = np.array([[7.0, 8], [20.5, 7.5], [13.5, 22]])
    rows, columns = np.mgrid[:28, :28]
    distance = np.full((28, 28), np.inf)
    for start, end in zip(corners[:-1], corners[1:], strict=True):
        for step in np.linspace(0, 1, 60):
            x, y = start + step * (end - start)
            distance = np.minimum(distance, np.hypot(columns - x, rows - y))
    ink = np.exp(-((distance / 2) ** 2)) if blurred else np.clip(1.7 - distance / 1.2, 0, 1)
    return np.floor(15.99 * ink)


def picture(ax: Axes, pixels: np.ndarray, x: float, y: float, size: float, label: str) -> None:
    ax.imshow(pixels, cmap="gray_r", extent=(x, x + size, y, y + size), vmin=0, vmax=15, zorder=3)
    ax.add_patch(plt.Rectangle((x, y), size, size, fill=False, edgecolor=BLACK, lw=1.2, zorder=4))
    ax.text(x + size / 2, y - 0.1, label, ha="center", va="top")


def network(ax: Axes, x: float, y: float, name: str, formula: str, color: str, left: float, right: float) -> None:
    """Draw a trapezoid that is `left` high on its left and `right` on its right, centred at x, y."""
    corners = [(x - 0.95, y - left), (x - 0.95, y + left), (x + 0.95, y + right), (x + 0.95, y - right)]
    ax.add_patch(Polygon(corners, facecolor=color, edgecolor="none", alpha=0.22))
    ax.text(x, y + 0.04, name, ha="center", va="bottom")
    ax.text(x, y - 0.04, formula, ha="center", va="top", fontsize=14)


def latent_space(ax: Axes, x: float, y: float) -> None:
    """Draw the prior as dashed circles, one image's q(z|x) as an ellipse, and a sample from it."""
    for radius in (0.5, 0.95):
        ax.add_patch(Circle((x, y), radius, fill=False, edgecolor=ORANGE, ls="--", lw=1.6))
    for size, opacity in ((1, 0.4), (0.5, 0.65)):
        ax.add_patch(Ellipse((x - 0.25, y - 0.3), 0.68 * size, 0.4 * size, facecolor=BLUE, alpha=opacity))
    ax.plot(x - 0.13, y - 0.37, "D", color=BLACK, ms=6, zorder=5)
    ax.text(x, y + 1.05, r"prior $p(\mathbf{z})$", color=ORANGE, ha="center", va="bottom")
    ax.text(x - 1.6, y + 0.7, r"$q_\phi(\mathbf{z}|\mathbf{x})$", color=BLUE, ha="center", va="bottom", fontsize=14)


def figure_3() -> Figure:
    """Draw the VAE as a U: image, encoder, a sample from q(z|x), decoder, decoded image, and both losses."""
    figure, ax = canvas(5.6, 3.9, (0.0, 7.5), (-0.2, 5.0))
    picture(ax, digit(blurred=False), 0.15, 3.15, 1.3, r"image $\mathbf{x}$")
    picture(ax, digit(blurred=True), 0.15, 0.35, 1.3, r"$p_\theta(\mathbf{x}|\mathbf{z})$")
    network(ax, 3.15, 3.8, "encoder", r"$\mu_\phi(\mathbf{x}), \sigma_\phi(\mathbf{x})$", BLUE, 0.75, 0.45)
    network(ax, 3.15, 1.0, "decoder", r"$f_\theta(\mathbf{z})$", GREEN, 0.75, 0.45)
    latent_space(ax, 6.3, 3.0)
    arrow(ax, (1.5, 3.8), (2.15, 3.8))
    arrow(ax, (4.15, 3.8), (5.75, 2.85), BLUE)
    arrow(ax, (6.12, 2.57), (4.15, 1.0))
    ax.text(5.2, 1.6, r"a sample $\mathbf{z}$", ha="left", va="top")
    arrow(ax, (2.15, 1.0), (1.5, 1.0))
    arrow(ax, (0.45, 2.72), (0.45, 1.72), GREY, "<|-|>")
    ax.text(0.62, 2.22, r"compared: $\mathcal{L}^{\mathrm{rec}}$", ha="left", va="center")
    ax.text(6.1, 4.75, r"compared: $\mathcal{L}^{\mathrm{reg}}$", ha="center", va="center")
    return figure


# --- figure 7: the entropy of a coin ---------------------------------------------------------------------------------


def coin_entropy(p: np.ndarray) -> np.ndarray:
    """Compute the entropy, in bits, of a coin that shows heads with probability p; 0 log 0 is 0."""
    inside = np.clip(p, 1e-300, 1), np.clip(1 - p, 1e-300, 1)
    return -(p * np.log2(inside[0]) + (1 - p) * np.log2(inside[1]))


def figure_7() -> Figure:
    """Plot Eq. 24 for a coin, as a function of its probability of heads."""
    figure, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
    p = np.linspace(0, 1, 501)
    ax.plot(p, coin_entropy(p), color=BLUE, lw=2.5)
    marks = {0.1: (0.16, 0.36), 0.5: (0.5, 0.83)}
    for at, (x, y) in marks.items():
        bits = float(coin_entropy(np.array(at)))
        ax.plot(at, bits, "o", color=ORANGE, ms=8)
        ax.text(x, y, f"$p = {at:g}$: {bits:.3f} bits", ha="left" if at < 0.5 else "center")
    ax.set(xlabel="probability of heads $p$", ylabel="entropy (bits)", xlim=(0, 1), ylim=(0, 1.05))
    ax.grid(alpha=0.3)
    return figure


# --- writing ---------------------------------------------------------------------------------------------------------

FIGURES: Figures = {"1": figure_1, "2": figure_2, "3": figure_3, "7": figure_7}


def save(draw_figure: Callable[[], Figure], path: Path) -> Path:
    """Draw a figure and write it without the date or version, which would change the bytes."""
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with matplotlib.rc_context(STYLE):
        figure = draw_figure()
        figure.savefig(path, dpi=150, metadata=metadata, facecolor="white")
        plt.close(figure)
    return path


def main(figures: Figures, description: str) -> None:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="the folder to write to")
    parser.add_argument("--format", choices=["svg", "png"], default="svg")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for number, draw_figure in figures.items():
        print(save(draw_figure, args.out / f"figure_{number}.{args.format}"))


if __name__ == "__main__":
    main(FIGURES, __doc__.splitlines()[0])
