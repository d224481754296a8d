"""Draw figure B.1 of the handout: `python handout/figures/draw_appendix_b.py`.

With the same versions of Python, NumPy and matplotlib, the output is identical. Shapes and colours come from `draw.py`.
"""

import matplotlib.pyplot as plt
import numpy as np
from draw import BLACK, BLUE, ORANGE, Figures, main
from matplotlib.figure import Figure

# --- figure B.1: a ray -----------------------------------------------------------------------------------------------


def ray(cells: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return distance, density, transmittance and weight per unit of length along a ray (Eq. B.3 to B.5)."""
    step = 6 / cells
    t = np.linspace(step / 2, 6 - step / 2, cells)
    density = 0.7 * np.exp(-(((t - 1.8) / 0.5) ** 2)) + 5.0 * ((t > 4) & (t < 5.2))
    opacity = 1 - np.exp(-density * step)
    transmittance = np.cumprod(1 - opacity) / (1 - opacity)  # before each piece
    return t, density, transmittance, transmittance * opacity / step


def figure_b1() -> Figure:
    """Plot density, transmittance and weight along a ray through a cloud and into a wall."""
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

FIGURES: Figures = {"B1": figure_b1}


if __name__ == "__main__":
    main(FIGURES, __doc__.splitlines()[0])
