"""What a submission's process answers: numbers, checked before they are used."""

import hashlib
import math

import torch
from torch import Tensor

from staff.grading.evidence.runs import Doubt

APART = 0.02  # a claimed figure that is farther off gets a warning


def numbers(value, shape: tuple[int, ...], what: str) -> Tensor:
    """A tensor of floats of this shape, all finite, as float64.

    Raises:
        Doubt: it is something else.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise Doubt(f"There should be floats for {what}.")
    if value.shape != tuple(shape):
        raise Doubt(f"The shape of {what} is {list(value.shape)[:8]}; it should be {list(shape)}.")
    if not value.isfinite().all():
        raise Doubt(f"There are numbers in {what} that are not finite.")
    return value.double()


def to_send(z: Tensor) -> Tensor:
    """Codes as float32; what float32 does not hold is refused."""
    numbers(z.float(), z.shape, "z")
    return z.float()


def curve(answer, tag: str) -> list[float]:
    fits = isinstance(answer, tuple | list) and len(answer) == 2 and all(isinstance(each, Tensor) for each in answer)
    if not fits or answer[0].dtype != torch.int64 or answer[0].dim() != 1:
        raise Doubt(f"The curve {tag} is none.")
    values = numbers(answer[1], answer[0].shape, f"the curve {tag}")
    last = dict(zip(answer[0].tolist(), values.tolist(), strict=True))
    return [last[step] for step in sorted(last)]


def unlike(curve: list[float], history: list[float | None], epochs: int) -> str | None:
    """What is wrong with a curve, a value for each epoch, beside the history of the summary."""
    if len(curve) < epochs:
        return f"has {len(curve)} epochs of {epochs}"
    if len(curve) != len(history):
        return f"has {len(curve)} epochs, the summary {len(history)}"
    pairs = enumerate(zip(curve, history, strict=True), start=1)
    off = [epoch for epoch, (one, other) in pairs if other is None or abs(one - other) > APART]
    return f"is not the summary's: they are apart in {len(off)} epochs, first in epoch {off[0]}" if off else None


def noise(secret: bytes, shape: tuple[int, int]) -> Tensor:
    """Standard normal float64, a function of the secret and of nothing that a submission could find out.

    Whoever knows the noise can take it off z, and so send more by it than the divergence says. So the secret is slow to
    try out, and what is seen of the noise tells nothing about the rest.
    """
    count = math.prod(shape)
    words = torch.frombuffer(bytearray(hashlib.shake_256(secret).digest(4 * count)), dtype=torch.int32)
    uniform = (words.double() + 2**31 + 0.5) / 2**32  # inside 0..1
    return (math.sqrt(2) * torch.erfinv(2 * uniform - 1)).view(shape)
