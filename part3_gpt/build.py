"""Build the components for `train.py`: configuration, tokenizer, DataLoaders over the text, and optimizer."""

import argparse
import hashlib
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from course.training.problems import Problem
from part3_gpt.dataset import (
    BPETokenizer,
    CharTokenizer,
    check_vocabulary,
    gpt2_tokenizer,
    loaders,
    stored_model,
)
from part3_gpt.gpt import GPT, GPTConfig


class Built(NamedTuple):
    """The components of a run; `weights` are the initial weights, if any."""

    config: GPTConfig
    tokenizer: CharTokenizer | BPETokenizer
    weights: dict[str, Tensor] | None
    loaders: tuple[DataLoader, DataLoader]  # training and validation
    tokens_per_char: tuple[float, float]  # training and validation
    text_hash: str


def build(args: argparse.Namespace, text: str) -> Built:
    """Build the components of a run from the flags, a pretrained model, or the checkpoint being resumed.

    Raises:
        Problem: the flags, the text and the model are not compatible.
    """
    text_hash = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    try:
        config, tokenizer, weights = _choose_model(args, text, text_hash)
        config.flash = args.flash
        if args.block_size > config.block_size:
            raise ValueError(f"--block_size {args.block_size}: the model sees at most {config.block_size} tokens")
        check_vocabulary(tokenizer, config)
        data = _loaders(args, text, tokenizer)
    except (ValueError, TypeError) as error:
        raise Problem(str(error), status=2) from error
    tokens_per_char = (data[0].dataset.tokens_per_char, data[1].dataset.tokens_per_char)
    return Built(config, tokenizer, weights, data, tokens_per_char, text_hash)


def _loaders(
    args: argparse.Namespace, text: str, tokenizer: CharTokenizer | BPETokenizer
) -> tuple[DataLoader, DataLoader]:
    try:
        return loaders(text, tokenizer, args.block_size, args.batch_size, args.num_workers, args.seed)
    except ValueError as error:
        place = f"--txt_file {args.txt_file or '(built in)'} --block_size {args.block_size}"
        raise ValueError(f"{place}: {error}") from error


def _choose_model(
    args: argparse.Namespace, text: str, text_hash: str
) -> tuple[GPTConfig, CharTokenizer | BPETokenizer, dict[str, Tensor] | None]:
    """Return the configuration, the tokenizer, and the initial weights, if any."""
    dropouts = {name: args.dropout for name in ("embd_pdrop", "resid_pdrop", "attn_pdrop")}
    if args.checkpoint:
        try:
            config, tokenizer, trained_on = stored_model(args.checkpoint)
        except ValueError as error:
            raise ValueError(f"--resume {args.resume}: {error}") from error
        if trained_on != text_hash:
            where = f"--txt_file {args.txt_file} (or text.txt in the run's folder)"
            raise ValueError(f"{where}: is not the text that the run being resumed was trained on")
        return config, tokenizer, None
    if args.pretrained is not None:
        model = GPT.from_pretrained(args.pretrained, **dropouts)
        return model.config, gpt2_tokenizer(args.pretrained), model.state_dict()
    tokenizer = gpt2_tokenizer() if args.tokenizer == "gpt2" else CharTokenizer.of(text)
    sizes = {name: getattr(args, name) for name in ("model_type", "n_layer", "n_head", "n_embd", "block_size")}
    config = GPTConfig(**sizes, **dropouts, vocab_size=tokenizer.vocab_size, tie_weights=args.tie_weights)
    return config, tokenizer, None


def adamw(
    model: GPT, lr: float, weight_decay: float = 0.1, betas: tuple[float, float] = (0.9, 0.95), fused: bool = True
) -> torch.optim.AdamW:
    """Return AdamW with weight decay for matrices only, not for biases or LayerNorm parameters.

    Args:
        fused: whether to update all parameters in one kernel, if PyTorch has such a kernel for their device.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.dim() >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.dim() < 2], "weight_decay": 0.0},
    ]
    fused = fused and all(parameter.device.type in ("cuda", "cpu", "mps") for parameter in parameters)
    return torch.optim.AdamW(groups, lr=lr, betas=tuple(betas), fused=fused)
