"""Helpers shared by the oracles of several parts."""

from collections.abc import Callable

import torch
from torch import Tensor

CUT = "no gradient arrives: is something detached?"


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """Return the float64 gradients of a scalar function with respect to its inputs; zeros for unused inputs."""
    inputs = [x.double().clone().requires_grad_() for x in inputs]
    return list(torch.autograd.grad(function(*inputs), inputs, allow_unused=True, materialize_grads=True))
