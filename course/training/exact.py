"""Stop a run at any time, and resume it as if it had never stopped."""

import hashlib
import signal
import time
from pathlib import Path

import torch
from pytorch_lightning.callbacks import Callback, Checkpoint

from course.stored_flags import CHECKPOINT_FORMAT, defining_flags
from course.training.finite import stop_unless_finite
from course.training.problems import Stopped, on_signals, raise_stopped, say
from course.training.run import Run

DECIDE_EVERY = 10  # batches


class Reproducible(Callback):
    """Seeds the noise of each training step with a hash of seed, process, epoch and batch.

    A step draws the same random numbers in a resumed run. Validation and test draw the same numbers in every epoch.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def _seed(self, trainer, *what) -> None:
        text = "/".join(str(part) for part in (self.seed, trainer.global_rank, *what))
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
        # torch.manual_seed seeds all device types; for each unavailable type, every call stores a stack trace
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


class ExactResume(Checkpoint):
    """Writes last.ckpt and stops on Ctrl-C or SIGTERM; saves state that Lightning's checkpoints lack.

    Lightning saves neither the sums of the metrics in an unfinished epoch nor the position in the epoch's data. For the
    sums, see `course.training.midepoch`.

    A `Checkpoint` is called after other callbacks. Pass this one last, so that an epoch is saved before the run stops.
    """

    def __init__(self, run: Run):
        self.run = run
        self.batches_done = 0  # in the current epoch
        self.sums: dict[str, tuple[float, float]] = {}  # of the resumed epoch, until they are added
        self.signum = 0
        self.since = time.monotonic()

    def setup(self, trainer, pl_module, stage):
        self.run.folder = trainer.strategy.broadcast(self.run.folder)  # known only to the first process
        if stage == "fit" and self.run.args.checkpoint:
            from course.training.resuming import check_agreement

            check_agreement(trainer, self.run.args)

    def state_dict(self) -> dict:
        return {"batches_done": self.batches_done, "seconds": self.run.seconds + time.monotonic() - self.since}

    def load_state_dict(self, state: dict) -> None:
        self.batches_done, self.run.seconds = state["batches_done"], state["seconds"]

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        sums = {}
        if self.batches_done:
            from course.training.midepoch import sum_up

            sums = sum_up(trainer)
        checkpoint["run"] = {
            "format": CHECKPOINT_FORMAT,
            "program": self.run.args.program,
            "flags": defining_flags(self.run.args),
            "epochs_done": trainer.current_epoch + (self.batches_done == 0),
            "processes": trainer.world_size,
            "events": event_files(trainer, self.run.folder),
            "sums": sums,
        }

    def on_load_checkpoint(self, trainer, pl_module, checkpoint):
        if trainer.is_global_zero:  # the sums are over all processes
            self.sums = dict(checkpoint["run"]["sums"])

    def on_train_start(self, trainer, pl_module):
        self.since = time.monotonic()
        if self.run.args.checkpoint:
            from course.training.resuming import resume_training

            resume_training(trainer, self.run.args, self.batches_done)
        on_signals(self._remember)  # a signal now stops the run at the end of a batch

    def on_train_end(self, trainer, pl_module):
        self.run.seconds += time.monotonic() - self.since
        on_signals(raise_stopped)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches_done = batch_idx + 1
        if self.sums:
            from course.training.midepoch import add_sums  # imported here: most runs do not stop within an epoch

            add_sums(trainer, self.sums)
            self.sums = {}
        # not at the last batch, after which validation and a checkpoint follow anyway
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch and self._must_stop(trainer, batch_idx):
            from course.training.midepoch import log_step

            for name, parameter in pl_module.named_parameters():
                stop_unless_finite(self.run, trainer, name, parameter)
            log_step(trainer)
            if self.run.folder:
                self.run.check_folder()
                trainer.save_checkpoint(self.run.checkpoint("last.ckpt"))
            self._stop(f"{batch_idx + 1} batches into epoch {trainer.current_epoch + 1}")

    def on_train_epoch_end(self, trainer, pl_module):
        if self._must_stop(trainer):
            self._stop(f"after epoch {trainer.current_epoch + 1}")

    def on_validation_start(self, trainer, pl_module):
        self.batches_done = 0  # the training epoch is complete; its checkpoints are written after validation

    def _must_stop(self, trainer, batch_idx: int = 0) -> bool:
        if trainer.world_size == 1:
            return bool(self.signum)
        if batch_idx % DECIDE_EVERY and trainer.strategy.root_device.type != "cpu":
            return False  # the decision makes GPUs wait for each other
        return trainer.strategy.reduce_boolean_decision(bool(self.signum), all=False)

    def _stop(self, when: str) -> None:
        signum = self.signum or signal.SIGTERM
        say(f"\nstopped by {signal.Signals(signum).name} {when}; continue with --resume {self.run.folder}")
        raise Stopped(signum)

    def _remember(self, signum, frame) -> None:
        if self.signum:
            say(f"\nstopped immediately by a second signal; {self.run.folder} has the checkpoint of the previous epoch")
            raise Stopped(signum)
        self.signum = signum


def event_files(trainer, folder: Path) -> dict[str, int]:
    """Flush TensorBoard's event files of a run, and return their sizes in bytes."""
    if not trainer.is_global_zero:
        return {}
    trainer.logger.experiment.flush()
    return {path.name: path.stat().st_size for path in sorted(folder.glob("events.out.tfevents.*"))}
