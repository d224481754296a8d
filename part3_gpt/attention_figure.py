"""A picture of what the attention heads look at. Shapes: nh heads, T tokens."""

import torch
from torch import Tensor

from course import figures
from part3_gpt.gpt import GPT


def attention_figure(model: GPT, idx: Tensor) -> Tensor | None:
    """What each head attends to in a text: a row of squares for each layer.

    In each square, a row is a token and what it attends to is dark, as a share of the row's darkest.

    Args:
        idx: tokens [1, T].

    Returns:
        an image [3, H, W] in 0..1; None if the attention does not let its weights pass through `attn_dropout`.
    """
    seen: list[Tensor] = []  # the attention weights [1, nh, T, T] of each layer
    layers = [block.attn for block in model.transformer.h]
    hooks = [layer.attn_dropout.register_forward_pre_hook(lambda _, inputs: seen.append(*inputs)) for layer in layers]
    fused = [layer.flash for layer in layers]
    for layer in layers:
        layer.flash = False
    try:
        model.forward(idx)
    finally:
        for layer, flash, hook in zip(layers, fused, hooks, strict=True):
            layer.flash = flash
            hook.remove()
    if not seen:
        return None
    weights = torch.cat(seen).flatten(0, 1)[:, None]  # [layers * nh, 1, T, T]
    shares = weights / weights.amax(dim=-1, keepdim=True)
    return figures.grid(1 - shares, nrow=model.config.n_head)
