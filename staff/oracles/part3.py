"""Part 3: causal self-attention and a GPT built from PyTorch's functions in float64, and token sampling."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from answers import Answer, Value
from staff.oracles.common import CUT, gradients

Weights = dict[str, Tensor]

# --- attention --------------------------------------------------------------------------------------------------------


def _split_heads(x: Tensor, n_head: int) -> Tensor:
    """Split x into heads: [B, T, C] -> [B, nh, T, hs]."""
    return x.unflatten(2, (n_head, -1)).transpose(1, 2)


def _queries_keys_values(x: Tensor, weights: Weights, n_head: int) -> list[Tensor]:
    """Return queries, keys and values, each [B, nh, T, hs]."""
    qkv = x @ weights["c_attn.weight"].T + weights["c_attn.bias"]
    return [_split_heads(part, n_head) for part in qkv.chunk(3, dim=2)]


def _merged(y: Tensor, weights: Weights) -> Tensor:
    """Merge and project the heads [B, nh, T, hs] -> output [B, T, C]."""
    return y.transpose(1, 2).flatten(2) @ weights["c_proj.weight"].T + weights["c_proj.bias"]


def _attention(x: Tensor, weights: Weights, n_head: int) -> Tensor:
    """Apply causal self-attention: [B, T, C] -> [B, T, C]."""
    q, k, v = _queries_keys_values(x, weights, n_head)
    return _merged(F.scaled_dot_product_attention(q, k, v, is_causal=True), weights)


def _double(weights: Weights) -> Weights:
    return {name: value.double() for name, value in weights.items()}


def attention(x: Tensor, weights: Weights, n_head: int) -> Answer:
    x, weights = x.double(), _double(weights)
    return {"output": Value(_attention(x, weights, n_head), _attention_mistakes(x, weights, n_head))}


def attention_gradients(x: Tensor, weights: Weights, n_head: int, direction: Tensor) -> Answer:
    """Return the gradients of sum(direction * output) with respect to x and to each weight."""
    inputs = {"x": x} | weights

    def loss(*values: Tensor) -> Tensor:
        given = dict(zip(inputs, values, strict=True))
        return (_attention(given["x"], given, n_head) * direction).sum()

    found = gradients(loss, *inputs.values())
    return {name: Value(each, [(CUT, torch.zeros_like(each))]) for name, each in zip(inputs, found, strict=True)}


def _attention_mistakes(x: Tensor, weights: Weights, n_head: int):
    """Yield known mistakes and the outputs that result from them."""
    q, k, v = _queries_keys_values(x, weights, n_head)
    products, hs = q @ k.mT, q.size(3)
    see = torch.ones_like(products).tril().bool()
    for sentence, mixture in _wrong_weights(products, see, x.size(2), n_head).items():
        yield sentence, _merged(mixture @ v, weights)
    right = _masked(products / math.sqrt(hs), see).softmax(-1)
    y = right @ v
    side_by_side = _split_heads(y.reshape(x.shape), n_head)
    yield "the heads are concatenated without a transpose", _merged(side_by_side, weights)
    yield "the weights are applied to the keys instead of the values", _merged(right @ k, weights)
    yield "the values are not weighted", _merged(v, weights)
    unscaled = _masked(products, see).softmax(-1)
    yield "the output is scaled instead of the scores", _merged((unscaled @ v) / hs**0.5, weights)


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, -torch.inf)


def _wrong_weights(products: Tensor, see: Tensor, C: int, n_head: int) -> dict[str, Tensor]:
    """Return known mistakes -> the attention weights that result from them."""
    hs = C // n_head
    scores = products / math.sqrt(hs)
    right = _masked(scores, see).softmax(-1)
    scaled = {
        "the scores are not scaled": 1,
        "the scores are divided by the head size: is that the scale of Eq. 22?": hs,
        "the scores are scaled by n_embd, not by the head size": math.sqrt(C),
        "the scores are scaled by the number of heads, not by the head size": math.sqrt(n_head),
        "the scores are multiplied by their scale": 1 / math.sqrt(hs),
    }
    return {sentence: _masked(products / scale, see).softmax(-1) for sentence, scale in scaled.items()} | {
        "there is no causal mask": scores.softmax(-1),
        "the mask is transposed": _masked(scores, see.mT).softmax(-1),
        "the mask is inverted: self.mask is True where a token may attend": _masked(scores, ~see).softmax(-1),
        "the mask hides the token itself": _masked(scores, see.tril(-1)).softmax(-1),
        "the mask lets a token see the one after it": _masked(scores, torch.ones_like(see).tril(1)).softmax(-1),
        "the mask of 0s and 1s is added to the scores, so hidden tokens still count": (scores + see).softmax(-1),
        "masked scores are 0, so hidden tokens still count": (scores * see).softmax(-1),
        "the mask is applied after the softmax": scores.softmax(-1) * see,
        "the softmax runs over the queries": _masked(scores, see).softmax(-2),
        "the softmax runs over the heads": _masked(scores, see).softmax(1),
        "the softmax runs over the batch": _masked(scores, see).softmax(0),
        "there are two softmaxes": right.softmax(-1),
        "queries and keys are swapped": _masked(scores.mT, see).softmax(-1),
        "the scores have the wrong sign": _masked(-scores, see).softmax(-1),
        "the attention weights are transposed": right.mT,
        "there is no softmax": scores * see,
    }


def attention_weights(q: Tensor, k: Tensor, v: Tensor) -> Answer:
    """Return the weights [nh, T, T] and head outputs [nh, T, hs] for queries, keys and values [nh, T, hs]."""
    q, k, v = (each.double() for each in (q, k, v))
    T, C, n_head = q.size(1), q.size(2) * len(q), len(q)
    see = torch.ones(T, T).tril().bool()
    right = F.scaled_dot_product_attention(q, k, torch.eye(T).double().expand(n_head, T, T), is_causal=True)
    wrong = _wrong_weights((q @ k.mT)[None], see.expand(1, n_head, T, T), C, n_head)
    mistakes = [(sentence, each[0]) for sentence, each in wrong.items()]
    return {"weights": Value(right, mistakes, whole=True), "heads": Value(right @ v, whole=True)}


def dropout(p: float) -> Answer:
    """Return the factor by which dropout multiplies the weights that it keeps."""
    return {"factor": Value(1 / (1 - p), [("the kept values are not scaled up", 1.0)])}


# --- GPT --------------------------------------------------------------------------------------------------------------


def _causal_mean(x: Tensor, weights: Weights, n_head: int) -> Tensor:
    """Return the mean over the tokens so far, which replaces attention in the generation tests."""
    v = _queries_keys_values(x, weights, n_head)[2]
    visible = torch.ones(x.size(1), x.size(1)).tril().double()
    return _merged((visible / visible.sum(1, keepdim=True)) @ v, weights)


def _gpt(idx: Tensor, weights: Weights, n_head: int, attend=_attention) -> Tensor:
    """Return the logits of a GPT with these parameters: [B, T] -> [B, T, V]."""
    w = {name.removeprefix("transformer."): value for name, value in weights.items()}
    x = w["wte.weight"][idx] + w["wpe.weight"][: idx.size(1)]

    def layer(x: Tensor, name: str, function=F.linear) -> Tensor:
        sizes = [x.shape[-1:]] if function is F.layer_norm else []
        return function(x, *sizes, w[f"{name}.weight"], w[f"{name}.bias"])

    for h in sorted({name[: name.index(".ln_1")] for name in w if ".ln_1" in name}):
        own = {name.removeprefix(f"{h}.attn."): value for name, value in w.items()}
        x = x + attend(layer(x, f"{h}.ln_1", F.layer_norm), own, n_head)
        inner = F.gelu(layer(layer(x, f"{h}.ln_2", F.layer_norm), f"{h}.mlp.c_fc"), approximate="tanh")
        x = x + layer(inner, f"{h}.mlp.c_proj")
    return layer(x, "ln_f", F.layer_norm) @ w["lm_head.weight"].T


def gpt(idx: Tensor, weights: Weights, n_head: int, batches: Tensor | None = None) -> Answer:
    """Return the logits of a GPT, after plain gradient descent on `batches` [steps, B, T + 1] if given."""
    weights = _double(weights)
    names = list(weights)

    def loss(batch: Tensor, *values: Tensor) -> Tensor:
        logits = _gpt(batch[:, :-1], dict(zip(names, values, strict=True)), n_head)
        return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    for batch in () if batches is None else batches:
        found = gradients(partial(loss, batch), *weights.values())
        weights = {name: weights[name] - 0.1 * each for name, each in zip(weights, found, strict=True)}
    return {"logits": Value(_gpt(idx, weights, n_head))}


# --- generation -------------------------------------------------------------------------------------------------------


def greedy(idx: Tensor, n: int, weights: Weights, n_head: int, block_size: int) -> Answer:
    """Return the next n tokens [B, n] of a GPT whose attention is the mean of the tokens so far.

    Once rounding decides between a row's two likeliest tokens, that token and all later ones are -1.
    """
    weights, tokens = _double(weights), idx
    sure = torch.ones(len(idx)).bool()
    found = []
    for _ in range(n):
        logits = _gpt(tokens[:, -block_size:], weights, n_head, _causal_mean)[:, -1]
        best = logits.topk(2).values
        sure &= best[:, 0] - best[:, 1] > 1e-3 * logits.abs().amax(1)
        following = logits.argmax(1)
        found.append(following.where(sure, -1))
        tokens = torch.cat([tokens, following[:, None]], dim=1)
    return {"tokens": Value(torch.stack(found, dim=1), whole=True)}


def likeliest(logits: Tensor) -> Answer:
    """Return the likeliest token after each token, for logits [V, V]."""
    mistakes = [
        ("it takes the least likely token", logits.argmin(-1)),
        ("it takes the logit with the largest absolute value", logits.abs().argmax(-1)),
        ("it always takes token 0", torch.zeros(len(logits))),
    ]
    return {"tokens": Value(logits.argmax(-1), mistakes, whole=True)}


def _kept(probs: Tensor, sizes: Tensor | int) -> Tensor:
    """Keep the `sizes` [R] largest probabilities in each row of [R, V], renormalized to sum to 1; zero the others."""
    sizes = torch.as_tensor(sizes).clamp(1, probs.size(1)).expand(len(probs))
    least = probs.sort(descending=True).values.gather(1, sizes[:, None] - 1)
    return _normalized(probs * (probs >= least))


def _normalized(probs: Tensor) -> Tensor:
    return probs / probs.sum(-1, keepdim=True)


def _nucleus(probs: Tensor, top_p: float | None) -> Tensor:
    """Apply top_p to the probabilities [R, V]."""
    if top_p is None:
        return probs
    return _kept(probs, 1 + (_sums(probs) < top_p - 1e-12).sum(-1))


def _sums(probs: Tensor) -> Tensor:
    """Return the sums of the 1, ..., V - 1 largest probabilities in each row of [R, V]: [R, V - 1]."""
    return probs.sort(descending=True).values.cumsum(-1)[:, :-1]


def _filtered(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """Return the probabilities [R, V] to sample from, after temperature, top_k and top_p, in this order."""
    return _nucleus(_kept((logits / temperature).softmax(-1), top_k or logits.size(1)), top_p)


def _other_orders(logits: Tensor, temperature: float, top_k: int | None, top_p: float):
    """Yield the wrong orders of temperature and filters, and the resulting probabilities."""
    tempered = (logits / temperature).softmax(-1)
    if top_k:
        first = _nucleus(tempered, top_p)
        kept = (first > 0).sum(-1).clamp(max=top_k)
        yield "top_p is applied before top_k; top_k should come first", _kept(first, kept)
    if temperature != 1:
        kept = _filtered(logits, 1.0, top_k, top_p) > 0
        yield "the temperature is applied after the filters; it should come first", _normalized(tempered * kept)


def top_p_calls(logits: Tensor, temperature: float, top_k: int | None, top_p: Tensor) -> Answer:
    """Return how close each top_p [N] is to a sum of the largest probabilities, and whether filter order matters."""
    logits = logits.double()
    sums = _sums(_kept((logits / temperature).softmax(-1), top_k or logits.size(1)))
    margins, matters = [], []
    for each in top_p.tolist():
        margins.append((sums - each).abs().min())
        right = _filtered(logits, temperature, top_k, each)
        orders = [wrong for _, wrong in _other_orders(logits, temperature, top_k, each)]
        matters.append(any((right - wrong).abs().max() > 0.05 for wrong in orders))
    return {"margin": Value(margins, whole=True), "order_matters": Value(matters, whole=True)}


def next_token(logits: Tensor, temperature: float, top_k: int | None = None, top_p: float | None = None) -> Answer:
    """Return the probabilities of the next token [R, V] for logits [R, V]."""
    logits = logits.double()
    right = _filtered(logits, temperature, top_k, top_p)
    filtered = top_k or top_p
    mistakes = (_filter_mistakes if filtered else _drawing_mistakes)(logits, right, temperature, top_k, top_p)
    return {"probabilities": Value(right, mistakes, whole=True)}


def _filter_mistakes(logits: Tensor, right: Tensor, temperature: float, top_k: int | None, top_p: float | None):
    """Yield known mistakes with filters, and the probabilities that result from them."""
    drawn, kept = (logits / temperature).softmax(-1), right > 0
    sizes = kept.sum(-1)
    if top_p:
        yield "top_p is ignored", _filtered(logits, temperature, top_k, None)
        yield from _other_orders(logits, temperature, top_k, top_p)
    if top_k:
        yield "top_k is ignored", _filtered(logits, temperature, None, top_p)
    yield "one token too many is kept", _kept(drawn, sizes + 1)
    yield "one token too few is kept", _kept(drawn, sizes - 1)
    yield "the kept tokens are equally likely", _normalized(kept.double())
    least = logits.where(kept, torch.inf).amin(-1)
    for whose, threshold in (("the first one's", least[0]), ("the lowest", least.min())):
        wrong = _normalized(drawn * (logits >= threshold))
        yield f"each row should have its own threshold, but {whose} is used for the whole batch", wrong.nan_to_num()


def _drawing_mistakes(own: Tensor, right: Tensor, temperature: float, *_):
    """Yield known mistakes without filters, and the probabilities that result from them."""
    yield "it is greedy, though do_sample is True", F.one_hot(own.argmax(-1), own.size(1))
    yield "all tokens are (almost) equally likely: is softmax applied twice?", torch.full_like(own, 1 / own.size(1))
    yield "the temperature is ignored", own.softmax(-1)
    yield "the logits are multiplied by the temperature", (own * temperature).softmax(-1)
    yield "there are two softmaxes", (own / temperature).softmax(-1).softmax(-1)
    yield "the probabilities are divided by the temperature", (own.softmax(-1) / temperature).softmax(-1)
    yield "the square root of the temperature is used", (own / temperature**0.5).softmax(-1)
    if len(own) > 1:
        yield "the probabilities are those of another row of the batch", right[:1].expand_as(own)


ORACLES = {
    each.__name__: each
    for each in (
        attention, attention_gradients, attention_weights, dropout, gpt, greedy, likeliest, top_p_calls, next_token,
    )
}  # fmt: skip
