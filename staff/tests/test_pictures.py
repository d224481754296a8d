"""Tests of the epochs at which a run draws figures, and of the figures themselves."""

from types import SimpleNamespace

import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from course import curves, figures
from course.figures import save_curves
from course.training import pictures
from part1_vae import train as part1
from part2_aae import code_figures
from part2_aae import train as part2
from part3_gpt import attention_figure


@pytest.mark.parametrize(
    ("figures", "expected"), [(part1.Figures, [10, 80]), (part2.Figures, [20, 50, 100])], ids=["part 1", "part 2"]
)
def test_a_run_draws_at_the_epochs_of_the_assignment(monkeypatch, figures, expected):
    def drawn(epochs: int, sample_every: int, resumed: bool = False) -> list[int]:
        found = []
        monkeypatch.setattr(pictures.Pictures, "_draw", lambda self, trainer, model, epoch: found.append(epoch))
        args = SimpleNamespace(epochs=epochs, sample_every=sample_every)
        callback = figures(SimpleNamespace(args=args), loaders=())
        callback.on_train_start(SimpleNamespace(global_step=7 if resumed else 0), None)
        for epoch in range(epochs):
            callback.on_train_epoch_end(SimpleNamespace(current_epoch=epoch), None)
        return found

    assert drawn(epochs=120, sample_every=0) == [0, *expected, 120], "before training and after the last epoch, too"
    assert drawn(epochs=3, sample_every=0) == [0, 3]
    assert drawn(epochs=5, sample_every=2) == [0, 2, 4, 5]
    assert drawn(epochs=5, sample_every=0, resumed=True) == [5]


def test_curves_that_touch_zero_are_drawn(tmp_path, recwarn):
    """The unbiased estimate of the MMD can be negative."""
    for name, values in {"some": [0.1, -1e-5, 0.01], "none": [-1e-5, 0.0, -1e-6]}.items():
        path = save_curves({"mmd": ([1, 2, 3], values)}, tmp_path / f"{name}.png", "MMD", "", log=True)
        assert len(Image.open(path).convert("L").getcolors()) > 5
    assert not [warning for warning in recwarn if "positive" in str(warning.message)]


@pytest.fixture
def kept_figures(monkeypatch) -> list:
    """Return a list that collects the matplotlib figures as they are drawn."""
    made, new_figure = [], figures.new_figure

    def kept(*size, **how):
        made.append(new_figure(*size, **how))
        return made[-1]

    for module in (curves, attention_figure):
        monkeypatch.setattr(module, "new_figure", kept)
    return made


@pytest.mark.parametrize("log", [False, True])
def test_curves_have_room_for_their_numbers(log, kept_figures):
    """The margins are fixed, so the longest labels must fit into them."""
    for values in ([0.00051, 0.000535], [0.00012, 0.00018], [-0.00051, -0.000535], [123456.0, 654321.0], [3e-6, 4.0]):
        curves.curves_png({"mmd": ([50_000, 100_000], values)}, "squared MMD", "title", log, "step")
        canvas, (axes,) = kept_figures[-1].canvas, kept_figures[-1].axes
        drawn, (width, height) = axes.get_tightbbox(canvas.get_renderer()), canvas.get_width_height()
        assert 0 <= drawn.x0 and drawn.x1 <= width and 0 <= drawn.y0 and drawn.y1 <= height, values


@pytest.mark.parametrize("epochs, slope, insets", [(80, 0, 1), (80, 0.03, 0), (12, 0, 0)])
def test_a_flat_curve_has_an_inset(epochs, slope, insets, kept_figures):
    """Without an inset, the steep beginning would hide the small changes in the many later epochs."""
    places = list(range(epochs + 1))
    values = [4.0, *(0.52 + 1 / epoch + slope * (epochs - epoch) for epoch in places[1:])]
    curves.curves_png({"bpd": (places, values), "validation": (places[1:], values[1:])}, "bits", "title", log=True)
    [axes] = kept_figures[-1].axes
    found = axes.child_axes
    assert len(found) == insets
    for inset in found:
        assert len(inset.lines) == 2
        for line, whole in zip(inset.lines, axes.lines, strict=True):
            assert line.get_color() == whole.get_color() and line.get_xdata()[0] == epochs / 5
            assert list(line.get_ydata()) == values[-len(line.get_ydata()) :]


def test_a_long_title_is_drawn_whole(kept_figures):
    title = "reconstruction, z_dim 8, lambda 0.995: best validation 0.0498 (epoch 24), test 0.0501"
    curves.curves_png({"mse": ([1, 2], [0.3, 0.1])}, "mse", title)
    canvas, (axes,) = kept_figures[-1].canvas, kept_figures[-1].axes
    drawn, (width, height) = axes.title.get_window_extent(canvas.get_renderer()), canvas.get_width_height()
    assert 0 <= drawn.x0 and drawn.x1 <= width and drawn.y1 <= height


RANGES = [(0.5105, 0.552), (0.51, 0.53), (1.01, 1.19), (7.1, 7.9), (0.3, 4.0), (2e-4, 3.0)]


@pytest.mark.parametrize("low, high", RANGES)
def test_a_logarithmic_axis_has_numbers_to_read(low, high, kept_figures):
    curves.curves_png({"bpd": ([1, 80], [high, low])}, "bits per dimension", "title", log=True)
    (axes,) = kept_figures[-1].axes
    bottom, top = axes.get_ylim()
    shown = [tick.get_text() for tick in axes.get_yticklabels() if bottom <= tick.get_position()[1] <= top]
    assert 3 <= len(shown) <= 11 and len(set(shown)) == len(shown) and "" not in shown, shown


def test_the_attention_figure_names_layers_heads_axes_and_text(kept_figures):
    weights = torch.rand(3, 2, 5, 5).tril()
    image = attention_figure.attention_figure(weights, ["a", " b", "\n", "$x$", "日"])
    assert image.size(0) == 3 and 0 <= image.min() < image.max() <= 1
    figure = kept_figures[-1]
    titles = [f"layer {layer}, head {head}" for layer in (1, 2, 3) for head in (1, 2)]
    assert [axes.get_title() for axes in figure.axes] == titles
    for axes, expected in zip(figure.axes, weights.flatten(0, 1), strict=True):
        shares = torch.from_numpy(axes.images[0].get_array().data)
        torch.testing.assert_close(shares, expected / expected.max(dim=1, keepdim=True).values)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a", "␣b", "\\n", "$x$", "日"]
    assert not figure.axes[0].get_yticklabels()[3].get_parse_math(), "a token is not a formula"
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("token that is attended to", "token that attends")
    assert figure.get_suptitle() == r"tokens 0 to 4 of the text: 'a b\n$x$日'"


def test_a_large_model_has_an_attention_figure_of_bounded_size():
    image = attention_figure.attention_figure(torch.rand(48, 3, 2, 2), ["a", "b"])
    assert max(image.shape) < 3300


VISION = {  # linear RGB as seen by people who lack one kind of cone (Machado et al., 2009, severity 1)
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("matrix", VISION.values(), ids=VISION)
@pytest.mark.parametrize("colours, least", [(code_figures.LABELS, 30), (figures.LINES, 15)], ids=["labels", "lines"])
def test_colours_can_be_told_apart(colours, least, matrix):
    """In CIELAB, a difference of 10 is visible at a glance; two of matplotlib's ten colours differ by only 4.6."""
    rgb = torch.tensor([to_rgb(colour) for colour in colours])
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (linear @ torch.tensor(matrix).float().T).clamp(0, 1)
    xyz = seen @ torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    xyz /= torch.tensor([0.9505, 1.0, 1.089])
    x, y, z = torch.where(xyz > 216 / 24389, xyz ** (1 / 3), (24389 / 27 * xyz + 16) / 116).unbind(1)
    assert torch.pdist(torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)).min() > least
