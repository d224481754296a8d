"""Trainer arguments that depend on flags, the machine or the cluster rather than the model."""

from collections.abc import Sequence

import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.environments import SLURMEnvironment
from torch.utils.data import DataLoader

from course.training.checkpoints import WholeCheckpoints


def extras(args, loaders: tuple[DataLoader, ...], shown: Sequence[str]) -> list[Callback]:
    """Create callbacks for fused optimizers, data on the GPU, --progress_bar, --channels_last, --compile and --recipe.

    Args:
        shown: names of the metrics to show next to the progress bar.
    """
    # imported here, so that readers can skip code that only makes a run faster or that a default run does not use
    from course.training.speed import FusedOptimizers

    callbacks: list[Callback] = [FusedOptimizers()]
    if args.accelerator != "cpu" and torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32, several times as fast
    if args.accelerator != "cpu" and torch.accelerator.is_available():
        from course.training.on_device import DataOnDevice

        callbacks.append(DataOnDevice(loaders))
    if several(args):
        from course.training.several import TrainsSomething

        callbacks.append(TrainsSomething())
    if args.progress_bar:
        from course.training.progress import ProgressBar

        callbacks.append(ProgressBar(shown))
    if args.compile:
        from course.training.network import Compile

        callbacks.append(Compile())
    if getattr(args, "channels_last", False):  # part 3 has no convolutions
        from course.training.network import ChannelsLast

        callbacks.append(ChannelsLast())
    if getattr(args, "recipe", None) == "fast":  # part 3 has no recipes
        from course.training.recipe import Fast

        callbacks.append(Fast())
    return callbacks


def plugins(args) -> list:
    """Return the Trainer's `plugins`: atomic checkpoint writes, and no requeueing by Lightning (`train.job` does that).

    Raises:
        Problem: the number of processes in the SLURM job does not match the flags.
    """
    if not SLURMEnvironment.detect():
        return [WholeCheckpoints()]
    from course.training.slurm import environment

    return [WholeCheckpoints(), environment(count_devices(args), args.num_nodes)]


def count_devices(args) -> int:
    return len(args.devices) if isinstance(args.devices, list) else args.devices


def several(args) -> bool:
    """Return whether the flags request several processes."""
    return args.strategy == "ddp" or count_devices(args) * args.num_nodes > 1


def strategy(args, manual: bool = False):
    """Return the Trainer's `strategy`.

    Args:
        manual: whether optimization is manual, so that a backward pass reaches only one optimizer's parameters.
    """
    if not several(args):
        return args.strategy
    from course.training.several import distributed

    return distributed(find_unused_parameters=manual)


def limits(args) -> dict:
    """Return the Trainer arguments for --fast_dev_run and --limit_batches."""
    batches = {f"limit_{stage}_batches": args.limit_batches for stage in ("train", "val", "test")}
    return {"fast_dev_run": args.fast_dev_run, **batches}
