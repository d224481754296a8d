"""Trigger or replace the steps that PyTorch takes on first use and cannot take in a sandboxed process."""

import torch
import torch.nn.functional as F


def prepare() -> None:
    """Prepare PyTorch. Call this in the process that the others are forked from."""
    use_sixteen_bits()
    torch.compile = compile_nothing


def use_sixteen_bits() -> None:
    """Run 16-bit computations once: on first use, PyTorch reads the CPU's features from files that a sandbox hides."""
    for dtype in (torch.float16, torch.bfloat16):
        x = torch.ones(1, 1, 8, 8).to(dtype)
        F.conv2d(x, x) + F.linear(x, x[0, 0]) @ x


def compile_nothing(model=None, **options):
    """Replace torch.compile, which needs a compiler and processes: return the model itself; results do not change."""
    return (lambda function: function) if model is None else model
