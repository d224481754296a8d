"""Draw the figures of a run before, during and after training."""

from abc import abstractmethod
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from course import blanks, figures
from course.training.problems import say
from course.training.run import Run


class Pictures(Callback):
    """Draw before training, at the epochs that the assignment asks for, at each `--sample_every` and after the last.

    A part's own class gives `epochs`, `pictures(model)`: name -> function that draws an image [3, H, W] in 0..1, to be
    written to figures/NAME_epoch_NNN.png and to TensorBoard, and `curves()`, which draws what is in `run.history` and,
    when the run is done, `run.results`. What needs a blank that is not filled in yet is left out.

    Args:
        loaders: of training, validation and test, for images to show.
    """

    epochs: tuple[int, ...] = ()

    def __init__(self, run: Run, loaders: tuple):
        self.run, self.loaders = run, loaders
        self.left_out: set[str] = set()

    @abstractmethod
    def pictures(self, model: pl.LightningModule) -> dict[str, Callable[[], Tensor]]: ...

    @abstractmethod
    def curves(self) -> None: ...

    def skip_if_blank(self, what: str, make: Callable):
        """What `make` returns; None, and a line that says so the first time, where it meets a blank."""
        try:
            return make()
        except NotImplementedError as blank:
            if what not in self.left_out:
                self.left_out.add(what)
                say(f"without {what}: {blanks.describe(blank)}")

    def on_train_start(self, trainer, pl_module):
        if trainer.global_step == 0:
            self._draw(trainer, pl_module, epoch=0)

    def on_train_epoch_end(self, trainer, pl_module):
        epoch, args = trainer.current_epoch + 1, self.run.args
        if epoch in (*self.epochs, args.epochs) or (args.sample_every and epoch % args.sample_every == 0):
            self._draw(trainer, pl_module, epoch)

    def finish(self, model: pl.LightningModule) -> None:
        """Called by `fit` in the first process when all is done, with the best weights."""
        self.curves()

    @torch.no_grad()
    def _draw(self, trainer, model: pl.LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero or not self.run.folder:
            return
        self.run.check_folder()
        was_training = model.training
        model.eval()
        torch.manual_seed(self.run.args.seed)  # the same z each time; `Reproducible` seeds the next step anew
        for name, draw in self.pictures(model).items():
            picture = self.skip_if_blank(name, draw)
            if picture is None:
                continue
            scale = 2 if picture.size(2) < 400 else 1
            figures.save_image(picture, self.run.figure(f"{name}_epoch_{epoch:03d}.png"), scale)
            trainer.logger.experiment.add_image(f"val/{name}", picture, epoch)
        model.train(was_training)
        if self.run.history:
            self.curves()
