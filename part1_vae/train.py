"""Train a VAE on MNIST (Q1.7 to Q1.9): `python part1_vae/train.py --help`."""

import gc
import sys
from pathlib import Path

if not __package__:  # run as a file: take the part that lies here, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from part1_vae.options import parse_args

if __name__ == "__main__":
    args = parse_args()  # here: --help and wrong flags need not wait for what is imported below
    gc.disable()  # what is imported stays: to look through it for garbage would take a second

import argparse
from collections.abc import Callable

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from course import figures
from course.training import entry
from course.training.fit import fit
from course.training.pictures import Pictures
from course.training.start import start
from part1_vae.cnn_encoder_decoder import GREY_LEVELS, CNNDecoder, CNNEncoder
from part1_vae.mnist import mnist
from part1_vae.utils import (
    KLD,
    KLD_per_dim,
    elbo_to_bpd,
    expected_image,
    importance_weighted_bound,
    log_normal,
    sample_reparameterize,
    visualize_manifold,
)

ACTIVE_NATS = 0.01  # a latent dimension with a smaller KL divergence than this tells nothing about the image


class VAE(pl.LightningModule):
    """A variational autoencoder with a Gaussian posterior and a categorical decoder over 16 grey levels.

    Args:
        num_filters: channels of the first convolution.
        z_dim: size D of the latent space.
        lr: learning rate of Adam.
        iwae_samples: with K above 0, testing also gives the importance-weighted bound with K samples.
    """

    printed_metrics = ("bpd",)

    def __init__(self, num_filters: int = 32, z_dim: int = 20, lr: float = 1e-3, iwae_samples: int = 0):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = CNNEncoder(num_filters=num_filters, z_dim=z_dim)
        self.decoder = CNNDecoder(num_filters=num_filters, z_dim=z_dim)

    def forward(self, imgs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The two terms of the loss and the loss itself (Eq. 13 and 14, Q1.7).

        Args:
            imgs: integers 0..15 [B, 1, 28, 28].

        Returns:
            L_rec: reconstruction in nats per image, L_reg: regularization in nats per image, and bpd: their sum in
            bits per dimension; each a scalar, the mean over the batch.
        """
        mean, log_std = self.encoder(imgs)
        return self._losses(imgs, mean, log_std)

    def _losses(self, imgs: Tensor, mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `forward` returns, for images of which mean and log_std [B, D] are known."""
        # Q1.7: draw z from the posterior, decode it, and take both terms of the loss (Eq. 13) from that.
        # Hint: sample_reparameterize wants a standard deviation; the loss is the mean over the batch (Eq. 14), and the
        # bpd that of the sum of the terms.
        # BEGIN SOLUTION Q1.7
        logits = self.decoder(sample_reparameterize(mean, log_std.exp()))
        rec = self._reconstruction(logits, imgs)  # [B]
        reg = KLD(mean, log_std)  # [B]
        return rec.mean(), reg.mean(), elbo_to_bpd(rec + reg, imgs.shape).mean()
        # END SOLUTION

    @staticmethod
    def _reconstruction(logits: Tensor, imgs: Tensor) -> Tensor:
        """-log p(x|z), summed over the pixels: logits [B, 16, H, W], imgs [B, 1, H, W] -> nats [B]."""
        # Q1.7: the cross-entropy between the logits and the grey levels, one number for each image.
        # Hint: F.cross_entropy takes logits [B, 16, H, W] and labels [B, H, W]; over the pixels it is a sum (Eq. 13).
        # BEGIN SOLUTION Q1.7
        rows = logits.movedim(1, -1).reshape(-1, GREY_LEVELS)  # [B H W, 16]; no copy where channels lie side by side
        return F.cross_entropy(rows, imgs.flatten(), reduction="none").view(len(imgs), -1).sum(dim=1)
        # END SOLUTION

    @torch.no_grad()
    def sample(self, batch_size: int) -> Tensor:
        """Draw images from the model: z from the prior, each pixel from its categorical distribution (Q1.1, Q1.8).

        Returns:
            integers 0..15 [batch_size, 1, 28, 28].
        """
        # Q1.8: draw images from the model, in the steps of Q1.1.
        # Hint: torch.multinomial draws one of the columns for each row of probabilities; let a row be a pixel, and mind
        # the order of the dimensions when pixels become rows and rows become an image again.
        # BEGIN SOLUTION Q1.8
        z = torch.randn(batch_size, self.hparams.z_dim, device=self.device)
        probabilities = F.softmax(self.decoder(z), dim=1).permute(0, 2, 3, 1)  # [B, H, W, 16]
        pixels = torch.multinomial(probabilities.reshape(-1, GREY_LEVELS), num_samples=1)
        return pixels.view(batch_size, 1, *probabilities.shape[1:3])
        # END SOLUTION

    @torch.no_grad()
    def log_likelihood(self, imgs: Tensor, num_samples: int, decode_at_once: int = 1000) -> Tensor:
        """The importance-weighted lower bound on log p(x).

        Args:
            imgs: integers 0..15 [B, 1, 28, 28].
            num_samples: K, samples from q(z|x) for each image.
            decode_at_once: how many images the decoder makes at a time; bounds the memory.

        Returns:
            nats [B].
        """
        mean, log_std = self.encoder(imgs)
        log_weights = []
        for _ in range(num_samples):
            z = sample_reparameterize(mean, log_std.exp())
            log_weights.append(log_normal(z, torch.zeros_like(z), torch.zeros_like(z)) - log_normal(z, mean, log_std))
            parts = zip(z.split(decode_at_once), imgs.split(decode_at_once), strict=True)
            log_weights[-1] -= torch.cat([self._reconstruction(self.decoder(part), x) for part, x in parts])
        return importance_weighted_bound(torch.stack(log_weights))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The loss is the bpd. What is returned here and below is averaged and logged by `course.training.metrics`."""
        rec, reg, bpd = self(batch[0])
        return {"loss": bpd, "bpd": bpd, "reconstruction": rec, "regularization": reg}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        imgs = batch[0]
        mean, log_std = self.encoder(imgs)
        rec, reg, bpd = self._losses(imgs, mean, log_std)
        per_dim = KLD_per_dim(mean, log_std).mean(dim=0)  # [D]
        return {"bpd": bpd, "reconstruction": rec, "regularization": reg, "kl_per_dim": per_dim}

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        metrics = self.validation_step(batch, batch_idx)
        if self.hparams.iwae_samples:
            bound = self.log_likelihood(batch[0], self.hparams.iwae_samples)
            metrics["bpd_iwae"] = elbo_to_bpd(-bound, batch[0].shape).mean()
        return metrics

    @staticmethod
    def derived_metrics(means: dict[str, Tensor]) -> dict[str, Tensor]:
        """The number of latent dimensions that are used: those with more than 0.01 nats on average."""
        if "kl_per_dim" not in means:
            return {}
        return {"active_dims": (means["kl_per_dim"] > ACTIVE_NATS).sum().float()}


class Figures(Pictures):
    """The pictures of Q1.7 to Q1.9: samples, reconstructions and, with two latent dimensions, the manifold."""

    epochs = (10, 80)

    def pictures(self, model: VAE) -> dict[str, Callable[[], Tensor]]:
        pictures = {"samples": lambda: figures.grid(model.sample(64) / (GREY_LEVELS - 1), nrow=8)}
        pictures["reconstructions"] = lambda: self._reconstructions(model)
        if model.hparams.z_dim == 2:
            pictures["manifold"] = lambda: visualize_manifold(model.decoder, grid_size=20)
        return pictures

    def _reconstructions(self, model: VAE) -> Tensor:
        """16 validation images in two rows, below each row what the decoder expects at the mean of the posterior."""
        dataset = self.loaders[1].dataset
        imgs = dataset.transform(dataset.images[:16]).to(model.device)
        decoded = expected_image(model.decoder(model.encoder(imgs)[0]))
        originals = imgs.float() / (GREY_LEVELS - 1)
        rows = [originals[:8], decoded[:8], originals[8:], decoded[8:]]
        return figures.grid(torch.cat(rows), nrow=8)

    def curves(self) -> None:
        """The bpd of training and validation over epochs (Q1.7), with the test score where there is one."""
        history, best = self.run.history, self.run.best
        epochs = [row["epoch"] for row in history]
        training_bpd = [self.run.first_step["train/bpd_step"], *(row["train/bpd"] for row in history)]
        curves = {
            "training (first step, then the mean of each epoch)": ([0, *epochs], training_bpd),
            "validation": (epochs, [row["val/bpd"] for row in history]),
        }
        title = f"VAE, z_dim {self.run.args.z_dim}"
        if best:
            title += f": best validation {best['value']:.4f} (epoch {best['epoch']})"
        if self.run.results:
            title += f", test {self.run.results['test/bpd']:.4f} bits per dimension"
        path = self.run.figure("bpd_curve.png")
        figures.save_curves(curves, path, "bits per dimension (an upper bound)", title, log=True)


def train(args: argparse.Namespace) -> None:
    """Fetch the data, train, test, draw."""
    pl.seed_everything(args.seed, verbose=False)
    model = VAE(args.num_filters, args.z_dim, args.lr, args.iwae_samples)
    loaders = mnist(args.data_dir, args.batch_size, args.num_workers, dataset=args.dataset, seed=args.seed)
    run = start(args, model, loaders)
    fit(run, model, loaders, monitor="bpd", callbacks=[Figures(run, loaders)])


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return entry.main(lambda: train(args))


if __name__ == "__main__":
    sys.exit(entry.main(lambda: train(args)))
