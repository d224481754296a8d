"""Let a GPT continue a text, as it writes it (Q3.3): `python part3_gpt/generate.py --help`."""

import sys
from pathlib import Path

if not __package__:  # run as a file: take the part that lies here, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import os
import signal
import time
import unicodedata

import torch

from course import blanks, flags
from course.data import DataError
from part3_gpt import pretrained
from part3_gpt.dataset import BPETokenizer, CharTokenizer, check_vocabulary, gpt2_tokenizer, stored_model
from part3_gpt.gpt import GPT


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags, checked. `checkpoint` is the content of a run's checkpoint, or None."""
    parser = argparse.ArgumentParser(
        description="Let a GPT continue a text (part 3).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--checkpoint", metavar="RUN|last", help="a run's folder (its best epoch), a checkpoint, or the newest run"
    )
    source.add_argument(
        "--pretrained", metavar="NAME|FOLDER", help=f"{', '.join(pretrained.NAMES)}, or a folder with such a model"
    )
    parser.add_argument("--prompt", help="the text to continue; without it, what stands where a text begins")
    parser.add_argument("--max_new_tokens", type=flags.whole_number(0), default=200, help="how many tokens to add")
    parser.add_argument("--num_samples", type=flags.whole_number(1), default=1, help="how many continuations")
    parser.add_argument(
        "--do_sample", action=argparse.BooleanOptionalAction, default=False, help="draw; else the likeliest token"
    )
    parser.add_argument("--temperature", type=flags.positive_number, default=1.0, help="below 1: less daring")
    parser.add_argument("--top_k", type=flags.whole_number(1), help="draw among the K likeliest tokens only")
    parser.add_argument(
        "--top_p", type=flags.fraction, help="draw among the likeliest tokens that together have this probability"
    )
    parser.add_argument("--seed", type=flags.whole_number(0, 2**32 - 1), default=42, help="of the draws")
    parser.add_argument("--accelerator", choices=["auto", "cpu", "gpu", "mps"], default="auto", help="what to run on")
    parser.add_argument("--log_dir", type=flags.folder, default="logs", help="where `--checkpoint last` looks")
    args = flags.parse_words(parser, argv)
    if not args.do_sample:
        drawing = {"--temperature": args.temperature != 1, "--top_k": args.top_k, "--top_p": args.top_p is not None}
        for flag in [flag for flag, given in drawing.items() if given]:
            parser.error(f"{flag}: has no effect without --do_sample")
        if args.num_samples > 1:
            parser.error(f"--num_samples {args.num_samples}: without --do_sample all of them are the same")
    if args.top_p == 0:
        parser.error("--top_p 0.0: leaves no token; it is above 0 and at most 1")
    if args.prompt == "":
        parser.error("--prompt '': is empty; leave the flag out for a text from its beginning")
    args.device = _device(parser, args.accelerator)
    if args.checkpoint is not None:
        runs = Path(args.log_dir) / "gpt"
        path = flags.find_checkpoint(parser, "--checkpoint", args.checkpoint, runs, ["best.ckpt", "last.ckpt"])
        args.checkpoint = flags.read_checkpoint(parser, "--checkpoint", path, "gpt")
        args.checkpoint_path = path
    return args


def _device(parser: argparse.ArgumentParser, accelerator: str) -> torch.device:
    present = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(kind for kind, there in present.items() if there) if accelerator == "auto" else accelerator
    if not present[kind]:
        parser.error(f"--accelerator {accelerator}: this machine has none that PyTorch can use")
    return torch.device("cuda" if kind == "gpu" else kind)


def load(args: argparse.Namespace) -> tuple[GPT, CharTokenizer | BPETokenizer]:
    """The model and the tokenizer that the flags name.

    Raises:
        ValueError: the checkpoint or the folder has none that can be read.
        course.data.DataError: the files cannot be had.
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
    """Print the samples, each token as soon as it is there.

    Raises:
        ValueError: the vocabulary lacks a character of the prompt.
    """
    start = tokenizer.start if args.prompt is None else args.prompt
    idx = tokenizer.encode(start)[None].to(args.device)
    for number in range(args.num_samples):
        if args.num_samples > 1:
            print(f"--- sample {number + 1} of {args.num_samples} ---")
        print(end=printable(start if args.prompt is not None else ""), flush=True)
        began, count = time.perf_counter(), 0
        tokens = model.stream(
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
            for count, token in enumerate(tokens, start=1):  # noqa: B007 (it is the count that is wanted)
                yield token

        for text in tokenizer.stream(counted()):
            print(end=printable(text), flush=True)
        seconds = time.perf_counter() - began
        print(flush=True)
        print(f"[{count} tokens in {seconds:.1f} s, {count / seconds:.0f} tokens/s]", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text without what a terminal would obey: control and direction characters become U+FFFD."""
    return "".join(
        letter if letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs") else "\ufffd"
        for letter in text
    )


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0; 2 for a wrong flag or input; 1 where files cannot be had."""
    sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows a question mark
    args = parse_args(argv)
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


def leave(signum, frame) -> None:
    """End at once after Ctrl-C, wherever it came: an exception may be swallowed. What was written has been flushed."""
    os.write(sys.stdout.fileno(), b"\n")
    os._exit(128 + signum)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, leave)
    sys.exit(main())
