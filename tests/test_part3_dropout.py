"""Part 3, graded: dropout in causal self-attention (Q3.2).

Statistical tests allow 5 sigma, and a check that fails is repeated with new draws (`check_samples` in judge.py).

PYTEST_DONT_REWRITE is a keyword for pytest: it then shows only our own messages.
"""

import math
from functools import partial

import pytest
import torch

from adapters import part3
from answers import Value
from gpt_inputs import legible, prescribed, read, split_heads
from inputs import normal
from judge import SIGMAS, assert_value, check_samples


def assert_kept_independently(kept, keep, what):
    """Check that neighbours along the first dimension are kept independently, each with probability `keep`."""
    centred = kept.double() - keep
    products = (centred[1::2] * centred[: len(kept) // 2 * 2 : 2]).flatten()
    # the product of two independent centred values has mean 0 and standard deviation keep * (1 - keep)
    bound = SIGMAS * keep * (1 - keep) / math.sqrt(len(products))
    assert products.mean().abs() < bound, f"a new dropout mask should be drawn for each {what}: is one reused?"


def without_dropout(x, weights, n_head):
    """Return the output of the heads in evaluation mode, [B, nh, T, hs]."""
    return split_heads(part3.run_attention(x, weights, n_head, block_size=x.size(1)), n_head)


def assert_dropped(x, weights, answer, factor, v, p):
    """Check that weights are dropped independently with probability p, and that the others are scaled up."""
    n_head, T, _ = v.shape
    output, again = part3.run_attention_twice(x, weights, n_head, T, training=True, attn_pdrop=p)["outputs"]
    seen = torch.ones(T, T).tril().bool()
    right, dropped = answer["weights"].tensor[..., seen], read(output, v)[..., seen]  # [B, nh, pairs of tokens]
    assert not torch.allclose(dropped, right.float(), atol=1e-4), "there is no dropout of attention weights in training"
    # if dropout is applied to the scores, a sum is 1, or NaN from 0 * -inf, which counts as 1
    sums = read(output, v).sum(-1).nan_to_num(1.0)
    assert not torch.allclose(sums, torch.ones_like(sums), atol=1e-4), (
        "dropout should come after the softmax: in training, the weights then no longer sum to 1"
    )
    # if dropout is applied to the result, each channel is 0 or `factor` times its value
    channels = split_heads(output, len(v)) / answer["heads"].tensor
    assert not torch.allclose(channels, (channels > 0.5) * factor.tensor, atol=1e-2), (
        "dropout acts on the result, but it should act on the attention weights"
    )
    ratio = dropped / right
    kept = ratio > 0.5
    # the smallest weights are about 0.005, so an error of 1e-4, allowed elsewhere, changes a ratio by 0.02
    mistakes = [(sentence, kept * wrong.tensor) for sentence, wrong in factor.mistakes]
    assert_value(
        f"the ratio of the attention weights in training (attn_pdrop {p}) to those without dropout",
        ratio, Value(kept * factor.tensor, mistakes), rtol=1e-2, atol=1e-2,
        hint=f"a weight should become 0 or {factor.tensor.item():.3g} times as large",
    )  # fmt: skip
    bound = SIGMAS * math.sqrt(p * (1 - p) / kept.numel())
    share = 1 - kept.double().mean().item()
    assert share == pytest.approx(p, abs=bound), (
        f"the fraction of dropped weights is {share:.3f}, not attn_pdrop = {p}: is each weight dropped separately?"
    )
    for dim, what in enumerate(("sequence", "head", "pair of tokens")):
        assert_kept_independently(kept.movedim(dim, 0), 1 - p, what)
    assert_kept_independently(torch.stack([kept, read(again, v)[..., seen] / right > 0.5]), 1 - p, "call")


@pytest.mark.question("3.2", points=0.5, needs=["CausalSelfAttention.attention"])
def test_attention_dropout(rng, expected):
    """Check the output without dropout, dropout in training, and that resid_pdrop does not drop attention weights."""
    # 400 * 2 heads * 21 pairs of tokens = 16 800 weights: the fraction dropped may be off by less than 0.02
    n_head, T, batch = 2, 6, 400
    for p in (0.25, 0.6):
        q, k = (normal(rng, n_head, T, T, scale=0.8) for _ in range(2))
        v = legible(rng, n_head, T)
        # weights: without dropout; heads: the output of each head; factor: how much larger the kept weights become
        answer, factor = expected("attention_weights", q=q, k=k, v=v), expected("dropout", p=p)["factor"]
        x, weights = prescribed(q, k, v)
        x = x.expand(batch, T, -1).clone()
        plain = without_dropout(x, weights, n_head)
        # float32, sums of at most 6 terms
        assert_value(
            "attention without dropout", plain, answer["heads"].tensor.expand(batch, n_head, T, T), 1e-4, 1e-4,
            hint="first fix test_attention_output", again=partial(without_dropout, x, weights, n_head),
        )  # fmt: skip
        for what, options in (
            (f"attention in evaluation, attn_pdrop {p},", {"attn_pdrop": p}),
            ("attention in training, attn_pdrop 0,", {"training": True}),
        ):
            output = part3.run_attention(x, weights, n_head, T, **options)
            hint = "dropout should have no effect"
            assert_value(what, split_heads(output, n_head), plain, rtol=1e-4, atol=1e-4, hint=hint)
        check_samples(assert_dropped, x, weights, answer, factor, v, p)
    # with values that are all 1, the output is 1, and resid_pdrop makes each channel 0 or 2; q and k do not matter
    x, weights = prescribed(q, k, torch.ones(n_head, T, T))
    output = part3.run_attention(x, weights, n_head, T, training=True, resid_pdrop=0.5)
    assert_value(
        "attention in training, resid_pdrop 0.5, attn_pdrop 0,", output, 2.0 * (output > 1), rtol=1e-4, atol=1e-4,
        hint="resid_pdrop is for the output, attn_pdrop for the attention weights",
    )  # fmt: skip
