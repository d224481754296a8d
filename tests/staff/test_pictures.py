"""When a run draws."""

from types import SimpleNamespace

import pytest

from course import training
from part1_vae import train as part1
from part2_aae import train as part2


@pytest.mark.parametrize(
    ("figures", "expected"), [(part1.Figures, [10, 80]), (part2.Figures, [20, 50, 100])], ids=["part 1", "part 2"]
)
def test_a_run_draws_at_the_epochs_of_the_assignment(monkeypatch, figures, expected):
    def drawn(epochs: int, sample_every: int, resumed: bool = False) -> list[int]:
        found = []
        monkeypatch.setattr(training.Pictures, "_draw", lambda self, trainer, model, epoch: found.append(epoch))
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
