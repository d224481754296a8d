"""Continue a run from its checkpoint; imported only with --resume."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from tensorboard.summary.writer import event_file_writer

from course.files import UNFINISHED, write_whole
from course.training.problems import Problem


def load_checkpoint(args, model: torch.nn.Module) -> Path | None:
    """Load the checkpoint's weights into the model.

    Returns:
        the folder of the checkpoint's run; None if the file was copied elsewhere, in which case a new run starts.

    Raises:
        Problem: the checkpoint does not match the model.
    """
    try:
        model.load_state_dict(args.checkpoint["state_dict"])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise Problem(f"--resume {args.resume}: the checkpoint does not match the model: {error}", status=2) from error
    return args.resume.parent.parent if args.resume.parent.name == "checkpoints" else None


def check_agreement(trainer, args) -> None:
    """Check that all processes read the same checkpoint, because in a SLURM job each process finds it separately.

    Raises:
        Problem: the processes read different checkpoints.
    """
    mine = (args.checkpoint["global_step"], args.checkpoint["run"]["events"])  # file names contain process and time
    if not trainer.strategy.reduce_boolean_decision(mine == trainer.strategy.broadcast(mine)):
        raise Problem("--resume: the processes found different checkpoints; name the run's folder", status=2)


def reopen(args, folder: Path) -> None:
    """Remove the output that the run wrote after its checkpoint; call this with the folder locked.

    Raises:
        Problem: the run has continued since its checkpoint was read.
    """
    now = torch.load(str(args.resume), map_location="cpu", weights_only=True, mmap=True)  # without the tensors
    if now["run"]["events"] != args.checkpoint["run"]["events"]:
        raise Problem(f"--resume {args.resume}: the run has continued in the meantime; run the command again", status=2)
    last = folder / "checkpoints" / "last.ckpt"
    if args.resume != last:  # an earlier checkpoint: last.ckpt must not contain the epochs that are removed below
        write_whole(last, args.resume.read_bytes())
    cut_event_files(folder, args.checkpoint["run"]["events"])
    for path in [folder / "hparams.yaml", *folder.rglob(UNFINISHED)]:  # some flags in hparams.yaml may have changed
        path.unlink(missing_ok=True)


def cut_event_files(folder: Path, sizes: dict[str, int]) -> None:
    """Truncate TensorBoard's event files to these sizes, in bytes, and remove the files that are not listed."""
    newest = 0
    for path in folder.glob("events.out.tfevents.*"):
        if path.name.split(".")[3].isdigit():
            newest = max(newest, int(path.name.split(".")[3]))
        if path.name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[path.name]:
            os.truncate(path, sizes[path.name])
    # TensorBoard reads the files of a run in the order of their names, which contain their creation time in seconds:
    # the next file must have a later time, even if it is created in the same second or this machine's clock is behind
    behind = max(0, newest + 1 - int(time.time()))
    event_file_writer.time = SimpleNamespace(time=lambda: time.time() + behind)


def resume_training(trainer, args, batches_done: int) -> None:
    """Prepare the Trainer to continue after `batches_done` batches of an epoch.

    Raises:
        Problem: a different number of processes wrote the checkpoint mid-epoch.
    """
    processes = args.checkpoint["run"]["processes"]
    if batches_done and processes != trainer.world_size:
        raise Problem(
            f"--devices: {args.resume} was written mid-epoch by {processes} processes;"
            f" it cannot be resumed with {trainer.world_size}",
            status=2,
        )
    for optimizer in trainer.optimizers:
        lay_out_state(optimizer)
    for config in trainer.lr_scheduler_configs:
        if isinstance(config.scheduler, torch.optim.lr_scheduler.LambdaLR):
            recompute_rates(config.scheduler)
    trainer.train_dataloader.first_batch = batches_done


def recompute_rates(schedule: torch.optim.lr_scheduler.LambdaLR) -> None:
    """Set the learning rates for the next step: with a new --epochs, they differ from those in the checkpoint."""
    groups = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
    for group, rate, factor in groups:
        group["lr"] = rate * factor(schedule.last_epoch)


def lay_out_state(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer's state the memory layout of its parameters; fused optimizers assume it without checking."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
