"""Train a VAE on MNIST (Q1.7 to Q1.9): `python part1_vae/train.py --help`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

if not __package__:  # run as a script: import from this repository, not from an installed copy
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from part1_vae.options import parse_args

if __name__ == "__main__":
    args = parse_args()  # before the slow imports below, so that --help and flag errors appear immediately

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from course import figures
from course.training import entry
from course.training.checkpoints import BestCheckpoint, LastCheckpoint
from course.training.exact import ExactResume, Reproducible
from course.training.extras import extras, limits, plugins, strategy
from course.training.finite import StopOnNaN
from course.training.history import History
from course.training.pictures import Pictures
from course.training.run import open_run, summarize
from part1_vae.cnn_encoder_decoder import GREY_LEVELS, CNNDecoder, CNNEncoder
from part1_vae.evaluation import ImportanceWeightedBound, LatentUse
from part1_vae.mnist import mnist
from part1_vae.utils import KLD, elbo_to_bpd, expected_image, sample_reparameterize, visualize_manifold


class VAE(pl.LightningModule):
    """A variational autoencoder with a Gaussian posterior and a categorical decoder over 16 grey levels.

    Args:
        num_filters: channels of the first convolution.
        z_dim: size D of the latent space.
        lr: learning rate of Adam.
    """

    def __init__(self, num_filters: int = 32, z_dim: int = 20, lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = CNNEncoder(num_filters=num_filters, z_dim=z_dim)
        self.decoder = CNNDecoder(num_filters=num_filters, z_dim=z_dim)

    def forward(self, imgs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the two terms of the loss and the loss itself (Eq. 13 and 14, Q1.7).

        Args:
            imgs: integers 0..15 [B, 1, 28, 28].

        Returns:
            L_rec and L_reg in nats per image, and their sum in bits per dimension: scalars, means over the batch.
        """
        mean, log_std = self.encoder(imgs)
        # Q1.7: draw z from the posterior, decode it, and compute both terms of the loss (Eq. 13).
        # Hint: sample_reparameterize expects a standard deviation. Average over the batch (Eq. 14); convert the sum of
        # the two terms to bits per dimension.
        # BEGIN SOLUTION Q1.7
        logits = self.decoder(sample_reparameterize(mean, log_std.exp()))
        rec = self._reconstruction(logits, imgs)  # [B]
        reg = KLD(mean, log_std)  # [B]
        return rec.mean(), reg.mean(), elbo_to_bpd(rec + reg, imgs.shape).mean()
        # END SOLUTION

    @staticmethod
    def _reconstruction(logits: Tensor, imgs: Tensor) -> Tensor:
        """Compute -log p(x|z), summed over the pixels: logits [B, 16, H, W], imgs [B, 1, H, W] -> nats [B]."""
        # Q1.7: compute the cross-entropy between logits and grey levels, one number per image.
        # Hint: F.cross_entropy takes logits [B, 16, H, W] and labels [B, H, W]; sum over the pixels (Eq. 13).
        # BEGIN SOLUTION Q1.7
        rows = logits.movedim(1, -1).reshape(-1, GREY_LEVELS)  # [B H W, 16]; no copy with --channels_last
        return F.cross_entropy(rows, imgs.flatten(), reduction="none").view(len(imgs), -1).sum(dim=1)
        # END SOLUTION

    @torch.no_grad()
    def sample(self, batch_size: int) -> Tensor:
        """Draw images from the model (Q1.1, Q1.8).

        Returns:
            integers 0..15 [batch_size, 1, 28, 28].
        """
        # Q1.8: draw images from the model, following the steps of Q1.1.
        # Hint: torch.multinomial draws a column index for each row of probabilities. Use one row per pixel, and check
        # the order of the dimensions when you reshape pixels to rows and back.
        # BEGIN SOLUTION Q1.8
        z = torch.randn(batch_size, self.hparams.z_dim, device=self.device)
        probabilities = F.softmax(self.decoder(z), dim=1).permute(0, 2, 3, 1)  # [B, H, W, 16]
        pixels = torch.multinomial(probabilities.reshape(-1, GREY_LEVELS), num_samples=1)
        return pixels.view(batch_size, 1, *probabilities.shape[1:3])
        # END SOLUTION

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(batch, "test")

    def _step(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        """Log the epoch's means and, in training, each step's values; return the loss in bits per dimension."""
        imgs, _ = batch
        rec, reg, bpd = self(imgs)
        values = {f"{stage}/bpd": bpd, f"{stage}/reconstruction": rec, f"{stage}/regularization": reg}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(imgs), sync_dist=True)
        if stage == "train":
            self.log_dict({f"{tag}_step": value for tag, value in values.items()}, on_step=True, on_epoch=False)
        return bpd


class Figures(Pictures):
    """The figures for Q1.7 to Q1.9: samples, reconstructions and, with two latent dimensions, the manifold."""

    epochs = (10, 80)

    def pictures(self, model: VAE) -> dict[str, Callable[[], Tensor]]:
        pictures = {"samples": lambda: figures.grid(model.sample(64) / (GREY_LEVELS - 1), nrow=8)}
        pictures["reconstructions"] = lambda: self._reconstructions(model)
        if model.hparams.z_dim == 2:
            pictures["manifold"] = lambda: visualize_manifold(model.decoder, grid_size=20)
        return pictures

    def _reconstructions(self, model: VAE) -> Tensor:
        """Draw two rows of 8 validation images, each above the expected images decoded from their posterior means."""
        dataset = self.loaders[1].dataset
        imgs = dataset.transform(dataset.images[:16]).to(model.device)
        decoded = expected_image(model.decoder(model.encoder(imgs)[0]))
        originals = imgs.float() / (GREY_LEVELS - 1)
        return figures.grid(torch.cat([originals[:8], decoded[:8], originals[8:], decoded[8:]]), nrow=8)

    def curves(self, results: dict[str, float]) -> None:
        """Plot training and validation bpd over epochs (Q1.7), with the test score if available."""
        history = self.run.history
        epochs = [row["epoch"] for row in history]
        training_bpd = [self.run.first_step["train/bpd_step"], *(row["train/bpd"] for row in history)]
        curves = {
            "training (first step, then the mean of each epoch)": ([0, *epochs], training_bpd),
            "validation": (epochs, [row["val/bpd"] for row in history]),
        }
        title = f"VAE, z_dim {self.run.args.z_dim}{self.run.describe_scores(results.get('test/bpd'))}"
        label = "bits per dimension (an upper bound)"
        figures.save_curves(curves, self.run.figure("bpd_curve.png"), label, title, log=True)


def train(args: argparse.Namespace) -> None:
    """Download the data, train, test the best epoch, and draw the figures."""
    pl.seed_everything(args.seed, verbose=False)
    model = VAE(args.num_filters, args.z_dim, args.lr)
    loaders = mnist(args.data_dir, args.batch_size, args.num_workers, dataset=args.dataset, seed=args.seed)
    train_loader, val_loader, test_loader = loaders
    with open_run(args, model) as run:
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
                LatentUse(run),
                ImportanceWeightedBound(args.iwae_samples),
                History(run, shown=["bpd"]),
                Figures(run, loaders),
                BestCheckpoint(run, monitor="val/bpd"),
                LastCheckpoint(run),
                ExactResume(run),
                *extras(args, loaders, shown=["bpd"]),  # --recipe fast, --progress_bar, --compile and others
            ],
        )
        trainer.fit(model, train_loader, val_loader, ckpt_path=args.resume, weights_only=True)  # safe unpickling
        run.load_best(model)
        results = trainer.test(model, test_loader, verbose=False)
        summarize(run, trainer, results)


def main(argv: list[str] | None = None) -> int:
    return entry.main(train, parse_args(argv))


if __name__ == "__main__":
    sys.exit(entry.main(train, args))
