"""The sampling filters top-k and top-p."""

import torch
import torch.nn.functional as F
from torch import Tensor


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Logits [B, V] with all but the `top_k` largest of each row set to -inf; all are kept if V is smaller."""
    least = torch.topk(logits, min(top_k, logits.size(-1)), dim=-1).values[:, -1:]  # [B, 1]
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Logits [B, V] with all but the most likely tokens, which together reach probability `top_p`, set to -inf per row.

    The token that makes the sum reach `top_p` is kept, so at least one remains (Holtzman et al., 2020: nucleus). At 1,
    all are kept.
    """
    if top_p >= 1:  # in float32, the sum of many small probabilities may reach 1 before the last of them
        return logits
    ordered, index = logits.sort(dim=-1, descending=True)
    probs = F.softmax(ordered, dim=-1)
    before = probs.cumsum(dim=-1) - probs  # total probability of more likely tokens, [B, V]
    dropped = torch.empty_like(before, dtype=torch.bool).scatter_(-1, index, before >= top_p)
    return logits.masked_fill(dropped, -torch.inf)
