"""Format wrong numbers for messages, and describe how they differ from the expected ones.

The descriptions are computed only from the numbers, so they are true for any mistake. If only part of the expected
numbers is known (see `answers.Sketch`), they are less specific.
"""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from answers import Sketch, Whole

    Known = Whole | Sketch

DIGITS, MOST_DIGITS = 4, 17  # float64 has no more
FEW = 4  # how many numbers a message shows
MOST_ROWS = 64  # maximum number of rows that are compared with each other


def pair(expected: float, obtained: float) -> tuple[str, str]:
    """Format both numbers with enough digits to show that they differ."""
    if all(abs(x) < 1e9 and x == round(x) for x in (expected, obtained)):
        return f"{expected:.0f}", f"{obtained:.0f}"
    for digits in range(DIGITS, MOST_DIGITS + 1):
        texts = f"{expected:.{digits}g}", f"{obtained:.{digits}g}"
        if texts[0] != texts[1]:
            return texts
    return f"{expected:.{DIGITS}g}", f"{obtained:.{DIGITS}g}"  # they are the same


def shown(expected: Tensor, obtained: Tensor) -> tuple[str, str]:
    """Format the first few numbers of two tensors as `pair` does."""
    first = zip(expected.flatten()[:FEW].tolist(), obtained.flatten()[:FEW].tolist(), strict=True)
    texts = [", ".join(each) for each in zip(*(pair(*both) for both in first), strict=True)] or ["nothing", "nothing"]
    more = ", ..." if expected.numel() > FEW else ""
    return texts[0] + more, texts[1] + more


def beyond(bound: float, value: float) -> str:
    """Format a value on the wrong side of a bound with enough digits to tell it from the bound."""
    return pair(bound, value)[1]


def seen(known: "Known", obtained: Tensor, rtol: float, atol: float) -> str:
    """Describe in a sentence how wrong numbers differ from the expected ones; return "" if no description fits.

    Args:
        known: the expected tensor.
        rtol, atol: the tolerances.
    """
    ways = _values if obtained.shape == known.shape else _shapes
    return next(ways(known, obtained, rtol, atol), "")


def _values(known: "Known", obtained: Tensor, rtol: float, atol: float) -> Iterator[str]:
    """Yield descriptions of how a tensor of the right shape differs, from the most to the least informative."""
    theirs, ours = known.features(obtained)
    n = obtained.numel()
    if theirs.isfinite().all():
        yield from _not_finite(obtained)
    if not n or not (theirs.isfinite().all() and ours.isfinite().all()):
        return
    same, varied = bool((obtained == obtained.flatten()[0]).all()), known.varied
    if same and obtained.flatten()[0] == 0:
        yield "it is 0" + " everywhere" * (n > 1)
    elif same and varied:
        yield f"all its numbers are {obtained.flatten()[0]:.{DIGITS}g}"
    yield from _factor(known, obtained, rtol, atol)
    if n > 1:
        ones = known.features(torch.ones_like(obtained))[1]
        shift = ((ours - theirs) @ ones / (ones @ ones)).item()
        if known.error(obtained - shift, rtol, atol) <= 1:
            yield f"it is off by the same amount everywhere, {shift:.{DIGITS}g}"
    yield from (what for what, moved in _moved(obtained) if known.error(moved, rtol, atol) <= 1)
    yield from _rows(known, obtained, rtol, atol)


def _not_finite(obtained: Tensor) -> Iterator[str]:
    for what, found in (("NaN (not a number)", obtained.isnan()), ("infinite", obtained.isinf())):
        count, n = int(found.sum()), obtained.numel()
        if count:
            yield f"it is {what}" if n == 1 else f"{'all' if count == n else count} of its {n} numbers are {what}"


def _factor(known: "Known", obtained: Tensor, rtol: float, atol: float) -> Iterator[str]:
    theirs, ours = known.features(obtained)
    # if all expected numbers are about as small as the tolerance, many factors would fit
    if known.rms <= 10 * atol or not known.rms:
        return
    factor = ((theirs @ ours) / (theirs @ theirs)).item()
    if abs(factor) < 1e-12 or known.error(obtained / factor, rtol, atol) > 1:
        return
    inverse, sign = round(1 / factor), "-" * (factor < 0)
    if known.error(-obtained, rtol, atol) <= 1:
        yield "it has the wrong sign"
    elif abs(inverse) > 1 and known.error(obtained * inverse, rtol, atol) <= 1:
        yield f"it is {sign}1/{abs(inverse)} of the expected value"
    else:
        yield f"it is {beyond(1.0, factor)} times the expected value"


def _moved(obtained: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield pairs: the description of a mistake, and the numbers rearranged to undo it."""
    shape = obtained.shape
    for dim in range(obtained.dim()):
        if shape[dim] > 1:
            yield f"it is mirrored: dimension {dim} is reversed", obtained.flip(dim)
    for one, other in itertools.combinations(range(obtained.dim()), 2):
        if shape[one] == shape[other] > 1:
            yield f"it is transposed: dimensions {one} and {other} are swapped", obtained.transpose(one, other)
    for dim, size in enumerate(shape):
        for by in range(1, size) if size <= MOST_ROWS else (1, size - 1):
            places = by if by <= size // 2 else by - size
            yield f"it is shifted by {-places} along dimension {dim}", obtained.roll(by, dim)


def _rows(known: "Known", obtained: Tensor, rtol: float, atol: float) -> Iterator[str]:
    """Yield descriptions of errors along dimension 0, usually the batch, if the tensor is fully known."""
    expected, rows = getattr(known, "tensor", None), len(obtained) if obtained.dim() else 0
    if expected is None or rows < 2:
        return
    if rows <= MOST_ROWS:
        fits = [known.of(expected[i]).error(obtained[j], rtol, atol) <= 1 for i in range(rows) for j in range(rows)]
        fits = torch.tensor(fits).view(rows, rows)
        places = fits.int().argmax(1)
        if fits.any(1).all() and len(places.unique()) == rows:
            yield "the numbers are right, but in a different order" + " along dimension 0" * (obtained.dim() > 1)
    if (obtained == obtained[:1]).all() and not (expected == expected[:1]).all():
        yield "it is the same everywhere along dimension 0"


def _shapes(known: "Known", obtained: Tensor, rtol: float, atol: float) -> Iterator[str]:
    """Yield descriptions of how a tensor of the wrong shape relates to the right one, e.g. as its transpose or sum."""
    if obtained.numel() == known.shape.numel():
        if known.error(obtained.reshape(known.shape), rtol, atol) <= 1:
            yield "the numbers are right"
        orders = itertools.permutations(range(obtained.dim())) if obtained.dim() <= 4 else ()
        for order in orders:
            moved = obtained.permute(order)
            if moved.shape == known.shape and known.error(moved, rtol, atol) <= 1:
                yield f"its dimensions should be in the order {list(order)}"
    expected = getattr(known, "tensor", None)
    if expected is None:
        return
    for what, smaller in _smaller(expected):
        if smaller.shape == obtained.squeeze().shape and known.of(smaller).error(obtained.squeeze(), rtol, atol) <= 1:
            yield what


def _smaller(expected: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield pairs: a description, and a tensor with fewer dimensions that results from the expected one."""
    yield "it is the sum of all expected numbers", expected.sum()
    yield "it is the mean of all expected numbers", expected.mean()
    for dim in range(expected.dim()):
        yield f"it is the sum of the expected numbers over dimension {dim}", expected.sum(dim).squeeze()
        yield f"it is the mean of the expected numbers over dimension {dim}", expected.mean(dim).squeeze()
        if expected.size(dim) > 1:
            yield f"it is only the first entry of dimension {dim}", expected.select(dim, 0).squeeze()


def joined(*parts: str) -> str:
    """Join the non-empty parts of a sentence."""
    return "; ".join(part for part in parts if part)
