"""Part 3, graded: causal self-attention (Q3.2).

During these tests, PyTorch's attention functions raise an error if the submission calls them.

PYTEST_DONT_REWRITE is a keyword for pytest: it then shows only our own messages.
"""

from functools import partial

import pytest
import torch

from adapters import part3
from gpt_inputs import SIZES, attention_weights, gpt_weights, legible, prescribed, read, split_heads
from inputs import integers, normal
from judge import assert_causal, assert_nan, assert_value

# batch size, T, heads, C, block_size; the last two: a single token, and a sequence longer than all others
ATTENTION_SIZES = [
    (3, 5, 2, 6, 8), (3, 8, 2, 8, 8), (2, 7, 4, 16, 16), (4, 16, 3, 24, 16), (2, 5, 1, 6, 8), (1, 9, 8, 8, 12),
    (1, 1, 1, 4, 1), (1, 80, 2, 8, 96),
]  # fmt: skip


@pytest.mark.question("3.2", points=1, needs=["CausalSelfAttention.attention"])
def test_attention_output(rng, expected):
    for batch, T, n_head, C, block_size in ATTENTION_SIZES:
        x, weights = normal(rng, batch, T, C), attention_weights(rng, C)
        answer = expected("attention", x=x, weights=weights, n_head=n_head)
        output = part3.run_attention(x, weights, n_head, block_size)
        # float32, sums of at most 80 terms
        assert_value(
            f"attention to x {[batch, T, C]}, n_head {n_head}, block_size {block_size},", output, answer["output"],
            rtol=1e-4, atol=1e-4, hint="is it Eq. 22, where a token sees itself and earlier tokens?",
            again=partial(part3.run_attention, x, weights, n_head, block_size),
        )  # fmt: skip


@pytest.mark.question("3.2", points=0.25, needs=["CausalSelfAttention.attention"])
def test_attention_weights_sum_to_one(rng):
    """Also check that weights are not negative, 0 for later tokens, and not 0 for the token itself and earlier ones."""
    n_head, T = 3, 6
    q, k = normal(rng, n_head, T, T), normal(rng, n_head, T, T)
    output = part3.run_attention(*prescribed(q, k, torch.ones(n_head, T, T)), n_head, block_size=8)
    # float32, sums of 6 terms
    assert_value(
        "attention to values that are all 1", output, torch.ones_like(output), rtol=1e-4, atol=1e-4,
        hint="their weighted mean should be 1",
    )  # fmt: skip
    v = legible(rng, n_head, T)  # orthonormal values, so that `read` can compute the weights from the output
    attention = read(part3.run_attention(*prescribed(q, k, v), n_head, block_size=8), v)
    lowest = attention.min()
    assert lowest > -1e-5, f"attention weights cannot be negative, but one is {lowest:.3g}: is there a softmax?"
    later = attention.triu(1).abs().max()
    assert later < 1e-5, f"a token gives weight to later tokens, up to {later:.3g}: is the mask applied?"
    seen = torch.ones(T, T).tril().bool()
    least = attention[..., seen].min()
    assert least > 1e-6, (
        f"a token should give weight to itself and all earlier tokens, but one weight is {least:.3g}: "
        "does the mask hide too much?"
    )


@pytest.mark.question("3.2", points=0.25, needs=["CausalSelfAttention.attention"])
def test_attention_scale(rng, expected):
    # head sizes different from n_head and, with several heads, from n_embd
    for n_head, hs in [(1, 4), (2, 9), (4, 16), (3, 25)]:
        q, k, v = normal(rng, n_head, 2, hs), torch.zeros(n_head, 2, hs), torch.zeros(n_head, 2, hs)
        # the second query's product is 4 with the first key, so that the scale changes the weights by 0.1 or more,
        # and 0 with its own
        k[:, 0] = 4 * q[:, 1] / q[:, 1].square().sum(-1, keepdim=True)
        v[:, 0, 0] = v[:, 1, 1] = 1  # the first two channels are the attention weights
        answer = expected("attention_weights", q=q, k=k, v=v)
        output = part3.run_attention(*prescribed(q, k, v), n_head, block_size=4)
        assert_value(
            f"attention to two tokens, n_head {n_head}, head size {hs},", split_heads(output, n_head)[0, ..., :2],
            answer["weights"], rtol=1e-4, atol=1e-4, hint="are the scores scaled as in Eq. 22?",
        )  # fmt: skip


@pytest.mark.question("3.2", points=0.5, needs=["CausalSelfAttention.attention"])
def test_attention_is_causal(rng):
    n_head, T, C = 2, 9, 8
    for block_size in (T, T + 4):
        x, weights = normal(rng, 2, T, C), attention_weights(rng, C)
        output = part3.run_attention(x, weights, n_head, block_size)
        for t in range(T):
            changed = x.clone()
            changed[0, t] = normal(rng, C, scale=3)
            changes = part3.run_attention(changed, weights, n_head, block_size) - output
            assert_causal(changes, t, "attention")


@pytest.mark.question("3.2", points=0.25, needs=["CausalSelfAttention.attention"])
def test_masked_scores_have_no_weight(rng, expected):
    """Check that masked scores get no weight, however low the other scores are."""
    n_head, T, hs = 2, 8, 4
    # up to a size at which filling with -1e4 fails, and filling with -1e9 passes
    for size in (60, 600, 6000, 200_000):
        for sign in (-1, 1):
            # half of the keys have this product with each query, the others 0: exact in float32 for any size
            # for the first half of the queries, all visible scores are low (sign -1), or masked ones are high (sign 1)
            q, k, v = torch.zeros(n_head, T, hs), torch.zeros(n_head, T, hs), normal(rng, n_head, T, hs)
            q[..., 0] = 1
            early = torch.arange(T) < T // 2
            k[:, early if sign < 0 else ~early, 0] = sign * size
            answer = expected("attention_weights", q=q, k=k, v=v)
            output = part3.run_attention(*prescribed(q, k, v), n_head, block_size=T)
            which = f"attention where {'visible' if sign < 0 else 'masked'} tokens have products of {sign * size}"
            assert_value(
                which, split_heads(output, n_head)[0], answer["heads"], rtol=1e-4, atol=1e-4,
                hint="are masked scores below all other scores?",
            )  # fmt: skip


@pytest.mark.question("3.2", points=0.5, needs=["CausalSelfAttention.attention"])
def test_attention_gradients(rng, expected):
    for batch, T, n_head, C, block_size in ATTENTION_SIZES:
        x, weights, direction = normal(rng, batch, T, C), attention_weights(rng, C), normal(rng, batch, T, C)
        answer = expected("attention_gradients", x=x, weights=weights, n_head=n_head, direction=direction)
        obtained = part3.run_attention_gradients(x, weights, n_head, block_size, direction)
        for name, value in answer.items():
            # float32, sums over at most 80 tokens, with both signs
            assert_value(
                f"the gradient of attention with respect to {name}", obtained[name], value, rtol=1e-3, atol=1e-4,
                hint="is something detached, or is the output wrong too?",
            )  # fmt: skip


@pytest.mark.question("3.2", points=0.25, needs=["CausalSelfAttention.attention"])
def test_attention_is_written_out(rng, expected):
    """Check that attention changes nothing in place, hides no NaN and repeats its result; and the logits of a GPT.

    The ban on PyTorch's attention functions is in adapters/part3.py, and acts in all tests of Q3.2.
    """
    n_head, T, C = 2, 7, 8
    x, weights = normal(rng, 3, T, C), attention_weights(rng, C)
    answer = expected("attention", x=x, weights=weights, n_head=n_head)
    result = part3.run_attention_twice(x, weights, n_head, block_size=T)
    assert torch.equal(result["x"], x), "attention changes its input in place"
    for name, value in weights.items():
        assert torch.equal(result["weights"][name], value), f"attention changes {name} in place"
    broken = x.clone()
    broken[0, 2] = torch.nan
    output = part3.run_attention(broken, weights, n_head, block_size=T)
    assert_nan("attention to a token that is NaN", output[0, 2:])
    weights["c_attn.bias"][:C] = torch.nan
    output = part3.run_attention(x, weights, n_head, block_size=T)
    assert_nan("attention with NaN queries", output)
    first, second = result["outputs"]
    assert_value("attention in a second call", second, first, rtol=1e-5, atol=1e-5, hint="it should be the same")
    # float32, summed in a different order
    hint = "it differs from Eq. 22: first fix test_attention_output"
    assert_value("attention", first, answer["output"], rtol=1e-4, atol=1e-4, hint=hint)
    weights, idx = gpt_weights(rng, SIZES, scale=0.16), integers(rng, 13, 3, 6)  # 13: the vocabulary size
    for batches in (None, integers(rng, 13, 3, 4, 9)):
        answer = expected("gpt", idx=idx, weights=weights, n_head=SIZES["n_head"], batches=batches)
        logits = part3.run_gpt(idx, SIZES, weights, batches)
        # loose: through two layers, and after three training steps, float32 errors are below 1e-5
        hint = "first fix test_attention_output and test_attention_gradients, then undo other changes to gpt.py"
        assert_value("logits of a GPT", logits, answer["logits"], rtol=1e-4, atol=1e-3, hint=hint)


@pytest.mark.question("3.2", points=0.25, needs=["CausalSelfAttention.attention"])
def test_attention_with_cache(rng, expected):
    """Use queries for the last T of S tokens, as in generation."""
    for lengths in ([1, 1, 1, 1], [4, 1, 1], [3, 4, 1, 2], [6]):
        T, n_head, C = sum(lengths), 2, 8
        x, weights = normal(rng, 2, T, C), attention_weights(rng, C)
        answer = expected("attention", x=x, weights=weights, n_head=n_head)
        pieces = part3.run_attention_in_pieces(x, weights, n_head, 12, lengths)
        # float32, the same sums of at most 10 terms in a different order
        assert_value(
            f"attention from successive pieces of T = {lengths} tokens to the keys and values of all S tokens so far,",
            pieces, answer["output"], rtol=1e-4, atol=1e-4,
            hint="it differs from the result for all tokens at once: which rows and columns of the mask are used?",
        )  # fmt: skip
