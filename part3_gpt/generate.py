"""Generate text with a GPT, token by token (Q3.3): `python part3_gpt/generate.py --help`."""

import os
import signal
import sys
from pathlib import Path

if not __package__:  # run as a script: import from this repository, not from an installed copy
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from part3_gpt.options import parse_generate_args as parse_args

if __name__ == "__main__":

    def leave(signum, frame) -> None:
        """Exit immediately on Ctrl-C, because an exception could be swallowed; earlier output has been flushed."""
        os.write(sys.stdout.fileno(), b"\n")
        os._exit(128 + signum)

    signal.signal(signal.SIGINT, leave)
    args = parse_args()  # before the slow imports below, so that --help and flag errors appear immediately

import argparse
import time
import unicodedata

import torch

from course import blanks
from course.datasets import DataError
from part3_gpt.dataset import BPETokenizer, CharTokenizer, check_vocabulary, gpt2_tokenizer, stored_model
from part3_gpt.gpt import GPT
from part3_gpt.streaming import stream

TURN_DIRECTION = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def load(args: argparse.Namespace) -> tuple[GPT, CharTokenizer | BPETokenizer]:
    """Load the model and the tokenizer selected by the flags.

    Raises:
        ValueError: the checkpoint or the folder does not contain a readable model.
        course.datasets.DataError: the files are not available.
    """
    if args.checkpoint is None:
        model, tokenizer = GPT.from_pretrained(args.pretrained), gpt2_tokenizer(args.pretrained)
    else:
        config, tokenizer, _ = stored_model(args.checkpoint)
        model = GPT(config)
        state = {name.removeprefix("model."): value for name, value in args.checkpoint["state_dict"].items()}
        model.load_state_dict(state)
    check_vocabulary(tokenizer, model.config)
    return model.to(args.device).eval(), tokenizer


def write(args: argparse.Namespace, model: GPT, tokenizer: CharTokenizer | BPETokenizer) -> None:
    """Print the samples, each token as soon as it is generated.

    Raises:
        ValueError: a character of the prompt is not in the vocabulary.
    """
    start = tokenizer.start if args.prompt is None else args.prompt
    idx = tokenizer.encode(start)[None].to(args.device)
    for number in range(args.num_samples):
        if args.num_samples > 1:
            print(f"--- sample {number + 1} of {args.num_samples} ---")
        print(end=printable(start if args.prompt is not None else ""), flush=True)
        began, count = time.perf_counter(), 0
        tokens = stream(
            model,
            idx,
            args.max_new_tokens,
            args.temperature,
            args.do_sample,
            args.top_k,
            args.top_p,
            generator=torch.Generator(args.device).manual_seed(args.seed + number),
        )

        def counted(tokens=tokens):
            nonlocal count
            for count, token in enumerate(tokens, start=1):  # noqa: B007 (only the count is used)
                yield token

        for text in tokenizer.stream(counted()):
            print(end=printable(text), flush=True)
        seconds = time.perf_counter() - began
        print(flush=True)
        print(f"[{count} tokens in {seconds:.1f} s, {count / seconds:.0f} tokens/s]", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return the text unchanged or, for a terminal, with control characters replaced.

    Control characters and characters that change the text direction become U+FFFD. Other invisible characters, such as
    the joiners U+200C and U+200D in Persian and in emoji, are kept.
    """
    if not sys.stdout.isatty():
        return text
    return "".join("\ufffd" if _is_obeyed(letter) else letter for letter in text)


def _is_obeyed(letter: str) -> bool:
    control = unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t"
    return control or letter in TURN_DIRECTION


def main(argv: list[str] | None = None) -> int:
    return generate(parse_args(argv))


def generate(args: argparse.Namespace) -> int:
    """Run the program; return 0 on success, 1 for unavailable files or an open blank, 2 for invalid input."""
    sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 shows question marks
    flag = "--pretrained" if args.checkpoint is None else "--checkpoint"
    value = args.pretrained if args.checkpoint is None else args.checkpoint_path
    try:
        model, tokenizer = load(args)
    except DataError as error:
        print(f"error: {flag} {error}", file=sys.stderr)
        return error.status
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        print(f"error: {flag} {value}: {error}", file=sys.stderr)
        return 2
    try:
        write(args, model, tokenizer)
    except ValueError as error:
        print(f"error: --prompt: {error}", file=sys.stderr)
        return 2
    except NotImplementedError as error:
        print(f"\nerror: {blanks.describe(error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # as in `generate.py ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(generate(args))
