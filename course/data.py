"""MNIST and Fashion-MNIST in memory. `python -m course.data mnist` downloads MNIST."""

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from course.datasets import DataError, find


def load(name: str, split: str, root: str | Path | None = None, download: bool = True) -> tuple[Tensor, Tensor]:
    """Load the images and labels of one split of a dataset into memory.

    Args:
        name: "mnist" or "fashion".
        split: "train" (60,000 images) or "t10k" (10,000).

    Returns:
        images, uint8 in 0..255 [N, 1, 28, 28], and labels, int64 [N].

    Raises:
        DataError: the files are not available.
    """
    return _read(_fetch(name, root, download), split)


def _fetch(name: str, root: str | Path | None, download: bool) -> Path:
    """Return the folder of a dataset's files; download missing files."""
    raw, missing = find(name, root)
    if missing:
        from course.download import fetch  # imported here: most runs download nothing

        fetch(name, root, download)
    return raw


def _read(raw: Path, split: str) -> tuple[Tensor, Tensor]:
    images = bytearray((raw / f"{split}-images-idx3-ubyte").read_bytes())
    labels = bytearray((raw / f"{split}-labels-idx1-ubyte").read_bytes())
    # the idx format: big-endian sizes in a header of 16 bytes (images) or 8 (labels), then one byte per value
    return (
        torch.frombuffer(images, dtype=torch.uint8, offset=16).view(-1, 1, 28, 28),
        torch.frombuffer(labels, dtype=torch.uint8, offset=8).long(),
    )


class ImageDataset(Dataset):
    """Images and labels in memory; a batch is read with one indexing operation.

    Args:
        images: [N, ...], in the smallest dtype that holds their values.
        labels: [N].
        transform: applied to a whole batch of images, e.g. a type conversion.
    """

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Tensor], Tensor]):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.images[index]), self.labels[index]

    def __getitems__(self, indices: list[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return (images [B, ...], labels [B]) for the indices of a batch; called by the DataLoader."""
        index = torch.as_tensor(indices)
        return self.transform(self.images[index]), self.labels[index]

    def to(self, device: torch.device) -> "ImageDataset":
        """Return a copy on a device; its indices must be tensors on the same device."""
        return ImageDataset(self.images.to(device), self.labels.to(device), self.transform)


def whole_batch(batch):
    """Return the batch unchanged: a `collate_fn` for datasets whose `__getitems__` returns whole batches."""
    return batch


class EpochLoader(DataLoader):
    """A DataLoader whose next epoch can begin at a later batch: set `first_batch`.

    The order is not drawn until the first batch is requested, so the sampler's epoch can still be set before that.
    """

    first_batch = 0
    source: Iterable | None = None  # batches built elsewhere; see `course.training.on_device`

    def __iter__(self):
        start, self.first_batch = self.first_batch, 0
        yield from islice(super().__iter__() if self.source is None else self.source, start, None)


class Shuffle(torch.utils.data.Sampler):
    """A random order that depends only on seed and epoch, so that a resumed run uses the same order.

    Lightning calls `set_epoch`; with multiple processes it uses its own distributed sampler.
    """

    def __init__(self, size: int, seed: int):
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        order = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.size, generator=order).tolist())


class InOrder(DistributedSampler):
    """Yields all examples in order; multiple processes share them, and no example is counted twice.

    Lightning's sampler would give each process the same number of examples, and repeat some of them.
    """

    def __init__(self, size: int):
        self.size = size

    def _indices(self) -> range:
        alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
        count = 1 if alone else torch.distributed.get_world_size()
        if count > self.size:  # a process without examples could not take part in averages, so each takes all
            return range(self.size)
        return range(0 if alone else torch.distributed.get_rank(), self.size, count)

    def __len__(self) -> int:
        return len(self._indices())

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices())


def loaders(
    name: str,
    transform: Callable[[Tensor], Tensor],
    root: str | Path | None = None,
    batch_size: int = 128,
    num_workers: int = 0,
    download: bool = True,
    seed: int = 42,
    prepare: Callable[[Tensor], Tensor] = lambda images: images,
) -> tuple[DataLoader, DataLoader, DataLoader]:
    """Return DataLoaders for the training (54,000 images), validation (6,000) and test (10,000) sets.

    The validation images are always drawn with seed 42; `seed` determines the order of the training images.

    Args:
        transform: converts each batch of images [B, 1, 28, 28] to the model's input.
        prepare: applied once to all images, uint8 in 0..255; the result is kept.

    Raises:
        DataError: the files are not available, or a batch is larger than the training set.
    """
    train, val, test = _split(_fetch(name, root, download), prepare)
    if batch_size > len(train[0]):
        raise DataError(f"--batch_size {batch_size}: the training set has {len(train[0])} examples", status=2)
    options = {"batch_size": batch_size, "num_workers": num_workers, "collate_fn": whole_batch}
    if num_workers:
        from course.workers import leave_signals_to_the_run

        options.update(persistent_workers=True, worker_init_fn=leave_signals_to_the_run)
    return (
        EpochLoader(ImageDataset(*train, transform), sampler=Shuffle(len(train[0]), seed), drop_last=True, **options),
        EpochLoader(ImageDataset(*val, transform), sampler=InOrder(len(val[0])), **options),
        EpochLoader(ImageDataset(*test, transform), sampler=InOrder(len(test[0])), **options),
    )


def _split(raw: Path, prepare: Callable[[Tensor], Tensor]) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return images and labels for training, validation and test."""
    images, labels = _read(raw, "train")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(42))
    images = prepare(images)
    train, val = order[:54_000], order[54_000:]
    test_images, test_labels = _read(raw, "t10k")
    return (images[train], labels[train]), (images[val], labels[val]), (prepare(test_images), test_labels)


if __name__ == "__main__":
    from course.download import main

    sys.exit(main())
