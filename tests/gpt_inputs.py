"""Parameters of attention layers and GPTs for the tests of part 3: random ones, and ones with a known output."""

import math

import torch

from inputs import integers, normal, uniform

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 13, "block_size": 10}
V = 8  # vocabulary size of a GPT with known logits


def attention_weights(rng, C):
    """Return random parameters of an attention layer."""
    shapes = {"c_attn.weight": (3 * C, C), "c_attn.bias": (3 * C,), "c_proj.weight": (C, C), "c_proj.bias": (C,)}
    return {name: normal(rng, *shape, scale=0.3 if len(shape) == 1 else C**-0.5) for name, shape in shapes.items()}


def gpt_weights(rng, sizes, scale=0.2):
    """Return random parameters of a GPT, large enough for the tokens to influence each other."""
    C, vocab_size = sizes["n_embd"], sizes["vocab_size"]
    layers = {"ln_1": (C,), "attn.c_attn": (3 * C, C), "attn.c_proj": (C, C), "ln_2": (C,)}
    layers |= {"mlp.c_fc": (4 * C, C), "mlp.c_proj": (C, 4 * C)}
    shapes = {f"h.{h}.{name}": shape for h in range(sizes["n_layer"]) for name, shape in layers.items()} | {
        "ln_f": (C,)
    }
    weights = {"transformer.wte.weight": normal(rng, vocab_size, C, scale=scale)}
    weights |= {"transformer.wpe.weight": normal(rng, sizes["block_size"], C, scale=scale)}
    for name, shape in shapes.items():
        weight = 1 + normal(rng, *shape, scale=0.1) if len(shape) == 1 else normal(rng, *shape, scale=scale)
        weights |= {f"transformer.{name}.weight": weight, f"transformer.{name}.bias": normal(rng, shape[0], scale=0.1)}
    return weights | {"lm_head.weight": normal(rng, vocab_size, C, scale=scale)}


def table(rng, rows=V):
    """Return next-token logits [rows, V] for each token: at least 0.3 apart, in random order.

    All rows have the same values, permuted and shifted; in odd rows, the values are also farther apart.
    """
    logits = -0.4 * torch.arange(V) - 0.1 * torch.from_numpy(rng.uniform(size=V)).float()
    ordered = torch.stack([logits[torch.from_numpy(rng.permutation(V))] for _ in range(rows)])
    return ordered * (1 + 0.7 * (torch.arange(rows) % 2))[:, None] + uniform(rng, rows, 1, low=-2, high=2)


def model_of(logits, block_size=16):
    """Return, for the adapters, sizes and weights of a GPT whose logits after token i are logits[i]; logits: [V, V].

    Token embeddings are unit vectors, attention and MLP add nothing, and the last layer undoes the last LayerNorm.
    """
    V = len(logits)
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": V, "vocab_size": V, "block_size": block_size}
    mean, std = 1 / V, math.sqrt((1 - 1 / V) / V + 1e-5)
    weights = {
        "transformer.wte.weight": torch.eye(V),
        "transformer.wpe.weight": torch.zeros(block_size, V),
        "transformer.h.0.attn.c_proj.weight": torch.zeros(V, V),
        "transformer.h.0.mlp.c_proj.weight": torch.zeros(V, 4 * V),
        "transformer.ln_f.bias": torch.full((V,), mean / std),
        "lm_head.weight": std * logits.T,
    }
    return {"sizes": sizes, "weights": weights}


def prompts(rng, last, T=3):
    """Return random prompts [B, T] that end with the tokens `last` [B]."""
    return torch.cat([integers(rng, V, len(last), T - 1), last[:, None]], dim=1)


# --- attention weights that can be read off ---------------------------------------------------------------------------


def split_heads(x, n_head):
    """Split channels into heads: [B, T, C] -> [B, nh, T, hs]."""
    return x.unflatten(2, (n_head, -1)).transpose(1, 2)


def prescribed(q, k, v):
    """Return x [1, T, C] and weights that produce these queries, keys and values [nh, T, hs]; T must be at most C.

    The tokens are unit vectors, so that the columns of c_attn are the queries, keys and values; c_proj is the identity.
    """
    columns = torch.cat([part.transpose(1, 2).flatten(0, 1) for part in (q, k, v)])  # [3C, T]
    C, T = len(columns) // 3, columns.size(1)
    weights = {"c_attn.weight": torch.zeros(3 * C, C), "c_attn.bias": torch.zeros(3 * C)}
    weights["c_attn.weight"][:, :T] = columns
    weights |= {"c_proj.weight": torch.eye(C), "c_proj.bias": torch.zeros(C)}
    return torch.eye(C)[None, :T], weights


def legible(rng, n_head, T):
    """Return values [nh, T, T], orthonormal in each head, from which `read` recovers the attention weights."""
    u = normal(rng, n_head, T, 1)
    return torch.eye(T) - 2 * u @ u.mT / u.square().sum(1, keepdim=True)  # a Householder reflection


def read(output, v):
    """Recover the attention weights [B, nh, T, T] from the output [B, T, C]; the values v are `legible`."""
    return split_heads(output, len(v)) @ v.mT  # the values are orthonormal, so v.mT undoes v
