"""Part 3, graded: generation (Q3.3).

A mean of the tokens so far stands in for attention, so Q3.3 does not wait for Q3.2. Statistical tests allow 5 sigma.

PYTEST_DONT_REWRITE: a message says what is wrong in the assignment's terms, pytest adds nothing to it.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy import special

from adapters import part3
from expected_gpt import GPT_SIZES, V, assert_continues, assert_greedy_in_window, assert_likeliest, integers
from judge import P_5_SIGMA, rounded


def table(rng, rows=V):
    """Logits [rows, V] of the next token after each token: the same ones, at least 0.3 apart, in random order."""
    logits = -0.4 * torch.arange(V) - 0.1 * torch.rand(V, generator=rng)
    return torch.stack([logits[torch.randperm(V, generator=rng)] for _ in range(rows)])


def model_of(logits, block_size=16):
    """A GPT for the adapters whose logits after token i are logits[i], whatever came before.

    Embeddings are unit vectors, attention and MLP add nothing, and the last layer undoes the last LayerNorm.
    """
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": V, "vocab_size": V, "block_size": block_size}
    mean, std = 1 / V, math.sqrt((1 - 1 / V) / V + 1e-5)
    weights = {
        "transformer.wte.weight": torch.eye(V),
        "transformer.wpe.weight": torch.zeros(block_size, V),
        "transformer.h.0.attn.c_proj.weight": torch.zeros(V, V),
        "transformer.h.0.mlp.c_proj.weight": torch.zeros(V, 4 * V),
        "transformer.ln_f.bias": torch.full((V,), mean / std),
        "lm_head.weight": std * logits.T,
    }
    return {"sizes": sizes, "seed": 0, "weights": weights}


def prompts(rng, last, T=3):
    """Prompts [B, T] that end with these tokens [B]."""
    return torch.cat([integers(rng, V, len(last), T - 1), last[:, None]], dim=1)


def unlikely(tokens, probs):
    """Tokens whose count among independent draws is farther out than 5 sigma; the exact binomial, for all together."""
    counts, n, p = torch.bincount(tokens, minlength=len(probs)).numpy(), len(tokens), probs.double().numpy()
    at_most, at_least = special.bdtr(counts, n, p), special.bdtrc(counts - 1, n, p)
    tail = 2 * torch.from_numpy(at_most).minimum(torch.from_numpy(at_least))
    return (tail < P_5_SIGMA / len(probs)).nonzero().flatten().tolist()


def assert_drawn(tokens, probs, what, mistakes=()):
    """Tokens [N] are independent draws with these probabilities [V]; mistakes: sentence, probabilities."""
    impossible = [token for token in tokens.unique().tolist() if probs[token] == 0]
    off = unlikely(tokens, probs)
    if not off and not impossible:
        return
    counts = torch.bincount(tokens, minlength=len(probs))
    # of the mistakes that would give such draws, the one that makes them likeliest
    likely = {sentence: torch.xlogy(counts, p).sum() for sentence, p in mistakes if not unlikely(tokens, p)}
    why = [max(likely, key=likely.get)] if likely else []
    why += [f"tokens {impossible} should never be drawn"] * bool(impossible)
    order = probs.argsort(descending=True)
    shares = counts / len(tokens)
    raise AssertionError(
        f"sampling ({what}) is wrong{': ' if why else ''}{'; '.join(why)}\n"
        f"expected probabilities {rounded(probs[order])} of the likeliest tokens\n"
        f"obtained frequencies {rounded(shares[order])} of the same tokens"
    )


def one_hot(logits):
    return F.one_hot(logits.argmax(), len(logits)).double()


# --- generation ------------------------------------------------------------------------------------------------------


@pytest.mark.question("3.3", points=0.25)
def test_generate_shapes(rng):
    for batch, T, n in [(3, 4, 5), (1, 1, 1), (2, 6, 0), (1, 16, 3), (4, 1, 20)]:
        model = model_of(table(rng))
        for options in ({}, {"do_sample": True}):
            idx = integers(rng, V, batch, T)
            assert_continues(part3.run_generate(idx, n, **model, **options), idx, n)


@pytest.mark.question("3.3", points=0.5)
def test_generate_greedy(rng):
    logits = table(rng)
    for last in (torch.arange(V), integers(rng, V, 1), integers(rng, V, 5)):
        idx, n = prompts(rng, last), 6
        new = assert_continues(part3.run_generate(idx, n, **model_of(logits)), idx, n)
        before = torch.cat([last[:, None], new[:, :-1]], dim=1)
        assert_likeliest(new, logits[before], "a model that knows the last token")
    sizes = GPT_SIZES | {"block_size": 16}
    for batch, T, n in [(1, 5, 8), (6, 3, 13), (4, 1, 15)]:
        given = {"sizes": sizes, "seed": int(integers(rng, 2**31)), "gain": 10}
        idx = integers(rng, 13, batch, T)
        result = part3.run_generate(idx, n, **given)
        new = assert_continues(result, idx, n, 13)
        for row in range(batch):  # alone: a row's tokens depend on no other row
            after = part3.run_logits_of_means(result["tokens"][row : row + 1], **given)[0, T - 1 : -1]
            assert_likeliest(new[row], after, f"row {row} of {batch}")


@pytest.mark.question("3.3", points=0.25)
def test_generate_greedy_is_not_random(rng):
    logits = table(rng)
    idx = prompts(rng, torch.arange(V).repeat(5))
    for options in ({"temperature": 0.1}, {"temperature": 10.0}, {"top_k": 3}, {"top_p": 0.9, "temperature": 2.0}):
        for given in ({}, {"do_sample": False}):
            new = assert_continues(part3.run_generate(idx, 3, **model_of(logits), **options, **given), idx, 3)
            before = torch.cat([idx[:, -1:], new[:, :-1]], dim=1)
            assert_likeliest(new, logits[before], f"do_sample=False, {options}")


def drawing_mistakes(logits, token, temperature):
    """What goes wrong after a token, and the probabilities that come of it."""
    own = logits[token].double()
    yield "it is greedy, though do_sample is True", one_hot(own)
    yield "all tokens are equally likely", torch.full((V,), 1 / V).double()
    yield "the temperature is ignored", own.softmax(0)
    yield "the logits are multiplied by the temperature, they should be divided by it", (own * temperature).softmax(0)
    yield "there are two softmaxes", (own / temperature).softmax(0).softmax(0)
    yield (
        "the probabilities are divided by the temperature, it should be the logits",
        ((own.softmax(0) / temperature).softmax(0)),
    )
    yield "the root of the temperature is used", (own / temperature**0.5).softmax(0)
    yield "the probabilities are those of another row of the batch", (logits[0].double() / temperature).softmax(0)


@pytest.mark.question("3.3", points=0.5)
def test_generate_sampling_frequencies(rng):
    logits, n = table(rng), 1000
    last = torch.arange(V).repeat(n)  # neighbours in the batch have different probabilities
    for temperature in (1.0, 0.4, 2.5, 0.7 + 0.6 * torch.rand((), generator=rng).item()):
        idx = prompts(rng, last, T=2)
        result = part3.run_generate(idx, 1, **model_of(logits), temperature=temperature, do_sample=True)
        new = assert_continues(result, idx, 1)[:, 0]
        for token in range(V):
            own = logits[token].double()
            right = (own / temperature).softmax(0)
            mistakes = drawing_mistakes(logits, token, temperature)
            assert_drawn(new[last == token], right, f"temperature {temperature:.3g}", mistakes)
    # logits far from 0 have the same probabilities, and a low temperature takes the likeliest
    last, idx = last[: V * 300], idx[: V * 300]
    for shift, temperature in [(300, 1.0), (-300, 1.0), (0, 0.01)]:
        model = model_of(logits + shift)
        new = part3.run_generate(idx, 1, **model, temperature=temperature, do_sample=True)["tokens"][:, -1]
        # float32 has logits near 300 to 1e-4, probabilities to as much of themselves: less than shows
        for token in range(V):
            expected = (logits[token].double() / temperature).softmax(0)
            assert_drawn(new[last == token], expected, f"logits near {shift}, temperature {temperature}")


@pytest.mark.question("3.3", points=0.25)
def test_generate_draws_are_fresh(rng):
    logits = table(rng, rows=1)
    model, probs = model_of(logits.expand(V, V)), logits[0].double().softmax(0)
    idx, n = prompts(rng, integers(rng, V, 1500), T=1), 6
    first, again = (assert_continues(part3.run_generate(idx, n, **model, do_sample=True), idx, n) for _ in range(2))
    for step in range(n):
        assert_drawn(first[:, step], probs, f"new token {step}")
    pairs = torch.outer(probs, probs).flatten()
    neighbours = {
        "the same draws for rows of a batch": (first[::2], first[1::2]),
        "the same draws for tokens that follow each other": (first[:, ::2], first[:, 1::2]),
        "the same draws in two calls": (first, again),
    }
    for what, (one, other) in neighbours.items():
        assert not unlikely((V * one + other).flatten(), pairs), f"{what}: each draw should be a fresh one"


def kept_most(probs, size):
    """The `size` largest of the probabilities [V], to sum 1 again; 0 for the others."""
    least = probs.sort(descending=True).values[size - 1]
    kept = probs * (probs >= least)
    return kept / kept.sum()


def assert_filtered(rng, logits, expected, options, others=None):
    """Draws after each token have the probabilities expected(own probabilities)."""
    temperature = options.get("temperature", 1.0)
    last = torch.arange(V).repeat(500)
    idx = prompts(rng, last, T=1)
    new = assert_continues(part3.run_generate(idx, 1, **model_of(logits), do_sample=True, **options), idx, 1)[:, 0]
    for token in range(V):
        own = (logits[token].double() / temperature).softmax(0)
        mistakes = ((sentence, wrong(own)) for sentence, wrong in (others or {}).items())
        what = ", ".join(f"{name} {value}" for name, value in options.items())
        assert_drawn(new[last == token], expected(own), what, mistakes)


@pytest.mark.question("3.3", points=0.25)
def test_generate_top_k(rng):
    logits = table(rng)
    for top_k, temperature in [(1, 1.0), (2, 1.0), (5, 1.0), (V - 1, 1.0), (V, 1.0), (1, 2.0), (4, 2.0)]:
        others = {
            "top_k is ignored": lambda own: own,
            "one token too many is kept: top_k + 1": lambda own, k=top_k: kept_most(own, min(V, k + 1)),
            "one token too few is kept: top_k - 1": lambda own, k=top_k: kept_most(own, max(1, k - 1)),
            "the tokens that are kept are equally likely": lambda own, k=top_k: (kept_most(own, k) > 0) / k,
        }
        options = {"top_k": top_k, "temperature": temperature}
        assert_filtered(rng, logits, lambda own, k=top_k: kept_most(own, k), options, others)


def sizes_and_top_p(rng, count, *all_probs):
    """Numbers of tokens, and a top_p each that keeps as many for each of the probabilities [V], and not by a hair.

    The smallest one, and others by chance: `count` of them, if there are as many.
    """
    sums = torch.stack([probs.sort(descending=True).values.cumsum(0) for probs in all_probs])
    found = []
    for size in range(1, V + 1):
        least = sums[:, size - 2].max().item() if size > 1 else 0
        most = sums[:, size - 1].min().item()
        if most - least > 0.01:
            found.append((size, round((least + most) / 2, 3)))
    others = 1 + torch.randperm(len(found) - 1, generator=rng)[: count - 1]
    return [found[0], *(found[at] for at in others)]


@pytest.mark.question("3.3", points=0.25)
def test_generate_top_p(rng):
    logits = table(rng)
    probs = logits[0].double().softmax(0)
    for size, top_p in (*sizes_and_top_p(rng, 4, probs), (V, 1.0)):
        others = {
            "top_p is ignored": lambda own: own,
            "the token with which the sum reaches top_p is left out": lambda own, m=size: kept_most(own, max(1, m - 1)),
            "one token too many is kept": lambda own, m=size: kept_most(own, min(V, m + 1)),
        }
        assert_filtered(rng, logits, lambda own, m=size: kept_most(own, m), {"top_p": top_p}, others)
    # with the others: where it makes no difference which of them comes first
    for temperature, top_k in [(1.3, None), (1.0, 6), (0.8, 4)]:
        tempered = (logits[0].double() / temperature).softmax(0)
        candidates = [probs, tempered] + ([kept_most(tempered, top_k), kept_most(probs, top_k)] if top_k else [])
        for size, top_p in sizes_and_top_p(rng, 2, *candidates):
            options = {"top_p": top_p, "top_k": top_k, "temperature": temperature}
            smaller = min(size, top_k or V)
            assert_filtered(rng, logits, lambda own, m=smaller: kept_most(own, m), options)


@pytest.mark.question("3.3", points=0.25)
def test_generate_with_a_generator(rng):
    logits = table(rng, rows=1)
    model, probs = model_of(logits.expand(V, V)), logits[0].double().softmax(0)
    idx, n, seed = prompts(rng, integers(rng, V, 1000), T=1), 4, int(integers(rng, 2**31))
    first, again, other = (
        assert_continues(part3.run_generate(idx, n, do_sample=True, generator_seed=number, **model), idx, n)
        for number in (seed, seed, seed + 1)
    )
    assert torch.equal(first, again), "generators with the same seed should give the same tokens: is it passed on?"
    pairs = torch.outer(probs, probs).flatten()
    for what, one, two in (("two seeds", first, other), ("two steps", first[:, ::2], first[:, 1::2])):
        assert not unlikely((V * one + two).flatten(), pairs), f"a generator gives the same draws for {what}"


@pytest.mark.question("3.3", points=0.25)
def test_generate_with_and_without_cache(rng):
    for T, n, batch in [(4, 8, 3), (1, 6, 1), (9, 3, 2)]:
        for use_cache in (False, True):
            assert_greedy_in_window(rng, T, n, batch, use_cache, block_size=12)
    model = model_of(table(rng))
    idx, n, seed = prompts(rng, integers(rng, V, 6)), 20, int(integers(rng, 2**31))
    tokens = [
        assert_continues(
            part3.run_generate(idx, n, **model, do_sample=True, generator_seed=seed, use_cache=use_cache), idx, n
        )
        for use_cache in (False, True)
    ]
    assert torch.equal(*tokens), "with the same draws, a cache should not change the tokens"
