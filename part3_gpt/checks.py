"""Validate a GPT's configuration and the arguments of `GPT.generate`; error messages include the invalid value."""

from typing import TYPE_CHECKING

from torch import Tensor

from part3_gpt.options import LOWEST_TEMPERATURE, MODEL_SIZES

if TYPE_CHECKING:
    from part3_gpt.gpt import GPTConfig

SIZES = ("n_layer", "n_head", "n_embd")


def find_sizes(config: "GPTConfig") -> dict[str, int]:
    """Return n_layer, n_head and n_embd, either as given or those of `model_type`.

    Raises:
        ValueError: both `model_type` and sizes are given, or `model_type` is unknown.
    """
    sizes = {name: getattr(config, name) for name in SIZES}
    if config.model_type is None:
        return sizes
    if given := [name for name, size in sizes.items() if size is not None]:
        raise ValueError(f"model_type {config.model_type!r} and {', '.join(given)}: give only one of them")
    if config.model_type not in MODEL_SIZES:
        raise ValueError(f"model_type {config.model_type!r}: must be one of {', '.join(MODEL_SIZES)}")
    return dict(zip(SIZES, MODEL_SIZES[config.model_type], strict=True))


def check_config(config: "GPTConfig") -> "GPTConfig":
    """Check that the configuration has all sizes and that n_embd is a multiple of n_head; return the configuration.

    Raises:
        ValueError: the configuration is invalid.
    """
    for name in (*SIZES, "vocab_size", "block_size"):
        value = getattr(config, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}: it must be a positive integer")
    if config.n_embd % config.n_head:
        raise ValueError(f"n_embd {config.n_embd} is not a multiple of n_head {config.n_head}")
    return config


def check_arguments(
    idx: Tensor,
    vocab_size: int,
    max_new_tokens: int,
    temperature: float,
    do_sample: bool,
    top_k: int | None,
    top_p: float | None,
) -> None:
    """Raise a ValueError if an argument of `GPT.generate` is out of range; the message includes its value."""
    if idx.dim() != 2 or idx.size(1) == 0 or idx.is_floating_point():
        raise ValueError(f"idx is {idx.dtype} of shape {tuple(idx.shape)}: it must be tokens [B, T] with T >= 1")
    if idx.numel() and not 0 <= int(idx.min()) <= int(idx.max()) < vocab_size:
        wrong = int(idx.min()) if idx.min() < 0 else int(idx.max())
        raise ValueError(f"token {wrong} is outside the vocabulary of {vocab_size} tokens")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}: it must not be negative")
    if do_sample and not temperature >= LOWEST_TEMPERATURE:
        raise ValueError(f"temperature is {temperature}: for sampling, it must be at least {LOWEST_TEMPERATURE:g}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}: it must be at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}: it must be above 0 and at most 1")
