"""MNIST with 16 grey levels, in memory."""

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from course import data
from part1_vae.cnn_encoder_decoder import GREY_LEVELS


def discretize(x: Tensor, num_values: int) -> Tensor:
    """Assign values in 0..1 to `num_values` equal bins: floats of any shape -> int64 in 0..num_values-1."""
    return (x * num_values).floor().clamp(0, num_values - 1).long()


def four_bits(images: Tensor) -> Tensor:
    """Convert images [N, 1, 28, 28] from 0..255 to 0..15, one byte per pixel."""
    # in chunks: converting all images to floats at once would take a quarter of a gigabyte of memory
    return torch.cat([discretize(part / 255, num_values=GREY_LEVELS).to(torch.uint8) for part in images.split(1000)])


def mnist(
    root: str | Path | None = None,
    batch_size: int = 128,
    num_workers: int = 0,
    download: bool = True,
    dataset: str = "mnist",
    seed: int = 42,
) -> tuple[DataLoader, DataLoader, DataLoader]:
    """Return DataLoaders with batches of 4-bit images (integers 0..15, int64 [B, 1, 28, 28]) and labels [B].

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
    return data.loaders(dataset, Tensor.long, root, batch_size, num_workers, download, seed, prepare=four_bits)
