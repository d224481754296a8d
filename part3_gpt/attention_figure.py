"""A figure of each attention head's weights. Shapes: L layers, nh heads, T tokens."""

import textwrap
import warnings

import torch
from torch import Tensor

from course.figures import as_image, new_figure
from part3_gpt.dataset import BPETokenizer, CharTokenizer
from part3_gpt.gpt import GPT


def draw_attention(model: GPT, tokens: Tensor, tokenizer: CharTokenizer | BPETokenizer) -> Tensor | None:
    """Draw each head's attention weights for the tokens [T]; return None if `attention_weights` returns None."""
    weights = attention_weights(model, tokens[None].to(model.lm_head.weight.device))
    return (
        None if weights is None else attention_figure(weights, [tokenizer.decode(token) for token in tokens.split(1)])
    )


def attention_weights(model: GPT, idx: Tensor) -> Tensor | None:
    """Compute the attention weights for a text: tokens [1, T] -> [L, nh, T, T].

    Return None if the implementation of attention does not pass its weights through `attn_dropout`.
    """
    seen: list[Tensor] = []  # [1, nh, T, T] of each layer
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
    return torch.cat(seen) if seen else None


def attention_figure(weights: Tensor, tokens: list[str]) -> Tensor:
    """Draw each head's attention weights as an image [3, H, W] in 0..1, with a row of squares for each layer.

    In each square, a row belongs to the token that attends; its cells are darker for higher weights, and the cell with
    the row's highest weight is black.

    Args:
        weights: attention weights [L, nh, T, T].
        tokens: the text of each of the T tokens.
    """
    layers, heads = weights.shape[:2]
    size = min(2.1, 26 / max(layers, heads))  # side of a square, in inches
    width = size * heads + 1
    text = textwrap.fill(f"tokens 0 to {len(tokens) - 1} of the text: {''.join(tokens)!r}", int(14 * width))
    figure = new_figure(width, size * layers + 0.7 + 0.15 * len(text.splitlines()))
    grid = figure.subplots(layers, heads, squeeze=False, sharex=True, sharey=True)
    shares = (weights / weights.amax(dim=-1, keepdim=True)).float().cpu().numpy()
    for layer, row in enumerate(grid):
        for head, axes in enumerate(row):
            axes.imshow(shares[layer, head], cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=max(4, 4 * size), pad=3)
            axes.tick_params(labelsize=7)
    if len(tokens) <= 24:  # more labels would not fit
        grid[0][0].set_xticks(range(len(tokens)), [_visible(token) for token in tokens], parse_math=False)
        grid[0][0].set_yticks(range(len(tokens)), [_visible(token) for token in tokens], parse_math=False)
    figure.supxlabel("token that is attended to", fontsize=9)
    figure.supylabel("token that attends", fontsize=9)
    figure.suptitle(text, fontsize=8, family="monospace", parse_math=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font lacks the characters of some scripts
        return as_image(figure)


def _visible(token: str) -> str:
    return repr(token)[1:-1].replace(" ", "\u2423")
