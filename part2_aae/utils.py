"""The mathematics of the adversarial autoencoder, except its losses. Shapes: B batch, D latent, N codes."""

import torch
import torch.nn.functional as F
from torch import Tensor


def image_gradients(images: Tensor) -> Tensor:
    """Compute horizontal and vertical Sobel derivatives of zero-padded images: [B, 1, H, W] -> [B, 2, H, W]."""
    x = F.pad(images, (1, 1, 1, 1))
    smooth_down = x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]  # [B, 1, H, W + 2]
    smooth_across = x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]  # [B, 1, H + 2, W]
    across = smooth_down[..., 2:] - smooth_down[..., :-2]
    down = smooth_across[..., 2:, :] - smooth_across[..., :-2, :]
    return torch.cat([across, down], dim=1)


def mean_squared_gradient_error(recon_x: Tensor, x: Tensor) -> Tensor:
    """Compute the squared error of the image gradients, averaged over pixels and directions, a scalar.

    This loss compares edges rather than grey values. The filter is linear, so the gradient of the difference is the
    difference of the gradients. Both images are padded with 0, so an error in overall brightness shows at the borders.
    """
    return image_gradients(recon_x - x).square().mean()


def mmd_to_normal(codes: Tensor) -> Tensor:
    """Estimate the squared maximum mean discrepancy between codes and N(0, I), with the kernel exp(-|a - b|² / 2D).

    The estimate is always below 1.6. Its expectation is 0 for codes from N(0, I); as it is unbiased, it can be slightly
    negative. The two terms involving the prior are Gaussian integrals and need no samples (Gretton et al. 2012, Eq. 3).

    Args:
        codes: [N, D], N at least 2.

    Returns:
        a scalar.
    """
    n, d = codes.shape
    width = float(d)  # the square of the kernel's width: half the mean of |a - b|² under the prior
    centred = codes - codes.mean(dim=0)  # distances do not change; cdist would be inexact far from the origin
    both = codes.new_zeros(())
    for part in centred.split(1000):  # all codes of a test set at once would take gigabytes
        both += torch.exp(-torch.cdist(part, centred).square() / (2 * width)).sum()
    codes_codes = (both - n) / (n * (n - 1))  # excludes each code's pair with itself
    distances = codes.square().sum(dim=1)  # [N]
    codes_prior = (width / (width + 1)) ** (d / 2) * torch.exp(-distances / (2 * (width + 1))).mean()
    prior_prior = (width / (width + 2)) ** (d / 2)
    return codes_codes - 2 * codes_prior + prior_prior


def even_grid(steps: int = 20, limit: float = 3.0) -> Tensor:
    """Return evenly spaced codes in a two-dimensional latent space, from -limit to limit in each dimension.

    The first latent dimension increases to the right and the second upwards, as in a plot of the codes.

    Returns:
        codes [steps, steps, 2]: rows from top to bottom, each from left to right.
    """
    top, bottom = (limit * torch.tensor([[-1.0, y], [1.0, y]]) for y in (1.0, -1.0))  # two corners each
    left, right = interpolate(top, bottom, steps)  # the ends of the rows, [steps, 2]
    return interpolate(left, right, steps)


def interpolate(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Interpolate linearly from `start` to `end`, both included: two [B, D] -> [B, steps, D]."""
    share = torch.linspace(0, 1, steps, device=start.device)[:, None]  # [steps, 1]
    return torch.lerp(start[:, None], end[:, None], share)
