"""Lightning's Trainer, made from the flags; checkpoint files that are complete or not there."""

import io
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from course.files import write_whole
from course.training.intervals import BAR_EVERY_N_STEPS
from course.training.problems import Problem


def make_trainer(args, model, callbacks: list[Callback], logger: TensorBoardLogger | bool) -> pl.Trainer:
    strategy = args.strategy
    count = len(args.devices) if isinstance(args.devices, list) else args.devices
    if (strategy == "ddp" or count * args.num_nodes > 1) and not model.automatic_optimization:
        strategy = "ddp_find_unused_parameters_true"  # each backward pass reaches the parameters of one optimizer
    plugins = [WholeCheckpoints()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # train.job requeues
    if args.progress_bar:
        callbacks = [*callbacks, ProgressBar(refresh_rate=BAR_EVERY_N_STEPS)]
    try:
        return pl.Trainer(
            max_epochs=args.epochs,
            accelerator=args.accelerator,
            devices=args.devices,
            num_nodes=args.num_nodes,
            strategy=strategy,
            precision=args.precision,
            logger=logger,
            callbacks=callbacks,
            plugins=plugins,
            fast_dev_run=args.fast_dev_run,
            limit_train_batches=args.limit_batches,
            limit_val_batches=args.limit_batches,
            limit_test_batches=args.limit_batches,
            num_sanity_val_steps=0,
            enable_progress_bar=args.progress_bar,
            enable_model_summary=False,
            default_root_dir=args.log_dir,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise Problem(f"these flags do not go together here: {error}", status=2) from error


class WholeCheckpoints(TorchCheckpointIO):
    """Write checkpoints so that they are whole or not there.

    Lightning's own way goes through the folder for temporary files, and where that is another disk, as /tmp is on most
    clusters, moving the file means copying it: whoever kills the program then finds half a checkpoint.
    """

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        Path(path).parent.mkdir(exist_ok=True)  # in the run's folder, which is not made anew where it was deleted
        write_whole(path, buffer.getbuffer())


class ProgressBar(TQDMProgressBar):
    """Lightning's bar without the number of the run, which is cut off for runs that are named version_N."""

    def get_metrics(self, trainer, pl_module):
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
