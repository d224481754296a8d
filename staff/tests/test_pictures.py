"""When a run draws, and curves on a logarithmic axis."""

from types import SimpleNamespace

import pytest
from PIL import Image

from course import figures
from course.figures import save_curves
from course.training import pictures
from part1_vae import train as part1
from part2_aae import train as part2


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

    assert drawn(epochs=120, sample_every=0) == [0, *expected, 120], "before training, and after the last epoch too"
    assert drawn(epochs=3, sample_every=0) == [0, 3]
    assert drawn(epochs=5, sample_every=2) == [0, 2, 4, 5]
    assert drawn(epochs=5, sample_every=0, resumed=True) == [5]


def test_curves_that_touch_zero_are_drawn(tmp_path, recwarn):
    """The MMD, without bias, may be below 0."""
    for name, values in {"some": [0.1, -1e-5, 0.01], "none": [-1e-5, 0.0, -1e-6]}.items():
        path = save_curves({"mmd": ([1, 2, 3], values)}, tmp_path / f"{name}.png", "MMD", "", log=True)
        assert len(Image.open(path).convert("L").getcolors()) > 5
    assert not [warning for warning in recwarn if "positive" in str(warning.message)]


@pytest.mark.parametrize("log", [False, True])
def test_curves_have_room_for_their_numbers(log, monkeypatch):
    """The margins are fixed."""
    made, new_figure = [], figures.new_figure
    monkeypatch.setattr(figures, "new_figure", lambda *size, **how: made.append(new_figure(*size, **how)) or made[-1])
    for values in ([0.00051, 0.000535], [0.00012, 0.00018], [-0.00051, -0.000535], [123456.0, 654321.0], [3e-6, 4.0]):
        figures.curves_png({"mmd": ([50_000, 100_000], values)}, "squared MMD", "title", log, "step")
        canvas, (axes,) = made[-1].canvas, made[-1].axes
        drawn, (width, height) = axes.get_tightbbox(canvas.get_renderer()), canvas.get_width_height()
        assert 0 <= drawn.x0 and drawn.x1 <= width and 0 <= drawn.y0 and drawn.y1 <= height, values
