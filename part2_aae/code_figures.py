"""Figures of the codes: their positions and their spread."""

import torch
from torch import Tensor

from course.figures import LINES, as_image, new_figure

# also distinguishable under protanopia, deuteranopia or tritanopia (simulated as in Machado et al., 2009)
LABELS = [
    "#008060", "#ff9f00", "#600000", "#600080", "#bf4000", "#00dfdf", "#4000ff", "#bfbf80", "#bf60ff", "#000020",
]  # fmt: skip


def scatter_over_normal(points: Tensor, labels: Tensor, title: str) -> Tensor:
    """Draw points [N, 2], coloured by label [N], over the contours of N(0, I): an image [3, H, W] in 0..1."""
    from matplotlib.patches import Circle

    figure = new_figure(6.4, 5.8)
    axes = figure.subplots()
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
    colours = [LABELS[label % len(LABELS)] for label in labels.tolist()]
    axes.scatter(*points.T.numpy(), s=3, linewidths=0, c=colours)  # in one call, so no label hides the others
    for label in labels.unique().tolist():
        axes.scatter([], [], s=3, linewidths=0, c=LABELS[label % len(LABELS)], label=str(label))
        middle = points[labels == label].median(dim=0).values.tolist()
        axes.annotate(str(label), middle, ha="center", va="center", weight="bold", bbox=paper, zorder=3)
    for radius in (1, 2, 3):
        axes.add_patch(Circle((0, 0), radius, fill=False, linewidth=1, color="black"))
        axes.annotate(f"{radius}$\\sigma$", (0, radius), ha="center", va="center", fontsize=8, bbox=paper)
    farthest = 1.05 * points.abs().max().item()
    # one of a few fixed ranges, so that figures of different runs and epochs can be compared
    reach = next((each for each in (3.6, 6, 10, 20, 50, 100) if each >= farthest), farthest)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, markerscale=4, bbox_to_anchor=(1, 1), loc="upper left", title="label")
    return as_image(figure)


def spread(points: Tensor, title: str) -> Tensor:
    """Plot the standard deviations of points [N, D] next to those of N(0, I): an image [3, H, W] in 0..1.

    The bars show the dimensions; the line shows the principal directions, which do not depend on how the space is
    rotated. Both are sorted in descending order.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(6.4, 3.6)
    axes = figure.subplots()
    dims = range(1, points.size(1) + 1)
    centred = points - points.mean(dim=0)
    principal = torch.linalg.svdvals(centred) / (len(points) - 1) ** 0.5  # at most N of them
    axes.bar(dims, points.std(dim=0).sort(descending=True).values.numpy(), color=LINES[0], label="dimensions of z")
    axes.plot(dims[: len(principal)], principal.numpy(), ".-", color=LINES[1], label="principal directions")
    axes.axhline(1, color="black", linewidth=1, linestyle="--", label="the prior, N(0, I)")
    axes.set(xlabel="rank, from widest to narrowest", ylabel="standard deviation")
    axes.set_ylim(0, 1.2 * axes.get_ylim()[1])  # room for the legend
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, ncols=3, loc="upper center", fontsize=9)
    return as_image(figure)
