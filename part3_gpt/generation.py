"""What surrounds the loop of `GPT.generate`: the checks of its arguments, and the logits of the next token."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from part3_gpt.cache import KVCache

if TYPE_CHECKING:
    from part3_gpt.gpt import GPT


def check_arguments(
    idx: Tensor,
    vocab_size: int,
    max_new_tokens: int,
    temperature: float,
    do_sample: bool,
    top_k: int | None,
    top_p: float | None,
) -> None:
    """Raise a ValueError with the value of an argument of `GPT.generate` that is out of range."""
    if idx.dim() != 2 or idx.size(1) == 0 or idx.is_floating_point():
        raise ValueError(f"idx is {idx.dtype} of shape {tuple(idx.shape)}: it should be tokens [B, T], T at least 1")
    if idx.numel() and not 0 <= int(idx.min()) <= int(idx.max()) < vocab_size:
        wrong = int(idx.min()) if idx.min() < 0 else int(idx.max())
        raise ValueError(f"token {wrong} is outside the vocabulary of {vocab_size} tokens")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}: it cannot be negative")
    if do_sample and not temperature > 0:
        raise ValueError(f"temperature is {temperature}: for sampling it must be above 0")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}: at least 1 token must be left")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}: it must be above 0 and at most 1")


def new_cache(model: "GPT", tokens: int) -> list[KVCache]:
    """An empty cache for each block of a model, with room for that many tokens, at most block_size."""
    return [KVCache(min(model.block_size, tokens)) for _ in model.transformer.h]


@torch.no_grad()
def next_logits(model: "GPT", idx: Tensor, cache: list[KVCache] | None = None) -> Tensor:
    """Logits [B, V] of the token after `idx` [B, T], of which the last block_size tokens count."""
    if cache is None or idx.size(1) > model.block_size:
        # the window moves by one token each time and its positions start at 0 again: nothing cached would be right
        x = model.hidden(idx[:, -model.block_size :])
    else:
        x = model.hidden(idx[:, cache[0].length :], cache)
    last = x[:, -1]  # [B, C]
    # the last layer is the largest: for one row, and for a few, these are faster than model.lm_head(last)
    return model.lm_head(last[0])[None] if len(last) == 1 else (model.lm_head.weight @ last.T).T
