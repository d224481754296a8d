"""The flags of part 3 and the model names. This module has no slow imports, so that --help appears immediately."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from course import flags
from course.flag_types import folder, fraction, number, positive_number, whole_number
from course.parser import Parser
from course.stored_flags import parse_words

if TYPE_CHECKING:
    import torch

MODEL_SIZES = {  # n_layer, n_head, n_embd
    "openai-gpt": (12, 12, 768),
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
    "gopher-44m": (8, 16, 512),
    "gpt-mini": (6, 6, 192),
    "gpt-micro": (4, 4, 128),
    "gpt-nano": (3, 3, 48),
}
PRETRAINED = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
FINE_TUNING_LR = 3e-5
LOWEST_TEMPERATURE = 1e-6  # smaller values make the logits overflow
BUILT_IN = "python-3.11-reference"  # names the text in part3_gpt/text


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the flags of part 3; see `course.flags` for the flags that all parts share."""
    parser = flags.trainer_parser(
        "Train a GPT on a text, or fine-tune GPT-2 (part 3).", "gpt", epochs=4, batch_size=32, lr=3e-3
    )
    _add_model_flags(parser.add_argument_group("part 3: text and model"))
    _add_training_flags(parser.add_argument_group("part 3: training"))
    _add_further_flags(flags.add_more_flags(parser))
    given = parser.parse_known_args(argv)[0]
    if given.pretrained is not None:
        parser.set_defaults(model_type=None, tokenizer="gpt2", lr=FINE_TUNING_LR)
    if any(size is not None for size in (given.n_layer, given.n_head, given.n_embd)):
        parser.set_defaults(model_type=None)
    return flags.parse(parser, argv, _check_model)


def _add_model_flags(part: argparse._ArgumentGroup) -> None:
    part.add_argument(
        "--txt_file", metavar="PATH|URL", default=BUILT_IN, help="a UTF-8 text file; the default is in part3_gpt/text"
    )
    part.add_argument("--model_type", choices=list(MODEL_SIZES), default="gpt-micro", help="name of a model size")
    part.add_argument("--block_size", type=whole_number(1, 65536), default=128, help="context length in tokens")
    part.add_argument(
        "--pretrained",
        metavar="NAME|FOLDER",
        help=f"fine-tune {', '.join(PRETRAINED)} or the model in a folder; --lr then defaults to {FINE_TUNING_LR:g}",
    )


def _add_training_flags(part: argparse._ArgumentGroup) -> None:
    part.add_argument("--weight_decay", type=number(0), default=0.1, help="weight decay of AdamW, for matrices only")
    part.add_argument("--betas", type=number(0, below=1), nargs=2, default=[0.9, 0.95], metavar="BETA", help="of AdamW")
    part.add_argument("--clip_grad_norm", type=positive_number, default=1.0, help="maximum gradient norm")
    part.add_argument(
        "--generate_every_n_steps",
        type=whole_number(0),
        default=500,
        metavar="N",
        help="log a generated text to TensorBoard every N steps; 0: never",
    )


def _add_further_flags(more: argparse._ArgumentGroup) -> None:
    more.add_argument("--tokenizer", choices=["char", "gpt2"], default="char", help="characters or GPT-2's tokens")
    for name, what in {"n_layer": "layers", "n_head": "heads", "n_embd": "channels"}.items():
        more.add_argument(f"--{name}", type=whole_number(1, 65536), help=f"number of {what}, instead of --model_type")
    more.add_argument(
        "--tie_weights", action=argparse.BooleanOptionalAction, default=True, help="tie the last layer to the embedding"
    )
    more.add_argument(
        "--warmup_steps", type=whole_number(0), default=100, help="warm-up steps (at most a tenth of all steps)"
    )
    more.add_argument("--dropout", type=number(0, below=1), default=0.0, help="for embeddings, residuals, attention")
    more.add_argument(
        "--flash",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="use PyTorch's fused attention instead of the one in gpt.py",
    )


def _check_model(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    sizes = {name: getattr(args, name) for name in ("n_layer", "n_head", "n_embd")}
    given = [f"--{name} {size}" for name, size in sizes.items() if size is not None]
    ways = [f"--pretrained {args.pretrained}"] * (args.pretrained is not None)
    ways += [f"--model_type {args.model_type}"] * (args.model_type is not None) + [" ".join(given)] * bool(given)
    if len(ways) > 1:
        parser.error(f"{' and '.join(ways)}: each selects a model; give only one of them")
    if given and len(given) < 3:
        parser.error(f"{' '.join(given)}: --n_layer, --n_head and --n_embd must be given together")
    if given and args.n_embd % args.n_head:
        parser.error(f"--n_embd {args.n_embd}: is not a multiple of --n_head {args.n_head}")
    if args.pretrained is not None and args.tokenizer != "gpt2":
        parser.error(f"--tokenizer {args.tokenizer}: --pretrained {args.pretrained} works only with --tokenizer gpt2")


def parse_generate_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the flags of `generate.py`; `checkpoint` becomes the checkpoint's content, or None."""
    parser = Parser(
        description="Continue a text with a GPT (part 3).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--checkpoint", metavar="RUN|last", help="a run's folder (uses its best epoch), a checkpoint, or the newest run"
    )
    source.add_argument(
        "--pretrained", metavar="NAME|FOLDER", help=f"{', '.join(PRETRAINED)}, or a folder with a GPT-2 model"
    )
    parser.add_argument("--prompt", help="the text to continue; default: generate from the start of a text")
    parser.add_argument("--max_new_tokens", type=whole_number(0), default=200, help="number of tokens to generate")
    parser.add_argument("--num_samples", type=whole_number(1), default=1, help="number of continuations")
    parser.add_argument(
        "--do_sample", action=argparse.BooleanOptionalAction, default=False, help="sample; if off, decode greedily"
    )
    parser.add_argument("--temperature", type=number(LOWEST_TEMPERATURE), default=1.0, help="below 1: less random")
    parser.add_argument("--top_k", type=whole_number(1), help="sample only from the K most likely tokens")
    parser.add_argument(
        "--top_p", type=fraction, help="sample only from the most likely tokens that together reach this probability"
    )
    parser.add_argument("--seed", type=whole_number(0, 2**32 - 1), default=42, help="seed for sampling")
    parser.add_argument("--accelerator", choices=["auto", "cpu", "gpu", "mps"], default="auto", help="hardware to use")
    parser.add_argument("--log_dir", type=folder, default="logs", help="folder that `--checkpoint last` searches")
    args = parse_words(parser, argv)
    _check_sampling(parser, args)
    if args.checkpoint is not None:
        from course.resume import find_checkpoint, read_checkpoint  # imported here: train.py does not need it

        runs = Path(args.log_dir) / "gpt"
        path = find_checkpoint(parser, "--checkpoint", args.checkpoint, runs, ["best.ckpt", "last.ckpt"])
        args.checkpoint = read_checkpoint(parser, "--checkpoint", path, "gpt")
        args.checkpoint_path = path
    args.device = _device(parser, args.accelerator)
    return args


def _check_sampling(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if not args.do_sample:
        drawing = {"--temperature": args.temperature != 1, "--top_k": args.top_k, "--top_p": args.top_p is not None}
        for flag in [flag for flag, given in drawing.items() if given]:
            parser.error(f"{flag}: has no effect without --do_sample")
        if args.num_samples > 1:
            parser.error(f"--num_samples {args.num_samples}: without --do_sample, all samples are the same")
    if args.top_p == 0:
        parser.error("--top_p 0.0: leaves no token; it must be above 0 and at most 1")
    _check_prompt(parser, args.prompt)


def _check_prompt(parser: argparse.ArgumentParser, prompt: str | None) -> None:
    if prompt == "":
        parser.error("--prompt '': is empty; omit the flag to generate from the start of a text")
    try:
        (prompt or "").encode()
    except UnicodeEncodeError as error:  # Python turns a byte that is not UTF-8 into a surrogate
        readable = prompt.encode("utf-8", "backslashreplace").decode()
        parser.error(f"--prompt {readable!r}: character {error.start + 1} is not valid UTF-8")


def _device(parser: argparse.ArgumentParser, accelerator: str) -> "torch.device":
    import torch

    present = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(kind for kind, there in present.items() if there) if accelerator == "auto" else accelerator
    if not present[kind]:
        parser.error(f"--accelerator {accelerator}: PyTorch finds no such hardware on this machine")
    return torch.device("cuda" if kind == "gpu" else kind)
