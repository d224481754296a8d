"""Train a GPT on a text, or fine-tune GPT-2 (Q3.2, Q3.3): `python part3_gpt/train.py --help`."""

import gc
import sys
from pathlib import Path

if not __package__:  # run as a file: take the part that lies here, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from part3_gpt.options import parse_args

if __name__ == "__main__":
    args = parse_args()  # here: --help and wrong flags need not wait for what is imported below
    gc.disable()  # what is imported stays: to look through it for garbage would take a second

import argparse
import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict

import pytorch_lightning as pl
import torch
from torch import Tensor

from course import figures
from course.files import write_whole
from course.training import entry
from course.training.fit import fit
from course.training.pictures import Pictures
from course.training.problems import Problem
from course.training.start import start
from part3_gpt.dataset import (
    BPETokenizer,
    CharTokenizer,
    check_vocabulary,
    gpt2_tokenizer,
    loaders,
    read_text,
    stored_model,
)
from part3_gpt.gpt import GPT, GPTConfig

SAMPLE_LENGTH = 300  # tokens


class LitGPT(pl.LightningModule):
    """How a `GPT` is trained: next-token cross-entropy, AdamW, warm-up and cosine decay, clipped gradients.

    Args:
        config: of the model.
        tokenizer: travels in the checkpoint, with `text`, which says what text it is (a hash).
        block_size: tokens in a training window, at most the model's.
        tokens_per_char: of the training and of the validation text, for bits per character.
        lr: the largest learning rate; it is reached after `warmup_steps` (or a tenth of all steps, if that is less) and
            goes down to a tenth of it along a cosine.
    """

    printed_metrics = ("cross_entropy", "bits_per_char")

    def __init__(
        self,
        config: GPTConfig,
        tokenizer: CharTokenizer | BPETokenizer | None = None,
        text: str = "",
        block_size: int | None = None,
        tokens_per_char: tuple[float, float] = (1.0, 1.0),
        lr: float = 3e-3,
        weight_decay: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.95),
        clip_grad_norm: float = 1.0,
        warmup_steps: int = 100,
    ):
        super().__init__()
        self.model = GPT(config)
        self.tokenizer, self.text = tokenizer, text
        self.block_size = block_size or self.model.block_size
        self.tokens_per_char = dict(zip(("train", "val"), tokens_per_char, strict=True))
        self.lr, self.weight_decay, self.betas = lr, weight_decay, betas
        self.clip_grad_norm, self.warmup_steps = clip_grad_norm, warmup_steps
        self.throughput = ("tokens", self.block_size)

    def forward(self, idx: Tensor) -> Tensor:
        """Tokens [B, T] -> logits [B, T, V]."""
        return self.model(idx)[0]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        metrics = self._metrics(batch, "train")
        return {"loss": metrics["cross_entropy"], **metrics}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._metrics(batch, "val")

    def _metrics(self, batch: tuple[Tensor, Tensor], stage: str) -> dict[str, Tensor]:
        """Nats per token, bits per character, and how often the likeliest token is the right one."""
        x, y = batch  # [B, T]
        logits, nats = self.model(x, y)
        bits = nats.detach() / math.log(2) * self.tokens_per_char[stage]
        accuracy = (logits.argmax(dim=-1) == y).float().mean()
        return {"cross_entropy": nats, "bits_per_char": bits, "accuracy": accuracy}

    @staticmethod
    def derived_metrics(means: dict[str, Tensor]) -> dict[str, Tensor]:
        """Perplexity, exp(cross-entropy), from the means of an epoch."""
        return {"perplexity": means["cross_entropy"].exp()}

    def configure_optimizers(self) -> dict:
        fused = self.trainer.precision != "16-mixed"  # a fused optimizer unscales the gradients after clipping
        optimizer = self.model.configure_optimizers(self.lr, self.weight_decay, self.betas, fused)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.lr_factor(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_factor(self, step: int, steps: int) -> float:
        """The share of `lr` at a step (from 0) of so many: linear warm-up, then a cosine from 1 to 0.1."""
        warmup = min(self.warmup_steps, steps // 10)
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return 0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        # not self.clip_gradients, which refuses fused optimizers in bf16-mixed too, where nothing is scaled
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.clip_grad_norm)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        tokenizer = self.tokenizer.state() if self.tokenizer else None
        checkpoint["gpt"] = {"config": asdict(self.model.config), "tokenizer": tokenizer, "text": self.text}


class Figures(Pictures):
    """Texts that the model writes, what its attention heads look at, and the loss curve.

    Texts go to TensorBoard every `--generate_every_n_steps`; those of the best weights to figures/samples.txt.
    """

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        every = self.run.args.generate_every_n_steps
        if every and trainer.global_step % every == 0 and trainer.is_global_zero and self.run.folder:
            text = self.skip_if_blank("samples", lambda: self.sample(pl_module, pl_module.tokenizer.start))
            # as TensorBoard reads Markdown: an indented text is shown as it is
            shown = "\n".join("    " + line for line in (text or "").splitlines())
            trainer.logger.experiment.add_text("val/samples", shown, trainer.global_step)

    def finish(self, lit: LitGPT) -> None:
        super().finish(lit)
        content = self.skip_if_blank("samples", lambda: self._samples(lit))
        if content is not None:
            write_whole(self.run.figure("samples.txt"), content.encode("utf-8", "replace") + b"\n")

    def _samples(self, lit: LitGPT) -> str:
        """What the model makes of the beginning of the validation text, and three texts that it begins itself."""
        prompt = self._validation_tokens(32)
        start, seed = lit.tokenizer.start, self.run.args.seed
        parts = {
            f"greedy, after {lit.tokenizer.decode(prompt)!r}, with which the validation text begins": self.sample(
                lit, lit.tokenizer.decode(prompt), do_sample=False
            )
        }
        for number in range(3):
            parts[f"drawn at temperature 0.8, after {start!r} ({number + 1})"] = self.sample(lit, start, seed + number)
        return "\n\n".join(f"--- {title} ---\n{text}" for title, text in parts.items())

    def sample(self, lit: LitGPT, prompt: str, seed: int | None = None, do_sample: bool = True) -> str:
        """A text that begins with the prompt; the same one each time, for the same weights."""
        was_training = lit.training
        lit.eval()
        generator = torch.Generator(lit.device).manual_seed(self.run.args.seed if seed is None else seed)
        idx = lit.tokenizer.encode(prompt)[None].to(lit.device)
        try:
            tokens = lit.model.generate(idx, SAMPLE_LENGTH, temperature=0.8, do_sample=do_sample, generator=generator)
        finally:
            lit.train(was_training)
        return lit.tokenizer.decode(tokens[0])

    def _validation_tokens(self, count: int) -> Tensor:
        return self.loaders[1].dataset.tokens[:count].long()

    def pictures(self, lit: LitGPT) -> dict[str, Callable[[], Tensor]]:
        return {"attention": lambda: self._attention(lit)}

    def _attention(self, lit: LitGPT) -> Tensor | None:
        """What each head attends to in the beginning of the validation text: a row for each layer.

        In each square, a row is a token and what it attends to is dark, as a share of the row's darkest. None if the
        attention, written otherwise, does not let its weights pass through `attn_dropout`.
        """
        idx = self._validation_tokens(min(64, lit.block_size))[None].to(lit.device)
        seen: list[Tensor] = []  # the attention weights [1, nh, T, T] of each layer
        layers = [block.attn for block in lit.model.transformer.h]
        hooks = [
            layer.attn_dropout.register_forward_pre_hook(lambda _, inputs: seen.append(*inputs)) for layer in layers
        ]
        fused = [layer.flash for layer in layers]
        for layer in layers:
            layer.flash = False
        try:
            lit.model.forward(idx)
        finally:
            for layer, flash, hook in zip(layers, fused, hooks, strict=True):
                layer.flash = flash
                hook.remove()
        if not seen:
            return None
        weights = torch.cat(seen).flatten(0, 1)[:, None]  # [layers * nh, 1, T, T]
        shares = weights / weights.amax(dim=-1, keepdim=True)
        return figures.grid(1 - shares, nrow=lit.model.config.n_head)

    def curves(self) -> None:
        """Bits per character over the steps."""
        args, history, best = self.run.args, self.run.history, self.run.best
        batches = len(self.loaders[0])
        steps = [row["epoch"] * min(batches, args.limit_batches or batches) for row in history]
        title = f"{args.pretrained or args.model_type or 'GPT'}, {args.tokenizer}, block size {args.block_size}"
        if best:
            row = history[best["epoch"] - 1]
            title += f": best validation {row['val/bits_per_char']:.3f} bits per character (epoch {best['epoch']})"
        first = self.run.first_step["train/bits_per_char_step"]
        means = [row["train/bits_per_char"] for row in history]
        curves = {
            "training (first step, then the mean of each epoch)": ([0, *steps], [first, *means]),
            "validation": (steps, [row["val/bits_per_char"] for row in history]),
        }
        path = self.run.figure("loss_curve.png")
        figures.save_curves(curves, path, "cross-entropy, bits per character", title, log=True, xlabel="step")


def make_model(args: argparse.Namespace, text: str, seen: str) -> tuple[LitGPT, tuple]:
    """The module and its data: from the flags, from a pretrained model, or from the checkpoint that is resumed.

    Args:
        seen: the hash of the text.

    Raises:
        ValueError: they do not go together.
    """
    config, tokenizer, weights = _choose_model(args, text, seen)
    config.flash = args.flash
    if args.block_size > config.block_size:
        raise ValueError(f"--block_size {args.block_size}: the model sees {config.block_size} tokens at most")
    check_vocabulary(tokenizer, config)
    try:
        data = loaders(text, tokenizer, args.block_size, args.batch_size, args.num_workers, args.seed)
    except ValueError as error:
        place = f"--txt_file {args.txt_file or '(built in)'} --block_size {args.block_size}"
        raise ValueError(f"{place}: {error}") from error
    tokens_per_char = (data[0].dataset.tokens_per_char, data[1].dataset.tokens_per_char)
    training = (args.lr, args.weight_decay, args.betas, args.clip_grad_norm, args.warmup_steps)
    lit = LitGPT(config, tokenizer, seen, args.block_size, tokens_per_char, *training)
    if weights is not None:
        lit.model.load_state_dict(weights.state_dict())
    return lit, data


def _choose_model(
    args: argparse.Namespace, text: str, seen: str
) -> tuple[GPTConfig, CharTokenizer | BPETokenizer, GPT | None]:
    """The configuration, the tokenizer, and the model with the weights to begin with, if there is one."""
    dropouts = {name: args.dropout for name in ("embd_pdrop", "resid_pdrop", "attn_pdrop")}
    if args.checkpoint:
        try:
            config, tokenizer, trained_on = stored_model(args.checkpoint)
        except ValueError as error:
            raise ValueError(f"--resume {args.resume}: {error}") from error
        if trained_on != seen:
            raise ValueError(f"--txt_file {args.txt_file}: is not the text that the run being resumed was trained on")
        return config, tokenizer, None
    if args.pretrained is not None:
        model = GPT.from_pretrained(args.pretrained, **dropouts)
        return model.config, gpt2_tokenizer(args.pretrained), model
    tokenizer = gpt2_tokenizer() if args.tokenizer == "gpt2" else CharTokenizer.of(text)
    sizes = {name: getattr(args, name) for name in ("model_type", "n_layer", "n_head", "n_embd", "block_size")}
    config = GPTConfig(**sizes, **dropouts, vocab_size=tokenizer.vocab_size, tie_weights=args.tie_weights)
    return config, tokenizer, None


def train(args: argparse.Namespace) -> None:
    """Read the text, train, draw, write samples."""
    pl.seed_everything(args.seed, verbose=False)
    text = read_text(args.txt_file, args.data_dir)
    try:
        lit, data = make_model(args, text, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
    except (ValueError, TypeError) as error:
        raise Problem(str(error), status=2) from error
    run = start(args, lit, data)
    fit(run, lit, data, monitor="cross_entropy", callbacks=[Figures(run, data)])


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return entry.main(lambda: train(args))


if __name__ == "__main__":
    sys.exit(entry.main(lambda: train(args)))
