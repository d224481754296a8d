"""Helpers for the loop of `GPT.generate`: the cache, and the logits of the next token."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from part3_gpt.cache import KVCache

if TYPE_CHECKING:
    from part3_gpt.gpt import GPT


def new_cache(model: "GPT", tokens: int) -> list[KVCache]:
    """Create an empty cache for each block of the model, with a capacity of min(`tokens`, block_size)."""
    return [KVCache(min(model.block_size, tokens)) for _ in model.transformer.h]


@torch.no_grad()
def next_logits(model: "GPT", idx: Tensor, cache: list[KVCache] | None = None) -> Tensor:
    """Compute the logits [B, V] of the token after `idx` [B, T], given at most the last block_size tokens."""
    if cache is None or idx.size(1) > model.block_size:
        # the window moves by one token each time, which changes every token's position and invalidates the cache
        x = model.hidden(idx[:, -model.block_size :])
    else:
        x = model.hidden(idx[:, cache[0].length :], cache)
    last = x[:, -1]  # [B, C]
    # the last layer is the largest; for one or a few rows, these products are faster than model.lm_head(last)
    return model.lm_head(last[0])[None] if len(last) == 1 else (model.lm_head.weight @ last.T).T
