"""Checkpoints at the end of each epoch and when a signal arrives."""

import math
import signal
import time

import torch
from pytorch_lightning.callbacks import Checkpoint

from course.flags import defining_flags
from course.resume import CHECKPOINT_FORMAT
from course.training.events import event_files
from course.training.finite import stop_unless_finite
from course.training.problems import Problem, Stopped, say
from course.training.run import Run
from course.training.signals import on_signals, raise_stopped


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
            events=event_files(trainer, self.run.folder),
        )

    def on_train_start(self, trainer, pl_module):
        self.since = time.monotonic()
        processes = self.run.args.checkpoint["run"]["processes"] if self.run.args.checkpoint else trainer.world_size
        if self.batches_done and processes != trainer.world_size:
            raise Problem(
                f"--devices: {self.run.args.resume} was written in mid-epoch by {processes} processes;"
                f" it cannot be resumed with {trainer.world_size}",
                status=2,
            )
        for optimizer in trainer.optimizers:
            lay_out_state(optimizer)
        trainer.train_dataloader.first_batch = self.batches_done
        on_signals(self._remember)  # from here on, stop at the end of a batch

    def on_train_end(self, trainer, pl_module):
        self.run.seconds += time.monotonic() - self.since
        on_signals(raise_stopped)

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
        say(f"\nstopped by {signal.Signals(signum).name} {when}; continue with --resume {self.run.folder}")
        raise Stopped(signum)

    def _remember(self, signum, frame) -> None:
        if self.signum:
            say(f"\nstopped at once by a second signal; {self.run.folder} has the checkpoint of the epoch before")
            raise Stopped(signum)
        self.signum = signum


def lay_out_state(optimizer: torch.optim.Optimizer) -> None:
    """Lay a resumed optimizer's state out in memory as its parameters are: the fused ones rely on it, unchecked."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
