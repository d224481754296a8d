"""Part 3: causal self-attention, the GPT around it, and generation."""

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from adapters.stand_ins import ELSEWHERE, gradient_of, left_alone, on_another_device

# --- part 3: helpers --------------------------------------------------------------------------------------------------


def _gpt_config(**fields):
    from part3_gpt.gpt import GPT

    config = GPT.get_default_config()
    for name, value in fields.items():
        setattr(config, name, value)
    return config


@torch.no_grad()
def _filled(module: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """Set some of the module's parameters; return the module."""
    for name, value in weights.items():
        module.get_parameter(name).copy_(value)
    return module


def _attention(weights: dict[str, Tensor], n_head: int, block_size: int, **fields) -> nn.Module:
    """Return CausalSelfAttention with these weights, in evaluation mode, without dropout unless `fields` sets it."""
    from part3_gpt.gpt import CausalSelfAttention

    sizes = {"n_layer": 1, "n_head": n_head, "n_embd": len(weights["c_proj.weight"]), "vocab_size": 2}
    fields = {"flash": False, "attn_pdrop": 0.0, "resid_pdrop": 0.0} | fields
    return _filled(CausalSelfAttention(_gpt_config(**sizes, block_size=block_size, **fields)), weights).eval()


def _gpt(sizes: dict[str, int], weights: dict[str, Tensor]) -> nn.Module:
    """Return a GPT in evaluation mode, without dropout; do not advance the tests' random generator."""
    from part3_gpt.gpt import GPT

    with torch.random.fork_rng(devices=[]):
        model = GPT(_gpt_config(**sizes, flash=False, embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0))
    return _filled(model, weights).eval()


def _causal_mean(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return the mean of the tokens so far, as a substitute for attention: Q3.3 can be tested before Q3.2 is done.

    Like attention, this takes the queries of the last T of S tokens, as the cache requires.
    """
    T, S = q.size(2), v.size(2)
    means = v.cumsum(dim=2) / torch.arange(1, S + 1)[:, None]
    return means[:, :, -T:]


def _with_causal_means(model: nn.Module) -> nn.Module:
    for block in model.transformer.h:
        block.attn.attention = _causal_mean
    return model


class _NoFusedAttention(TorchFunctionMode):
    """Makes PyTorch's attention functions, under any name, raise an error during the tests of Q3.2."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if "attention" in name:
            raise RuntimeError(f"in Q3.2, attention must be written out, so {name} must not be used")
        return func(*args, **(kwargs or {}))


# --- part 3: gpt.py ---------------------------------------------------------------------------------------------------


def run_attention(
    x: Tensor,
    weights: dict[str, Tensor],
    n_head: int,
    block_size: int,
    training: bool = False,
    attn_pdrop: float = 0.0,
    resid_pdrop: float = 0.0,
) -> Tensor:
    """Run CausalSelfAttention -> its output for x [B, T, C].

    Args:
        weights: "c_attn.weight" [3C, C] and "c_attn.bias" [3C], for queries, keys and values in this order,
            "c_proj.weight" [C, C] and "c_proj.bias" [C].
    """
    attention = _attention(weights, n_head, block_size, attn_pdrop=attn_pdrop, resid_pdrop=resid_pdrop).train(training)
    with _NoFusedAttention():
        return attention(x).detach()


def run_attention_gradients(
    x: Tensor, weights: dict[str, Tensor], n_head: int, block_size: int, direction: Tensor
) -> dict[str, Tensor]:
    """Return the gradients of sum(direction * output), in training mode, with respect to x ("x") and each weight."""
    attention = _attention(weights, n_head, block_size).train()
    x = x.clone().requires_grad_()
    with _NoFusedAttention():
        (attention(x) * direction).sum().backward()
    return {"x": gradient_of(x)} | {name: gradient_of(attention.get_parameter(name)) for name in weights}


def run_attention_twice(
    x: Tensor, weights: dict[str, Tensor], n_head: int, block_size: int, training: bool = False, attn_pdrop: float = 0.0
) -> dict:
    """Call one CausalSelfAttention twice -> the outputs of both calls; x and the weights after the calls."""
    attention = _attention(weights, n_head, block_size, attn_pdrop=attn_pdrop).train(training)
    x = x.clone()
    with _NoFusedAttention(), torch.no_grad(), left_alone(attention):
        outputs = [attention(x).clone() for _ in range(2)]
    afterwards = {name: attention.get_parameter(name).detach().clone() for name in weights}
    on_another_device(lambda: attention.to("meta")(x.to("meta")))
    return {"outputs": outputs, "x": x, "weights": afterwards}


def run_attention_in_pieces(
    x: Tensor, weights: dict[str, Tensor], n_head: int, block_size: int, lengths: list[int]
) -> Tensor:
    """Split x along T into chunks of these lengths, and process them in order with a key/value cache -> [B, T, C]."""
    from part3_gpt.cache import KVCache

    attention, cache = _attention(weights, n_head, block_size), KVCache(x.size(1))
    with _NoFusedAttention(), torch.no_grad():
        return torch.cat([attention(piece, cache) for piece in x.split(lengths, dim=1)], dim=1)


def run_gpt(idx: Tensor, sizes: dict[str, int], weights: dict[str, Tensor], batches: Tensor | None = None) -> Tensor:
    """Run GPT.forward in evaluation mode -> logits [B, T, V].

    Args:
        sizes: n_layer, n_head, n_embd, vocab_size and block_size.
        weights: all parameters, by name.
        batches: [steps, B, T + 1], to train on first, by plain gradient descent.
    """
    model = _gpt(sizes, weights).train()
    with _NoFusedAttention():
        for batch in () if batches is None else batches:
            model.zero_grad()
            model(batch[:, :-1], batch[:, 1:])[1].backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * gradient_of(parameter)
        with torch.no_grad():
            return model.eval()(idx)[0]


def run_choose_elsewhere(logits: Tensor, **options) -> None:
    """Call choose on the meta device, where tensors have no data; options: temperature, do_sample, top_k, top_p.

    Raises:
        RuntimeError: choose creates tensors on the CPU.
    """
    from part3_gpt.gpt import choose

    def run() -> None:
        device = choose(logits.to("meta"), **options).device
        if device.type != "meta":
            raise RuntimeError(f"the tokens are on the device {device} {ELSEWHERE} meta")

    on_another_device(run)


def run_generate(
    idx: Tensor,
    max_new_tokens: int,
    sizes: dict[str, int],
    weights: dict[str, Tensor],
    generator_seed: int | None = None,
    **options,
) -> dict[str, Tensor]:
    """Call GPT.generate -> tokens [B, T + max_new_tokens]; idx: the prompts after the call.

    The mean of the tokens so far replaces attention; see `_causal_mean`.

    Args:
        sizes, weights: as in `run_gpt`; missing parameters are random.
        generator_seed: the seed of the generator for sampling; None: do not pass a generator.
        options: temperature, do_sample, top_k, top_p, use_cache.
    """
    if generator_seed is not None:
        options["generator"] = torch.Generator().manual_seed(generator_seed)
    idx = idx.clone()
    model = _with_causal_means(_gpt(sizes, weights))
    tokens = model.generate(idx, max_new_tokens, **options)
    return {"tokens": tokens.clone(), "idx": idx}
