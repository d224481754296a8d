"""A small GPT that several test files share."""

from part3_gpt.gpt import GPTConfig

BLOCK, VOCABULARY = 12, 29


def small(**changes) -> GPTConfig:
    fields = {"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": VOCABULARY, "block_size": BLOCK}
    return GPTConfig(**{**fields, **changes})
