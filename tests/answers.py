"""Expected values: correct values, computed by an oracle from a test's inputs, and values produced by known mistakes.

Tests request them with the fixture `expected`: `expected("kld", mean=mean, log_std=log_std)` returns an `Answer`, a
dictionary of `Value`s. Without the oracles, the values are looked up in answers.npz. It stores small tensors in full
and large tensors as sums with random signs: if these agree, the tensors are equal for all practical purposes.
"""

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from messages import shown

SUMS = 6  # number of sums stored for a large tensor, each with different random signs
SHOWN = 16  # how many elements of a large tensor are stored individually, for messages
NAN = 100.0  # the value of a NaN in these sums, so that the sums depend on which elements are NaN
SIGMAS = 6  # the probability that a sum of rounding errors exceeds this many sigmas is below 4e-8 (Hoeffding)
PRECISION = 1e-6  # relative precision of the recorded values


def errors(obtained: Tensor, expected: Tensor, rtol: float, atol: float) -> Tensor:
    """Return each element's error in units of the tolerance; 0 where both are the same infinity or both are NaN."""
    same = (obtained == expected) | (obtained.isnan() & expected.isnan())
    off = (obtained - expected).abs() / (atol + rtol * expected.abs())
    return torch.where(same, 0.0, off.nan_to_num(torch.inf))


class Whole:
    """A tensor whose elements are all known."""

    def __init__(self, tensor: Tensor, precision: float = 0.0):
        self.tensor, self.shape, self.precision = tensor, tensor.shape, precision

    def error(self, obtained: Tensor, rtol: float, atol: float) -> float:
        """Return the largest error in units of the tolerance; the tensors agree if it is at most 1."""
        if obtained.shape != self.shape:
            return float("inf")
        return max(errors(obtained, self.tensor, max(rtol, self.precision), atol).flatten().tolist(), default=0.0)

    @property
    def varied(self) -> bool:
        """Return whether the tensor's numbers are known to differ from each other."""
        return len(self.tensor.unique()) > 1

    @property
    def rms(self) -> float:
        """Return the root mean square of the numbers."""
        return (self.tensor.square().sum().item() / max(1, self.shape.numel())) ** 0.5

    def of(self, tensor: Tensor) -> "Whole":
        """Wrap another tensor that is known to the same precision."""
        return Whole(tensor, self.precision)

    def features(self, obtained: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same linear functions of this tensor and the obtained one; here, the elements themselves."""
        return self.tensor.flatten(), obtained.flatten()

    def compare(self, obtained: Tensor, rtol: float, atol: float) -> str:
        """Return the part of a message that shows expected and obtained numbers where they differ."""
        off = errors(obtained, self.tensor, max(rtol, self.precision), atol) > 1
        message = "expected {}\nobtained {}".format(*shown(self.tensor[off], obtained[off]))
        if off.numel() > 1:
            message += f"\n({off.sum()} of {off.numel()} numbers are wrong, the first at {off.nonzero()[0].tolist()})"
        return message


class Sketch:
    """A tensor for which only some elements and some sums with random signs are known.

    Args:
        size: the sum of the absolute values of the tensor's elements, and the sum of their squares.
    """

    def __init__(self, shape: tuple[int, ...], sums: Tensor, size: Tensor, shown: Tensor):
        self.shape, self.sums, self.size, self.shown = torch.Size(shape), sums, size, shown

    @property
    def varied(self) -> bool:
        """Return whether the tensor's numbers are known to differ from each other."""
        return len(self.shown.unique()) > 1

    @property
    def rms(self) -> float:
        """Return the root mean square of the numbers."""
        return (self.size[1].item() / self.shape.numel()) ** 0.5

    def features(self, obtained: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same linear functions of this tensor and the obtained one; here, the known sums and elements."""
        numbers = obtained.flatten()
        ours = torch.cat([signs(len(numbers)) @ summed(numbers), numbers[places(len(numbers))][: len(self.shown)]])
        return torch.cat([self.sums, self.shown]), ours

    def _off(self, obtained: Tensor, rtol: float, atol: float) -> Tensor:
        """Return the errors of `features` in units of the tolerance."""
        theirs, ours = self.features(obtained)
        rtol, n = max(rtol, PRECISION), obtained.numel()
        absolute, square = self.size.tolist()
        allowed = SIGMAS * (n * atol**2 + 2 * atol * rtol * absolute + rtol**2 * square) ** 0.5
        of_sums = errors(ours[:SUMS], theirs[:SUMS], 0.0, allowed)
        return torch.cat([of_sums, errors(ours[SUMS:], theirs[SUMS:], rtol, atol)])

    def error(self, obtained: Tensor, rtol: float, atol: float) -> float:
        if obtained.shape != self.shape:
            return float("inf")
        return self._off(obtained, rtol, atol).max().item()

    def compare(self, obtained: Tensor, rtol: float, atol: float) -> str:
        """Return the part of a message that shows the stored numbers that differ or, if none do, the worst sum."""
        (theirs, ours), off = self.features(obtained), self._off(obtained, rtol, atol)
        wrong = (off[SUMS:] > 1).nonzero().flatten()
        if len(wrong):
            at = places(obtained.numel())[wrong].tolist()[:4]
            of = f"some of {obtained.numel()} numbers, at {at}, ..."
        else:
            of = f"a sum of {obtained.numel()} numbers with random signs: those stored individually are right"
            wrong = off[:SUMS].argmax()[None] - SUMS
        expected, found = shown(theirs[SUMS + wrong], ours[SUMS + wrong])
        return f"expected {expected}\nobtained {found}\n({of})"


def summed(numbers: Tensor) -> Tensor:
    """Replace NaN in the numbers before they are summed."""
    return torch.where(numbers.isnan(), NAN, numbers)


@lru_cache(maxsize=16)
def signs(n: int) -> Tensor:
    """Return pseudorandom signs, -1 or 1, [SUMS, n], which are always the same for the same n."""
    return torch.from_numpy(2.0 * np.random.RandomState(n).randint(2, size=(SUMS, n), dtype=np.int64) - 1)


@lru_cache(maxsize=16)
def places(n: int) -> Tensor:
    """Return the positions of the individually stored elements among n elements."""
    return torch.from_numpy(np.unique(np.random.RandomState(n).randint(n, size=SHOWN, dtype=np.int64)))


class Value:
    """The expected value, and the values that known mistakes would produce: (sentence, tensor).

    Args:
        mistakes: evaluated only if a value is wrong.
        whole: whether to record the tensor in full, because a test needs its values, such as probabilities.
    """

    def __init__(self, right, mistakes: Iterable = (), whole: bool = False):
        self.right, self.whole, self._mistakes = _known(right), whole, mistakes

    @property
    def shape(self) -> torch.Size:
        return self.right.shape

    @property
    def tensor(self) -> Tensor:
        return self.right.tensor

    @property
    def rms(self) -> float:
        """Return the root mean square of the numbers."""
        return self.right.rms

    @property
    def mistakes(self) -> list[tuple[str, Whole | Sketch]]:
        self._mistakes = [(sentence, _known(wrong)) for sentence, wrong in self._mistakes]
        return self._mistakes

    def mistake(self, obtained: Tensor, rtol: float, atol: float) -> str | None:
        """Return the known mistake that fits best, or two if another one fits about as well; None if none fits."""
        fits = sorted((wrong.error(obtained, rtol, atol), sentence) for sentence, wrong in self.mistakes)
        fits = [(error, sentence) for error, sentence in fits if error <= min(1, max(0.1, 3 * fits[0][0]))]
        return "; or ".join(list(dict.fromkeys(sentence for _, sentence in fits))[:2]) or None


Answer = dict[str, Value]


def _known(tensor) -> Whole | Sketch:
    known = isinstance(tensor, Whole | Sketch)
    return tensor if known else Whole(torch.as_tensor(tensor).detach().double())


# --- recorded answers -------------------------------------------------------------------------------------------------


class AnswersError(Exception):
    """The recorded answers cannot be used, through no fault of the student."""

    places = ()


def numbers_in(inputs) -> Iterator[Tensor]:
    """Yield all numbers in a test's inputs, in order."""
    if isinstance(inputs, dict):
        inputs = list(inputs.values())
    if isinstance(inputs, list | tuple):
        for each in inputs:
            yield from numbers_in(each)
    elif inputs is not None:
        yield torch.as_tensor(inputs).detach().double().flatten()


def checksum(inputs: dict) -> tuple[Tensor, float]:
    """Return sums of the inputs with random signs, and a tolerance, because the last digits depend on the platform."""
    numbers = torch.cat(list(numbers_in(inputs)))
    return signs(len(numbers)) @ numbers, 1e-4 * float(numbers.norm()) + 1e-6


class Recorded:
    """The oracles' answers for the seeds from 0 to `seeds` - 1, read from answers.npz."""

    def __init__(self, path: Path):
        with np.load(path, allow_pickle=False) as file:
            index, self.numbers = json.loads(file["index"].tobytes()), torch.from_numpy(file["numbers"])
        self.seeds, self.forms = index["seeds"], index["forms"]
        self.sentences, self.tests = index["sentences"], index["tests"]

    def answer(self, seed: int, test: str, number: int, oracle: str, inputs: dict) -> Answer:
        """Return the answer to call number `number` (counted from 0) to `expected` in a test.

        Raises:
            AnswersError: no answer was recorded, or it was recorded for different inputs.
        """
        try:
            form, at = self.tests[test][seed]
            calls = self.forms[form]
            at += sum(call["length"] for call in calls[:number])
            call = calls[number]
        except (KeyError, IndexError):
            raise AnswersError(f"tests/answers.npz has no answer for {test}, seed {seed}. {_whose_fault()}") from None
        self.at = at
        theirs, (ours, allowed) = self._take(SUMS), checksum(inputs)
        if call["oracle"] != oracle or (ours - theirs).abs().max() > allowed:
            raise AnswersError(f"tests/answers.npz was recorded with different inputs for {test}. {_whose_fault()}")
        return {name: self._value(value) for name, value in call["values"].items()}

    def _take(self, count: int) -> Tensor:
        self.at += count
        return self.numbers[self.at - count : self.at].double()

    def _value(self, form: dict) -> Value:
        right = self._known(form["right"])
        mistakes = [(self.sentences[sentence], self._known(wrong)) for sentence, wrong in form["mistakes"]]
        return Value(right, mistakes)

    def _known(self, form: dict) -> Whole | Sketch:
        shape = form["shape"]
        if form["whole"]:
            return Whole(self._take(int(np.prod(shape))).view(shape), PRECISION)
        sums, size = self._take(SUMS), self._take(2)
        return Sketch(shape, sums, size, self._take(len(places(int(np.prod(shape)))) if form["shown"] else 0))


def _whose_fault() -> str:
    return "This is not your fault: restore tests/ from the template; if that does not help, tell the staff"
