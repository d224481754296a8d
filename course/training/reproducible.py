"""Noise that depends on the seed and the step alone, so that a resumed run draws the same."""

import hashlib

import torch
from pytorch_lightning.callbacks import Callback


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
