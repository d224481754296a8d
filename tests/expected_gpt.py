"""What several graded tests of part 3 expect, and their random inputs."""

import torch

from adapters import part3
from judge import assert_shape, rounded


def draw(rng, *shape, scale=1.0):
    return scale * torch.randn(*shape, generator=rng)


def split_heads(x, n_head):
    """[B, T, C] -> [B, nh, T, hs]."""
    return x.unflatten(2, (n_head, -1)).transpose(1, 2)


def integers(rng, high, *shape):
    return torch.randint(high, shape, generator=rng)


def assert_causal(changes, t, what):
    """Changes of the output [B, T, ...] where token t of the first sequence is another one."""
    size = changes.abs().flatten(2).amax(-1)  # [B, T]
    # float32: the same sums, the tokens after t with weight 0
    before = size[0, :t].max().item() if t else 0
    assert before < 1e-5, f"{what}: token {t} has influence on tokens before it, up to {before:.2g}"
    without = [at for at in range(t, size.size(1)) if not size[0, at] > 1e-6]
    assert not without, f"{what}: token {t} should have influence on itself and those after it, not on {without}"
    assert (size[1:] < 1e-5).all(), f"{what}: a sequence has influence on another one of the batch"


GPT_SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 13, "block_size": 10}


# --- generation: a model with known probabilities --------------------------------------------------------------------

V = 8


def assert_continues(result, idx, n, vocab_size=V):
    """The shape of what `run_generate` gave, its prompts; returns the new tokens [B, n]."""
    tokens, T = result["tokens"], idx.size(1)
    expected = (len(idx), T + n)
    assert_shape(f"what generate gives for {n} new tokens after {T}", tokens, expected)
    assert tokens.dtype == idx.dtype, f"tokens should be {idx.dtype}, not {tokens.dtype}"
    assert torch.equal(tokens[:, :T], idx), "the prompts should stand at the beginning of what generate gives"
    assert torch.equal(result["idx"], idx), "generate changes the prompts in place"
    new = tokens[:, T:]
    assert not n or 0 <= new.min() <= new.max() < vocab_size, f"tokens are 0..{vocab_size - 1}, not {new.unique()}"
    return new


def assert_likeliest(tokens, logits, what):
    """Tokens [...] have the largest of the logits [..., V], up to the rounding of float32."""
    chosen = logits.gather(-1, tokens[..., None])
    rank = (logits > chosen + 1e-4 * logits.abs().amax()).sum(-1)  # how many tokens are likelier
    if not rank.any():
        return
    why = "it should take the likeliest token"
    if torch.equal(tokens, logits.argmin(-1)):
        why = "it takes the least likely token"
    elif torch.equal(tokens, logits.abs().argmax(-1)):
        why = "it takes the logit that is largest without its sign"
    elif not tokens.any():
        why = "it always takes token 0"
    raise AssertionError(
        f"greedy generation ({what}) is wrong: {why}\nexpected tokens {rounded(logits.argmax(-1)[rank > 0])}\n"
        f"obtained tokens {rounded(tokens[rank > 0])}, with up to {rank.max()} likelier ones"
    )


def assert_greedy_in_window(rng, T, n, batch, use_cache, block_size):
    """Each new token is the likeliest after the block_size tokens before it."""
    given = {"sizes": GPT_SIZES | {"block_size": block_size}, "seed": int(integers(rng, 2**31)), "gain": 10}
    idx = integers(rng, 13, batch, T)
    result = part3.run_generate(idx, n, use_cache=use_cache, **given)
    new = assert_continues(result, idx, n, 13)
    tokens = result["tokens"]
    windows = [tokens[:, start : start + block_size] for start in range(max(1, T + n - block_size))]
    logits = part3.run_logits_of_means(torch.cat(windows), **given).split(batch)
    after = torch.cat([logits[0], *(each[:, -1:] for each in logits[1:])], dim=1)  # each token but the last
    for step in range(n):
        what = f"{T + step} tokens, block_size {block_size}, use_cache={use_cache}: the last block_size tokens count"
        assert_likeliest(new[:, step], after[:, T + step - 1], what)


def prescribed(q, k, v):
    """x [1, T, C] and weights with which queries, keys and values are these [nh, T, hs]; T at most C.

    The tokens are unit vectors, so that the columns of c_attn are the queries, keys and values; c_proj does nothing.
    """
    columns = torch.cat([part.transpose(1, 2).flatten(0, 1) for part in (q, k, v)])  # [3C, T]
    C, T = len(columns) // 3, columns.size(1)
    weights = {"c_attn.weight": torch.zeros(3 * C, C), "c_attn.bias": torch.zeros(3 * C)}
    weights["c_attn.weight"][:, :T] = columns
    weights |= {"c_proj.weight": torch.eye(C), "c_proj.bias": torch.zeros(C)}
    return torch.eye(C)[None, :T], weights


def legible(rng, n_head, T):
    """Values [nh, T, T], orthonormal in each head, from which `read` gets the attention weights back."""
    return torch.stack([torch.linalg.qr(draw(rng, T, T)).Q for _ in range(n_head)])


def read(output, v):
    """Output [B, T, C] -> attention weights [B, nh, T, T], where the values are `legible`."""
    return split_heads(output, len(v)) @ v.mT
