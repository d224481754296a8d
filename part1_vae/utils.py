"""The mathematics of the VAE. Shapes: B batch, D latent."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.utils import make_grid


def sample_reparameterize(mean: Tensor, std: Tensor) -> Tensor:
    """Draw z ~ N(mean, std²) so that gradients reach mean and std (section 1.5, Q1.7).

    Args:
        mean: mean of the distribution, any shape.
        std: standard deviation, non-negative, same shape as mean.

    Returns:
        z, with the same shape.

    Raises:
        ValueError: an element of std is negative. (On a GPU, this is checked only if gradients are disabled, as in
            validation: during training, the check would wait for the GPU at every step.)
    """
    if (std.device.type == "cpu" or not torch.is_grad_enabled()) and (std < 0).any():
        raise ValueError(f"std must not be negative, but its smallest element is {std.min():.4g}: is it log_std?")
    # Q1.7: draw z ~ N(mean, std²), independently for each element.
    # Hint: draw standard normal noise (torch.randn_like) and compute z from it, so that z is a differentiable function
    # of mean and std.
    # BEGIN SOLUTION Q1.7
    return mean + std * torch.randn_like(mean)
    # END SOLUTION


def KLD(mean: Tensor, log_std: Tensor) -> Tensor:
    """Compute the KL divergence of N(mean, exp(log_std)²) from N(0, I), in nats (the second sum of Eq. 13, Q1.7).

    Args:
        mean: [..., D].
        log_std: natural logarithm of the standard deviation, [..., D].

    Returns:
        the divergence, summed over the last dimension, [...].
    """
    # Q1.7: combine the terms from KLD_per_dim into one number per vector.
    # Hint: Eq. 13 sums over the last dimension; `VAE.forward` takes the mean over the batch.
    # BEGIN SOLUTION Q1.7
    return KLD_per_dim(mean, log_std).sum(dim=-1)
    # END SOLUTION


def KLD_per_dim(mean: Tensor, log_std: Tensor) -> Tensor:
    """Compute the terms of the sum in `KLD`: nats for each latent dimension, [..., D] -> [..., D]."""
    # Q1.7: compute the divergence of each dimension from N(0, 1), in closed form.
    # Hint: Eq. 13 uses log sigma, which is log_std; the logarithm of the variance is twice that.
    # BEGIN SOLUTION Q1.7
    # expm1: accurate when log_std is near 0, where exp(2 log_std) - 1 would cancel
    return 0.5 * (torch.expm1(2 * log_std) + mean**2) - log_std
    # END SOLUTION


def elbo_to_bpd(elbo: Tensor, img_shape: tuple[int, ...]) -> Tensor:
    """Convert a negative log-likelihood bound from nats per image to bits per dimension (section 1.6, Q1.7).

    Args:
        elbo: the loss of each image in nats, [B]. Despite the name, this is the *negative* ELBO, a positive number.
        img_shape: shape of the images, including the batch dimension, [B, C, H, W].

    Returns:
        bits per dimension, [B].
    """
    # Q1.7: convert nats per image to bits per dimension.
    # Hint: a nat is log2(e) bits. The dimensions of an image are its pixels in all channels; the batch dimension does
    # not count.
    # BEGIN SOLUTION Q1.7
    return elbo * math.log2(math.e) / math.prod(img_shape[1:])
    # END SOLUTION


@torch.no_grad()
def visualize_manifold(decoder: nn.Module, grid_size: int = 20) -> Tensor:
    """Decode a grid of points in a two-dimensional latent space (Q1.9; Kingma and Welling, Figure 4b).

    The coordinates are the percentiles 0.5/grid_size, 1.5/grid_size, ... of N(0, 1), so each image represents an
    equal share of the prior. The first latent dimension increases from top to bottom, the second from left to right.

    Args:
        decoder: maps z [B, 2] to logits over the grey levels [B, 16, H, W]; z must be on `decoder.device`.
        grid_size: number of images in a row and in a column.

    Returns:
        the expected grey values, scaled to 0..1, as one image [3, grid_size * H, grid_size * W].
    """
    # Q1.9: decode a grid of codes at the percentiles of N(0, 1), and tile the expected images into one.
    # Hint: torch.special.ndtri is the inverse of the standard normal CDF; `expected_image` turns logits into images,
    # and torchvision's make_grid tiles them.
    # BEGIN SOLUTION Q1.9
    percentiles = (torch.arange(grid_size) + 0.5) / grid_size
    axis = torch.special.ndtri(percentiles)
    z = torch.cartesian_prod(axis, axis)  # row by row: [grid_size², 2]
    images = torch.cat([expected_image(decoder(part)) for part in z.to(decoder.device).split(256)])
    return make_grid(images, nrow=grid_size, padding=0)
    # END SOLUTION


def expected_image(logits: Tensor) -> Tensor:
    """Compute each pixel's expected value under the softmax, scaled to 0..1: logits [B, L, H, W] -> [B, 1, H, W]."""
    levels = torch.linspace(0, 1, logits.size(1), device=logits.device).view(1, -1, 1, 1)
    return (F.softmax(logits, dim=1) * levels).sum(dim=1, keepdim=True)
