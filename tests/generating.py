"""Assertions about generated tokens, for the tests of Q3.3."""

import torch

from adapters import part3
from answers import Value
from gpt_inputs import SIZES, V, gpt_weights
from inputs import integers
from judge import assert_shape, assert_value


def assert_continues(result, idx, n, vocab_size=V):
    """Check the shape and the prompts in the result of `run_generate`; return the new tokens [B, n]."""
    tokens, T = result["tokens"], idx.size(1)
    expected = (len(idx), T + n)
    assert_shape(f"the output of generate for {n} new tokens after {T}", tokens, expected)
    assert tokens.dtype == idx.dtype, f"tokens should be {idx.dtype}, not {tokens.dtype}"
    assert torch.equal(tokens[:, :T], idx), (
        f"the prompts should come first in the output of generate: {first_difference(tokens[:, :T], idx)}"
    )
    assert torch.equal(result["idx"], idx), "generate changes the prompts in place"
    new = tokens[:, T:]
    assert not n or 0 <= new.min() <= new.max() < vocab_size, f"tokens should be in 0..{vocab_size - 1}: {new.unique()}"
    return new


def first_difference(obtained, expected):
    """Describe the first place where tokens [B, T] differ."""
    row, place = (obtained != expected).nonzero()[0].tolist()
    return f"token {place} of row {row} is {obtained[row, place]}, not {expected[row, place]}"


def assert_likeliest(new, before, tokens, what):
    """Check that each new token is the most likely one after its predecessor; tokens: an oracle's answers."""
    mistakes = [(sentence, wrong.tensor[before]) for sentence, wrong in tokens.mistakes]
    wanted = Value(tokens.tensor[before], mistakes)
    assert_value(f"greedy generation ({what})", new, wanted, hint="it should choose the likeliest token")


def assert_greedy(rng, expected, T, n, batch, block_size, **options):
    """Check a random GPT against the oracle: each token is the most likely one after the last block_size tokens."""
    sizes = SIZES | {"block_size": block_size}
    weights, idx = gpt_weights(rng, sizes), integers(rng, 13, batch, T)
    answer = expected("greedy", idx=idx, n=n, weights=weights, n_head=sizes["n_head"], block_size=block_size)
    new = assert_continues(part3.run_generate(idx, n, sizes, weights, **options), idx, n, 13)
    wanted = answer["tokens"].tensor.long()
    wrong = ((new != wanted) & (wanted >= 0)).any(0).nonzero().flatten().tolist()
    if wrong:
        again = part3.run_generate(idx, n, sizes, weights, **options)["tokens"][:, T:]
        changes = "" if torch.equal(again, new) else "it changes between calls; "
        step, row = wrong[0], int((new != wanted)[:, wrong[0]].nonzero()[0])
        raise AssertionError(
            f"greedy generation of a GPT is wrong: {changes}row {row} of {batch}, {T + step} tokens so far, "
            f"{block_size=}, {options or 'with the defaults'}: each token should be the likeliest after the last "
            "block_size tokens\n"
            f"expected token {wanted[row, step]}\nobtained token {new[row, step]}"
        )
