"""What the training runs of all parts share: run folder, metrics, checkpoints, resuming, stopping, summary.

A run can be stopped at any moment and goes on exactly (on the CPU, bit for bit), because nothing depends on state
that is hard to save:
- the noise of a step is a function of seed, process and step (`Reproducible`), the order of the data one of seed and
  epoch (`course.data.Shuffle`); neither validation nor figures can disturb them;
- metrics are written by one callback (`Metrics`), which has its sums in the checkpoint, before the checkpoint is;
- the checkpoint knows how long the event files were, and resuming cuts them back to that (`Checkpoints`).
"""

import atexit
import ctypes
import gc
import hashlib
import io
import json
import logging
import math
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import Tensor

from course import blanks, figures
from course.data import DataError
from course.files import UNFINISHED, Held, HeldFolder, write_whole
from course.flags import CHECKPOINT_FORMAT, REPOSITORY, defining_flags
from course.training import board, recipe

LOG_EVERY_N_STEPS = 50
BAR_EVERY_N_STEPS = 10


class Problem(Exception):
    """Something the user can do something about: the message says what; `status` is the exit status."""

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status


class Stopped(Exception):
    """SIGINT or SIGTERM arrived."""

    def __init__(self, signum: int):
        self.signum = signum


@dataclass
class Run:
    """One run: its flags, its folder and what it has done so far.

    `folder` is None for --fast_dev_run, which writes nothing. `history` has one dictionary an epoch.
    """

    args: object
    folder: Path | None
    history: list[dict] = field(default_factory=list)
    seconds: float = 0.0  # of training, from all its pieces
    best: dict = field(default_factory=dict)  # epoch and value of the monitored metric
    first_step: dict = field(default_factory=dict)  # the metrics of the first training step
    results: dict = field(default_factory=dict)  # the test metrics
    is_new: bool = True  # nothing has been written into the folder yet
    held: HeldFolder | None = None  # in the first process

    def checkpoint(self, name: str) -> Path:
        return self.folder / "checkpoints" / name

    def figure(self, name: str) -> Path:
        return self.folder / "figures" / name

    def what_is_kept(self) -> str:
        """A sentence about the last checkpoint."""
        if self.folder and self.checkpoint("last.ckpt").exists():
            return f"The last good checkpoint is {self.checkpoint('last.ckpt')}."
        return "There is no checkpoint yet."

    def check_folder(self) -> None:
        """Called before something is written, which would make the folder anew.

        Raises:
            Problem: the folder is no longer there.
        """
        if self.held and not self.held.is_there():
            raise Problem(f"the run's folder {self.folder} was moved or deleted while it ran; start a new run")

    @contextmanager
    def names_what_fails(self) -> Iterator[None]:
        """Turn a failing disk into a `Problem` that names the file or the folder."""
        try:
            yield
        except OSError as error:
            self.check_folder()
            where = os.fsdecode(error.filename) if error.filename else self.folder or "a file"
            go_on = f"then go on with --resume {self.folder}" if self.folder else "then start again"
            raise Problem(
                f"{where}: could not be written or read: {error.strerror or error}. {self.what_is_kept()} Mend that,"
                f" {go_on}."
            ) from error


def main(train: Callable[[], None]) -> int:
    """Call `train` and turn what can go wrong into a message and an exit status.

    Returns:
        0; 130 or 143 after Ctrl-C or SIGTERM; the status of a `Problem`; 1 where data or disk fail. Always 0 in the
        processes that the first one started: it would be killed if one of them failed before it has left.
    """
    if not gc.isenabled():  # train.py has imported what it needs
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries complain of what is left when Python ends
        gc.enable()
    status = _status_of(train)
    return status if _is_first_process() else 0


def _status_of(train: Callable[[], None]) -> int:
    _on_signals(_raise_stopped)
    _quiet()
    keep_memory()
    flush_subnormals(True)
    try:
        train()
        return 0
    except Stopped as stop:
        return 128 + stop.signum
    except (Problem, DataError) as error:
        _say(f"error: {error}")
        return error.status
    except NotImplementedError as error:
        _say(f"error: {blanks.describe(error)}")
        return 1
    except torch.OutOfMemoryError as error:
        _say(f"error: out of memory ({str(error).splitlines()[0]}); try a smaller --batch_size")
        return 1
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _say(f"error: {error.strerror or error}{where}")
        return 1
    finally:
        flush_subnormals(False)


def keep_memory() -> None:
    """Let glibc keep what a step frees for the next one: given back, it is thousands of page faults at each step."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # other libraries have none
        m_trim_threshold, m_mmap_threshold = -1, -3
        mallopt(m_mmap_threshold, 1 << 30) or mallopt(m_mmap_threshold, 32 << 20)  # the most that older ones take
        mallopt(m_trim_threshold, 1 << 30)


def flush_subnormals(flush: bool) -> None:
    """Let numbers below 1e-38 count as 0, in this thread and in those that it starts from now on.

    A processor takes many times as long for them, and the gradient of a GELU far from 0 has them: after an epoch of the
    VAE one number in fifty that goes back through its last one, which makes the whole step up to twice as slow.
    """
    torch.set_flush_denormal(flush)  # where a processor cannot, it stays as it is


# BEGIN STAFF
def channels_last(model: torch.nn.Module) -> torch.nn.Module:
    """Lay it out so that the channels of a pixel lie side by side: convolutions are faster so.

    On CPUs GELU is not, unless it sees such a tensor as what it is in memory, [B, H, W, C].
    """
    for module in model.to(memory_format=torch.channels_last).modules():
        if isinstance(module, torch.nn.GELU):
            module.register_forward_pre_hook(lambda _, inputs: (_moved(inputs[0], 1, -1),))
            module.register_forward_hook(lambda _, inputs, output: _moved(output, -1, 1))
    return model


def _moved(x: Tensor, source: int, destination: int) -> Tensor:
    return x.movedim(source, destination) if x.dim() == 4 and x.is_cpu else x


# END STAFF
def start(args, model: pl.LightningModule, loaders: tuple) -> Run:
    """Make the run's folder, or take the one that is resumed.

    Raises:
        Problem: the flags do not go together, the checkpoint does not fit the model, or the batch size not the data.
    """
    folder = None
    if len(loaders[0]) == 0:
        size = len(loaders[0].dataset)
        raise Problem(f"--batch_size {args.batch_size}: the training set has {size} examples", status=2)
    _trainer(args, model, callbacks=[], logger=False)  # to see whether it can be made, before anything is written
    # BEGIN STAFF
    channels_last(model)  # not for students: their own code may take a view of what a convolution gives
    # END STAFF
    if args.checkpoint:
        try:
            model.load_state_dict(args.checkpoint["state_dict"])
        except (RuntimeError, KeyError, TypeError, AttributeError) as error:
            raise Problem(f"--resume {args.resume}: does not fit the model: {error}", status=2) from error
        if args.resume.parent.name == "checkpoints":
            folder = args.resume.parent.parent
    if args.fast_dev_run or not _is_first_process():
        return Run(args, folder)  # other processes are told the folder in Checkpoints.setup
    if folder is None:
        folder = _new_folder(Path(args.log_dir) / args.program)
        return Run(args, folder, held=_hold(folder))
    held = _hold(folder)
    _check_unchanged(args)
    _cut_event_files(folder, args.checkpoint["run"]["events"])
    for path in [folder / "hparams.yaml", *folder.rglob(UNFINISHED)]:  # the first, as some flags may have changed
        path.unlink(missing_ok=True)
    return Run(args, folder, is_new=False, held=held)


def _hold(folder: Path) -> HeldFolder:
    """Take the folder for this process alone.

    Raises:
        Problem: another process has it.
    """
    try:
        held = HeldFolder(folder)
    except Held as error:
        raise Problem(
            f"--resume {folder}: the run is still going on: {error} has it. Stop that one, or wait for its end; if"
            f" its machine is gone, delete {folder / '.lock'}",
            status=2,
        ) from error
    except OSError as error:
        raise Problem(f"--resume {folder}: cannot be written: {error.strerror or error}", status=2) from error
    if not held.locked:
        _say(f"{folder}: this file system has no locks: see that no two processes resume the run at once")
    return held


def _check_unchanged(args) -> None:
    """See that the run has not gone on between the reading of the checkpoint and now, when its folder is held."""
    now = torch.load(str(args.resume), map_location="cpu", weights_only=True, mmap=True)  # without the tensors
    if now["run"]["events"] != args.checkpoint["run"]["events"]:
        raise Problem(f"--resume {args.resume}: the run has gone on meanwhile; give the command once more", status=2)


def fit(
    run: Run,
    model: pl.LightningModule,
    loaders: tuple,
    monitor: str,
    callbacks: list["Pictures"],
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
    with run.names_what_fails(), _compiling(run.args):
        _fit(run, model, loaders, monitor, callbacks)


def _fit(run: Run, model: pl.LightningModule, loaders: tuple, monitor: str, callbacks: list["Pictures"]) -> None:
    args = run.args
    train, val, test = loaders
    logger = False
    if run.folder and _is_first_process():
        print(f"run folder: {run.folder}", flush=True)
        parent = run.folder.parent
        logger = TensorBoardLogger(parent.parent, parent.name, run.folder.name, default_hp_metric=False)
        logger.log_hyperparams(defining_flags(args))
    ours = [Reproducible(args.seed), StopOnNaN(run), Metrics(run), FusedOptimizers()]
    if getattr(args, "recipe", None) == "fast":  # part 3 has none
        ours.append(recipe.Fast())
    trainer = _trainer(args, model, [*ours, *callbacks, Checkpoints(run, monitor)], logger)
    _settle_on_device(args, model, loaders, trainer)
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
        if not trainer.is_global_zero:
            return
        if run.folder:
            run.check_folder()
            for callback in callbacks:
                callback.finish(model.to(trainer.strategy.root_device))
    except Stopped:
        _say(f"the training is complete; to test it: --resume {run.folder}")
        raise
    for tag, value in run.results.items():
        if isinstance(value, float):
            print(f"{tag}: {value:.4f}")
    if run.folder:
        best = {f"best/{monitor}": run.best["value"]} if run.best else {}
        board.add_result(run.folder, defining_flags(args), best, trainer.fit_loop.epoch_loop.total_batch_idx + 1)
        _write_summary(run, model, trainer)
        print(f"summary: {run.folder / 'summary.json'}")
        _write_report(run)
        print("figures:")
        for path in sorted((run.folder / "figures").iterdir()):
            print(f"  {path}")


def _trainer(args, model, callbacks: list[Callback], logger: TensorBoardLogger | bool) -> pl.Trainer:
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


def _settle_on_device(args, model: pl.LightningModule, loaders: tuple, trainer: pl.Trainer) -> None:
    """Move the data to a GPU that one process has for itself, else let them go there in the background; --compile."""
    device = trainer.strategy.root_device
    for loader in loaders:
        if loader is None or device.type == "cpu":
            continue
        movable = hasattr(loader, "move_to") and hasattr(loader.dataset, "to")  # not one that a student put there
        if trainer.world_size == 1 and args.num_workers == 0 and movable:
            loader.move_to(device)
        else:
            loader.pin_memory = device.type == "cuda"
    if args.compile:
        # on a GPU as CUDA graphs, so that a step is a few launches and not hundreds
        mode = "reduce-overhead" if device.type == "cuda" else None
        getattr(model, "model", model).compile(mode=mode)


@contextmanager
def _compiling(args) -> Iterator[None]:
    """Turn what torch.compile cannot do into a `Problem`."""
    if not args.compile:
        yield
        return
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0]
        raise Problem(f"--compile: cannot be done here: {reason}; leave the flag out") from error


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


class FusedOptimizers(Callback):
    """On CPUs and CUDA GPUs let an optimizer change all parameters in one kernel, if PyTorch has one for it.

    A resumed run has what its checkpoint says.
    """

    def on_fit_start(self, trainer, pl_module):
        if trainer.strategy.root_device.type in ("cpu", "cuda"):
            for optimizer in trainer.optimizers:
                fuse(optimizer)


def fuse(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The same optimizer, with one kernel for all parameters, if it is an Adam or an SGD."""
    if isinstance(optimizer, torch.optim.Adam | torch.optim.SGD):
        for group in optimizer.param_groups:
            group.update(fused=True, foreach=False)
    return optimizer


class Reproducible(Callback):
    """Seed the noise of each step with a hash of seed, process, epoch and batch; validation and test likewise.

    So a step draws the same numbers in a resumed run, and validation the same ones each time.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def _seed(self, trainer, *what) -> None:
        text = "/".join(str(part) for part in (self.seed, trainer.global_rank, *what))
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
        # torch.manual_seed seeds devices of all kinds; for those that are not there it keeps a stack trace at each call
        torch.default_generator.manual_seed(seed)
        device = trainer.strategy.root_device
        if device.type in ("cuda", "mps"):
            torch.get_device_module(device).manual_seed(seed)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self._seed(trainer, "train", trainer.current_epoch, batch_idx)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self._seed(trainer, "validation", batch_idx)

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self._seed(trainer, "test", batch_idx)


def _is_looked_at(step: int) -> bool:
    """Whether the numbers of this step are read, for which the CPU has to wait until a GPU has come that far."""
    return step % LOG_EVERY_N_STEPS == 0


class StopOnNaN(Callback):
    """Stop the run when the loss is no longer finite, before it gets into a checkpoint."""

    def __init__(self, run: Run):
        self.run, self.total = run, torch.zeros(())

    def on_before_backward(self, trainer, pl_module, loss):
        # a sum with one NaN or infinity in it is never finite again, so on a GPU a look now and then is enough
        self.total = self.total.to(loss.device) + loss.detach()
        if loss.device.type == "cpu" or _is_looked_at(trainer.global_step):
            stop_unless_finite(self.run, trainer, "loss", self.total)

    def on_validation_start(self, trainer, pl_module):
        stop_unless_finite(self.run, trainer, "loss", self.total)
        self.total = torch.zeros(())


def stop_unless_finite(run: Run, trainer: pl.Trainer, what: str, value: Tensor) -> None:
    """End the run with a message if `value`, which is `what`, has an element that is not finite in any process."""
    finite = bool(torch.isfinite(value).all())
    if trainer.world_size > 1:
        finite = trainer.strategy.reduce_boolean_decision(finite)
    if finite:
        return
    rates = [f"--{name} (it was {value:g})" for name, value in vars(run.args).items() if re.fullmatch("(.*_)?lr", name)]
    step = trainer.fit_loop.epoch_loop.total_batch_idx + 1
    raise Problem(
        f"the {what} is no longer finite at step {step} (epoch {trainer.current_epoch + 1}). {run.what_is_kept()}"
        f" What to try: a new run with a smaller {' or '.join(rates)}, another --seed, or --precision 32-true if it was"
        " another."
    )


class Metrics(Callback):
    """Average what the steps return over an epoch, and write it: to TensorBoard, to the terminal, to `run.history`.

    Tags are `train/…`, `val/…` and `test/…`; `train/…_step` is the value of single steps. Means are over examples, of
    all processes. A module may have `derived_metrics(means) -> dict` for what follows from the means of an epoch, and
    `throughput`: what to count for the rate, and how many of it are in an example ("images", 1).
    """

    def __init__(self, run: Run):
        self.run = run
        self.train: dict[str, float | list[float]] = {}  # the means of the epoch that just ended
        self.val: dict[str, float | list[float]] = {}
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.clock, self.examples = 0.0, 0  # since when, and how many, for the rate
        self.charts_missing = run.is_new

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        sums, count = self._totals(trainer, pl_module)
        checkpoint.setdefault("run", {}).update(sums=sums, count=count)

    def on_load_checkpoint(self, trainer, pl_module, checkpoint):
        if trainer.is_global_zero:  # they are those of all processes
            self.sums, self.count = dict(checkpoint["run"]["sums"]), checkpoint["run"]["count"]

    def on_train_start(self, trainer, pl_module):  # a run that goes on in the middle of an epoch has no epoch start
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer, pl_module):
        self.clock, self.examples = time.perf_counter(), 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        outputs = self._add({name: value for name, value in outputs.items() if name != "loss"}, batch)
        self.examples += len(batch[0]) * trainer.world_size
        if _is_looked_at(trainer.fit_loop.epoch_loop.total_batch_idx):
            values = {f"train/{name}_step": float(value) for name, value in outputs.items() if value.ndim == 0}
            if not self.run.first_step:
                self.run.first_step.update(values)
            self._log(trainer, values)
        is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if self.run.args.progress_bar and (is_last or (batch_idx + 1) % BAR_EVERY_N_STEPS == 0):
            for name in pl_module.printed_metrics:
                if name in outputs:
                    # on the CPU, as Lightning looks at it after each batch from now on
                    pl_module.log(name, outputs[name].cpu(), prog_bar=True, logger=False)

    def on_validation_epoch_start(self, trainer, pl_module):
        self.train = self._means(trainer, pl_module, "train")  # validation comes before the end of the training epoch
        what, of_each = self._throughput(pl_module)
        self.train[f"train/{what}_per_second"] = self.examples * of_each / (time.perf_counter() - self.clock)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self._add(outputs, batch)

    def on_validation_epoch_end(self, trainer, pl_module):
        self.val = self._means(trainer, pl_module, "val")
        for name in pl_module.printed_metrics:
            if f"val/{name}" in self.val:
                stop_unless_finite(self.run, trainer, f"val/{name}", torch.tensor(self.val[f"val/{name}"]))
        # for callbacks that watch a metric, such as EarlyStopping
        scalars = {tag: value for tag, value in self.val.items() if not isinstance(value, list)}
        pl_module.log_dict(scalars, logger=False)

    def on_train_epoch_end(self, trainer, pl_module):
        epoch = trainer.current_epoch + 1
        row = {**self.train, **self.val, "train/lr": trainer.optimizers[0].param_groups[0]["lr"]}
        self.run.history.append({"epoch": epoch, **row})
        self._log(trainer, row)
        if trainer.loggers and (epoch == 1 or self.charts_missing):
            board.add_charts(trainer.logger.experiment, self.run.args.program, row)
            self.charts_missing = False
        shown = [
            f"{stage}/{name} {row[f'{stage}/{name}']:.4f}"
            for name in pl_module.printed_metrics
            for stage in ("train", "val")
            if f"{stage}/{name}" in row
        ]
        what, _ = self._throughput(pl_module)
        rate = f"{row[f'train/{what}_per_second']:.0f} {what}/s"
        line = "  ".join([f"epoch {epoch}/{trainer.max_epochs}", *shown, rate])
        if self.run.args.progress_bar:
            pl_module.print(line)  # above the bar
        elif trainer.is_global_zero:
            print(line, flush=True)

    @staticmethod
    def _throughput(pl_module) -> tuple[str, int]:
        return getattr(pl_module, "throughput", ("images", 1))

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self._add(outputs, batch)

    def on_test_epoch_end(self, trainer, pl_module):
        self.run.results.update(self._means(trainer, pl_module, "test"))
        self._log(trainer, self.run.results)

    def _add(self, outputs: dict[str, Tensor | float], batch) -> dict[str, Tensor]:
        """Add what a step returned, numbers or tensors, to the sums; return it as tensors without their graph."""
        size = len(batch[0])
        outputs = {name: torch.as_tensor(value).detach() for name, value in outputs.items()}
        for name, value in outputs.items():
            value = value.double() if value.device.type == "cpu" else value.float()
            self.sums[name] = self.sums.get(name, 0) + value * size
        self.count += size
        return outputs

    def _means(self, trainer, pl_module, stage: str) -> dict[str, float | list[float]]:
        sums, count = self._totals(trainer, pl_module)
        means = {name: total / count for name, total in sums.items()}
        self.sums, self.count = {}, 0
        if hasattr(pl_module, "derived_metrics"):
            means.update(pl_module.derived_metrics(means))
        return {f"{stage}/{name}": value.tolist() for name, value in means.items()}

    def _totals(self, trainer, pl_module) -> tuple[dict[str, Tensor], float]:
        """The sums and the count of all processes together, on the CPU."""

        def total(value: Tensor) -> Tensor:
            return trainer.strategy.reduce(value.to(pl_module.device), reduce_op="sum").cpu()

        sums = {name: total(value) for name, value in self.sums.items()}
        return sums, total(torch.tensor(float(self.count))).item()

    def _log(self, trainer, values: dict) -> None:
        """Numbers as scalars, lists as histograms, at the number of steps done."""
        if not trainer.loggers:
            return
        step = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        trainer.logger.log_metrics({tag: value for tag, value in values.items() if not isinstance(value, list)}, step)
        for tag, value in values.items():
            if isinstance(value, list):
                trainer.logger.experiment.add_histogram(tag, torch.tensor(value), step)


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

    def unless_blank(self, what: str, make: Callable):
        """What `make` returns; None, and a line that says so the first time, where it meets a blank."""
        try:
            return make()
        except NotImplementedError as blank:
            if what not in self.left_out:
                self.left_out.add(what)
                _say(f"without {what}: {blanks.describe(blank)}")

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
            picture = self.unless_blank(name, draw)
            if picture is None:
                continue
            scale = 2 if picture.size(2) < 400 else 1
            figures.save_image(picture, self.run.figure(f"{name}_epoch_{epoch:03d}.png"), scale)
            trainer.logger.experiment.add_image(f"val/{name}", picture, epoch)
        model.train(was_training)
        if self.run.history:
            self.curves()


class Checkpoints(Checkpoint):
    """Keep `last.ckpt` and `best.ckpt`; write one and stop when SIGINT or SIGTERM arrives.

    A checkpoint is written at the end of each epoch, after everything else of that epoch, or at the end of the batch in
    which a signal arrived. It holds numbers, strings and tensors only, so that it can be loaded with `weights_only`.
    """

    def __init__(self, run: Run, monitor: str):
        self.run, self.monitor = run, monitor
        self.batches_done = 0  # in the epoch under way
        self.signum = 0
        self.since = time.monotonic()

    def setup(self, trainer, pl_module, stage):
        # the first process alone knows the number of a new folder
        self.run.folder = trainer.strategy.broadcast(self.run.folder)

    def state_dict(self) -> dict:
        run = self.run
        return {
            "batches_done": self.batches_done,
            "history": run.history,
            "best": run.best,
            "first_step": run.first_step,
            "seconds": run.seconds + time.monotonic() - self.since,
        }

    def load_state_dict(self, state: dict) -> None:
        self.batches_done = state["batches_done"]
        self.run.history[:] = state["history"]
        if self.run.folder and self.run.checkpoint("best.ckpt").exists():  # not where a copied checkpoint is resumed
            self.run.best.update(state["best"])
        self.run.first_step.update(state["first_step"])
        self.run.seconds = state["seconds"]

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint.setdefault("run", {}).update(
            format=CHECKPOINT_FORMAT,
            program=self.run.args.program,
            flags=defining_flags(self.run.args),
            epochs_done=len(self.run.history),
            processes=trainer.world_size,
            events=_event_files(trainer, self.run.folder),
        )

    def on_train_start(self, trainer, pl_module):
        self.since = time.monotonic()
        processes = self.run.args.checkpoint["run"]["processes"] if self.run.args.checkpoint else trainer.world_size
        if self.batches_done and processes != trainer.world_size:
            raise Problem(
                f"--devices: {self.run.args.resume} stands in the middle of an epoch that {processes} processes share;"
                f" it cannot go on with {trainer.world_size}",
                status=2,
            )
        for optimizer in trainer.optimizers:
            _lay_out(optimizer)
        trainer.train_dataloader.first_batch = self.batches_done
        _on_signals(self._remember)  # from here on, stop at the end of a batch

    def on_train_end(self, trainer, pl_module):
        self.run.seconds += time.monotonic() - self.since
        _on_signals(_raise_stopped)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches_done = batch_idx + 1
        # in the last batch the end of the epoch, with validation and a checkpoint, is near
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch and self._must_stop(trainer):
            for name, parameter in pl_module.named_parameters():
                stop_unless_finite(self.run, trainer, name, parameter)
            self._save(trainer, "last.ckpt")
            self._stop(f"{batch_idx + 1} batches into epoch {trainer.current_epoch + 1}")

    def on_train_epoch_end(self, trainer, pl_module):
        self.batches_done = 0
        latest = self.run.history[-1]
        value = latest[f"val/{self.monitor}"]
        if value < self.run.best.get("value", math.inf) and not trainer.fast_dev_run:
            self.run.best.update(epoch=latest["epoch"], value=value)
            self._save(trainer, "best.ckpt")
        self._save(trainer, "last.ckpt")
        if self._must_stop(trainer):
            self._stop(f"after epoch {latest['epoch']}")

    def _save(self, trainer, name: str) -> None:
        if trainer.fast_dev_run:
            return
        self.run.check_folder()
        trainer.save_checkpoint(self.run.checkpoint(name))

    def _must_stop(self, trainer) -> bool:
        if trainer.world_size == 1:
            return bool(self.signum)
        return trainer.strategy.reduce_boolean_decision(bool(self.signum), all=False)

    def _stop(self, when: str) -> None:
        signum = self.signum or signal.SIGTERM
        _say(f"\nstopped by {signal.Signals(signum).name} {when}; go on with --resume {self.run.folder}")
        raise Stopped(signum)

    def _remember(self, signum, frame) -> None:
        if self.signum:
            _say(f"\nstopped at once by a second signal; {self.run.folder} has the checkpoint of the epoch before")
            raise Stopped(signum)
        self.signum = signum


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Lay a resumed optimizer's state out in memory as its parameters are: the fused ones rely on it, unchecked."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _on_signals(handler: Callable) -> None:
    """Call `handler` for Ctrl-C and SIGTERM."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, handler)


def _raise_stopped(signum, frame) -> None:
    _say(f"\nstopped by {signal.Signals(signum).name}")
    raise Stopped(signum)


def _event_files(trainer, folder: Path) -> dict[str, int]:
    """The event files of a run and how long each is, with everything written so far."""
    if not trainer.is_global_zero:
        return {}
    trainer.logger.experiment.flush()
    return {path.name: path.stat().st_size for path in sorted(folder.glob("events.out.tfevents.*"))}


def _cut_event_files(folder: Path, sizes: dict[str, int]) -> None:
    """Take from the event files what was written after the checkpoint that is resumed."""
    second = int(time.time())
    for path in folder.glob("events.out.tfevents.*"):
        if path.name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[path.name]:
            os.truncate(path, sizes[path.name])
        # TensorBoard reads the files of a run in the order of their names, and these begin with the second of their
        # making: the next one must not be made in the same
        if path.name.split(".")[3] == str(second):
            time.sleep(max(0, second + 1 - time.time()))


def _new_folder(parent: Path) -> Path:
    """Make version_N with the smallest free number; two runs that start at once get two."""
    taken = [int(path.name[8:]) for path in parent.glob("version_*") if path.name[8:].isdigit()]
    number = max(taken, default=-1) + 1
    while True:
        try:
            (parent / f"version_{number}").mkdir(parents=True)
            return parent / f"version_{number}"
        except FileExistsError:
            number += 1


def _write_summary(run: Run, model, trainer) -> None:
    gpu = torch.cuda.get_device_name() if trainer.strategy.root_device.type == "cuda" else None
    summary = {
        "program": run.args.program,
        "results": run.results,
        "best": run.best,
        "first_step": run.first_step,
        "training_seconds": round(run.seconds, 1),
        "peak_memory_gb": round(_peak_memory_gb(), 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "flags": defining_flags(run.args),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "machine": {
            "processor": gpu or platform.processor() or platform.machine(),
            "device": str(trainer.strategy.root_device),
            "processes": trainer.world_size,
            "threads": torch.get_num_threads(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torchvision", "pytorch-lightning", "numpy")},
        },
        "git_commit": _git_commit(),
        "history": run.history,
    }
    write_whole(run.folder / "summary.json", json.dumps(summary, indent=2).encode() + b"\n")


def _write_report(run: Run) -> None:
    """The page of the run. The training is done and kept, so whatever is wrong with the page is only said."""
    try:
        from course.runs import report  # where submissions are graded it is not there, nor is it needed

        print(f"report: {report.write(run.folder)}")
    except Stopped:
        raise
    except Exception as error:
        _say(f"without a report: {error}; python -m course report {run.folder} makes one")


def _peak_memory_gb() -> float:
    """The largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage counts what the parent had when it started this process
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kibibytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _git_commit() -> str | None:
    """The commit of the code that ran, with "+changes" where the tree differs from it; None outside git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", REPOSITORY, *words], capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _is_first_process() -> bool:
    return getattr(rank_zero_only, "rank", 0) in (0, None)


def _say(text: str) -> None:
    if _is_first_process():
        print(text, file=sys.stderr, flush=True)


def _quiet() -> None:
    """Lightning's advice that does not apply: the data lie in memory, and resuming is taken care of."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    threading.excepthook = _leave_to_the_writer
    for text in (
        ".*does not have many workers.*",
        ".*your dataloader is not resumable.*",
        ".*smaller than the logging interval.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*it is recommended to use `self.log.*sync_dist=True.*",
        ".*it is recommended to use .Trainer.devices=1.*",
        ".*all_gather is deprecated.*",
        ".*LeafSpec.*is deprecated.*",
    ):
        warnings.filterwarnings("ignore", text)


def _leave_to_the_writer(failure) -> None:
    """TensorBoard writes in a thread of its own; what fails there is raised again where the next thing is logged."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)
