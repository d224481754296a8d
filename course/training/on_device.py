"""Keep the data on the GPU; imported only if a GPU is available."""

from collections.abc import Iterator

import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from course.data import EpochLoader


class DataOnDevice(Callback):
    """Moves the data to the GPU if there is only one process; otherwise, batches are copied in the background."""

    def __init__(self, loaders: tuple[DataLoader, ...]):
        self.loaders = loaders

    def setup(self, trainer, pl_module, stage):
        device = trainer.strategy.root_device
        if stage != "fit" or device.type == "cpu":
            return
        for loader in self.loaders:
            movable = isinstance(loader, EpochLoader) and hasattr(loader.dataset, "to")  # not a student's own loader
            if trainer.world_size == 1 and loader.num_workers == 0 and movable:
                loader.source = BatchesOnDevice(loader, device)
            else:
                loader.pin_memory = device.type == "cuda"


class BatchesOnDevice:
    """Builds the batches of a loader on a device. The data are moved once; their order is moved once per epoch."""

    def __init__(self, loader: EpochLoader, device: torch.device):
        self.loader, self.device, self.dataset = loader, device, loader.dataset.to(device)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.tensor(list(self.loader.sampler)).to(self.device)
        for index in order.split(self.loader.batch_size)[: len(self.loader)]:
            yield self.dataset.__getitems__(index)
