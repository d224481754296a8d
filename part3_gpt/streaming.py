"""Token-by-token generation, for programs that show text as it is generated."""

from collections.abc import Iterator

import torch
from torch import Tensor

from part3_gpt.checks import check_arguments
from part3_gpt.generation import new_cache, next_logits
from part3_gpt.gpt import GPT, choose


def stream(
    model: GPT,
    idx: Tensor,
    max_new_tokens: int,
    temperature: float = 1.0,
    do_sample: bool = False,
    top_k: int | None = None,
    top_p: float | None = None,
    *,
    use_cache: bool = True,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Generate as `GPT.generate` does, but return an iterator that yields the next token of each row [B, 1].

    Raises:
        ValueError: an argument is out of range (raised by the call itself, not at the first token).
    """
    check_arguments(idx, model.config.vocab_size, max_new_tokens, temperature, do_sample, top_k, top_p)
    cache = new_cache(model, idx.size(1) + max_new_tokens) if use_cache else None

    def tokens(idx: Tensor) -> Iterator[Tensor]:
        for _ in range(max_new_tokens):
            logits = next_logits(model, idx, cache)
            idx_next = choose(logits, temperature, do_sample, top_k, top_p, generator)
            idx = torch.cat([idx, idx_next], dim=1)
            yield idx_next

    return tokens(idx)
