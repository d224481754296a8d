"""Tests of the messages from graded tests: the numbers that they show, and the patterns that they recognise."""

import math
import re

import pytest
import torch
from test_answers import sketched
from torch import Tensor

import judge
from answers import Sketch, Value, Whole
from messages import beyond, pair, seen, shown
from staff.oracles.record import described

KNOWN = [Whole, sketched]

# --- digits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expected, obtained, texts",
    [
        (1.0, 2.0, ("1", "2")),
        (0.5, 0.25, ("0.5", "0.25")),
        (1.2345678, 1.2345698, ("1.234568", "1.23457")),  # they differ in the seventh digit
        (1000000, 1000001, ("1000000", "1000001")),
        (123456.7, 123456.8, ("123456.7", "123456.8")),
        (1e-9, 1.0000001e-9, ("1e-09", "1.0000001e-09")),
        (1.0, math.nextafter(1.0, 2), ("1", "1.0000000000000002")),
        (math.nan, 1.0, ("nan", "1")),
        (1.0, math.inf, ("1", "inf")),
        (math.inf, -math.inf, ("inf", "-inf")),
        (math.pi, math.pi, ("3.142", "3.142")),
        (math.nan, math.nan, ("nan", "nan")),
    ],
)
def test_numbers_that_differ_look_different(expected, obtained, texts):
    assert pair(expected, obtained) == texts


def test_the_first_few_of_a_tensor_are_shown():
    expected = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).double()
    assert shown(expected, expected + 1e-7) == ("1, 2, 3, 4, ...", "1.0000001, 2.0000001, 3.0000001, 4.0000001, ...")
    assert shown(expected[:2], 0 * expected[:2]) == ("1, 2", "0, 0")


def numbers_of(message: str) -> tuple[list[str], list[str]]:
    lines = [re.search(rf"^{word} (.*)$", message, re.MULTILINE)[1] for word in ("expected", "obtained")]
    return tuple(re.findall(r"[-+\w][-+.\w]*", line) for line in lines)


@pytest.mark.parametrize("known", KNOWN)
def test_no_message_shows_the_same_digits(known, rng):
    """Include the case where the only wrong number is not recorded in the students' repository."""
    right = torch.randn(40, 30, generator=rng).double()
    for size in (1e-2, 1e-4, 3e-6):
        for at in (slice(None), (17, 5)):
            wrong = right.clone()
            wrong[at] += size * (right[at] if at == slice(None) else 1000)
            with pytest.raises(AssertionError) as error:
                judge.assert_value("x", wrong, Value(known(right)), rtol=1e-6 * (size < 1e-5) + 1e-9)
            for expected, obtained in zip(*numbers_of(str(error.value)), strict=True):
                assert expected != obtained, str(error.value)


def test_a_number_beyond_a_bound_looks_beyond_it():
    assert beyond(1.0, 1.0000001) == "1.0000001" and beyond(-1.5, -1.4999999) == "-1.4999999"
    with pytest.raises(AssertionError, match="obtained -2 to 1.49999"):
        judge.assert_nothing_on_top("a logit", torch.tensor([-2.0, 1.499999]))


# --- recognised patterns ----------------------------------------------------------------------------------------------


def of(known, right: Tensor, obtained: Tensor) -> str:
    return seen(known(right), obtained.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda x: 0.5 * x, "it is 1/2 of the expected value"),
        (lambda x: -x / 784, "it is -1/784 of the expected value"),
        (lambda x: 3 * x, "it is 3 times the expected value"),
        (lambda x: x * math.log(2), "it is 0.6931 times the expected value"),
        (lambda x: x * 1.00003, "it is 1.00003 times the expected value"),
        (lambda x: -x, "it has the wrong sign"),
        (lambda x: x + 0.25, "it is off by the same amount everywhere, 0.25"),
        (lambda x: 0 * x, "it is 0 everywhere"),
        (lambda x: 0 * x + 7, "all its numbers are 7"),
        (lambda x: x.flip(2), "it is mirrored: dimension 2 is reversed"),
        (lambda x: x.transpose(1, 2), "it is transposed: dimensions 1 and 2 are swapped"),
        (lambda x: x.roll(1, 1), "it is shifted by 1 along dimension 1"),
        (lambda x: x.roll(-2, 0), "it is shifted by -2 along dimension 0"),
        (lambda x: x.where(x < 1, math.nan), r"\d+ of its 1014 numbers are NaN \(not a number\)"),
        (lambda x: x / 0, "all of its 1014 numbers are infinite"),
        (lambda x: x.flatten(), "the numbers are right"),
        (lambda x: x.permute(1, 2, 0), r"its dimensions should be in the order \[2, 0, 1\]"),
    ],
)
def test_what_is_seen_of_large_tensors(known, change, sentence, rng):
    right = torch.randn(6, 13, 13, generator=rng).double()
    assert re.fullmatch(sentence, of(known, right, change(right)))


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda x: x[[2, 0, 4, 1, 3]], "the numbers are right, but in a different order along dimension 0"),
        (lambda x: x[:1].expand(5, 3), "it is the same everywhere along dimension 0"),
        (lambda x: x.mean(0), "it is the mean of the expected numbers over dimension 0"),
        (lambda x: x.sum(1, keepdim=True), "it is the sum of the expected numbers over dimension 1"),
        (lambda x: x.sum(), "it is the sum of all expected numbers"),
        (lambda x: x[0], "it is only the first entry of dimension 0"),
    ],
)
def test_what_is_seen_of_small_tensors(change, sentence, rng):
    right = torch.randn(5, 3, generator=rng).double()
    assert of(Whole, right, change(right)) == sentence


@pytest.mark.parametrize(
    "obtained, sentence", [(1.5, "1/2"), (6.0, "2 times"), (4.0, "1.333 times"), (3.00006, "1.00002 times")]
)
def test_one_number_has_a_factor(obtained, sentence):
    assert sentence in of(Whole, torch.tensor(3.0).double(), torch.tensor(obtained))


@pytest.mark.parametrize("known", KNOWN)
def test_nothing_is_said_where_nothing_is_seen(known, rng):
    for _ in range(20):
        right = torch.randn(6, 13, 13, generator=rng).double()
        nearly = 2 * right
        nearly[3, 4, 5] += 1
        for other in (
            torch.randn(6, 13, 13, generator=rng),
            right.exp(),
            nearly,
            right[:, :12],
            right.flip(0) + nearly,
        ):
            assert of(known, right, other) == ""
    zero_first = 0 * right
    zero_first[1, 2, 3] = right[1, 2, 3] + 1
    assert of(known, right, zero_first) == ""
    tiny = 1e-7 * torch.randn(6, 13, 13, generator=rng).double()  # with numbers this small, any factor would fit
    assert of(known, tiny, tiny + torch.randn(6, 13, 13, generator=rng)) == ""


def test_nothing_is_seen_of_what_is_expected_to_be_the_same():
    """If all expected numbers or images in a batch are equal, patterns that depend on differences are not reported."""
    assert of(Whole, torch.ones(4, 3).double(), torch.full((4, 3), 0.5)) == "it is 1/2 of the expected value"
    twice, once = torch.tensor([[1.0, 5.0, 2.0], [0.3, 0.1, 0.7]]).double()
    assert of(Whole, torch.stack([twice, twice, once]), torch.stack([once, once, twice])) == ""
    right = torch.arange(3.0).double().expand(4, 3)
    assert of(Whole, right, right.square() + 1) == ""
    assert of(Whole, torch.full((3,), math.inf).double(), torch.full((3,), math.nan)) == ""
    assert of(Whole, torch.zeros(0).double(), torch.zeros(0, 2)) in ("", "the numbers are right")


def test_what_is_seen_is_said_only_where_no_known_mistake_fits():
    value = Value(torch.tensor([1.0, 2.0]), [("it is doubled", torch.tensor([2.0, 4.0]))])
    for obtained, sentence in [
        ([2.0, 4.0], "x is wrong: it is doubled\n"),
        ([3.0, 6.0], "3 times the expected value; why\n"),
    ]:
        with pytest.raises(AssertionError, match=sentence):
            judge.assert_value("x", torch.tensor(obtained), value, rtol=1e-3, hint="why")
    with pytest.raises(AssertionError, match="the shape of x is wrong: the numbers are right; why\n"):
        judge.assert_value("x", torch.tensor([[1.0], [2.0]]), value, rtol=1e-3, hint="why")


def test_a_recorded_tensor_is_described_as_a_live_one(rng):
    """The patterns are recognised in the recorded numbers as well as in the tensor itself."""
    from answers import SUMS, places

    right = torch.randn(20, 30, generator=rng).double()
    _, numbers = described("x", {"x": right}, {"y": Value(right)})
    numbers = torch.tensor(numbers[SUMS:])
    recorded = Sketch(
        (20, 30), numbers[:SUMS].double(), numbers[SUMS : SUMS + 2].double(), numbers[SUMS + 2 :].double()
    )
    assert len(recorded.shown) == len(places(600))
    assert seen(recorded, right / 3, 1e-5, 1e-6) == "it is 1/3 of the expected value"


# --- random draws -----------------------------------------------------------------------------------------------------


def test_the_mean_and_the_spread_of_draws_are_told_apart(rng):
    noise = torch.randn(20_000, 2, generator=rng).double()
    mean, spread = torch.tensor([1.0, -2.0]), Value(torch.tensor([1.0, 3.0]))
    judge.assert_moments("z", mean + noise * spread.tensor, mean, spread)
    wrong = {
        r"(?s)standard deviation.*1/2 of.*\(the mean is right\)": mean + noise * spread.tensor / 2,
        r"(?s)standard deviation.*1/2 of.*\(the mean is off as well\)": 2 * mean + noise * spread.tensor / 2,
        r"the mean of z is wrong: it is (1\.9\d+|2|2\.0\d+) times": 2 * mean + noise * spread.tensor,
    }
    for sentence, draws in wrong.items():
        with pytest.raises(AssertionError, match=sentence):
            judge.assert_moments("z", draws, mean, spread)


def test_noise_that_is_not_a_number_is_not_called_right(rng):
    noise = torch.randn(5000, 1, generator=rng)
    noise[7] = math.nan
    with pytest.raises(AssertionError, match="N.0, 1.: 1 of 5000 numbers are NaN or infinite"):
        judge.assert_standard_normal("the noise", noise)
    with pytest.raises(AssertionError, match="the mean is off as well"):
        judge.assert_moments("z", noise, torch.zeros(1), Value(torch.ones(1)))


def test_what_is_off_of_noise_is_said(rng):
    noise = torch.randn(5000, 1, generator=rng)
    laplace = torch.distributions.Laplace(0, 0.5**0.5).icdf(torch.rand(5000, 1, generator=rng))
    for sentence, draws in {
        "the mean is off; the shape of the distribution is Gaussian": noise + 0.3,
        "the spread is off; the shape of the distribution is Gaussian": 1.3 * noise,
        "the mean and the spread are off; it is not Gaussian either": noise.exp(),
        "its mean and spread are right, but the shape of the distribution is not": judge.standardized(laplace),
    }.items():
        with pytest.raises(AssertionError, match=sentence) as error:
            judge.assert_standard_normal("the noise", draws)
        for expected, obtained in zip(*numbers_of(str(error.value).replace(", Gaussian", "")), strict=True):
            assert expected != obtained or expected.isalpha(), str(error.value)


# --- NaN --------------------------------------------------------------------------------------------------------------


def test_nan_that_is_hidden_or_spread_is_named():
    where, right = torch.tensor([True, False]), torch.tensor([math.nan, 1.0])
    judge.assert_nan("KLD", right, where)
    judge.assert_nan("the loss", math.nan)
    for output, sentence in [
        ([0.5, 1.0], "KLD hides .*\nexpected nan\nobtained 0.5"),
        ([math.nan] * 2, "KLD is NaN although"),
    ]:
        with pytest.raises(AssertionError, match=sentence):
            judge.assert_nan("KLD", torch.tensor(output), where)
    with pytest.raises(AssertionError, match="the loss hides"):
        judge.assert_nan("the loss", 0.0)


def test_what_differs_from_call_to_call_is_named(rng):
    value, calls = Value(torch.ones(3), [("it is doubled", 2 * torch.ones(3))]), iter(torch.randn(9, 3, generator=rng))
    with pytest.raises(AssertionError, match="x is wrong: it changes between calls, even with the same inputs; why\n"):
        judge.assert_value("x", next(calls), value, rtol=1e-3, hint="why", again=lambda: next(calls))
    with pytest.raises(AssertionError, match="it is 3 times the expected value; why\n"):
        judge.assert_value("x", 3 * torch.ones(3), value, rtol=1e-3, hint="why", again=lambda: 3 * torch.ones(3))
    with pytest.raises(AssertionError, match="it changes between calls"):
        judge.assert_value("x", 3 * torch.ones(3), value, rtol=1e-3, again=lambda: 3 * torch.ones(4))
