"""What makes training faster: memory that is kept, fused optimizers, data on the GPU."""

import ctypes

import torch
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader


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


class DataOnDevice(Callback):
    """Move the data to a GPU that one process has for itself, else let them go there in the background.

    Args:
        loaders: those of `course.data.EpochLoader` are moved.
    """

    def __init__(self, loaders: tuple[DataLoader, ...]):
        self.loaders = loaders

    def setup(self, trainer, pl_module, stage):
        device = trainer.strategy.root_device
        if stage != "fit" or device.type == "cpu":
            return
        for loader in self.loaders:
            movable = hasattr(loader, "move_to") and hasattr(loader.dataset, "to")  # not one that a student put there
            if trainer.world_size == 1 and loader.num_workers == 0 and movable:
                loader.move_to(device)
            else:
                loader.pin_memory = device.type == "cuda"


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
