"""Train, test the best checkpoint, and write the summary."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from course.flags import defining_flags
from course.training import board, recipe
from course.training.checkpoints import Checkpoints
from course.training.finite import StopOnNaN
from course.training.metrics import Metrics
from course.training.pictures import Pictures
from course.training.problems import Stopped, is_first_process, say
from course.training.reproducible import Reproducible
from course.training.run import Run
from course.training.speed import FusedOptimizers, explain_compile_errors, settle_on_device
from course.training.summary import write_report, write_summary
from course.training.trainer import make_trainer


def fit(
    run: Run,
    model: pl.LightningModule,
    loaders: tuple,
    monitor: str,
    callbacks: list[Pictures],
) -> None:
    """Train, test the best checkpoint, and write `summary.json`.

    Args:
        model: its training, validation and test steps return dictionaries of tensors, averaged over an epoch by
            `Metrics`; "loss" in training is what is minimized.
        loaders: of training, validation and test; without a test set None stands in its place, and the results of the
            run are those of the best epoch on the validation set.
        monitor: the validation metric by which the best checkpoint is chosen: the lower, the better.
        callbacks: of the part: its figures.

    Raises:
        Problem: wrong trainer flags, a loss that is not finite, or a disk that fails.
        Stopped: a signal arrived; a checkpoint has been written.
    """
    try:
        with run.explain_disk_errors(), explain_compile_errors(run.args):
            _fit(run, model, loaders, monitor, callbacks)
    finally:
        if run.held:
            run.held.release()


def _fit(run: Run, model: pl.LightningModule, loaders: tuple, monitor: str, callbacks: list[Pictures]) -> None:
    args = run.args
    train, val, test = loaders
    ours = [Reproducible(args.seed), StopOnNaN(run), Metrics(run), FusedOptimizers()]
    if getattr(args, "recipe", None) == "fast":  # part 3 has none
        ours.append(recipe.Fast())
    trainer = make_trainer(args, model, [*ours, *callbacks, Checkpoints(run, monitor)], _make_logger(run))
    settle_on_device(args, model, loaders, trainer)
    trainer.fit(model, train, val, ckpt_path=args.resume, weights_only=True)
    if run.best:  # none for --fast_dev_run, nor where a copied checkpoint is resumed and nothing was better
        # the weights alone: Lightning's ckpt_path would bring back the history of that epoch too
        best = torch.load(run.checkpoint("best.ckpt"), map_location="cpu", weights_only=True)
        model.load_state_dict(best["state_dict"])
    if test is None:
        best_row = next((row for row in run.history if row["epoch"] == run.best.get("epoch")), {})
        run.results.update({tag: value for tag, value in best_row.items() if tag.startswith("val/")})
    run.check_folder()
    try:
        if test is not None:
            trainer.test(model, test)
        if trainer.is_global_zero and run.folder:
            run.check_folder()
            for callback in callbacks:
                callback.finish(model.to(trainer.strategy.root_device))
    except Stopped:
        say(f"the training is complete; to test it: --resume {run.folder}")
        raise
    if trainer.is_global_zero:
        _finish(run, model, trainer, monitor)


def _make_logger(run: Run) -> TensorBoardLogger | bool:
    """TensorBoard's, with the run's folder as its own; in the first process alone."""
    if not run.folder or not is_first_process():
        return False
    print(f"run folder: {run.folder}", flush=True)
    parent = run.folder.parent
    logger = TensorBoardLogger(parent.parent, parent.name, run.folder.name, default_hp_metric=False)
    logger.log_hyperparams(defining_flags(run.args))
    return logger


def _finish(run: Run, model: pl.LightningModule, trainer: pl.Trainer, monitor: str) -> None:
    """Print the results, and write the summary and the report."""
    for tag, value in run.results.items():
        if isinstance(value, float):
            print(f"{tag}: {value:.4f}")
    if not run.folder:
        return
    best = {f"best/{monitor}": run.best["value"]} if run.best else {}
    board.add_result(run.folder, defining_flags(run.args), best, trainer.fit_loop.epoch_loop.total_batch_idx + 1)
    write_summary(run, model, trainer)
    print(f"summary: {run.folder / 'summary.json'}")
    write_report(run)
    print("figures:")
    for path in sorted((run.folder / "figures").iterdir()):
        print(f"  {path}")
