"""Part 3: the graded tests that students do not get.

PYTEST_DONT_REWRITE is a keyword for pytest: it then shows only our own messages.
"""

import pytest
import torch

from adapters import part3
from generating import assert_greedy
from gpt_inputs import SIZES, gpt_weights
from inputs import integers
from judge import assert_causal


@pytest.mark.question("3.2", points=0.25, needs=["CausalSelfAttention.attention"])
def test_gpt_is_causal(rng):
    T = SIZES["block_size"]
    idx = integers(rng, 13, 1, T).repeat(T + 1, 1)
    token = torch.arange(T)
    idx[token, token] = (idx[token, token] + 1 + integers(rng, 12, T)) % 13  # row t changes token t; the last row, none
    for when, batches in (("fresh", None), ("after some training steps", integers(rng, 13, 5, 4, T + 1))):
        logits = part3.run_gpt(idx, SIZES, gpt_weights(rng, SIZES), batches)
        assert logits.shape == (T + 1, T, 13), f"logits should be {(T + 1, T, 13)}, not {tuple(logits.shape)}"
        for t in range(T):
            assert_causal(logits[t : t + 1] - logits[-1], t, f"a GPT, {when}")


@pytest.mark.question("3.3", points=0.25, needs=["choose"])
def test_generate_crops_the_context(rng, expected):
    for T, n, batch in [(14, 4, 3), (3, 12, 4), (6, 5, 1), (7, 3, 5)]:
        for use_cache in (False, True):
            assert_greedy(rng, expected, T, n, batch, block_size=6, use_cache=use_cache)
