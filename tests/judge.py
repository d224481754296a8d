"""Assertions for the graded tests. A message describes the error, then shows the expected and the obtained values.

pytest does not extend these messages, because the docstrings of the graded tests' modules contain PYTEST_DONT_REWRITE.
"""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from scipy import stats
from torch import Tensor

from answers import Value
from messages import beyond, joined, seen, shown


def _refuse_other_runners() -> None:
    """Exit and name the right command if a suite is started without pytest, which would run no tests and succeed."""
    started = sys.modules["__main__"]
    file = Path(getattr(started, "__file__", None) or "unknown")
    module = getattr(getattr(started, "__spec__", None), "name", "")
    if module.startswith("unittest.") or (file.name.startswith("test_") and file.parent.resolve().name == "tests"):
        what = f"tests/{file.name}" if file.name.startswith("test_") else "tests/test_part1_vae.py"
        sys.exit(f"These tests need pytest: run `python -m pytest {what}` in the repository's folder.")


_refuse_other_runners()

SIGMAS = 5
P_5_SIGMA = 5.7e-7  # the probability that a normal variable is more than 5 sigma from its mean


def check_samples(check: Callable, *args, **kwargs) -> None:
    """Run a check that draws a random sample; fail only if it rejects a second, independent sample as well.

    A correct submission then loses points with a probability below one in a million. With one sample and bounds of 5
    sigma, one comparison rejects it with a probability p of at most 1e-6 (5.7e-7 for a normal distribution, more for
    one with heavier tails). A check with m comparisons fails with a probability of at most (m p)². As there are fewer
    than 60 checks with at most 100 comparisons each, the total is at most 60 (100 * 1e-6)² = 6e-7.

    Args:
        check: draws samples using the inputs args and kwargs, and makes assertions about them.
    """
    try:
        return check(*args, **kwargs)
    except AssertionError:
        pass  # the second attempt is outside this block, so that pytest shows only its error
    check(*args, **kwargs)


def standardized(x: Tensor) -> Tensor:
    """Shift and scale x to mean 0 and standard deviation 1."""
    return (x - x.mean()) / x.std()


def assert_shape(what: str, obtained: Tensor, shape: tuple[int, ...], hint: str = "") -> None:
    if obtained.shape != tuple(shape):
        message = f"the shape of {what.rstrip(',')} is wrong{hint and ': ' + hint}"
        raise AssertionError(f"{message}\nexpected {tuple(shape)}\nobtained {tuple(obtained.shape)}")


def assert_numbers(what: str, output: Tensor, shape: tuple[int, ...]) -> None:
    assert_shape(what, output, shape)
    assert output.dtype == torch.float32, f"{what} should be float32, not {output.dtype}"
    bad = int((~output.isfinite()).sum())
    assert not bad, f"{what} should be finite numbers, but {bad} of {output.numel()} are NaN or infinite"


def assert_value(
    what: str,
    obtained: Tensor | float,
    expected: Value | Tensor | float,
    rtol: float = 0.0,
    atol: float = 0.0,
    hint: str = "",
    again: Callable[[], Tensor | float] | None = None,
) -> None:
    """Check a number, or each element of a tensor.

    Args:
        what: name of the value in the message.
        expected: a value from an oracle's answer, which includes known mistakes; or a plain tensor or number.
        rtol, atol: tolerances, as in `torch.testing.assert_close`.
        hint: where to look if no known mistake explains the error.
        again: recomputes the value from the same inputs, to check whether it changes between calls.
    """
    assert_any(what, obtained, [expected], rtol, atol, hint, again)


def assert_any(
    what: str,
    obtained: Tensor | float,
    allowed: Sequence[Value | Tensor | float],
    rtol: float = 0.0,
    atol: float = 0.0,
    hint: str = "",
    again: Callable[[], Tensor | float] | None = None,
) -> None:
    """Check like `assert_value`, but allow several values."""
    obtained = torch.as_tensor(obtained).detach().double()
    allowed = [each if isinstance(each, Value) else Value(each) for each in allowed]
    if any(value.right.error(obtained, rtol, atol) <= 1 for value in allowed):
        return
    known = [sentence for value in allowed if (sentence := value.mistake(obtained, rtol, atol))]
    if not known:
        ways = [_changes(obtained, again, rtol, atol)]
        ways += [seen(value.right, obtained, rtol, atol) for value in allowed]
        known = [joined(next(filter(None, ways), ""), hint)]
    hint = known[0]
    if obtained.shape not in [value.shape for value in allowed]:
        assert_shape(what, obtained, allowed[0].shape, hint)
    wanted = next(value for value in allowed if value.shape == obtained.shape)
    numbers = wanted.right.compare(obtained, rtol, atol)
    raise AssertionError(f"{what} is wrong{hint and ': ' + hint}\n{numbers}")


def assert_moments(what: str, draws: Tensor, mean: Tensor, spread: Value, hint: str = "") -> None:
    """Check that the columns of the draws [N, D] have this mean [D] and this standard deviation [D]."""
    n, std, found = len(draws), draws.double().std(0), draws.double().mean(0)
    # the standard deviation of n draws has a relative error of 1 / sqrt(2n), their mean an error of std / sqrt(n)
    right = ((found - mean).abs() <= SIGMAS * torch.maximum(std, spread.tensor) / math.sqrt(n)).all()
    try:
        assert_value(f"the standard deviation of {what}", std, spread, SIGMAS / math.sqrt(2 * n), 1e-6, hint)
    except AssertionError as error:
        raise AssertionError(f"{error}\n(the mean is {'right' if right else 'off as well'})") from None
    for column, its_std in enumerate(spread.tensor.tolist()):
        atol = SIGMAS * its_std / math.sqrt(n)
        assert_value(f"the mean of {what}", found[column], mean[column], atol=atol, hint=hint)


def _changes(obtained: Tensor, again: Callable[[], Tensor | float] | None, rtol: float, atol: float) -> str:
    """Return a sentence if another call with the same inputs returns a different value, else an empty string."""
    other = obtained if again is None else torch.as_tensor(again()).detach().double()
    same_size = other.numel() == obtained.numel()
    if same_size and Value(obtained).right.error(other.reshape(obtained.shape), rtol, atol) <= 1:
        return ""
    return "it changes between calls, even with the same inputs"


def entry(name: str, function: Callable[..., dict], *args, **kwargs):
    """Call a function that returns a dictionary; return one of its entries."""
    return function(*args, **kwargs)[name]


def assert_logs(logs, names):
    """Check that the log has these names and that its values are detached (`as_numbers` makes attached ones NaN)."""
    assert set(names) <= set(logs), f"the log should contain {sorted(names)}, but it contains {sorted(logs)}"
    attached = [name for name in sorted(names) if math.isnan(logs[name])]
    assert not attached, f"{attached} in the log should be finite and detached from the graph"


def assert_nan(what: str, output: Tensor | float, where: Tensor | bool = True) -> None:
    """Check that the output is NaN where `where` marks a NaN among its inputs, and nowhere else."""
    output, where = torch.broadcast_tensors(torch.as_tensor(output), torch.as_tensor(where))
    hidden, spread = where & ~output.isnan(), output.isnan() & ~where
    assert not hidden.any(), (
        f"{what} hides a NaN in its inputs: it should be NaN too (no nan_to_num)\n"
        f"expected nan\nobtained {shown(output[hidden], output[hidden])[1]}"
    )
    assert not spread.any(), (
        f"{what} is NaN although its inputs are not: does NaN spread over the batch?\n"
        f"expected {int(where.sum())} of {where.numel()} numbers to be NaN\nobtained {int(output.isnan().sum())}"
    )


def assert_reached(what: str, gradients: dict[str, float]) -> None:
    """Check that each parameter gets a gradient and is registered; gradients: the result of `gradient_sizes`."""
    gradients = dict(gradients)
    assert not gradients.pop(""), (
        f"the {what} does not know some of its layers, so no optimizer trains them: are they in a Python list? "
        "(nn.ModuleList)"
    )
    unreached = [name for name, size in gradients.items() if not size > 0]
    assert not unreached, f"no gradient reaches the {what}'s parameters {unreached}: are they unused, or detached?"
    assert gradients, f"the {what} has no parameters"


def assert_nothing_on_top(what: str, outputs: Tensor) -> None:
    """Check that no activation bounds the outputs of a network with large parameters, on either side of 0."""
    low, high = outputs.min().item(), outputs.max().item()
    # a sigmoid or tanh stays within ±1, and a ReLU, GELU or ELU above -1
    assert low < -1.5 and high > 1.5, (
        f"{what} can be any number: is there an activation on top of the last layer?\n"
        "expected some below -1.5 and some above 1.5, with large weights\n"
        f"obtained {beyond(-1.5, low)} to {beyond(1.5, high)}"
    )


def assert_not_linear(what: str, ends: Tensor, middle: Tensor) -> None:
    """Check that the output for the mean of two inputs is not the mean of their outputs [2, ...]."""
    bend = (middle - ends.mean(0)).abs().max()
    assert bend > 1e-5 * ends.abs().max(), f"the {what} is linear: are there activations between the layers?"


def assert_causal(changes, t, what):
    """Check how the output [B, T, ...] changes when token t of the first sequence is replaced."""
    size = changes.abs().flatten(2).amax(-1)  # [B, T]
    # later tokens have weight 0, so that only float32 rounding may change the output before token t
    before = size[0, :t].max().item() if t else 0
    assert before < 1e-5, (
        f"{what}: token {t} influences tokens before it, by up to {before:.2g}: is the mask missing or transposed?"
    )
    without = [at for at in range(t, size.size(1)) if not size[0, at] > 1e-6]
    assert not without, f"{what}: token {t} should influence itself and later tokens, but does not influence {without}"
    assert (size[1:] < 1e-5).all(), f"{what}: a sequence influences another one in the batch"


def is_drawn_from(values: Tensor, distribution) -> bool:
    """Return whether values [N] could be draws from a scipy.stats distribution (Kolmogorov-Smirnov test)."""
    return stats.kstest(values.double().numpy(), distribution.cdf).pvalue > P_5_SIGMA


def assert_standard_normal(what: str, values: Tensor) -> None:
    """Check that each column of the values [N, D] is drawn from N(0, 1)."""
    others = {
        "it is uniform in 0..1: torch.rand instead of torch.randn?": stats.uniform(),
        "it is uniform: torch.rand instead of torch.randn?": stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)),
    }
    for column in (*values.T, values.flatten()):  # and all columns together: more samples reveal smaller errors
        bound = 1.1 * SIGMAS / math.sqrt(2 * len(column))  # 1.1: a standard deviation has heavier tails
        repeated = len(column) > 1000 and len(column.unique()) < 0.9 * len(column)
        mean, std = column.double().mean().item(), column.double().std().item()
        if not repeated and is_drawn_from(column, stats.norm()) and abs(std - 1) < bound:
            continue
        why = [name for name, distribution in others.items() if is_drawn_from(column, distribution)]
        bad = int((~column.isfinite()).sum())
        why += [f"{bad} of {len(column)} numbers are NaN or infinite"] * (bad > 0)
        why += ["it is always the same"] * (std < 1e-6)
        why += ["its numbers repeat: are they rounded?"] * repeated
        why += [_not_standard(column, mean, std, bound)]
        quarters = torch.tensor([0.25, 0.75]).to(column)
        theirs, ours = shown(torch.from_numpy(stats.norm.ppf(quarters.numpy())), column.quantile(quarters))
        expected = f"mean 0, standard deviation 1, quartiles {theirs}"
        obtained = f"mean {beyond(0, mean)}, standard deviation {beyond(1, std)}, quartiles {ours}"
        if repeated:
            expected += f", {len(column)} different numbers"
            obtained += f", {len(column.unique())} different numbers"
        raise AssertionError(f"{what} is not drawn from N(0, 1): {why[0]}\nexpected {expected}\nobtained {obtained}")


def _not_standard(column: Tensor, mean: float, std: float, bound: float) -> str:
    """Describe how numbers differ from standard normal draws."""
    off = ["the mean"] * (abs(mean) > SIGMAS * std / math.sqrt(len(column))) + ["the spread"] * (abs(std - 1) > bound)
    gaussian = is_drawn_from(standardized(column), stats.norm())
    shape = "the shape of the distribution is Gaussian" if gaussian else "it is not Gaussian either"
    if not off:
        return "its mean and spread are right, but the shape of the distribution is not"
    return f"{' and '.join(off)} {'are' if len(off) > 1 else 'is'} off; {shape}"


def assert_independent(what: str, noise: Tensor, again: Tensor) -> None:
    """Check that noise [N, D] is independent within a call, and independent of another call's noise [N, D]."""
    n, D = noise.shape
    half = n // 2
    bound = SIGMAS / math.sqrt(len(noise))
    assert noise.std(0).min() > 1e-3, (
        f"{what} of different rows of the batch is the same: is it drawn once for all of them?"
    )
    # another assertion checks that the noise is standard normal
    noise, again = ((values - values.mean(0)) / values.std(0) for values in (noise, again))
    correlations = {
        "different dimensions": (torch.corrcoef(noise.T) - torch.eye(D)).abs().max() if D > 1 else torch.tensor(0),
        # products of neighbours have heavier tails than a normal variable
        "different rows of the batch": (noise[1:] * noise[:-1]).mean(0).abs().max() / 1.1,
        "two calls": (noise * again).mean(0).abs().max() / 1.1,
    }
    if n >= 500:  # with fewer products, the tails are too heavy
        halves = {"the batch's halves": noise[half : 2 * half], "first and last rows": noise.flip(0)[:half]}
        for which, other in halves.items():
            correlations[which] = (noise[:half] * other).mean(0).abs().max() / 1.1 / math.sqrt(2)
    for which, correlation in correlations.items():
        if correlation > bound:
            raise AssertionError(
                f"{what} of {which} is not independent: is it drawn once for all of them?\n"
                f"expected correlation 0, up to {bound:.2g}\nobtained {beyond(bound, correlation.item())}"
            )
