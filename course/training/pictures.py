"""Draw the figures of a run before, during and after training."""

from abc import abstractmethod
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from course import figures
from course.training.problems import say
from course.training.run import Run


class Pictures(Callback):
    """Draws figures: before training, at the required epochs, every `--sample_every` epochs, and at the end.

    A part's subclass defines `epochs`; `pictures(model)`, name -> function that draws an image [3, H, W] in 0..1, which
    is written to figures/NAME_epoch_NNN.png and to TensorBoard; and `curves(results)`, which draws the metrics in
    `run.history` and, after testing, the results. Figures that need an open blank are skipped.

    Args:
        loaders: training, validation and test DataLoaders, with images to show.
    """

    epochs: tuple[int, ...] = ()

    def __init__(self, run: Run, loaders: tuple):
        self.run, self.loaders = run, loaders
        self.left_out: set[str] = set()

    @abstractmethod
    def pictures(self, model: pl.LightningModule) -> dict[str, Callable[[], Tensor]]: ...

    @abstractmethod
    def curves(self, results: dict[str, float]) -> None: ...

    def skip_if_blank(self, what: str, make: Callable):
        """Return `make()`, or None if it reaches a blank; print a message the first time."""
        try:
            return make()
        except NotImplementedError as blank:
            from course import blanks

            if what not in self.left_out:
                self.left_out.add(what)
                say(f"skipping {what}: {blanks.describe(blank)}")

    def on_train_start(self, trainer, pl_module):
        if trainer.global_step == 0:
            self._draw(trainer, pl_module, epoch=0)

    def on_train_epoch_end(self, trainer, pl_module):
        epoch, args = trainer.current_epoch + 1, self.run.args
        if epoch in (*self.epochs, args.epochs) or (args.sample_every and epoch % args.sample_every == 0):
            self._draw(trainer, pl_module, epoch)

    def on_test_end(self, trainer, pl_module):
        if trainer.is_global_zero and self.run.folder:
            self.draw_curves({tag: float(value) for tag, value in trainer.callback_metrics.items()})

    def draw_curves(self, results: dict[str, float] | None = None) -> None:
        """Draw the curves of the completed epochs, if any."""
        self.run.check_folder()
        if self.run.history:
            self.curves(results or {})

    @torch.no_grad()
    def _draw(self, trainer, model: pl.LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero or not self.run.folder:
            return
        self.run.check_folder()
        was_training = model.training
        model.eval()
        torch.manual_seed(self.run.args.seed)  # the same z each time; `Reproducible` reseeds the next step
        for name, draw in self.pictures(model).items():
            picture = self.skip_if_blank(name, draw)
            if picture is None:
                continue
            scale = 2 if picture.size(2) < 400 else 1
            figures.save_image(picture, self.run.figure(f"{name}_epoch_{epoch:03d}.png"), scale)
            if trainer.logger:
                trainer.logger.experiment.add_image(f"val/{name}", picture, epoch)
        model.train(was_training)
        self.draw_curves()


def save_curves(run: Run, name: str, label: str, title: str, tags: dict[str, str], log: bool = False) -> None:
    """Plot metrics of the history over epochs; do nothing if one of them was not measured.

    Args:
        name: name of the file in the run's figures folder.
        label: label of the vertical axis, with the unit.
        tags: legend -> metric, such as "val/bpd".
    """
    if all(tag in row for tag in tags.values() for row in run.history):
        epochs = [row["epoch"] for row in run.history]
        curves = {legend: (epochs, [row[tag] for row in run.history]) for legend, tag in tags.items()}
        figures.save_curves(curves, run.figure(name), label, title, log=log)
