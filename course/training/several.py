"""Training with several processes; imported only when the flags request them."""

import inspect
import warnings

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from lightning_fabric.utilities.imports import _IS_INTERACTIVE
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from course.training.problems import Problem


class Distributed(DDPStrategy):
    """Lightning's strategy, but with exact means even if processes have different numbers of examples."""

    def reduce(self, tensor, group=None, reduce_op="mean"):
        if torch.is_tensor(tensor) and not tensor.is_floating_point():
            tensor = tensor.double()  # a number of examples, whose mean Lightning would round down
        return super().reduce(tensor, group, reduce_op)


def distributed(find_unused_parameters: bool = False) -> Strategy:
    """Create a strategy that averages the gradients of all processes.

    Buffers, such as the GPT's mask, are the same in all processes from the start. By default, each forward pass would
    broadcast them, and would hang during validation if one process had a batch more than another.
    """
    for advice in (".*it is recommended to use .Trainer.devices=1.*", ".*all_gather is deprecated.*"):
        warnings.filterwarnings("ignore", advice)
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # before PyTorch 2.15
    options = {"find_unused_parameters": find_unused_parameters, buffers: False}
    return Distributed(start_method="fork" if _IS_INTERACTIVE else "popen", **options)


class TrainsSomething(Callback):
    """Stops if a process has too few examples for a batch; otherwise, the Trainer would silently train nothing."""

    def on_fit_end(self, trainer, pl_module):
        if trainer.num_training_batches == 0:
            size, share = trainer.train_dataloader.batch_size, len(trainer.train_dataloader.sampler)
            raise Problem(f"--batch_size {size}: each of the {trainer.world_size} processes has {share} examples", 2)


def gather_rows(module: pl.LightningModule, rows: Tensor) -> Tensor:
    """Gather the rows [N, D] of all processes, where N may differ between processes."""
    counts = module.all_gather(torch.tensor(len(rows), device=rows.device)).flatten().tolist()
    padded = module.all_gather(F.pad(rows, (0, 0, 0, max(counts) - len(rows))))  # [processes, N, D]
    return torch.cat([part[:count] for part, count in zip(padded, counts, strict=True)])
