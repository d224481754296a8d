"""What PyTorch does on first use and cannot do once a process is shut in: done before, or replaced."""

import torch
import torch.nn.functional as F


def prepare() -> None:
    """Call it in the process that the others are forked from."""
    use_sixteen_bits()
    torch.compile = compile_nothing


def use_sixteen_bits() -> None:
    """PyTorch looks up what the processor can do when it first computes in 16 bits, in files that a sandbox hides."""
    for dtype in (torch.float16, torch.bfloat16):
        x = torch.ones(1, 1, 8, 8).to(dtype)
        F.conv2d(x, x) + F.linear(x, x[0, 0]) @ x


def compile_nothing(model=None, **options):
    """Stands in for torch.compile, which needs a compiler and processes: the same numbers, computed as they are."""
    return (lambda function: function) if model is None else model
