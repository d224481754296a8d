"""The sampling filters top-k and top-p."""

import torch
import torch.nn.functional as F
from torch import Tensor


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Keep the `top_k` largest logits of each row of [B, V], and set the others to -inf; keep all if V <= top_k."""
    least = torch.topk(logits, min(top_k, logits.size(-1)), dim=-1).values[:, -1:]  # [B, 1]
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Keep, in each row of logits [B, V], the most likely tokens that together reach probability `top_p` (nucleus).

    All other logits become -inf. The token with which the sum reaches `top_p` is kept, so at least one token remains
    (Holtzman et al., 2020). If `top_p` is 1, all tokens are kept.
    """
    if top_p >= 1:  # in float32, the sum of many small probabilities may reach 1 before the last one
        return logits
    ordered, index = logits.sort(dim=-1, descending=True)
    probs = F.softmax(ordered, dim=-1)
    before = probs.cumsum(dim=-1) - probs  # total probability of all more likely tokens, [B, V]
    dropped = torch.empty_like(before, dtype=torch.bool).scatter_(-1, index, before >= top_p)
    return logits.masked_fill(dropped, -torch.inf)
