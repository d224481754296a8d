"""Validate the answers from a submission's process before they are used."""

import hashlib
import math

import torch
from torch import Tensor

from staff.grading.evidence.runs import Doubt

APART = 0.02  # a larger difference between the claimed and the recomputed figure causes a warning


def numbers(value, shape: tuple[int, ...], what: str) -> Tensor:
    """Check that a value is a tensor of finite floats of this shape, and return it as float64.

    Raises:
        Doubt: the value is anything else.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise Doubt(f"The answer for {what} should be a tensor of floats.")
    if value.shape != tuple(shape):
        raise Doubt(f"The shape of {what} is {list(value.shape)[:8]}; it should be {list(shape)}.")
    if not value.isfinite().all():
        raise Doubt(f"Some numbers in {what} are not finite.")
    return value.double()


def to_send(z: Tensor) -> Tensor:
    """Return codes as float32; raise Doubt if a value is not finite in float32."""
    numbers(z.float(), z.shape, "z")
    return z.float()


def curve(answer, tag: str) -> list[float]:
    fits = isinstance(answer, tuple | list) and len(answer) == 2 and all(isinstance(each, Tensor) for each in answer)
    if not fits or answer[0].dtype != torch.int64 or answer[0].dim() != 1:
        raise Doubt(f"The curve {tag} is malformed.")
    values = numbers(answer[1], answer[0].shape, f"the curve {tag}")
    last = dict(zip(answer[0].tolist(), values.tolist(), strict=True))
    return [last[step] for step in sorted(last)]


def unlike(curve: list[float], history: list[float | None], epochs: int) -> str | None:
    """Return how a curve, one value per epoch, differs from the summary's history; None if they agree."""
    if len(curve) < epochs:
        return f"has {len(curve)} of {epochs} epochs"
    if len(curve) != len(history):
        return f"has {len(curve)} epochs, but the summary has {len(history)}"
    pairs = enumerate(zip(curve, history, strict=True), start=1)
    off = [epoch for epoch, (one, other) in pairs if other is None or abs(one - other) > APART]
    return f"differs from the summary in {len(off)} of {len(history)} epochs, first in epoch {off[0]}" if off else None


def noise(secret: bytes, shape: tuple[int, int]) -> Tensor:
    """Return standard normal noise (float64) derived from a secret that no submission can obtain.

    A submission that knew the noise could subtract it from z, and transmit more information than the KL divergence
    accounts for. So the secret is slow to brute-force, and known parts of the noise reveal nothing about the rest.
    """
    count = math.prod(shape)
    words = torch.frombuffer(bytearray(hashlib.shake_256(secret).digest(4 * count)), dtype=torch.int32)
    uniform = (words.double() + 2**31 + 0.5) / 2**32  # strictly between 0 and 1
    return (math.sqrt(2) * torch.erfinv(2 * uniform - 1)).view(shape)
