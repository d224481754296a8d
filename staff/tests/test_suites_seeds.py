"""Tests of the real suites: their form, and that their verdict is the same for every seed."""

import ast
import contextlib
import io
import math
import multiprocessing
import os
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch

import judge
from answers import Value
from small_runs import PARTS, REPOSITORY
from staff.release.suites import suites
from test_mistakes import SLOW_IMPORTS

SUITES = suites(REPOSITORY)


HIDDEN = {
    "1.7": ["test_kld_extreme_values"],
    "2.5": ["test_discriminator_loss_gradients"],
    "3.2": ["test_gpt_is_causal"],
    "3.3": ["test_generate_crops_the_context"],
}


# --- the real suites --------------------------------------------------------------------------------------------------


def marked(suite: Path) -> Iterator[tuple[ast.FunctionDef, str, dict]]:
    """Yield each graded test with its question and the fields of its marker."""
    for node in ast.parse(suite.read_text()).body:
        for decorator in getattr(node, "decorator_list", []):
            if "question" in ast.unparse(decorator):
                fields = {each.arg: ast.literal_eval(each.value) for each in decorator.keywords}
                yield node, ast.literal_eval(decorator.args[0]), fields


def test_each_hidden_test_is_a_function_of_its_own():
    found = {}
    for suite in SUITES:
        for node, question, fields in marked(suite):
            assert set(fields) <= {"points", "needs"}, node.name
            if suite.parent.name == "hidden":
                assert len(node.decorator_list) == 1, node.name
                found.setdefault(question, []).append(node.name)
    assert found == HIDDEN


def test_all_that_a_graded_test_asserts_has_a_message():
    """pytest does not rewrite the assertions of graded tests, so each needs its own message."""
    for suite in (*SUITES, Path(judge.__file__)):
        tree = ast.parse(suite.read_text())
        assert "PYTEST_DONT_REWRITE" in ast.get_docstring(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Assert):
                assert node.msg, f"{suite.name}:{node.lineno} has no message"


def test_a_value_is_judged_up_to_the_tolerance():
    judge.assert_value("x", torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0002]), rtol=1e-3)
    for wrong in (torch.tensor([1.0, 2.1]), torch.tensor([1.0, math.nan]), torch.tensor([1.0]), torch.tensor(1.0)):
        with pytest.raises(AssertionError, match="x is wrong"):
            judge.assert_value("x", wrong, torch.tensor([1.0, 2.0]), rtol=1e-3)


def test_only_the_mistake_with_the_obtained_value_is_named():
    mistakes = [("negative", torch.tensor(-1.0)), ("twice", torch.tensor(2.0)), ("summed", torch.tensor([1.0, 1.0]))]
    for obtained, name in [(torch.tensor(2.0), "twice"), (torch.ones(2), "summed"), (torch.tensor(3.0), "who knows")]:
        with pytest.raises(AssertionError) as error:
            judge.assert_value("x", obtained, Value(torch.tensor(1.0), mistakes), rtol=1e-3, hint="who knows")
        assert [word for word in ("negative", "twice", "summed", "who knows") if word in str(error.value)] == [name]


def test_noise_is_told_from_other_noise(rng):
    normal = torch.randn(2000, 3, generator=rng)
    judge.assert_standard_normal("noise", normal)
    judge.assert_independent("noise", normal[:1000], normal[1000:])
    for other, name in [
        (torch.rand(2000, 3, generator=rng), "torch.rand"), (1.3 * normal, "is not drawn"), (0 * normal, "always"),
    ]:  # fmt: skip
        with pytest.raises(AssertionError, match=name):
            judge.assert_standard_normal("noise", other)
    shared = {
        "dimensions": (normal[:, :1].expand(-1, 3), normal), "rows": (normal.repeat_interleave(2, 0)[:2000], normal),
        "two calls": (normal, normal),
    }  # fmt: skip
    for name, (noise, again) in shared.items():
        with pytest.raises(AssertionError, match=name):
            judge.assert_independent("noise", noise, again)


def test_a_check_fails_only_if_it_rejects_two_samples():
    def passes_from(first: int) -> int:
        """Return the number of samples drawn by a check that passes from sample number `first` on."""
        drawn = []

        def check(what: str, *, number: int) -> None:
            drawn.append(number)
            assert len(drawn) >= first, f"{what}, sample {len(drawn)} of {number}"

        judge.check_samples(check, "no good", number=7)
        return len(drawn)

    assert (passes_from(1), passes_from(2)) == (1, 2)
    with pytest.raises(AssertionError, match="no good, sample 2 of 7"):
        passes_from(3)


# --- all seeds --------------------------------------------------------------------------------------------------------

MOST_CHECKS = 60  # see `judge.check_samples`


def lost(seed: int) -> list[str]:
    """Return the graded tests that the solution fails with this seed; needs a separate process."""
    torch.set_num_threads(1)
    os.chdir(REPOSITORY)
    if str(REPOSITORY) not in sys.path:
        sys.path.insert(0, str(REPOSITORY))
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        for module in [name for name in sys.modules if name.startswith("test_part")]:
            del sys.modules[module]  # a fresh import uses the patched judge
        with mock.patch.object(judge, "check_samples", wraps=judge.check_samples) as check_samples:
            status = pytest.main(["-q", "-p", "no:cacheprovider", "--seed", str(seed), *map(str, SUITES)])
    text = out.getvalue()
    assert status in (0, 1) and re.search(r"^sum +", text, re.MULTILINE), text[-3000:]
    assert 30 < check_samples.call_count < MOST_CHECKS, f"{check_samples.call_count} checks draw samples"
    return [f"seed {seed}: {line}" for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]


@pytest.mark.slow
def test_the_solution_passes_on_every_seed(pytestconfig):
    """Each run draws new seeds; the environment variable SEEDS sets how many."""
    number = int(os.environ.get("SEEDS", "5"))
    seeds = random.Random(pytestconfig.getoption("--seed")).sample(range(2**31), number)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*SLOW_IMPORTS, *PARTS.values()])
    with context.Pool(os.cpu_count()) as pool:
        flips = [line for lines in pool.imap_unordered(lost, seeds) for line in lines]
    assert not flips, f"{len(flips)} flips in {number} seeds: {flips}"
