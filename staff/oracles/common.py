"""Helpers that the oracles of several parts use."""

from collections.abc import Callable

import torch
from torch import Tensor

CUT = "no gradient arrives: is something detached?"


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """Return the gradients of a scalar function of these tensors in float64; zeros where it does not depend on one."""
    inputs = [x.double().clone().requires_grad_() for x in inputs]
    return list(torch.autograd.grad(function(*inputs), inputs, allow_unused=True, materialize_grads=True))
