"""Part 3, graded: causal self-attention (Q3.2).

While Q3.2 is tested, PyTorch's own attention raises in the submission; here it is the oracle, in float64.

PYTEST_DONT_REWRITE: a message says what is wrong in the assignment's terms, pytest adds nothing to it.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from adapters import part3
from expected_gpt import GPT_SIZES, assert_causal, draw, integers, legible, prescribed, read, split_heads
from judge import assert_value

# --- attention: oracles ----------------------------------------------------------------------------------------------


def attention_weights(rng, C):
    """The parameters of an attention layer."""
    shapes = {"c_attn.weight": (3 * C, C), "c_attn.bias": (3 * C,), "c_proj.weight": (C, C), "c_proj.bias": (C,)}
    return {name: draw(rng, *shape, scale=0.3 if len(shape) == 1 else C**-0.5) for name, shape in shapes.items()}


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


def trained(weights, batches):
    """The parameters of that GPT after plain gradient descent on batches [steps, B, T + 1], by autograd."""
    for batch in batches:
        weights = {name: value.detach().requires_grad_() for name, value in weights.items()}
        loss = F.cross_entropy(gpt_oracle(batch[:, :-1], weights).flatten(0, 1), batch[:, 1:].flatten())
        gradients = torch.autograd.grad(loss, list(weights.values()))
        weights = {name: weights[name] - 0.1 * each for name, each in zip(weights, gradients, strict=True)}
    return weights


def attention_mistakes(x, weights, n_head):
    """What goes wrong, and the output that comes of it."""
    weights = double(weights)
    q, k, v = queries_keys_values(x.double(), weights, n_head)
    products, C, hs = q @ k.mT, x.size(2), q.size(3)
    see = torch.ones_like(products).tril().bool()

    def masked(scores, mask=see):
        return scores.masked_fill(~mask, -torch.inf)

    scores = products / math.sqrt(hs)
    for sentence, mixture in wrong_weights(products, scores, see, C, n_head).items():
        yield sentence, merged(mixture @ v, weights)
    right = masked(scores).softmax(-1)
    y = right @ v
    yield (
        "the heads are put side by side without a transpose",
        (merged(split_heads(y.reshape(x.shape), n_head), weights)),
    )
    yield "the keys are weighted, it should be the values", merged(right @ k, weights)
    yield "the values are not weighted", merged(v, weights)
    yield "the output is scaled, it should be the scores", merged((masked(products).softmax(-1) @ v) / hs**0.5, weights)


def wrong_weights(products, scores, see, C, n_head):
    """What goes wrong, and the attention weights that come of it."""
    hs, root = C // n_head, math.sqrt(n_head)

    def masked(scores, mask=see):
        return scores.masked_fill(~mask, -torch.inf)

    right = masked(scores).softmax(-1)
    return {
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


def assert_attention(output, x, weights, n_head, tolerance, what):
    assert_value(
        what, output, attention_oracle(x.double(), double(weights), n_head), rtol=tolerance, atol=tolerance,
        mistakes=attention_mistakes(x, weights, n_head),
        hint="softmax(q kᵀ / sqrt(head size)) v (Eq. 22), a token seeing itself and those before it?",
    )  # fmt: skip


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
    start = double(part3.run_gpt(idx, **given))
    start.pop("logits")
    for batches in (None, integers(rng, 13, 3, 4, 9)):
        logits = part3.run_gpt(idx, **given, batches=batches)["logits"]
        expected = gpt_oracle(idx, start if batches is None else trained(start, batches))
        # the same, through two layers, and three steps of training
        hint = "a GPT with PyTorch's attention and the same weights gives other ones"
        assert_value("logits of a GPT", logits, expected, rtol=1e-4, atol=1e-3, hint=hint)


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
