"""The distance between the codes of a set of images and the prior N(0, I), and figures of the codes.

Shapes: N codes, D latent.
"""

from collections.abc import Callable

import pytorch_lightning as pl
import torch
from torch import Tensor

from course import figures
from course.training.history import record_vector
from course.training.pictures import save_curves
from course.training.run import Run
from part2_aae.code_figures import scatter_over_normal, spread
from part2_aae.models import RECONSTRUCTIONS, AdversarialAE
from part2_aae.utils import even_grid, interpolate, mmd_to_normal


class CodeStatistics(pl.Callback):
    """Encodes the validation and test images, and compares their codes with the prior.

    Logs code_mean, code_cov and mmd, and code_std as a histogram; see `compare_with_prior`. If the reconstruction loss
    is not the squared error, also logs the squared error, for comparison with other runs.
    """

    def __init__(self, run: Run):
        self.run = run
        self.codes: list[Tensor] = []

    @torch.no_grad()
    def on_validation_batch_end(self, trainer, lit, outputs, batch, batch_idx, dataloader_idx=0):
        self._encode(lit, batch[0], "val")

    def on_validation_epoch_end(self, trainer, lit):
        self._log(trainer, lit, "val")

    @torch.no_grad()
    def on_test_batch_end(self, trainer, lit, outputs, batch, batch_idx, dataloader_idx=0):
        self._encode(lit, batch[0], "test")

    def on_test_epoch_end(self, trainer, lit):
        self._log(trainer, lit, "test")

    def _encode(self, lit, x: Tensor, stage: str) -> None:
        self.codes.append(lit.model.encoder(x))
        if lit.hparams.reconstruction != "mse":
            recon_x, _ = lit.model.forward(x)
            mse = RECONSTRUCTIONS["mse"](recon_x, x)
            lit.log(f"{stage}/mse", mse, on_epoch=True, batch_size=len(x), sync_dist=True)

    def _log(self, trainer, lit, stage: str) -> None:
        codes = torch.cat(self.codes)
        self.codes = []
        if trainer.world_size > 1:
            from course.training.several import gather_rows

            codes = gather_rows(lit, codes)
        if len(codes) < 2:
            return
        numbers, stds = compare_with_prior(codes)
        lit.log_dict({f"{stage}/{name}": value for name, value in numbers.items()}, rank_zero_only=True)
        record_vector(self.run, trainer, f"{stage}/code_std", stds)


def compare_with_prior(codes: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Compare codes [N, D], N at least 2, with N(0, I).

    Returns:
        a dictionary of code_mean (the norm of the mean code), code_cov (the Frobenius norm of covariance - I) and mmd
        (the squared kernel MMD), each 0 for a match; and the standard deviation of each latent dimension [D].
    """
    cov = torch.cov(codes.T).view(codes.size(1), -1)  # [D, D], for D = 1 too
    off = torch.linalg.matrix_norm(cov - torch.eye(len(cov), device=cov.device))
    numbers = {"code_mean": codes.mean(dim=0).norm(), "code_cov": off, "mmd": mmd_to_normal(codes)}
    return numbers, cov.diagonal().sqrt()


def pictures_of_codes(lit: pl.LightningModule, loaders: tuple) -> dict[str, Callable[[], Tensor]]:
    """Return the functions that draw interpolations and codes: with two latent dimensions, a scatter plot and a decoded
    grid; otherwise, the spread of each dimension."""
    z_dim = lit.hparams.z_dim
    pictures = {"interpolation": lambda: _interpolation(lit.model, loaders[2].dataset)}
    title = f"validation codes: z_dim {z_dim}, lambda {lit.hparams.lambda_:g}"
    if z_dim == 2:
        pictures["codes"] = lambda: scatter_over_normal(*_codes(lit.model, loaders[1].dataset), title)
        pictures["manifold"] = lambda: _manifold(lit.model)
    else:
        pictures["spread"] = lambda: spread(_codes(lit.model, loaders[1].dataset)[0], title)
    return pictures


def _interpolation(model: AdversarialAE, dataset, pairs: int = 8, steps: int = 8) -> Tensor:
    """Draw rows that interpolate between two images; the first and last image of each row are the originals."""
    x = dataset.transform(dataset.images[: 2 * pairs]).to(model.device)
    start, end = x[0::2], x[1::2]
    decoded = model.decoder(interpolate(model.encoder(start), model.encoder(end), steps).flatten(0, 1))
    rows = torch.cat([start[:, None], decoded.unflatten(0, (pairs, steps)), end[:, None]], dim=1)
    return figures.grid((rows.flatten(0, 1) + 1) / 2, nrow=steps + 2)


def _manifold(model: AdversarialAE) -> Tensor:
    """Draw the images decoded from an even grid of codes, side by side."""
    codes = even_grid().to(model.device)
    decoded = torch.cat([model.decoder(row) for row in codes])
    return figures.grid((decoded + 1) / 2, nrow=codes.size(1), lines=False)


def _codes(model: AdversarialAE, dataset) -> tuple[Tensor, Tensor]:
    """Return the codes [N, D] of a dataset's images and their labels [N]."""
    parts = dataset.images.split(500)
    return torch.cat([model.encoder(dataset.transform(x).to(model.device)).cpu() for x in parts]), dataset.labels


def save_curves_of_codes(run: Run) -> None:
    """Plot the distance of the codes from the prior and the discriminator's accuracy over epochs."""
    of_run = f"z_dim {run.args.z_dim}, lambda {run.args.lambda_:g}"
    title = f"distance of the codes from N(0, I), {of_run}"
    save_curves(run, "mmd_curve.png", "squared MMD", title, {"squared MMD, validation codes": "val/mmd"}, log=True)
    title = f"codes that the discriminator classifies correctly, {of_run} (chance: 0.5)"
    tags = {"training": "train/accuracy", "validation": "val/accuracy"}
    save_curves(run, "accuracy_curve.png", "accuracy", title, tags)
