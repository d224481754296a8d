"""The mathematics of the adversarial autoencoder, except its losses. Shapes: B batch, D latent, N codes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.utils import make_grid


def image_gradients(images: Tensor) -> Tensor:
    """Horizontal and vertical Sobel derivatives: [B, 1, H, W] -> [B, 2, H, W]. Images are padded with zeros."""
    x = F.pad(images, (1, 1, 1, 1))
    smooth_down = x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]  # [B, 1, H, W + 2]
    smooth_across = x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]  # [B, 1, H + 2, W]
    across = smooth_down[..., 2:] - smooth_down[..., :-2]
    down = smooth_across[..., 2:, :] - smooth_across[..., :-2, :]
    return torch.cat([across, down], dim=1)


def mean_squared_gradient_error(recon_x: Tensor, x: Tensor) -> Tensor:
    """The squared error of the image gradients, averaged over pixels and directions: two [B, 1, H, W] -> a scalar.

    It compares edges rather than grey values. The filter is linear, so the gradient of the difference is the difference
    of the gradients. The difference is 0 outside the images, so a wrong overall brightness shows up at the borders.
    """
    return image_gradients(recon_x - x).square().mean()


def mmd_to_normal(codes: Tensor) -> Tensor:
    """The squared maximum mean discrepancy between codes and N(0, I), with a Gaussian kernel exp(-|a - b|² / 2D).

    0 for codes from N(0, I), always below 1.6. The estimate is unbiased, so near 0 it can be slightly negative.
    The two terms that contain the prior are Gaussian integrals and need no samples (Gretton et al. 2012, Eq. 3).

    Args:
        codes: [N, D], N at least 2.

    Returns:
        a scalar.
    """
    n, d = codes.shape
    width = float(d)  # the square of the kernel's width: half the mean of |a - b|² under the prior
    centred = codes - codes.mean(dim=0)  # leaves distances unchanged; with large values they would be inexact
    both = codes.new_zeros(())
    for part in centred.split(1000):  # the full matrix for a test set would take gigabytes
        both += torch.exp(-torch.cdist(part, centred).square() / (2 * width)).sum()
    codes_codes = (both - n) / (n * (n - 1))  # excludes the pair of each code with itself
    distances = codes.square().sum(dim=1)  # [N]
    codes_prior = (width / (width + 1)) ** (d / 2) * torch.exp(-distances / (2 * (width + 1))).mean()
    prior_prior = (width / (width + 2)) ** (d / 2)
    return codes_codes - 2 * codes_prior + prior_prior


def decode_grid(decoder: nn.Module, grid_size: int = 20, limit: float = 3.0) -> Tensor:
    """Decode an evenly spaced grid over a two-dimensional latent space, from -limit to limit in each dimension.

    The first latent dimension increases to the right and the second upwards, as in a plot of the codes.

    Args:
        decoder: codes [B, 2] -> images in -1..1 [B, 1, H, W].

    Returns:
        one image in 0..1 [3, grid_size * H, grid_size * W].
    """
    axis = torch.linspace(-limit, limit, grid_size, device=next(decoder.parameters()).device)
    z = torch.cartesian_prod(axis.flip(0), axis).flip(1)  # row by row from the top: [grid_size², 2]
    images = torch.cat([decoder(part) for part in z.split(256)])
    return make_grid((images + 1) / 2, nrow=grid_size, padding=0)


def interpolate(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Interpolate linearly from `start` to `end`, both included: two [B, D] -> [B, steps, D]."""
    share = torch.linspace(0, 1, steps, device=start.device)[:, None]  # [steps, 1]
    return torch.lerp(start[:, None], end[:, None], share)
