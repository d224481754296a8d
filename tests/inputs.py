"""Random inputs for the tests: tensors drawn with numpy.random.RandomState, which are the same on every platform."""

import numpy as np
import torch
from torch import Tensor

Rng = np.random.RandomState


def uniform(rng: Rng, *shape: int, low: float = -1.0, high: float = 1.0, dtype=torch.float32) -> Tensor:
    return torch.from_numpy(np.asarray(rng.uniform(low, high, shape))).to(dtype)


def normal(rng: Rng, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.from_numpy(np.asarray(scale * rng.standard_normal(shape))).float()


def integers(rng: Rng, high: int, *shape: int) -> Tensor:
    """Draw integers from 0 to high - 1."""
    return torch.from_numpy(np.asarray(rng.randint(high, size=shape, dtype=np.int64)))


def grey_levels(rng: Rng, batch: int) -> Tensor:
    """Draw images for part 1: integers 0..15 [B, 1, 28, 28]."""
    return integers(rng, 16, batch, 1, 28, 28)


def images(rng: Rng, batch: int) -> Tensor:
    """Draw images for part 2: grey values in -1..1 [B, 1, 28, 28]."""
    return uniform(rng, batch, 1, 28, 28)


def codes(rng: Rng, batch: int, z_dim: int) -> Tensor:
    return normal(rng, batch, z_dim, scale=1.5)
