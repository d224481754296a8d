"""Faster training: memory kept between steps, cheaper logging, fused optimizers."""

import ctypes
import functools
import sys

import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.core import module
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultMetric
from torch import Tensor


def keep_memory() -> None:
    """Let glibc keep freed memory for the next step: returning it causes thousands of page faults at each step."""
    if sys.platform == "win32":  # where CDLL(None) is not supported
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # None with other C libraries
        m_trim_threshold, m_mmap_threshold = -1, -3
        mallopt(m_mmap_threshold, 1 << 30) or mallopt(m_mmap_threshold, 32 << 20)  # the maximum in older versions
        mallopt(m_trim_threshold, 1 << 30)


def flush_subnormals(flush: bool) -> None:
    """Flush subnormal numbers, below 1e-38, to 0 in this thread and in threads that it starts later.

    Arithmetic with them is many times slower, and they occur in the gradient of a GELU far from 0: after an epoch of
    the VAE, one in fifty elements of the gradient of its last GELU is subnormal, which can double the time of a step.
    """
    torch.set_flush_denormal(flush)  # has no effect on processors without support


move_sums, read_signature = _ResultMetric.to, module.is_param_in_hook_signature


def log_faster() -> None:
    """Make `self.log` skip redundant work for each value.

    `self.log` moves the sums of a value to the device that they are already on (0.3 ms), and reads the signature of
    `training_step` again (0.05 ms). Both are Lightning internals; `staff/tests/test_lightning.py` fails if a
    new version changes them.
    """
    _ResultMetric.to = _move_sums_if_needed
    module.is_param_in_hook_signature = functools.lru_cache(maxsize=1)(read_signature)


def _move_sums_if_needed(self: _ResultMetric, device: torch.device) -> _ResultMetric:
    there = isinstance(self.value, Tensor) and self.value.device == device
    return self if there else move_sums(self, device)


class FusedOptimizers(Callback):
    """Updates all parameters in one kernel on CPUs and CUDA GPUs, if PyTorch has such a kernel for the optimizer.

    A resumed run uses the setting in its checkpoint.
    """

    def on_fit_start(self, trainer, pl_module):
        if trainer.strategy.root_device.type in ("cpu", "cuda"):
            for optimizer in trainer.optimizers:
                fuse(optimizer)


def fuse(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Use one kernel for all parameters if the optimizer is Adam or SGD; return the optimizer."""
    if isinstance(optimizer, torch.optim.Adam | torch.optim.SGD):
        for group in optimizer.param_groups:
            group.update(fused=True, foreach=False)
    return optimizer
