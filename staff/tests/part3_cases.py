"""Helpers that read a finished run of part 3."""

import json

from part3_gpt import generate
from part3_gpt.dataset import CharTokenizer
from part3_gpt.gpt import GPT

METRICS = {"cross_entropy", "accuracy", "perplexity", "bits_per_char"}


RHYME = """A student sat down with a model to train,
the loss it went down like a stone in the rain;
it read every letter, it read every line,
and when it was asked, it recited them fine.
"""


def history(run) -> list[dict]:
    return json.loads((run / "summary.json").read_text())["history"]


def model_of(run) -> tuple[GPT, CharTokenizer]:
    return generate.load(generate.parse_args(["--checkpoint", str(run), "--accelerator", "cpu"]))
