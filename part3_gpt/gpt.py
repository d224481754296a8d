"""A GPT (Radford et al., 2019): causal self-attention, the transformer around it, and generation.

Names and sizes follow minGPT. Shapes: B sequences of T tokens, C channels (n_embd), nh heads of hs = C / nh channels,
vocabulary size V.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from part3_gpt import pretrained
from part3_gpt.cache import KVCache
from part3_gpt.checks import check_arguments, check_config, find_sizes
from part3_gpt.fused import fused_attention
from part3_gpt.generation import new_cache, next_logits
from part3_gpt.utils import keep_top_k, keep_top_p


@dataclass
class GPTConfig:
    """The configuration of a GPT: either `model_type` or the three sizes `n_layer`, `n_head` and `n_embd`.

    Args:
        model_type: a name in MODEL_SIZES.
        vocab_size, block_size: number of distinct tokens; maximum context length in tokens.
        embd_pdrop, resid_pdrop, attn_pdrop: dropout probabilities for the embeddings, the outputs added to the residual
            stream, and the attention weights.
        flash: whether to compute attention with F.scaled_dot_product_attention; the result is the same.
        tie_weights: whether the last layer shares its weights with the token embedding, as GPT-2's does.
    """

    model_type: str | None = None
    n_layer: int | None = None
    n_head: int | None = None
    n_embd: int | None = None
    vocab_size: int | None = None
    block_size: int | None = None
    embd_pdrop: float = 0.1
    resid_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    flash: bool = True
    tie_weights: bool = False

    def with_sizes(self) -> "GPTConfig":
        """Return a copy with the three sizes instead of `model_type`.

        Raises:
            ValueError: a size is missing or given twice, the name is unknown, or n_head does not divide n_embd.
        """
        return check_config(replace(self, model_type=None, **find_sizes(self)))


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a token attends to itself and the tokens before it (Eq. 22, Q3.2)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head, self.n_embd = config.n_head, config.n_embd
        self.attn_pdrop, self.flash = config.attn_pdrop, config.flash
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)  # queries, keys and values of all heads
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.attn_dropout = nn.Dropout(config.attn_pdrop)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)
        mask = torch.ones(config.block_size, config.block_size, dtype=torch.bool).tril()
        self.register_buffer("mask", mask.view(1, 1, *mask.shape), persistent=False)  # True: visible

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """Map x [B, T, C] to [B, T, C]. With a cache, x continues the tokens whose keys and values it holds."""
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=2)
        q, k, v = (each.view(B, T, self.n_head, -1).transpose(1, 2) for each in (q, k, v))  # [B, nh, T, hs]
        if cache is not None:
            k, v = cache.append(k, v)  # [B, nh, S, hs]
        if self.flash:  # the same result, in one kernel
            y = fused_attention(q, k, v, self.attn_pdrop if self.training else 0.0)
        else:
            y = self.attention(q, k, v)  # [B, nh, T, hs]
        y = y.transpose(1, 2).reshape(B, T, C)  # the heads side by side
        return self.resid_dropout(self.c_proj(y))

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Compute scaled dot-product attention (Eq. 22) with a causal mask, step by step (Q3.2).

        Args:
            q: queries of T tokens [B, nh, T, hs].
            k, v: keys and values of S >= T tokens [B, nh, S, hs], the last T of which belong to the queries.

        Returns:
            for each query, a weighted mean of the values that it may attend to [B, nh, T, hs].
        """
        T, S = q.size(2), k.size(2)
        # Q3.2: compute the attention weights from queries and keys, then the weighted sum of the values.
        # Hint: scale by the size of a head. A query must not see later tokens: set their scores to -inf before the
        # softmax (`self.mask` is True where a token may attend; select the rows and columns for this call). Apply
        # `self.attn_dropout` to the weights.
        # BEGIN SOLUTION Q3.2
        scores = q @ k.transpose(-2, -1) / math.sqrt(k.size(-1))  # [B, nh, T, S]
        scores = scores.masked_fill(~self.mask[:, :, S - T : S, :S], -torch.inf)
        weights = self.attn_dropout(F.softmax(scores, dim=-1))
        return weights @ v
        # END SOLUTION


class MLP(nn.Module):
    """Two layers applied to each token independently."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.act = nn.GELU(approximate="tanh")
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, T, C] to [B, T, C]."""
        return self.dropout(self.c_proj(self.act(self.c_fc(x))))


class Block(nn.Module):
    """Attention between tokens, then an MLP on each token; both add to the residual stream."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """Map x [B, T, C] to [B, T, C]."""
        x = x + self.attn(self.ln_1(x), cache)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """A language model that predicts the logits of the next token at each position.

    Args:
        config: see `GPTConfig`; `self.config` is a copy in which the three sizes are set.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config = config.with_sizes()
        self.block_size = config.block_size
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.n_embd),
                "wpe": nn.Embedding(config.block_size, config.n_embd),
                "drop": nn.Dropout(config.embd_pdrop),
                "h": nn.ModuleList(Block(config) for _ in range(config.n_layer)),
                "ln_f": nn.LayerNorm(config.n_embd),
            }
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_weights:
            self.lm_head.weight = self.transformer.wte.weight
        self.initialize()

    @staticmethod
    def get_default_config() -> GPTConfig:
        """Return a configuration to fill in: `model_type` or the three sizes, `vocab_size` and `block_size`."""
        return GPTConfig()

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, **changes) -> "GPT":
        """Load GPT-2 with its published weights, or a model saved by `save_pretrained` or transformers.

        Args:
            name_or_folder: "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", or a folder with model.safetensors.
            changes: configuration fields to override, e.g. attn_pdrop=0.0.

        Raises:
            course.datasets.DataError, ValueError: the files are not available, or do not describe a GPT-2 model.
        """
        settings, state = pretrained.read(pretrained.locate(name_or_folder))
        model = cls(GPTConfig(**settings | changes))
        pretrained.load(model, state)
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors for `transformers.GPT2LMHeadModel.from_pretrained`."""
        pretrained.write(self, Path(folder))

    def initialize(self) -> None:
        """Initialize as GPT-2 does: N(0, 0.02²), with a smaller std in layers that add to the residual stream."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 1:
                nn.init.ones_(parameter)  # LayerNorm
            else:
                depth = 2 * self.config.n_layer if name.endswith("c_proj.weight") else 1
                nn.init.normal_(parameter, std=0.02 / math.sqrt(depth))

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Compute the logits of the next token at each position and, with `targets`, the mean cross-entropy.

        Args:
            idx: tokens [B, T], T at most block_size.
            targets: the next tokens [B, T]; positions with -1 are ignored.

        Returns:
            logits [B, T, V], and the loss in nats per token (None without `targets`).

        Raises:
            ValueError: T is larger than block_size.
        """
        logits = self.lm_head(self.hidden(idx))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    def hidden(self, idx: Tensor, cache: list[KVCache] | None = None) -> Tensor:
        """Map tokens [B, T] to the last layer's input [B, T, C]; with a cache per block, idx has only new tokens."""
        start = cache[0].length if cache else 0
        T = idx.size(1)
        if start + T > self.block_size:
            raise ValueError(f"a sequence of {start + T} tokens is longer than block_size {self.block_size}")
        position = torch.arange(start, start + T, device=idx.device)
        x = self.transformer.drop(self.transformer.wte(idx) + self.transformer.wpe(position))  # [B, T, C]
        for number, block in enumerate(self.transformer.h):
            x = block(x, cache[number] if cache else None)
        return self.transformer.ln_f(x)

    def generate(
        self,
        idx: Tensor,
        max_new_tokens: int,
        temperature: float = 1.0,
        do_sample: bool = False,
        top_k: int | None = None,
        top_p: float | None = None,
        *,
        use_cache: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Continue each row of `idx` with `max_new_tokens` tokens (Q3.3). Call `eval()` first to disable dropout.

        Args:
            idx: prompts [B, T], T at least 1. The model sees at most the last block_size tokens.
            temperature: divides the logits when sampling; values below 1 make likely tokens more likely.
            do_sample: whether to sample; otherwise, choose the most likely token each time (greedy).
            top_k: sample only from the `top_k` most likely tokens.
            top_p: sample only from the smallest set of most likely tokens that together reach this probability (applied
                after temperature and top_k).
            use_cache: cache the keys and values of earlier tokens; the result is the same either way.
            generator: for reproducible sampling.

        Returns:
            prompts and continuations [B, T + max_new_tokens].

        Raises:
            ValueError: an argument is out of range; the message includes its value.
        """
        check_arguments(idx, self.config.vocab_size, max_new_tokens, temperature, do_sample, top_k, top_p)
        cache = new_cache(self, idx.size(1) + max_new_tokens) if use_cache else None
        for _ in range(max_new_tokens):
            logits = next_logits(self, idx, cache)  # [B, V]
            idx_next = choose(logits, temperature, do_sample, top_k, top_p, generator)  # [B, 1]
            idx = torch.cat([idx, idx_next], dim=1)
        return idx


def choose(
    logits: Tensor,
    temperature: float = 1.0,
    do_sample: bool = False,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose the next token of each row: the most likely, or one drawn from the filtered probabilities (Q3.3).

    Args:
        logits: [B, V]; for the other arguments, see `GPT.generate`.

    Returns:
        tokens [B, 1].
    """
    # Q3.3: choose the next token of each row, greedily or with torch.multinomial.
    # Hint: follow the order in Section 3.3. `keep_top_k` and `keep_top_p` take and return logits; use each of them
    # only if its argument is given.
    # BEGIN SOLUTION Q3.3
    if not do_sample:
        return logits.argmax(dim=-1, keepdim=True)
    logits = logits / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    probs = F.softmax(logits, dim=-1)
    return torch.multinomial(probs, num_samples=1, generator=generator)
    # END SOLUTION
