"""What a language model's next token is drawn from: the filters top-k and top-p."""

import torch
import torch.nn.functional as F
from torch import Tensor


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Logits [B, V] with all but the `top_k` largest of each row at -inf; all of them are kept where V is smaller."""
    least = torch.topk(logits, min(top_k, logits.size(-1)), dim=-1).values[:, -1:]  # [B, 1]
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Logits [B, V] with all tokens at -inf but the likeliest of each row that together reach probability `top_p`.

    The token with which the sum reaches `top_p` is kept, so there is always one (Holtzman et al., 2020: nucleus). At 1
    all are kept.
    """
    if top_p >= 1:  # float32's sum of many small probabilities may reach 1 before the last of them
        return logits
    ordered, index = logits.sort(dim=-1, descending=True)
    probs = F.softmax(ordered, dim=-1)
    before = probs.cumsum(dim=-1) - probs  # of all tokens that are likelier, [B, V]
    dropped = torch.empty_like(before, dtype=torch.bool).scatter_(-1, index, before >= top_p)
    return logits.masked_fill(dropped, -torch.inf)
