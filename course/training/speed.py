"""What makes training faster: memory that is kept, fused optimizers, data on the GPU, compilation."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from course.training.problems import Problem


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


def settle_on_device(args, model: pl.LightningModule, loaders: tuple, trainer: pl.Trainer) -> None:
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
def explain_compile_errors(args) -> Iterator[None]:
    """Turn what torch.compile cannot do into a `Problem`."""
    if not args.compile:
        yield
        return
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0]
        raise Problem(f"--compile: cannot be done here: {reason}; leave the flag out") from error


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
