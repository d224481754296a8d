"""MNIST as images in -1..1, in memory."""

from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader

from course import data


def normalize(images: Tensor) -> Tensor:
    """Scale images from 0..255 to -1..1, the range of tanh."""
    return images.float() / 127.5 - 1


def mnist(
    root: str | Path | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    download: bool = True,
    dataset: str = "mnist",
    seed: int = 42,
) -> tuple[DataLoader, DataLoader, DataLoader]:
    """Return DataLoaders with batches of images in -1..1 [B, 1, 28, 28] and labels [B].

    Args:
        root: the data folder (default: DGM_DATA_DIR if set, otherwise `data/` in the repository).
        download: whether to download missing files.
        dataset: "mnist" or "fashion".
        seed: determines the order of the training images.

    Returns:
        loaders for training (54,000 images), validation (6,000) and test (10,000). The split is always the same.

    Raises:
        course.datasets.DataError: the images are not available.
    """
    return data.loaders(dataset, normalize, root, batch_size, num_workers, download, seed)
