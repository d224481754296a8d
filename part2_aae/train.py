"""Train an autoencoder or an adversarial autoencoder on MNIST (Q2.4 to Q2.7): `python part2_aae/train.py --help`."""

import gc
import sys
from pathlib import Path

if not __package__:  # run as a file: take the part that lies here, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from part2_aae.options import parse_args

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
from part2_aae.mnist import mnist
from part2_aae.models import AdversarialAE
from part2_aae.utils import decode_grid, interpolate, mmd_to_normal


class LitAAE(pl.LightningModule):
    """How an `AdversarialAE` is trained: two optimizers that take turns at each batch.

    Args:
        z_dim, num_filters, reconstruction: see `AdversarialAE`.
        lambda_: weight of the reconstruction, 0..1 (Eq. 15); at 1 this is a plain autoencoder.
        ae_lr: learning rate of Adam for encoder and decoder.
        d_lr: learning rate of SGD for the discriminator.
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
        self.printed_metrics = ("recon_loss", "accuracy", "mmd") if self.adversarial else ("recon_loss", "mmd")
        self.codes: list[Tensor] = []  # of the validation or test set, batch by batch

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 1, 28, 28] -> reconstructions [B, 1, 28, 28], codes [B, D]."""
        return self.model(x)

    def configure_optimizers(self):
        """Adam for encoder and decoder, SGD for the discriminator where there is one (Q2.4, Q2.5)."""
        # Q2.4: ae_optimizer, Adam for the parameters of encoder and decoder.
        # Hint: with learning rate ae_lr and beta1 0.5; `self.hparams` has what the constructor was given.
        # BEGIN SOLUTION Q2.4
        autoencoder = [*self.model.encoder.parameters(), *self.model.decoder.parameters()]
        ae_optimizer = torch.optim.Adam(autoencoder, lr=self.hparams.ae_lr, betas=(0.5, 0.999))
        # END SOLUTION
        if not self.adversarial:
            return [ae_optimizer]
        # Q2.5: d_optimizer, SGD for the parameters of the discriminator.
        # BEGIN SOLUTION Q2.5
        d_optimizer = torch.optim.SGD(self.model.discriminator.parameters(), lr=self.hparams.d_lr)
        # END SOLUTION
        return [ae_optimizer, d_optimizer]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """First a step of the autoencoder, then one of the discriminator on the same codes (Q2.4, Q2.5)."""
        x = batch[0]
        ae_optimizer, d_optimizer = self.optimizers() if self.adversarial else (self.optimizers(), None)
        with self.toggled_optimizer(ae_optimizer):
            recon_x, z = self.model(x)
            # Q2.4: a step of encoder and decoder, and logs, what their loss logs.
            # Hint: the model has the loss, `self.hparams.lambda_` is its weight, and `self._step` does the rest.
            # BEGIN SOLUTION Q2.4
            loss, logs = self.model.get_loss_autoencoder(x, recon_x, z, self.hparams.lambda_)
            self._step(ae_optimizer, loss)
            # END SOLUTION
        if self.adversarial:
            with self.toggled_optimizer(d_optimizer):
                # Q2.5: a step of the discriminator on the codes z; add what its loss logs to the logs.
                # BEGIN SOLUTION Q2.5
                loss, d_logs = self.model.get_loss_discriminator(z.detach())
                self._step(d_optimizer, loss)
                logs |= d_logs
                # END SOLUTION
        return self._of_interest(logs)

    def _step(self, optimizer, loss: Tensor) -> None:
        """Change the optimizer's parameters so that the loss gets smaller."""
        # Q2.4: one step of gradient descent on this loss alone.
        # Hint: gradients add up until they are set to zero; Lightning wants self.manual_backward for loss.backward.
        # BEGIN SOLUTION Q2.4
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        # END SOLUTION

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        x = batch[0]
        recon_x, z = self.model(x)
        self.codes.append(z.clone())  # with CUDA graphs the next batch is written over this one
        _, logs = self.model.get_loss_autoencoder(x, recon_x, z, self.hparams.lambda_)
        if self.adversarial:
            logs |= self.model.get_loss_discriminator(z)[1]
        if self.hparams.reconstruction != "mse":
            logs["mse"] = F.mse_loss(recon_x, x)  # to compare with runs that minimize it
        return self._of_interest(logs)

    test_step = validation_step

    def _of_interest(self, logs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without the generator's loss where no discriminator was asked."""
        return logs if self.adversarial else {name: value for name, value in logs.items() if name != "gen_loss"}

    def derived_metrics(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """How far the codes of all validation (or test) images are from the prior N(0, I).

        Returns:
            code_mean: length of the mean code; code_cov: Frobenius norm of covariance - I; mmd: the squared kernel
            MMD; each 0 for a match. code_std: the standard deviation of each latent dimension [D].
        """
        if not self.codes:  # training
            return {}
        codes = self.all_gather(torch.cat(self.codes)).view(-1, self.hparams.z_dim)  # of all processes
        self.codes.clear()
        if len(codes) < 2:
            return {}
        cov = torch.cov(codes.T).view(codes.size(1), -1)  # [D, D], for D = 1 too
        off = torch.linalg.matrix_norm(cov - torch.eye(len(cov), device=cov.device))
        spread = cov.diagonal().sqrt()
        return {"code_mean": codes.mean(dim=0).norm(), "code_cov": off, "mmd": mmd_to_normal(codes), "code_std": spread}


class Figures(Pictures):
    """The pictures of Q2.4 to Q2.7.

    Reconstructions, samples, interpolations, and the codes: with two latent dimensions each code and the decoded grid,
    otherwise the spread of each dimension.
    """

    epochs = (20, 50, 100)

    def pictures(self, lit: LitAAE) -> dict[str, Callable[[], Tensor]]:
        model, z_dim = lit.model, lit.hparams.z_dim
        pictures = {
            "samples": lambda: figures.grid((model.sample(64) + 1) / 2, nrow=8),
            "reconstructions": lambda: self._reconstructions(model),
            "interpolation": lambda: self._interpolation(model),
        }
        title = f"validation codes: z_dim {z_dim}, lambda {lit.hparams.lambda_:g}"
        if z_dim == 2:
            pictures["codes"] = lambda: figures.scatter_over_normal(*self._codes(model), title)
            pictures["manifold"] = lambda: decode_grid(model.decoder)
        else:
            pictures["spread"] = lambda: figures.spread(self._codes(model)[0], title)
        return pictures

    def _reconstructions(self, model: AdversarialAE) -> Tensor:
        """A validation image of each label over its reconstruction (Q2.4)."""
        dataset = self.loaders[1].dataset
        first = [int((dataset.labels == label).nonzero()[0]) for label in range(10)]
        x = dataset.transform(dataset.images[first]).to(model.device)
        recon_x = model.decoder(model.encoder(x))  # not model(x): compiled, it would be made for batches of ten first
        return figures.grid((torch.cat([x, recon_x]) + 1) / 2, nrow=10)

    def _interpolation(self, model: AdversarialAE, pairs: int = 8, steps: int = 8) -> Tensor:
        """Rows that lead from one test image to another; the first and the last picture of a row are the images."""
        dataset = self.loaders[2].dataset
        x = dataset.transform(dataset.images[: 2 * pairs]).to(model.device)
        start, end = x[0::2], x[1::2]
        decoded = model.decoder(interpolate(model.encoder(start), model.encoder(end), steps).flatten(0, 1))
        rows = torch.cat([start[:, None], decoded.unflatten(0, (pairs, steps)), end[:, None]], dim=1)
        return figures.grid((rows.flatten(0, 1) + 1) / 2, nrow=steps + 2)

    def _codes(self, model: AdversarialAE) -> tuple[Tensor, Tensor]:
        """The codes of the validation images [N, D] and their labels [N]."""
        dataset = self.loaders[1].dataset
        parts = dataset.images.split(500)
        return torch.cat([model.encoder(dataset.transform(x).to(model.device)).cpu() for x in parts]), dataset.labels

    def curves(self) -> None:
        """Over epochs: the reconstruction loss (Q2.4, Q2.5), how far the codes are from the prior, the accuracy."""
        args, history, best = self.run.args, self.run.history, self.run.best
        epochs = [row["epoch"] for row in history]

        def curve(tag: str) -> tuple[list[int], list[float]]:
            return epochs, [row[tag] for row in history]

        of_run = f"z_dim {args.z_dim}, lambda {args.lambda_:g}"
        title = f"reconstruction, {of_run}"
        if best:
            title += f": best validation {best['value']:.4f} (epoch {best['epoch']})"
        if self.run.results:
            title += f", test {self.run.results['test/recon_loss']:.4f}"
        curves = {"training (mean of each epoch)": curve("train/recon_loss"), "validation": curve("val/recon_loss")}
        figures.save_curves(
            curves, self.run.figure("recon_curve.png"), f"{args.reconstruction} per pixel", title, log=True
        )
        if all("val/mmd" in row for row in history):
            title = f"distance of the codes from N(0, I), {of_run}"
            curves = {"squared MMD, validation codes": curve("val/mmd")}
            figures.save_curves(curves, self.run.figure("mmd_curve.png"), "squared MMD", title, log=True)
        if args.lambda_ != 1:
            title = f"codes that the discriminator tells right, {of_run} (chance: 0.5)"
            curves = {"training": curve("train/accuracy"), "validation": curve("val/accuracy")}
            figures.save_curves(curves, self.run.figure("accuracy_curve.png"), "accuracy", title)


def train(args: argparse.Namespace) -> None:
    """Fetch the data, train, test, draw."""
    pl.seed_everything(args.seed, verbose=False)
    model = LitAAE(args.z_dim, args.lambda_, args.ae_lr, args.d_lr, args.num_filters, args.reconstruction)
    loaders = mnist(args.data_dir, args.batch_size, args.num_workers, dataset=args.dataset, seed=args.seed)
    run = start(args, model, loaders)
    fit(run, model, loaders, monitor="recon_loss", callbacks=[Figures(run, loaders)])


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return entry.main(lambda: train(args))


if __name__ == "__main__":
    sys.exit(entry.main(lambda: train(args)))
