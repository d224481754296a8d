"""Part 3, graded: causal self-attention (Q3.2) and generation (Q3.3).

The oracles are PyTorch's own attention in float64, autograd, SciPy and formulas written out here. Statistical tests
allow 5 sigma. While Q3.2 is tested, PyTorch's own attention raises. For Q3.3 a mean of the tokens so far stands in for
attention, so neither question waits for the other.
PYTEST_DONT_REWRITE: a message says what is wrong in the assignment's terms, pytest adds nothing to it.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy import special

from adapters import part3
from judge import P_5_SIGMA, SIGMAS, assert_shape, assert_value, rounded


def draw(rng, *shape, scale=1.0):
    return scale * torch.randn(*shape, generator=rng)


def integers(rng, high, *shape):
    return torch.randint(high, shape, generator=rng)


# --- attention: oracles ----------------------------------------------------------------------------------------------


def attention_weights(rng, C):
    """The parameters of an attention layer."""
    shapes = {"c_attn.weight": (3 * C, C), "c_attn.bias": (3 * C,), "c_proj.weight": (C, C), "c_proj.bias": (C,)}
    return {name: draw(rng, *shape, scale=0.3 if len(shape) == 1 else C**-0.5) for name, shape in shapes.items()}


def split_heads(x, n_head):
    """[B, T, C] -> [B, nh, T, hs]."""
    return x.unflatten(2, (n_head, -1)).transpose(1, 2)


def queries_keys_values(x, weights, n_head):
    """Each [B, nh, T, hs]."""
    qkv = x @ weights["c_attn.weight"].T + weights["c_attn.bias"]
    return [split_heads(part, n_head) for part in qkv.chunk(3, dim=2)]


def merged(y, weights):
    """Heads [B, nh, T, hs] -> output [B, T, C]."""
    return y.transpose(1, 2).flatten(2) @ weights["c_proj.weight"].T + weights["c_proj.bias"]


def attention_oracle(x, weights, n_head):
    """[B, T, C] -> [B, T, C], by PyTorch's attention."""
    q, k, v = queries_keys_values(x, weights, n_head)
    return merged(F.scaled_dot_product_attention(q, k, v, is_causal=True), weights)


def double(weights):
    return {name: value.double() for name, value in weights.items()}


def gpt_oracle(idx, weights, n_head=2, n_layer=2):
    """The logits of a GPT with these parameters, by PyTorch's functions: [B, T] -> [B, T, V]."""
    w = {name.removeprefix("transformer."): value for name, value in weights.items()}
    x = w["wte.weight"][idx] + w["wpe.weight"][: idx.size(1)]

    def layer(x, name, function=F.linear):
        sizes = [x.shape[-1:]] if function is F.layer_norm else []
        return function(x, *sizes, w[f"{name}.weight"], w[f"{name}.bias"])

    for h in (f"h.{number}" for number in range(n_layer)):
        own = {name.removeprefix(f"{h}.attn."): value for name, value in w.items()}
        x = x + attention_oracle(layer(x, f"{h}.ln_1", F.layer_norm), own, n_head)
        inner = F.gelu(layer(layer(x, f"{h}.ln_2", F.layer_norm), f"{h}.mlp.c_fc"), approximate="tanh")
        x = x + layer(inner, f"{h}.mlp.c_proj")
    return layer(x, "ln_f", F.layer_norm) @ w["lm_head.weight"].T


def attention_mistakes(x, weights, n_head):
    """What goes wrong, and the output that comes of it."""
    weights = double(weights)
    q, k, v = queries_keys_values(x.double(), weights, n_head)
    products, C, hs = q @ k.mT, x.size(2), q.size(3)
    see = torch.ones_like(products).tril().bool()

    def masked(scores, mask=see):
        return scores.masked_fill(~mask, -torch.inf)

    scores, root = products / math.sqrt(hs), math.sqrt(n_head)
    right = masked(scores).softmax(-1)
    mixtures = {  # what the values are weighted with
        "the scores are not scaled": masked(products).softmax(-1),
        "the scores are divided by the head size, not by its square root": masked(products / hs).softmax(-1),
        "the scores are scaled by n_embd, not by the head size": masked(products / math.sqrt(C)).softmax(-1),
        "the scores are scaled by the number of heads, not by the head size": masked(products / root).softmax(-1),
        "the scores are multiplied by the root of the head size": masked(products * math.sqrt(hs)).softmax(-1),
        "there is no causal mask": scores.softmax(-1),
        "the mask is the wrong way round": masked(scores, see.mT).softmax(-1),
        "the mask hides the token itself": masked(scores, see.tril(-1)).softmax(-1),
        "the mask lets a token see the one after it": masked(scores, torch.ones_like(see).tril(1)).softmax(-1),
        "the mask of 0 and 1 is added to the scores; fill with -inf instead": (scores + see).softmax(-1),
        "masked scores are 0, where they should be -inf": (scores * see).softmax(-1),
        "the mask comes after the softmax": scores.softmax(-1) * see,
        "the softmax runs over the queries, it should run over the keys": masked(scores).softmax(-2),
        "the softmax runs over the heads, it should run over the keys": masked(scores).softmax(1),
        "there are two softmaxes": right.softmax(-1),
        "queries and keys are exchanged": masked(scores.mT).softmax(-1),
        "the scores have the wrong sign": masked(-scores).softmax(-1),
        "the attention weights are transposed": right.mT,
        "there is no softmax": scores * see,
    }
    for sentence, mixture in mixtures.items():
        yield sentence, merged(mixture @ v, weights)
    y = right @ v
    yield (
        "the heads are put side by side without a transpose",
        (merged(split_heads(y.reshape(x.shape), n_head), weights)),
    )
    yield "the keys are weighted, it should be the values", merged(right @ k, weights)
    yield "the values are not weighted", merged(v, weights)
    yield "the output is scaled, it should be the scores", merged((masked(products).softmax(-1) @ v) / hs**0.5, weights)


def assert_attention(output, x, weights, n_head, tolerance, what):
    assert_value(
        what, output, attention_oracle(x.double(), double(weights), n_head), rtol=tolerance, atol=tolerance,
        mistakes=attention_mistakes(x, weights, n_head),
        hint="softmax(q kᵀ / sqrt(head size)) v (Eq. 22), a token seeing itself and those before it?",
    )  # fmt: skip


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


# --- attention -------------------------------------------------------------------------------------------------------

# batch size, T, heads, C, block_size
ATTENTION_SIZES = [
    (3, 5, 2, 6, 8), (3, 8, 2, 8, 8), (2, 7, 4, 16, 16), (4, 16, 3, 24, 16), (2, 5, 1, 6, 8), (1, 9, 8, 8, 12),
    (1, 1, 1, 4, 1),
]  # fmt: skip


@pytest.mark.question("3.2", points=1)
def test_attention_output(rng):
    for batch, T, n_head, C, block_size in ATTENTION_SIZES:
        x, weights = draw(rng, batch, T, C), attention_weights(rng, C)
        output = part3.run_attention(x, weights, n_head, block_size)
        # float32, sums of at most 24 terms
        what = f"attention to x {[batch, T, C]}, n_head {n_head}, block_size {block_size},"
        assert_attention(output, x, weights, n_head, 1e-4, what)


@pytest.mark.question("3.2", points=0.25)
def test_attention_weights_sum_to_one(rng):
    n_head, T = 3, 6
    q, k = draw(rng, n_head, T, T), draw(rng, n_head, T, T)
    output = part3.run_attention(*prescribed(q, k, torch.ones(n_head, T, T)), n_head, block_size=8)
    # float32, sums of 6 terms
    assert_value(
        "attention to values that are all 1", output, torch.ones_like(output), rtol=1e-4, atol=1e-4,
        hint="their weighted mean is 1: softmax over the keys, after the mask?",
    )  # fmt: skip
    v = legible(rng, n_head, T)
    attention = read(part3.run_attention(*prescribed(q, k, v), n_head, block_size=8), v)
    assert attention.min() > -1e-5, f"attention weights cannot be negative, one is {attention.min():.3g}"
    later = attention.triu(1).abs().max()
    assert later < 1e-5, f"a token gives weight to tokens after it, up to {later:.3g}"
    seen = torch.ones(T, T).tril().bool()
    assert attention[..., seen].min() > 1e-6, "a token should give some weight to itself and to each token before it"


@pytest.mark.question("3.2", points=0.25)
def test_attention_scale(rng):
    for n_head, hs in [(1, 4), (2, 9), (4, 16), (3, 25)]:
        q, k, v = draw(rng, n_head, 2, hs), torch.zeros(n_head, 2, hs), torch.zeros(n_head, 2, hs)
        # the second query's product is 2 sqrt(hs) with the first key and 0 with its own
        product = 2 * math.sqrt(hs)
        k[:, 0] = product * q[:, 1] / q[:, 1].square().sum(-1, keepdim=True)
        v[:, 0, 0] = v[:, 1, 1] = 1  # the first two channels are the attention weights
        output = part3.run_attention(*prescribed(q, k, v), n_head, block_size=4)
        first, second = split_heads(output, n_head)[0, :, 1, :2].double().unbind(-1)
        scale = product / (first / second).log()
        # float32: where the scale is right, weights of 0.88 and 0.12
        divisors = {
            "they are not scaled": 1, "by the root of the head size, not by itself": hs,
            "by the root of the head size, not of n_embd": math.sqrt(n_head * hs),
            "by the root of the head size, not of the number of heads": math.sqrt(n_head),
            "they are multiplied by it": 1 / math.sqrt(hs),
        }  # fmt: skip
        assert_value(
            f"what scores are divided by, n_head {n_head}, head size {hs},", scale,
            torch.full_like(scale, math.sqrt(hs)), rtol=1e-2, hint="the root of the head size",
            mistakes=((name, torch.full_like(scale, divisor)) for name, divisor in divisors.items()),
        )  # fmt: skip


def assert_causal(changes, t, what):
    """Changes of the output [B, T, ...] where token t of the first sequence is another one."""
    size = changes.abs().flatten(2).amax(-1)  # [B, T]
    # float32: the same sums, the tokens after t with weight 0
    before = size[0, :t].max().item() if t else 0
    assert before < 1e-5, f"{what}: token {t} has influence on tokens before it, up to {before:.2g}"
    without = [at for at in range(t, size.size(1)) if not size[0, at] > 1e-6]
    assert not without, f"{what}: token {t} should have influence on itself and those after it, not on {without}"
    assert (size[1:] < 1e-5).all(), f"{what}: a sequence has influence on another one of the batch"


@pytest.mark.question("3.2", points=0.5)
def test_attention_is_causal(rng):
    n_head, T, C = 2, 9, 8
    for block_size in (T, T + 4):
        x, weights = draw(rng, 2, T, C), attention_weights(rng, C)
        output = part3.run_attention(x, weights, n_head, block_size)
        for t in range(T):
            changed = x.clone()
            changed[0, t] = draw(rng, C, scale=3)
            changes = part3.run_attention(changed, weights, n_head, block_size) - output
            assert_causal(changes, t, "attention")


GPT_SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 13, "block_size": 10}


@pytest.mark.question("3.2", points=0.25, hidden=True)
def test_gpt_is_causal(rng):
    T = GPT_SIZES["block_size"]
    idx = integers(rng, 13, 1, T).repeat(T + 1, 1)
    token = torch.arange(T)
    idx[token, token] = (idx[token, token] + 1 + integers(rng, 12, T)) % 13  # row t: another token t; the last: none
    for when, batches in (("fresh", None), ("after some steps of training", integers(rng, 13, 5, 4, T + 1))):
        given = {"sizes": GPT_SIZES, "seed": int(integers(rng, 2**31)), "gain": 8}
        logits = part3.run_gpt(idx, **given, batches=batches)["logits"]
        assert logits.shape == (T + 1, T, 13), f"logits should be {(T + 1, T, 13)}, are {tuple(logits.shape)}"
        for t in range(T):
            assert_causal(logits[t : t + 1] - logits[-1], t, f"a GPT, {when}")


@pytest.mark.question("3.2", points=0.25)
def test_masked_scores_have_no_weight(rng):
    """Whatever the scores are: what stands in for -inf must be below any of them."""
    n_head, T, hs = 2, 8, 4
    for size in (30, 300, 3000, 100_000):
        for sign in (-1, 1):
            # half of the keys have this score, the others 0: exact in float32, however large it is
            q, k, v = torch.zeros(n_head, T, hs), torch.zeros(n_head, T, hs), draw(rng, n_head, T, hs)
            q[..., 0] = 1
            early = torch.arange(T) < T // 2
            k[:, early if sign < 0 else ~early, 0] = sign * size * math.sqrt(hs)
            x, weights = prescribed(q, k, v)
            output = part3.run_attention(x, weights, n_head, block_size=T)
            # scores are exact, weights 0 or 1 / (a number of tokens)
            which = f"attention where {'visible' if sign < 0 else 'masked'} tokens have scores of {sign * size}"
            assert_value(
                which, output, attention_oracle(x.double(), double(weights), n_head), rtol=1e-4, atol=1e-4,
                hint="are masked scores -inf, below all others?",
            )  # fmt: skip


def assert_kept_independently(kept, keep, what):
    """Neighbours along the first dimension are kept independently of each other, with probability `keep`."""
    centred = kept.double() - keep
    products = (centred[1::2] * centred[: len(kept) // 2 * 2 : 2]).flatten()
    bound = SIGMAS * keep * (1 - keep) / math.sqrt(len(products))
    assert products.mean().abs() < bound, f"dropout should be drawn for each weight: {what} share it"


@pytest.mark.question("3.2", points=0.5)
def test_attention_dropout(rng):
    n_head, T, batch = 2, 6, 400
    seen = torch.ones(T, T).tril().bool()
    for p in (0.25, 0.6):
        q, k, v = draw(rng, n_head, T, T, scale=0.8), draw(rng, n_head, T, T, scale=0.8), legible(rng, n_head, T)
        x, weights = prescribed(q, k, v)
        x = x.expand(batch, T, -1).clone()
        plain = part3.run_attention(x, weights, n_head, T)
        evaluated = part3.run_attention(x, weights, n_head, T, attn_pdrop=p)
        none = "dropout should have no effect"
        assert_value(f"attention in evaluation, attn_pdrop {p},", evaluated, plain, rtol=1e-5, atol=1e-5, hint=none)
        trained = part3.run_attention(x, weights, n_head, T, training=True)
        assert_value("attention in training, attn_pdrop 0,", trained, plain, rtol=1e-5, atol=1e-5, hint=none)

        output = part3.run_attention(x, weights, n_head, T, training=True, attn_pdrop=p)
        right, dropped = (read(y, v)[..., seen] for y in (plain, output))  # [B, nh, pairs of tokens]
        assert not torch.allclose(dropped, right, atol=1e-4), "there is no dropout of attention weights in training"
        sums = read(output, v).sum(-1).nan_to_num(1.0)  # where scores are dropped, 0 * -inf
        assert not torch.allclose(sums, torch.ones_like(sums), atol=1e-4), (
            "dropout comes after the softmax: then the weights do not sum to 1 any more, in training"
        )
        channels = output / plain
        assert not torch.allclose(channels, (channels > 0.5) / (1 - p), atol=1e-2), (
            "dropout acts on the result, it should act on the attention weights"
        )
        ratio = dropped / right
        kept = ratio > 0.5
        # float32; the smallest weights are some thousandths
        assert_value(
            f"the attention weights in training, attn_pdrop {p}, divided by those without dropout,",
            ratio, kept / (1 - p), rtol=1e-2, atol=1e-2, mistakes=[("what is kept is not scaled up", kept)],
            hint=f"a weight should become 0 or {1 / (1 - p):.3g} times as large",
        )  # fmt: skip
        bound = SIGMAS * math.sqrt(p * (1 - p) / kept.numel())
        share = 1 - kept.double().mean().item()
        assert share == pytest.approx(p, abs=bound), f"attn_pdrop {p}: the share of dropped weights is {share:.3f}"
        for dim, what in enumerate(("sequences", "heads", "tokens")):
            assert_kept_independently(kept.movedim(dim, 0), 1 - p, what)
    # the other dropout is of channels; float32 sums of 6 weights
    x, weights = prescribed(q, k, torch.ones(n_head, T, T))
    output = part3.run_attention(x, weights, n_head, T, training=True, resid_pdrop=0.5)
    assert_value(
        "attention in training, resid_pdrop 0.5, attn_pdrop 0,", output, 2.0 * (output > 1), rtol=1e-4, atol=1e-4,
        hint="resid_pdrop is for the output, attn_pdrop for the attention weights",
    )  # fmt: skip


@pytest.mark.question("3.2", points=0.5)
def test_attention_gradients(rng):
    for batch, T, n_head, C, block_size in ATTENTION_SIZES:
        x, weights, direction = draw(rng, batch, T, C), attention_weights(rng, C), draw(rng, batch, T, C)
        obtained = part3.run_attention_gradients(x, weights, n_head, block_size, direction)
        inputs = {"x": x.double()} | double(weights)
        for value in inputs.values():
            value.requires_grad_()
        (attention_oracle(inputs["x"], inputs, n_head) * direction).sum().backward()
        for name, value in inputs.items():
            # float32, sums of at most 64 tokens with both signs
            assert_value(
                f"the gradient of attention with respect to {name}", obtained[name], value.grad, rtol=1e-3, atol=1e-4,
                mistakes=[("no gradient arrives: is something detached?", torch.zeros_like(value))],
                hint="is something detached, or the output wrong too?",
            )  # fmt: skip


@pytest.mark.question("3.2", points=0.25)
def test_attention_is_written_out(rng):
    n_head, T, C = 2, 7, 8
    x, weights = draw(rng, 3, T, C), attention_weights(rng, C)
    result = part3.run_attention_twice(x, weights, n_head, block_size=T)
    assert torch.equal(result["x"], x), "attention changes its input in place"
    for name, value in weights.items():
        assert torch.equal(result["weights"][name], value), f"attention changes {name} in place"
    first, second = result["outputs"]
    assert_value("attention in a second call", second, first, rtol=1e-5, atol=1e-5, hint="it should be the same")
    # float32 in another order of summation
    expected = attention_oracle(x.double(), double(weights), n_head)
    assert_value("attention", first, expected, rtol=1e-4, atol=1e-4, hint="PyTorch's attention gives other numbers")
    given = {"sizes": GPT_SIZES, "seed": int(integers(rng, 2**31)), "gain": 8}
    idx = integers(rng, 13, 3, 6)
    for batches in (None, integers(rng, 13, 3, 4, 9)):
        got = part3.run_gpt(idx, **given, batches=batches)
        logits = got.pop("logits")
        # the same, through two layers, after three steps of training
        hint = "a GPT with PyTorch's attention and the same weights gives other ones"
        assert_value("logits of a GPT", logits, gpt_oracle(idx, double(got)), rtol=1e-4, atol=1e-3, hint=hint)


@pytest.mark.question("3.2", points=0.25)
def test_attention_with_cache(rng):
    """Queries of the last T of S tokens, as in generation."""
    for lengths in ([1, 1, 1, 1], [4, 1, 1], [3, 4, 1, 2], [6]):
        T, n_head, C = sum(lengths), 2, 8
        x, weights = draw(rng, 2, T, C), attention_weights(rng, C)
        whole = attention_oracle(x.double(), double(weights), n_head)
        pieces = part3.run_attention_in_pieces(x, weights, n_head, 12, lengths)
        # float32, the same sums of at most 10 terms in another order
        assert_value(
            f"attention of T = {lengths} tokens one after the other, to the keys and values of all S so far,",
            pieces, whole, rtol=1e-4, atol=1e-4,
            hint="it is not what all tokens at once give: which rows and columns of the mask?",
        )  # fmt: skip


# --- generation: a model with known probabilities --------------------------------------------------------------------

V = 8


def table(rng, rows=V):
    """Logits [rows, V] of the next token after each token: the same ones, at least 0.3 apart, in random order."""
    logits = -0.4 * torch.arange(V) - 0.1 * torch.rand(V, generator=rng)
    return torch.stack([logits[torch.randperm(V, generator=rng)] for _ in range(rows)])


def model_of(logits, block_size=16):
    """A GPT for the adapters whose logits after token i are logits[i], whatever came before.

    Embeddings are unit vectors, attention and MLP add nothing, and the last layer undoes the last LayerNorm.
    """
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
    return {"sizes": sizes, "seed": 0, "weights": weights}


def prompts(rng, last, T=3):
    """Prompts [B, T] that end with these tokens [B]."""
    return torch.cat([integers(rng, V, len(last), T - 1), last[:, None]], dim=1)


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


def unlikely(tokens, probs):
    """Tokens whose count among independent draws is farther out than 5 sigma; the exact binomial, for all together."""
    counts, n, p = torch.bincount(tokens, minlength=len(probs)).numpy(), len(tokens), probs.double().numpy()
    at_most, at_least = special.bdtr(counts, n, p), special.bdtrc(counts - 1, n, p)
    tail = 2 * torch.from_numpy(at_most).minimum(torch.from_numpy(at_least))
    return (tail < P_5_SIGMA / len(probs)).nonzero().flatten().tolist()


def assert_drawn(tokens, probs, what, mistakes=()):
    """Tokens [N] are independent draws with these probabilities [V]; mistakes: sentence, probabilities."""
    impossible = [token for token in tokens.unique().tolist() if probs[token] == 0]
    off = unlikely(tokens, probs)
    if not off and not impossible:
        return
    counts = torch.bincount(tokens, minlength=len(probs))
    # of the mistakes that would give such draws, the one that makes them likeliest
    likely = {sentence: torch.xlogy(counts, p).sum() for sentence, p in mistakes if not unlikely(tokens, p)}
    why = [max(likely, key=likely.get)] if likely else []
    why += [f"tokens {impossible} should never be drawn"] * bool(impossible)
    order = probs.argsort(descending=True)
    shares = counts / len(tokens)
    raise AssertionError(
        f"sampling ({what}) is wrong{': ' if why else ''}{'; '.join(why)}\n"
        f"expected probabilities {rounded(probs[order])} of the likeliest tokens\n"
        f"obtained frequencies {rounded(shares[order])} of the same tokens"
    )


def one_hot(logits):
    return F.one_hot(logits.argmax(), len(logits)).double()


# --- generation ------------------------------------------------------------------------------------------------------


@pytest.mark.question("3.3", points=0.25)
def test_generate_shapes(rng):
    for batch, T, n in [(3, 4, 5), (1, 1, 1), (2, 6, 0), (1, 16, 3), (4, 1, 20)]:
        model = model_of(table(rng))
        for options in ({}, {"do_sample": True}):
            idx = integers(rng, V, batch, T)
            assert_continues(part3.run_generate(idx, n, **model, **options), idx, n)


@pytest.mark.question("3.3", points=0.5)
def test_generate_greedy(rng):
    logits = table(rng)
    for last in (torch.arange(V), integers(rng, V, 1), integers(rng, V, 5)):
        idx, n = prompts(rng, last), 6
        new = assert_continues(part3.run_generate(idx, n, **model_of(logits)), idx, n)
        before = torch.cat([last[:, None], new[:, :-1]], dim=1)
        assert_likeliest(new, logits[before], "a model that knows the last token")
    sizes = GPT_SIZES | {"block_size": 16}
    for batch, T, n in [(1, 5, 8), (6, 3, 13), (4, 1, 15)]:
        given = {"sizes": sizes, "seed": int(integers(rng, 2**31)), "gain": 10}
        idx = integers(rng, 13, batch, T)
        result = part3.run_generate(idx, n, **given)
        new = assert_continues(result, idx, n, 13)
        for row in range(batch):  # alone: a row's tokens depend on no other row
            after = part3.run_logits_of_means(result["tokens"][row : row + 1], **given)[0, T - 1 : -1]
            assert_likeliest(new[row], after, f"row {row} of {batch}")


@pytest.mark.question("3.3", points=0.25)
def test_generate_greedy_is_not_random(rng):
    logits = table(rng)
    idx = prompts(rng, torch.arange(V).repeat(5))
    for options in ({"temperature": 0.1}, {"temperature": 10.0}, {"top_k": 3}, {"top_p": 0.9, "temperature": 2.0}):
        for given in ({}, {"do_sample": False}):
            new = assert_continues(part3.run_generate(idx, 3, **model_of(logits), **options, **given), idx, 3)
            before = torch.cat([idx[:, -1:], new[:, :-1]], dim=1)
            assert_likeliest(new, logits[before], f"do_sample=False, {options}")


def drawing_mistakes(logits, token, temperature):
    """What goes wrong after a token, and the probabilities that come of it."""
    own = logits[token].double()
    yield "it is greedy, though do_sample is True", one_hot(own)
    yield "all tokens are equally likely", torch.full((V,), 1 / V).double()
    yield "the temperature is ignored", own.softmax(0)
    yield "the logits are multiplied by the temperature, they should be divided by it", (own * temperature).softmax(0)
    yield "there are two softmaxes", (own / temperature).softmax(0).softmax(0)
    yield (
        "the probabilities are divided by the temperature, it should be the logits",
        ((own.softmax(0) / temperature).softmax(0)),
    )
    yield "the root of the temperature is used", (own / temperature**0.5).softmax(0)
    yield "the probabilities are those of another row of the batch", (logits[0].double() / temperature).softmax(0)


@pytest.mark.question("3.3", points=0.5)
def test_generate_sampling_frequencies(rng):
    logits, n = table(rng), 1000
    last = torch.arange(V).repeat(n)  # neighbours in the batch have different probabilities
    for temperature in (1.0, 0.4, 2.5, 0.7 + 0.6 * torch.rand((), generator=rng).item()):
        idx = prompts(rng, last, T=2)
        result = part3.run_generate(idx, 1, **model_of(logits), temperature=temperature, do_sample=True)
        new = assert_continues(result, idx, 1)[:, 0]
        for token in range(V):
            own = logits[token].double()
            right = (own / temperature).softmax(0)
            mistakes = drawing_mistakes(logits, token, temperature)
            assert_drawn(new[last == token], right, f"temperature {temperature:.3g}", mistakes)
    # logits far from 0 have the same probabilities, and a low temperature takes the likeliest
    last, idx = last[: V * 300], idx[: V * 300]
    for shift, temperature in [(300, 1.0), (-300, 1.0), (0, 0.01)]:
        model = model_of(logits + shift)
        new = part3.run_generate(idx, 1, **model, temperature=temperature, do_sample=True)["tokens"][:, -1]
        # float32 has logits near 300 to 1e-4, probabilities to as much of themselves: less than shows
        for token in range(V):
            expected = (logits[token].double() / temperature).softmax(0)
            assert_drawn(new[last == token], expected, f"logits near {shift}, temperature {temperature}")


@pytest.mark.question("3.3", points=0.25)
def test_generate_draws_are_fresh(rng):
    logits = table(rng, rows=1)
    model, probs = model_of(logits.expand(V, V)), logits[0].double().softmax(0)
    idx, n = prompts(rng, integers(rng, V, 1500), T=1), 6
    first, again = (assert_continues(part3.run_generate(idx, n, **model, do_sample=True), idx, n) for _ in range(2))
    for step in range(n):
        assert_drawn(first[:, step], probs, f"new token {step}")
    pairs = torch.outer(probs, probs).flatten()
    neighbours = {
        "the same draws for rows of a batch": (first[::2], first[1::2]),
        "the same draws for tokens that follow each other": (first[:, ::2], first[:, 1::2]),
        "the same draws in two calls": (first, again),
    }
    for what, (one, other) in neighbours.items():
        assert not unlikely((V * one + other).flatten(), pairs), f"{what}: each draw should be a fresh one"


def kept_most(probs, size):
    """The `size` largest of the probabilities [V], to sum 1 again; 0 for the others."""
    least = probs.sort(descending=True).values[size - 1]
    kept = probs * (probs >= least)
    return kept / kept.sum()


def assert_filtered(rng, logits, expected, options, others=None):
    """Draws after each token have the probabilities expected(own probabilities)."""
    temperature = options.get("temperature", 1.0)
    last = torch.arange(V).repeat(500)
    idx = prompts(rng, last, T=1)
    new = assert_continues(part3.run_generate(idx, 1, **model_of(logits), do_sample=True, **options), idx, 1)[:, 0]
    for token in range(V):
        own = (logits[token].double() / temperature).softmax(0)
        mistakes = ((sentence, wrong(own)) for sentence, wrong in (others or {}).items())
        what = ", ".join(f"{name} {value}" for name, value in options.items())
        assert_drawn(new[last == token], expected(own), what, mistakes)


@pytest.mark.question("3.3", points=0.25)
def test_generate_top_k(rng):
    logits = table(rng)
    for top_k, temperature in [(1, 1.0), (2, 1.0), (5, 1.0), (V - 1, 1.0), (V, 1.0), (1, 2.0), (4, 2.0)]:
        others = {
            "top_k is ignored": lambda own: own,
            "one token too many is kept: top_k + 1": lambda own, k=top_k: kept_most(own, min(V, k + 1)),
            "one token too few is kept: top_k - 1": lambda own, k=top_k: kept_most(own, max(1, k - 1)),
            "the tokens that are kept are equally likely": lambda own, k=top_k: (kept_most(own, k) > 0) / k,
        }
        options = {"top_k": top_k, "temperature": temperature}
        assert_filtered(rng, logits, lambda own, k=top_k: kept_most(own, k), options, others)


def sizes_and_top_p(rng, count, *all_probs):
    """Numbers of tokens, and a top_p each that keeps as many for each of the probabilities [V], and not by a hair.

    The smallest one, and others by chance: `count` of them, if there are as many.
    """
    sums = torch.stack([probs.sort(descending=True).values.cumsum(0) for probs in all_probs])
    found = []
    for size in range(1, V + 1):
        least = sums[:, size - 2].max().item() if size > 1 else 0
        most = sums[:, size - 1].min().item()
        if most - least > 0.01:
            found.append((size, round((least + most) / 2, 3)))
    others = 1 + torch.randperm(len(found) - 1, generator=rng)[: count - 1]
    return [found[0], *(found[at] for at in others)]


@pytest.mark.question("3.3", points=0.25)
def test_generate_top_p(rng):
    logits = table(rng)
    probs = logits[0].double().softmax(0)
    for size, top_p in (*sizes_and_top_p(rng, 4, probs), (V, 1.0)):
        others = {
            "top_p is ignored": lambda own: own,
            "the token with which the sum reaches top_p is left out": lambda own, m=size: kept_most(own, max(1, m - 1)),
            "one token too many is kept": lambda own, m=size: kept_most(own, min(V, m + 1)),
        }
        assert_filtered(rng, logits, lambda own, m=size: kept_most(own, m), {"top_p": top_p}, others)
    # with the others: where it makes no difference which of them comes first
    for temperature, top_k in [(1.3, None), (1.0, 6), (0.8, 4)]:
        tempered = (logits[0].double() / temperature).softmax(0)
        candidates = [probs, tempered] + ([kept_most(tempered, top_k), kept_most(probs, top_k)] if top_k else [])
        for size, top_p in sizes_and_top_p(rng, 2, *candidates):
            options = {"top_p": top_p, "top_k": top_k, "temperature": temperature}
            smaller = min(size, top_k or V)
            assert_filtered(rng, logits, lambda own, m=smaller: kept_most(own, m), options)


@pytest.mark.question("3.3", points=0.25)
def test_generate_with_a_generator(rng):
    logits = table(rng, rows=1)
    model, probs = model_of(logits.expand(V, V)), logits[0].double().softmax(0)
    idx, n, seed = prompts(rng, integers(rng, V, 1000), T=1), 4, int(integers(rng, 2**31))
    first, again, other = (
        assert_continues(part3.run_generate(idx, n, do_sample=True, generator_seed=number, **model), idx, n)
        for number in (seed, seed, seed + 1)
    )
    assert torch.equal(first, again), "generators with the same seed should give the same tokens: is it passed on?"
    pairs = torch.outer(probs, probs).flatten()
    for what, one, two in (("two seeds", first, other), ("two steps", first[:, ::2], first[:, 1::2])):
        assert not unlikely((V * one + two).flatten(), pairs), f"a generator gives the same draws for {what}"


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


@pytest.mark.question("3.3", points=0.25, hidden=True)
def test_generate_crops_the_context(rng):
    for T, n, batch in [(14, 4, 3), (3, 12, 4), (6, 5, 1), (7, 3, 5)]:
        for use_cache in (False, True):
            assert_greedy_in_window(rng, T, n, batch, use_cache, block_size=6)


@pytest.mark.question("3.3", points=0.25)
def test_generate_with_and_without_cache(rng):
    for T, n, batch in [(4, 8, 3), (1, 6, 1), (9, 3, 2)]:
        for use_cache in (False, True):
            assert_greedy_in_window(rng, T, n, batch, use_cache, block_size=12)
    model = model_of(table(rng))
    idx, n, seed = prompts(rng, integers(rng, V, 6)), 20, int(integers(rng, 2**31))
    tokens = [
        assert_continues(
            part3.run_generate(idx, n, **model, do_sample=True, generator_seed=seed, use_cache=use_cache), idx, n
        )
        for use_cache in (False, True)
    ]
    assert torch.equal(*tokens), "with the same draws, a cache should not change the tokens"
