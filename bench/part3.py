"""Part 3: compare our GPT's tokens per second with those of transformers' GPT-2, in `generation` and `training`.

transformers' GPT-2 is unchanged. Both use PyTorch's fused attention, but transformers computes GELU step by step.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.epochs import rate_table, run_train
from bench.record import Record
from part3_gpt.build import adamw
from part3_gpt.dataset import CharTokenizer, TextDataset, loaders
from part3_gpt.gpt import GPT, GPTConfig
from part3_gpt.texts import read_text

PROMPT, NEW_TOKENS = 64, 128
TRAIN_BATCHES = 120  # about 20 s, so the slow start of a new process hardly matters


def their_model(config: GPTConfig) -> nn.Module:
    """Return transformers' GPT-2 with the same sizes and with tied weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = config.with_sizes()
    names = ("n_layer", "n_head", "n_embd", "vocab_size", "embd_pdrop", "resid_pdrop", "attn_pdrop")
    sizes = {name: getattr(config, name) for name in names} | {"n_positions": config.block_size}
    endless = {"bos_token_id": None, "eos_token_id": None}  # do not stop generating at an end-of-text token
    return GPT2LMHeadModel(GPT2Config(**sizes, **endless))


def twins(config: GPTConfig) -> tuple[GPT, nn.Module]:
    """Return our model and transformers' model, with the same random weights and in evaluation mode."""
    torch.manual_seed(0)
    theirs = their_model(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return GPT.from_pretrained(folder).eval(), theirs


def generation_rate(generate: Callable, prompts: Tensor, count: int, seen: dict[int, Tensor]) -> float:
    """Return the new tokens per second, summed over the rows of the batch.

    Args:
        seen: number of rows -> the tokens of the first variant; the first call sets them.

    Raises:
        RuntimeError: the tokens differ from those in `seen`.
    """
    start = time.perf_counter()
    tokens = generate(prompts, max_new_tokens=count)
    seconds = time.perf_counter() - start
    if not torch.equal(tokens, seen.setdefault(len(prompts), tokens)):
        raise RuntimeError(f"batch {len(prompts)}: the variants generate different tokens")
    return len(prompts) * count / seconds


@torch.no_grad()
def products_rate(model: GPT, batch: int, count: int) -> float:
    """Return the lower bound's tokens per second: multiply each weight matrix by `batch` vectors, `count` times."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not model.lm_head]
    inputs = [torch.randn(batch, layer.in_features) for layer in layers]
    last = torch.randn(model.config.n_embd, batch).squeeze(1)
    start = time.perf_counter()
    for _ in range(count):
        for layer, x in zip(layers, inputs, strict=True):
            layer(x)
        model.lm_head.weight @ last
    return batch * count / (time.perf_counter() - start)


def generation(args, data: Path, model_type: str = "gpt2") -> Record:
    """Measure greedy generation with our model, with transformers, and with our model without the cache."""
    count = args.batches or NEW_TOKENS
    config = GPTConfig(model_type, vocab_size=50257, block_size=1024)
    ours, theirs = twins(config)
    prompts = torch.randint(config.vocab_size, (8, PROMPT))
    seen: dict[int, Tensor] = {}

    def way(generate: Callable, batch: int) -> Callable:
        return partial(generation_rate, generate, prompts[:batch], count, seen)

    ways = {
        "ours, batch 1": way(ours.generate, 1),
        "transformers, batch 1": way(theirs.generate, 1),
        "matrix products alone, batch 1": partial(products_rate, ours, 1, count),
        "ours, recomputing, batch 1": way(partial(ours.generate, use_cache=False), 1),
        "ours, batch 8": way(ours.generate, 8),
        "transformers, batch 8": way(theirs.generate, 8),
        "matrix products alone, batch 8": partial(products_rate, ours, 8, count),
    }
    goals = {
        ("ours, batch 1", "transformers, batch 1"): 1.2,
        ("ours, batch 8", "transformers, batch 8"): 1.2,
        ("ours, batch 1", "ours, recomputing, batch 1"): 6,
        ("ours, batch 1", "matrix products alone, batch 1"): None,
        ("ours, batch 8", "matrix products alone, batch 8"): None,
    }
    record = rate_table(f"{model_type}, {PROMPT} tokens in, {count} out", ways, goals, args.rounds)
    record.notes = (
        "Random weights, greedy decoding; all variants generated the same tokens. Recomputing the prefix is slow, so\n"
        "it is measured only for batch 1. The matrix products alone give a lower bound on the time: they read every\n"
        "weight once per token."
    )
    return record


def own_rate(data: Path, flags: dict[str, object]) -> float:
    """Return the training tokens per second of train.py, including Lightning, metrics, TensorBoard and NaN guard."""
    summary = run_train("part3_gpt", data, *[f"--{name}={value}" for name, value in flags.items()])
    return summary["history"][0]["train/tokens_per_second"]


def bare_rate(make_model: Callable, loss_of: Callable, dataset: TextDataset, batch_size: int, batches: int) -> float:
    """Train a new model in a bare loop on windows of an in-memory tensor; return the tokens per second."""
    torch.manual_seed(0)
    model = make_model().train()
    optimizer = adamw(model, lr=3e-4)
    start = time.perf_counter()
    for index in torch.randperm(len(dataset)).split(batch_size)[:batches]:
        x, y = dataset.__getitems__(index)
        loss = loss_of(model, x, y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return batches * batch_size * dataset.block_size / (time.perf_counter() - start)


def our_loss(model: GPT, x: Tensor, y: Tensor) -> Tensor:
    return model(x, y)[1]


def their_loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    logits = model(x, use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())


def training(args, data: Path, model_type: str = "gpt-micro", block_size: int = 128, batch_size: int = 32) -> Record:
    """Measure train.py on the built-in text, a bare loop, and the same loop with transformers' model."""
    text = read_text()
    tokenizer = CharTokenizer.of(text)
    dataset = loaders(text, tokenizer, block_size, batch_size)[0].dataset
    dropouts = {"embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0}
    config = GPTConfig(model_type, vocab_size=tokenizer.vocab_size, block_size=block_size, tie_weights=True, **dropouts)
    batches = min(args.batches or TRAIN_BATCHES, len(dataset) // batch_size)
    flags = {"model_type": model_type, "block_size": block_size, "dropout": 0}
    flags |= {"batch_size": batch_size, "limit_batches": batches}
    sizes = (dataset, batch_size, batches)
    ways = {
        "train.py": partial(own_rate, data, flags),
        "bare loop": partial(bare_rate, partial(GPT, config), our_loss, *sizes),
        "bare loop, transformers' GPT-2": partial(bare_rate, partial(their_model, config), their_loss, *sizes),
    }
    goals = {("train.py", "bare loop"): 0.95, ("bare loop", "bare loop, transformers' GPT-2"): 1.1}
    title = f"{model_type}, block {block_size}, batch {batch_size}, characters, {batches} batches"
    record = rate_table(title, ways, goals, args.rounds, digits=0)
    record.notes = "The bare loops also clip gradients. transformers' GPT-2 computes GELU from elementary operations; "
    record.notes += "ours calls PyTorch's GELU."
    return record
