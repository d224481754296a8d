"""Optional metrics, not part of any question: the use of each latent dimension, and a tighter bound on log p(x).

Shapes: B batch, D latent, K samples.
"""

import math

import pytorch_lightning as pl
import torch
from torch import Tensor

from course.training.history import record_vector
from course.training.run import Run
from part1_vae.utils import KLD_per_dim, elbo_to_bpd

ACTIVE_NATS = 0.01  # a latent dimension with a smaller KL divergence carries no information about the image


class LatentUse(pl.Callback):
    """Records the KL divergence of each latent dimension and the number of dimensions with more than 0.01 nats."""

    def __init__(self, run: Run):
        self.run = run
        self.batches: list[Tensor] = []  # nats per image and dimension, [B, D]

    @torch.no_grad()
    def on_validation_batch_end(self, trainer, vae, outputs, batch, batch_idx, dataloader_idx=0):
        self.batches.append(KLD_per_dim(*vae.encoder(batch[0])))

    def on_validation_epoch_end(self, trainer, vae):
        self._record(trainer, vae, "val")

    def on_test_batch_end(self, trainer, vae, outputs, batch, batch_idx, dataloader_idx=0):
        self.on_validation_batch_end(trainer, vae, outputs, batch, batch_idx)

    def on_test_epoch_end(self, trainer, vae):
        self._record(trainer, vae, "test")

    def _record(self, trainer, vae, stage: str) -> None:
        nats = torch.cat(self.batches)  # images of this process only, [N, D]
        count = torch.tensor(float(len(nats)), device=nats.device)
        total, count = (trainer.strategy.reduce(each, reduce_op="sum") for each in (nats.sum(dim=0), count))
        per_dim = total / count  # [D]
        self.batches = []
        record_vector(self.run, trainer, f"{stage}/kl_per_dim", per_dim)
        vae.log(f"{stage}/active_dims", active_dims(per_dim), rank_zero_only=True)


def active_dims(per_dim: Tensor) -> Tensor:
    """Count the latent dimensions with more than 0.01 nats: [D] -> scalar."""
    return (per_dim > ACTIVE_NATS).sum().float()


class ImportanceWeightedBound(pl.Callback):
    """Logs the importance-weighted bound on the test set, test/bpd_iwae, in bits per dimension, if num_samples > 0."""

    def __init__(self, num_samples: int):
        self.num_samples = num_samples

    def on_test_batch_end(self, trainer, vae, outputs, batch, batch_idx, dataloader_idx=0):
        if self.num_samples:
            imgs, _ = batch
            bound = log_likelihood(vae, imgs, self.num_samples)
            bpd = elbo_to_bpd(-bound, imgs.shape)  # [B]
            vae.log("test/bpd_iwae", bpd.mean(), on_epoch=True, batch_size=len(imgs), sync_dist=True)


@torch.no_grad()
def log_likelihood(vae: pl.LightningModule, imgs: Tensor, num_samples: int, decode_at_once: int = 1000) -> Tensor:
    """Estimate the importance-weighted lower bound on log p(x) for a `VAE`.

    Args:
        imgs: integers 0..15 [B, 1, 28, 28].
        num_samples: K, the number of samples from q(z|x) for each image.
        decode_at_once: number of images to decode at a time, to limit memory use.

    Returns:
        nats [B].
    """
    # float64: for a narrow posterior, z - mean has few correct digits in float32; on the CPU, as MPS lacks float64
    mean, log_std = (each.cpu().double() for each in vae.encoder(imgs))
    log_weights = []
    for _ in range(num_samples):
        z = torch.normal(mean, log_std.exp())  # no gradient is needed
        log_ratio = log_normal(z, torch.zeros_like(z), torch.zeros_like(z)) - log_normal(z, mean, log_std)
        log_p = log_p_given(vae, imgs, z.to(imgs.device, torch.float32), decode_at_once)
        log_weights.append(log_ratio.to(log_p) + log_p)
    return importance_weighted_bound(torch.stack(log_weights))


def log_p_given(vae: pl.LightningModule, imgs: Tensor, z: Tensor, decode_at_once: int) -> Tensor:
    """Compute log p(x|z) for each image [B, 1, 28, 28] and its z [B, D], in nats [B]."""
    parts = [slice(start, start + decode_at_once) for start in range(0, len(imgs), decode_at_once)]
    return -torch.cat([vae._reconstruction(vae.decoder(z[part]), imgs[part]) for part in parts])


def log_normal(z: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Compute log N(z; mean, exp(log_std)²) in nats, summed over the last dimension: [..., D] -> [...]."""
    return (-0.5 * ((z - mean) / log_std.exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)).sum(dim=-1)


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """Compute a lower bound on log p(x) that becomes tighter as K grows (Burda et al. 2016; Eq. 8 with z from q).

    Args:
        log_weights: log p(x|z_k) + log p(z_k) - log q(z_k|x) for z_k ~ q(z|x), in nats, [K, B].

    Returns:
        log of the mean weight, in nats, [B]; for K = 1, this is a Monte Carlo estimate of the ELBO.
    """
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))
