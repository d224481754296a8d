"""Part 3, graded: dropout in causal self-attention (Q3.2). Statistical tests allow 5 sigma.

PYTEST_DONT_REWRITE: a message says what is wrong in the assignment's terms, pytest adds nothing to it.
"""

import math

import pytest
import torch

from adapters import part3
from expected_gpt import draw, legible, prescribed, read
from judge import SIGMAS, assert_value


def assert_kept_independently(kept, keep, what):
    """Neighbours along the first dimension are kept independently of each other, with probability `keep`."""
    centred = kept.double() - keep
    products = (centred[1::2] * centred[: len(kept) // 2 * 2 : 2]).flatten()
    bound = SIGMAS * keep * (1 - keep) / math.sqrt(len(products))
    assert products.mean().abs() < bound, f"dropout should be drawn for each weight: {what} share it"


def assert_dropped(output, plain, v, p):
    """Weights are dropped with probability p, each for itself, and the others are scaled up."""
    seen = torch.ones(len(v[0]), len(v[0])).tril().bool()
    right, dropped = (read(y, v)[..., seen] for y in (plain, output))  # [B, nh, pairs of tokens]
    assert not torch.allclose(dropped, right, atol=1e-4), "there is no dropout of attention weights in training"
    sums = read(output, v).sum(-1).nan_to_num(1.0)  # where scores are dropped, 0 * -inf
    assert not torch.allclose(sums, torch.ones_like(sums), atol=1e-4), (
        "dropout comes after the softmax: then the weights do not sum to 1 any more, in training"
    )
    channels = output / plain
    assert not torch.allclose(channels, (channels > 0.5) / (1 - p), atol=1e-2), (
        "dropout acts on the result, it should act on the attention weights"
    )
    ratio = dropped / right
    kept = ratio > 0.5
    # float32; the smallest weights are some thousandths
    assert_value(
        f"the attention weights in training, attn_pdrop {p}, divided by those without dropout,",
        ratio, kept / (1 - p), rtol=1e-2, atol=1e-2, mistakes=[("what is kept is not scaled up", kept)],
        hint=f"a weight should become 0 or {1 / (1 - p):.3g} times as large",
    )  # fmt: skip
    bound = SIGMAS * math.sqrt(p * (1 - p) / kept.numel())
    share = 1 - kept.double().mean().item()
    assert share == pytest.approx(p, abs=bound), f"attn_pdrop {p}: the share of dropped weights is {share:.3f}"
    for dim, what in enumerate(("sequences", "heads", "tokens")):
        assert_kept_independently(kept.movedim(dim, 0), 1 - p, what)


@pytest.mark.question("3.2", points=0.5)
def test_attention_dropout(rng):
    n_head, T, batch = 2, 6, 400
    for p in (0.25, 0.6):
        q, k, v = draw(rng, n_head, T, T, scale=0.8), draw(rng, n_head, T, T, scale=0.8), legible(rng, n_head, T)
        x, weights = prescribed(q, k, v)
        x = x.expand(batch, T, -1).clone()
        plain = part3.run_attention(x, weights, n_head, T)
        evaluated = part3.run_attention(x, weights, n_head, T, attn_pdrop=p)
        none = "dropout should have no effect"
        assert_value(f"attention in evaluation, attn_pdrop {p},", evaluated, plain, rtol=1e-5, atol=1e-5, hint=none)
        trained = part3.run_attention(x, weights, n_head, T, training=True)
        assert_value("attention in training, attn_pdrop 0,", trained, plain, rtol=1e-5, atol=1e-5, hint=none)
        assert_dropped(part3.run_attention(x, weights, n_head, T, training=True, attn_pdrop=p), plain, v, p)
    # the other dropout is of channels; float32 sums of 6 weights
    x, weights = prescribed(q, k, torch.ones(n_head, T, T))
    output = part3.run_attention(x, weights, n_head, T, training=True, resid_pdrop=0.5)
    assert_value(
        "attention in training, resid_pdrop 0.5, attn_pdrop 0,", output, 2.0 * (output > 1), rtol=1e-4, atol=1e-4,
        hint="resid_pdrop is for the output, attn_pdrop for the attention weights",
    )  # fmt: skip
