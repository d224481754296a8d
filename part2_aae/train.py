"""Train an autoencoder or an adversarial autoencoder on MNIST (Q2.4 to Q2.7): `python part2_aae/train.py --help`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

if not __package__:  # run as a script: import from this repository, not from an installed copy
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from part2_aae.options import parse_args

if __name__ == "__main__":
    args = parse_args()  # before the slow imports below, so that --help and flag errors appear immediately

import pytorch_lightning as pl
import torch
from torch import Tensor

from course import figures
from course.training import entry
from course.training.checkpoints import BestCheckpoint, LastCheckpoint
from course.training.exact import ExactResume, Reproducible
from course.training.extras import extras, limits, plugins, strategy
from course.training.finite import StopOnNaN
from course.training.history import History
from course.training.pictures import Pictures, save_curves
from course.training.run import open_run, summarize
from part2_aae.codes import CodeStatistics, pictures_of_codes, save_curves_of_codes
from part2_aae.mnist import mnist
from part2_aae.models import AdversarialAE


class LitAAE(pl.LightningModule):
    """Trains an `AdversarialAE` with two optimizers, which take turns on each batch.

    Args:
        z_dim, num_filters, reconstruction: see `AdversarialAE`.
        lambda_: weight of the reconstruction loss, 0..1 (Eq. 15); at 1, this is a plain autoencoder.
        ae_lr, d_lr: learning rates of Adam (encoder and decoder) and SGD (discriminator).
    """

    def __init__(
        self,
        z_dim: int = 8,
        lambda_: float = 0.995,
        ae_lr: float = 1e-3,
        d_lr: float = 5e-3,
        num_filters: int = 32,
        reconstruction: str = "mse",
    ):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.adversarial = lambda_ != 1
        self.model = AdversarialAE(z_dim, num_filters, reconstruction, self.adversarial)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images [B, 1, 28, 28] to reconstructions [B, 1, 28, 28] and codes [B, D]."""
        return self.model(x)

    def configure_optimizers(self):
        """Return Adam for encoder and decoder, and SGD for the discriminator if there is one (Q2.4, Q2.5)."""
        # Q2.4: create ae_optimizer: Adam for the parameters of encoder and decoder.
        # Hint: use learning rate ae_lr and beta1 0.5; `self.hparams` holds the constructor's arguments.
        # BEGIN SOLUTION Q2.4
        autoencoder = [*self.model.encoder.parameters(), *self.model.decoder.parameters()]
        ae_optimizer = torch.optim.Adam(autoencoder, lr=self.hparams.ae_lr, betas=(0.5, 0.999))
        # END SOLUTION
        if not self.adversarial:
            return [ae_optimizer]
        # Q2.5: create d_optimizer: SGD for the parameters of the discriminator.
        # Hint: use learning rate d_lr; this optimizer updates only the discriminator.
        # BEGIN SOLUTION Q2.5
        d_optimizer = torch.optim.SGD(self.model.discriminator.parameters(), lr=self.hparams.d_lr)
        # END SOLUTION
        return [ae_optimizer, d_optimizer]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Update the autoencoder, then the discriminator on the same codes (Q2.4, Q2.5)."""
        x = batch[0]
        ae_optimizer, d_optimizer = self.optimizers() if self.adversarial else (self.optimizers(), None)
        with self.toggled_optimizer(ae_optimizer):
            recon_x, z = self.model(x)
            # Q2.4: update encoder and decoder; `logs` is the dictionary that their loss returns for logging.
            # Hint: `self.model` computes the loss with weight `self.hparams.lambda_`; `self._step` does the rest.
            # BEGIN SOLUTION Q2.4
            loss, logs = self.model.get_loss_autoencoder(x, recon_x, z, self.hparams.lambda_)
            self._step(ae_optimizer, loss)
            # END SOLUTION
        if self.adversarial:
            with self.toggled_optimizer(d_optimizer):
                # Q2.5: update the discriminator on the codes z, and add what its loss returns for logging to `logs`.
                # Hint: `self.model` computes this loss too, `self._step` does the rest, and `logs` is a dictionary.
                # BEGIN SOLUTION Q2.5
                loss, d_logs = self.model.get_loss_discriminator(z.detach())
                self._step(d_optimizer, loss)
                logs |= d_logs
                # END SOLUTION
        self._log(logs, "train", len(x))

    def _step(self, optimizer, loss: Tensor) -> None:
        """Update the optimizer's parameters to reduce the loss."""
        # Q2.4: take one step of gradient descent on this loss alone.
        # Hint: gradients accumulate until they are zeroed; Lightning needs self.manual_backward, not loss.backward.
        # BEGIN SOLUTION Q2.4
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        # END SOLUTION

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, stage: str = "val") -> None:
        x = batch[0]
        recon_x, z = self.model(x)
        _, logs = self.model.get_loss_autoencoder(x, recon_x, z, self.hparams.lambda_)
        if self.adversarial:
            logs |= self.model.get_loss_discriminator(z)[1]
        self._log(logs, stage, len(x))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx, "test")

    def _log(self, logs: dict[str, Tensor], stage: str, batch_size: int) -> None:
        """Log the epoch's means and, in training, each step's values."""
        values = {f"{stage}/{name}": value for name, value in logs.items() if self.adversarial or name != "gen_loss"}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=batch_size, sync_dist=True)
        if stage == "train":
            self.log_dict({f"{tag}_step": value for tag, value in values.items()}, on_step=True, on_epoch=False)


class Figures(Pictures):
    """The figures for Q2.4 to Q2.7: samples, reconstructions, and codes (see `part2_aae.codes`)."""

    epochs = (20, 50, 100)

    def pictures(self, lit: LitAAE) -> dict[str, Callable[[], Tensor]]:
        pictures = {"samples": lambda: figures.grid((lit.model.sample(64) + 1) / 2, nrow=8)}
        pictures["reconstructions"] = lambda: self._reconstructions(lit.model)
        return pictures | pictures_of_codes(lit, self.loaders)

    def _reconstructions(self, model: AdversarialAE) -> Tensor:
        """Draw one validation image per label above its reconstruction (Q2.4)."""
        dataset = self.loaders[1].dataset
        first = [int((dataset.labels == label).nonzero()[0]) for label in range(10)]
        x = dataset.transform(dataset.images[first]).to(model.device)
        recon_x, _ = model.forward(x)  # not model(x): torch.compile would first compile it for batches of ten
        return figures.grid((torch.cat([x, recon_x]) + 1) / 2, nrow=10)

    def curves(self, results: dict[str, float]) -> None:
        """Plot the reconstruction loss over epochs (Q2.4, Q2.5), with the test loss if available."""
        args, scores = self.run.args, self.run.describe_scores(results.get("test/recon_loss"))
        title = f"reconstruction, z_dim {args.z_dim}, lambda {args.lambda_:g}{scores}"
        tags = {"training (mean of each epoch)": "train/recon_loss", "validation": "val/recon_loss"}
        save_curves(self.run, "recon_curve.png", f"{args.reconstruction} per pixel", title, tags, log=True)
        save_curves_of_codes(self.run)


def train(args: argparse.Namespace) -> None:
    pl.seed_everything(args.seed, verbose=False)
    model = LitAAE(args.z_dim, args.lambda_, args.ae_lr, args.d_lr, args.num_filters, args.reconstruction)
    loaders = mnist(args.data_dir, args.batch_size, args.num_workers, dataset=args.dataset, seed=args.seed)
    train_loader, val_loader, test_loader = loaders
    shown = ["recon_loss", "accuracy", "mmd"]
    with open_run(args, model) as run:
        trainer = pl.Trainer(
            max_epochs=args.epochs,
            accelerator=args.accelerator,
            devices=args.devices,
            num_nodes=args.num_nodes,
            strategy=strategy(args, manual=True),  # how several devices share the work
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
                CodeStatistics(run),
                History(run, shown),
                Figures(run, loaders),
                BestCheckpoint(run, monitor="val/recon_loss"),
                LastCheckpoint(run),
                ExactResume(run),
                *extras(args, loaders, shown),  # --recipe fast, --progress_bar, --compile and others
            ],
        )
        trainer.fit(model, train_loader, val_loader, ckpt_path=args.resume, weights_only=True)  # safe unpickling
        run.load_best(model)
        summarize(run, trainer, trainer.test(model, test_loader, verbose=False))


def main(argv: list[str] | None = None) -> int:
    return entry.main(train, parse_args(argv))


if __name__ == "__main__":
    sys.exit(entry.main(train, args))
