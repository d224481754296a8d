"""Train a GPT on a text, or fine-tune GPT-2 (Q3.2, Q3.3): `python part3_gpt/train.py --help`."""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

if not __package__:  # run as a script: import from this repository, not from an installed copy
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from part3_gpt.options import parse_args

if __name__ == "__main__":
    args = parse_args()  # before the slow imports below, so that --help and flag errors appear immediately

import pytorch_lightning as pl
import torch
from torch import Tensor

from course import figures
from course.files import write_whole
from course.training import entry
from course.training.checkpoints import BestCheckpoint, LastCheckpoint
from course.training.exact import ExactResume, Reproducible
from course.training.extras import extras, limits, plugins, strategy
from course.training.finite import StopOnNaN
from course.training.history import History
from course.training.pictures import Pictures
from course.training.run import open_run, summarize
from part3_gpt.attention_figure import draw_attention
from part3_gpt.build import adamw, build
from part3_gpt.dataset import BPETokenizer, CharTokenizer
from part3_gpt.gpt import GPT, GPTConfig
from part3_gpt.texts import keep_text, read_text

SAMPLE_LENGTH = 300  # tokens
SHOWN = ("cross_entropy", "bits_per_char")  # metrics shown in the terminal


class LitGPT(pl.LightningModule):
    """Trains a `GPT`: next-token cross-entropy, AdamW, warm-up and cosine decay, gradient clipping.

    Args:
        config: the model's configuration.
        tokenizer: stored in the checkpoint, with `text`, a hash that identifies the text.
        block_size: tokens in a training window, at most the model's block_size.
        tokens_per_char: for the training and the validation text, to compute bits per character.
        lr: the maximum learning rate, reached after `warmup_steps` (or a tenth of all steps, if that is less); the
            learning rate then decays to a tenth of this along a cosine.
    """

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

    def forward(self, idx: Tensor) -> Tensor:
        """Map tokens [B, T] to logits [B, T, V]."""
        return self.model(idx)[0]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(batch, "val")

    def _step(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        """Log the epoch's means and, in training, each step's values; return the loss in nats per token."""
        x, y = batch  # [B, T]
        logits, nats = self.model(x, y)
        bits = nats.detach() / math.log(2) * self.tokens_per_char[stage]
        accuracy = (logits.argmax(dim=-1) == y).float().mean()  # how often the most likely token is correct
        values = {f"{stage}/cross_entropy": nats, f"{stage}/bits_per_char": bits, f"{stage}/accuracy": accuracy}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(x), sync_dist=True)
        if stage == "train":
            self.log_dict({f"{tag}_step": value for tag, value in values.items()}, on_step=True, on_epoch=False)
        return nats

    def configure_optimizers(self) -> dict:
        fused = self.trainer.precision != "16-mixed"  # a fused optimizer unscales the gradients after clipping
        optimizer = adamw(self.model, self.lr, self.weight_decay, self.betas, fused)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.lr_factor(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_factor(self, step: int, steps: int) -> float:
        """Return the factor of `lr` at a step (counted from 0): linear warm-up, then a cosine from 1 to 0.1."""
        warmup = min(self.warmup_steps, steps // 10)
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return 0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        # not self.clip_gradients: it rejects fused optimizers even in bf16-mixed, which does not scale gradients
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.clip_grad_norm)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        tokenizer = self.tokenizer.state() if self.tokenizer else None
        checkpoint["gpt"] = {"config": asdict(self.model.config), "tokenizer": tokenizer, "text": self.text}


class Figures(Pictures):
    """Generated texts, attention maps, and the loss curve.

    Logs a text to TensorBoard every `--generate_every_n_steps` steps, and writes texts generated with the best weights
    to figures/samples.txt.
    """

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        every = self.run.args.generate_every_n_steps
        if every and trainer.global_step % every == 0 and trainer.is_global_zero and self.run.folder:
            text = self.skip_if_blank("samples", lambda: self.sample(pl_module, pl_module.tokenizer.start))
            # TensorBoard renders Markdown: indented text is shown verbatim
            shown = "\n".join("    " + line for line in (text or "").splitlines())
            trainer.logger.experiment.add_text("val/samples", shown, trainer.global_step)

    def finish(self, lit: LitGPT) -> None:
        """Draw the final curve, and write figures/samples.txt: texts generated with and without a prompt."""
        self.draw_curves()
        content = self.skip_if_blank("samples", lambda: self._samples(lit))
        if content is not None:
            write_whole(self.run.figure("samples.txt"), content.encode("utf-8", "replace") + b"\n")

    def _samples(self, lit: LitGPT) -> str:
        """Continue the start of the validation text, and generate three texts without a prompt."""
        prompt = self._validation_tokens(32)
        start, seed = lit.tokenizer.start, self.run.args.seed
        parts = {
            f"greedy, after {lit.tokenizer.decode(prompt)!r}, the beginning of the validation text": self.sample(
                lit, lit.tokenizer.decode(prompt), do_sample=False
            )
        }
        for number in range(3):
            parts[f"drawn at temperature 0.8, after {start!r} ({number + 1})"] = self.sample(lit, start, seed + number)
        return "\n\n".join(f"--- {title} ---\n{text}" for title, text in parts.items())

    def sample(self, lit: LitGPT, prompt: str, seed: int | None = None, do_sample: bool = True) -> str:
        """Generate text that begins with the prompt; the same weights always give the same text."""
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
        tokens = self._validation_tokens(min(64, lit.block_size))
        return {"attention": lambda: draw_attention(lit.model, tokens, lit.tokenizer)}

    def curves(self, results: dict[str, float]) -> None:
        """Plot bits per character over steps."""
        args, history, best = self.run.args, self.run.history, self.run.best
        batches = len(self.loaders[0])
        steps = [row["epoch"] * min(batches, args.limit_batches or batches) for row in history]
        title = f"{args.pretrained or args.model_type or 'GPT'}, {args.tokenizer}, block size {args.block_size}"
        if best:
            row = history[best["epoch"] - 1]
            title += f": best validation {row['val/bits_per_char']:.3f} bits per character (epoch {best['epoch']})"
        means = [self.run.first_step["train/bits_per_char_step"], *(row["train/bits_per_char"] for row in history)]
        curves = {
            "training (first step, then the mean of each epoch)": ([0, *steps], means),
            "validation": (steps, [row["val/bits_per_char"] for row in history]),
        }
        path = self.run.figure("loss_curve.png")
        figures.save_curves(curves, path, "cross-entropy, bits per character", title, log=True, xlabel="step")


class Perplexity(pl.Callback):
    """Logs exp(cross-entropy) of an epoch; the mean of the batches' perplexities would be higher."""

    def on_validation_epoch_end(self, trainer, lit):
        lit.log("val/perplexity", trainer.callback_metrics["val/cross_entropy"].exp(), rank_zero_only=True)

    def on_train_epoch_end(self, trainer, lit):
        lit.log("train/perplexity", trainer.callback_metrics["train/cross_entropy"].exp(), rank_zero_only=True)


def train(args: argparse.Namespace) -> None:
    pl.seed_everything(args.seed, verbose=False)
    made = build(args, text := read_text(args.txt_file, args.data_dir, args.resume))
    training = (args.lr, args.weight_decay, args.betas, args.clip_grad_norm, args.warmup_steps)
    lit = LitGPT(made.config, made.tokenizer, made.text_hash, args.block_size, made.tokens_per_char, *training)
    if made.weights:
        lit.model.load_state_dict(made.weights)
    with open_run(args, lit) as run:
        keep_text(text, args.txt_file, run)
        drawing = Figures(run, made.loaders)
        trainer = pl.Trainer(
            max_epochs=args.epochs,
            accelerator=args.accelerator,
            devices=args.devices,
            num_nodes=args.num_nodes,
            strategy=strategy(args),  # how several devices share the work
            precision=args.precision,
            num_sanity_val_steps=0,
            enable_progress_bar=args.progress_bar,
            enable_model_summary=False,
            logger=run.logger(),
            plugins=plugins(args),  # complete checkpoint files; no requeueing by Lightning
            **limits(args),  # --limit_batches and --fast_dev_run
            callbacks=[
                Reproducible(args.seed),
                StopOnNaN(run),
                Perplexity(),
                History(run, SHOWN, unit="tokens", per_example=args.block_size),
                drawing,
                BestCheckpoint(run, monitor="val/cross_entropy"),
                LastCheckpoint(run),
                ExactResume(run),
                *extras(args, made.loaders, SHOWN),  # --progress_bar, --compile and others
            ],
        )
        trainer.fit(lit, *made.loaders, ckpt_path=args.resume, weights_only=True)  # safe unpickling
        run.load_best(lit)
        if trainer.is_global_zero and run.folder:
            drawing.finish(lit)
        summarize(run, trainer)


def main(argv: list[str] | None = None) -> int:
    return entry.main(train, parse_args(argv))


if __name__ == "__main__":
    sys.exit(entry.main(train, args))
