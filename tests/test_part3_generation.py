"""Part 3, graded: generation (Q3.3).

The mean of the tokens so far replaces attention, so that Q3.3 does not depend on Q3.2.

Statistical tests allow 5 sigma, and a check that fails is repeated with new draws (`check_samples` in judge.py).

PYTEST_DONT_REWRITE is a keyword for pytest: it then shows only our own messages.
"""

import pytest
import torch
from scipy import special

from adapters import part3
from generating import assert_continues, assert_greedy, assert_likeliest, first_difference
from gpt_inputs import V, model_of, prompts, table
from inputs import integers, uniform
from judge import P_5_SIGMA, check_samples
from messages import FEW, shown


def unlikely(tokens, probs):
    """Return the tokens whose counts are too unlikely for independent draws (5 sigma, exact binomial)."""
    counts, n, p = torch.bincount(tokens, minlength=len(probs)).numpy(), len(tokens), probs.double().numpy()
    at_most, at_least = special.bdtr(counts, n, p), special.bdtrc(counts - 1, n, p)
    tail = 2 * torch.from_numpy(at_most).minimum(torch.from_numpy(at_least))
    # divided by the number of tokens that are compared
    return (tail < P_5_SIGMA / len(probs)).nonzero().flatten().tolist()


def assert_drawn(tokens, probs, what, mistakes=()):
    """Check that tokens [N] are draws with these probabilities [V]; mistakes: pairs (sentence, probabilities)."""
    impossible = [token for token in tokens.unique().tolist() if probs[token] == 0]
    off = unlikely(tokens, probs)
    if not off and not impossible:
        return
    counts = torch.bincount(tokens, minlength=len(probs))
    # of the mistakes that could explain these draws, choose the one that makes them most likely
    likely = {sentence: torch.xlogy(counts, p).sum() for sentence, p in mistakes if not unlikely(tokens, p)}
    why = [max(likely, key=likely.get)] if likely else []
    why += [f"tokens {impossible} should never be drawn"] * bool(impossible)
    wrong = list(dict.fromkeys(impossible + off))
    if not why and len(tokens.unique()) == 1:
        why = [f"it is always token {tokens[0]}"]
    elif not why:
        often = [token for token in wrong if counts[token] > len(tokens) * probs[token]]
        seldom = [token for token in wrong if token not in often]
        parts = {f"tokens {often} too often": often, f"tokens {seldom} too rarely": seldom}
        why = [f"it draws {' and '.join(part for part, those in parts.items() if those)}"]
    expected, obtained = shown(probs[wrong], (counts / len(tokens))[wrong])
    raise AssertionError(
        f"sampling ({what}) is wrong{': ' if why else ''}{'; '.join(why)}\n"
        f"expected probabilities {expected} of tokens {', '.join(map(str, wrong[:FEW]))}\n"
        f"obtained frequencies {obtained} of the same tokens"
    )


def of_token(value, token):
    """Return row `token` of an oracle's probabilities [V, V]: the right ones, and those of known mistakes."""
    return value.tensor[token], [(sentence, wrong.tensor[token]) for sentence, wrong in value.mistakes]


# --- generation ------------------------------------------------------------------------------------------------------


@pytest.mark.question("3.3", points=0.25, needs=["choose"])
def test_generate_shapes(rng):
    for batch, T, n in [(3, 4, 5), (1, 1, 1), (2, 6, 0), (1, 16, 3), (4, 1, 20)]:  # the last two exceed block_size 16
        model = model_of(table(rng))
        for options in ({}, {"do_sample": True}):
            idx = integers(rng, V, batch, T)
            assert_continues(part3.run_generate(idx, n, **model, **options), idx, n)
    for options in ({}, {"do_sample": True, "temperature": 0.5}, {"do_sample": True, "top_k": 3, "top_p": 0.9}):
        part3.run_choose_elsewhere(table(rng), **options)  # fails if choose creates tensors on the CPU


@pytest.mark.question("3.3", points=0.5, needs=["choose"])
def test_generate_greedy(rng, expected):
    logits = table(rng)
    tokens = expected("likeliest", logits=logits)["tokens"]
    for last in (torch.arange(V), integers(rng, V, 1), integers(rng, V, 5)):
        idx, n = prompts(rng, last), 6
        new = assert_continues(part3.run_generate(idx, n, **model_of(logits)), idx, n)
        before = torch.cat([last[:, None], new[:, :-1]], dim=1)  # the token before each new one
        assert_likeliest(new, before, tokens, "a model that sees only the last token")
    for batch, T, n in [(1, 5, 8), (6, 3, 13), (4, 1, 15)]:  # at most block_size tokens
        assert_greedy(rng, expected, T, n, batch, block_size=16)


@pytest.mark.question("3.3", points=0.25, needs=["choose"])
def test_generate_greedy_is_not_random(rng, expected):
    logits = table(rng)
    tokens = expected("likeliest", logits=logits)["tokens"]
    idx = prompts(rng, torch.arange(V).repeat(5))
    for options in ({"temperature": 0.1}, {"temperature": 10.0}, {"top_k": 3}, {"top_p": 0.9, "temperature": 2.0}):
        for given in ({}, {"do_sample": False}):
            new = assert_continues(part3.run_generate(idx, 3, **model_of(logits), **options, **given), idx, 3)
            before = torch.cat([idx[:, -1:], new[:, :-1]], dim=1)  # the token before each new one
            assert_likeliest(new, before, tokens, f"do_sample=False, {options}")


def assert_next_tokens(idx, logits, right, what, **options):
    """Check the tokens drawn after the last tokens of the prompts, for logits [V, V]; right: an oracle's answer."""
    result = part3.run_generate(idx, 1, **model_of(logits), do_sample=True, **options)
    new = assert_continues(result, idx, 1, len(logits))[:, 0]
    for token in idx[:, -1].unique().tolist():
        probs, mistakes = of_token(right, token)
        assert_drawn(new[idx[:, -1] == token], probs, what, mistakes)


@pytest.mark.question("3.3", points=0.5, needs=["choose"])
def test_generate_sampling_frequencies(rng, expected):
    logits = table(rng)
    # 1000 draws after each token: frequencies may be off by less than 0.09; neighbours have different probabilities
    last = torch.arange(V).repeat(1000)
    for temperature in (1.0, 0.4, 2.5, 0.7 + 0.6 * rng.uniform()):
        right = expected("next_token", logits=logits, temperature=temperature)["probabilities"]
        idx, what = prompts(rng, last, T=2), f"temperature {temperature:.3g}"
        check_samples(assert_next_tokens, idx, logits, right, what, temperature=temperature)
    # shifted logits have the same probabilities, and with a low temperature, the most likely token is drawn
    idx = idx[: V * 300]  # 300 draws after each token: frequencies may be off by less than 0.16
    for shift, temperature in [(300, 1.0), (-300, 1.0), (0, 0.01)]:
        right = expected("next_token", logits=logits, temperature=temperature)["probabilities"]
        # float32 logits near 300 have errors of up to 1e-4, and probabilities have relative errors of that size
        what = f"logits near {shift}, temperature {temperature}"
        check_samples(assert_next_tokens, idx, logits + shift, right, what, temperature=temperature)
    # with many tokens, unlikely ones must not be omitted: of the least likely, about 15 draws are expected
    logits = -0.08 * torch.from_numpy(rng.permutation(64)).float()[None]
    right = expected("next_token", logits=logits, temperature=1.0)["probabilities"]
    idx, what = torch.zeros(30_000, 1, dtype=torch.int64), "64 tokens, no filter"
    check_samples(assert_next_tokens, idx, logits.expand(64, 64), right, what)


def assert_fresh_draws(idx, model, probs, n=6):
    """Check that all tokens are drawn independently, with the same probabilities [V]."""
    first, again = (assert_continues(part3.run_generate(idx, n, **model, do_sample=True), idx, n) for _ in range(2))
    for step in range(n):
        assert_drawn(first[:, step], probs, f"new token {step}")
    pairs = torch.outer(probs, probs).flatten()  # entry V * one + other: the probability of this pair
    neighbours = {
        "the same draws for different rows of a batch": (first[::2], first[1::2]),
        "the same draws for consecutive tokens": (first[:, ::2], first[:, 1::2]),
        "the same draws in two calls": (first, again),
    }
    for what, (one, other) in neighbours.items():
        assert not unlikely((V * one + other).flatten(), pairs), f"{what}: each draw should be independent"


@pytest.mark.question("3.3", points=0.25, needs=["choose"])
def test_generate_draws_are_fresh(rng, expected):
    logits = table(rng, rows=1)
    probs = expected("next_token", logits=logits, temperature=1.0)["probabilities"].tensor[0]
    # 1500 prompts, 6 new tokens each: at least 4500 pairs of draws in each comparison, for V² = 64 pairs of tokens
    check_samples(assert_fresh_draws, prompts(rng, integers(rng, V, 1500), T=1), model_of(logits.expand(V, V)), probs)


def assert_filtered(rng, expected, logits, **options):
    """Check that the draws after each token have the probabilities expected with these options."""
    right = expected("next_token", logits=logits, **{"temperature": 1.0} | options)["probabilities"]
    # 500 draws after each token: frequencies may be off by less than 0.13
    idx = prompts(rng, torch.arange(V).repeat(500), T=1)
    what = ", ".join(f"{name} {value}" for name, value in options.items())
    check_samples(assert_next_tokens, idx, logits, right, what, **options)


@pytest.mark.question("3.3", points=0.25, needs=["choose"])
def test_generate_top_k(rng, expected):
    logits = table(rng)
    for top_k, temperature in [(1, 1.0), (2, 1.0), (5, 1.0), (V - 1, 1.0), (V, 1.0), (1, 2.0), (4, 2.0)]:
        assert_filtered(rng, expected, logits, top_k=top_k, temperature=temperature)


def clear_calls(rng, expected, logits, count, temperature, top_k):
    """Return up to `count` values of top_p for which rounding does not decide which tokens are kept.

    Of 40 candidates, those come first for which another order of temperature, top_k and top_p changes probabilities.
    """
    top_p = (uniform(rng, 40, low=0.1, high=0.97) * 1000).round() / 1000
    # two rows suffice: all even rows have the same probabilities in another order, and so have all odd rows
    answer = expected("top_p_calls", logits=logits[:2], temperature=temperature, top_k=top_k, top_p=top_p)
    clear = answer["margin"].tensor > 0.005  # the distance from the nearest cumulative sum
    matters = answer["order_matters"].tensor[clear].argsort(descending=True, stable=True)
    return [round(each, 3) for each in top_p[clear][matters].tolist()[:count]]


@pytest.mark.question("3.3", points=0.25, needs=["choose"])
def test_generate_top_p(rng, expected):
    logits = table(rng)
    for top_p in (0.05, *clear_calls(rng, expected, logits, 4, 1.0, None), 1.0):
        assert_filtered(rng, expected, logits, top_p=top_p)
    # after temperature and top_k
    for temperature, top_k in [(1.6, None), (1.0, 5), (0.8, 4)]:
        for top_p in clear_calls(rng, expected, logits, 3, temperature, top_k):
            assert_filtered(rng, expected, logits, top_p=top_p, top_k=top_k, temperature=temperature)


def assert_follows_generator(rng, idx, model, probs, n=4):
    """Check that the draws come from the given generator."""
    seed = int(integers(rng, 2**31))
    first, again, other = (
        assert_continues(part3.run_generate(idx, n, do_sample=True, generator_seed=number, **model), idx, n)
        for number in (seed, seed, seed + 1)
    )
    assert torch.equal(first, again), (
        "generators with the same seed should give the same tokens: is the generator passed on? "
        f"In a second call, {first_difference(again, first)}"
    )
    pairs = torch.outer(probs, probs).flatten()  # entry V * one + two: the probability of this pair
    for what, one, two in (("two seeds", first, other), ("two steps", first[:, ::2], first[:, 1::2])):
        assert not unlikely((V * one + two).flatten(), pairs), f"a generator gives the same draws for {what}"


@pytest.mark.question("3.3", points=0.25, needs=["choose"])
def test_generate_with_a_generator(rng, expected):
    logits = table(rng, rows=1)
    probs = expected("next_token", logits=logits, temperature=1.0)["probabilities"].tensor[0]
    # 1000 prompts, 4 new tokens each: at least 2000 pairs of draws in each comparison
    idx = prompts(rng, integers(rng, V, 1000), T=1)
    check_samples(assert_follows_generator, rng, idx, model_of(logits.expand(V, V)), probs)


@pytest.mark.question("3.3", points=0.25, needs=["choose"])
def test_generate_with_and_without_cache(rng, expected):
    for T, n, batch in [(4, 8, 3), (1, 6, 1), (9, 3, 2)]:  # at most block_size tokens
        for use_cache in (False, True):
            assert_greedy(rng, expected, T, n, batch, block_size=12, use_cache=use_cache)
    model = model_of(table(rng))
    # 3 + 20 tokens: more than block_size 16
    idx, n, seed = prompts(rng, integers(rng, V, 6)), 20, int(integers(rng, 2**31))
    tokens = [
        assert_continues(
            part3.run_generate(idx, n, **model, do_sample=True, generator_seed=seed, use_cache=use_cache), idx, n
        )
        for use_cache in (False, True)
    ]
    assert torch.equal(*tokens), (
        f"with the same draws, the cache should not change the tokens, but {first_difference(*tokens[::-1])} with it"
    )
