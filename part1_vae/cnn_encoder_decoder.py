"""The encoder q(z|x) and the decoder p(x|z): convolutional networks for 28x28 images with 16 grey levels."""

import torch
from torch import Tensor, nn

GREY_LEVELS = 16  # 4-bit images


class CNNEncoder(nn.Module):
    """The encoder q(z|x), which maps an image to the mean and log_std of a diagonal Gaussian (Eq. 12, Q1.7).

    Args:
        num_input_channels: channels of the image.
        num_filters: channels of the first two layers; the deeper ones have twice as many.
        z_dim: size D of the latent space.
    """

    def __init__(self, num_input_channels: int = 1, num_filters: int = 32, z_dim: int = 20):
        super().__init__()
        # Q1.7: define the layers that map an image to mean and log_std.
        # Hint: convolutions with stride 2 halve the image (28, 14, 7, 4); put a GELU after each. End with two linear
        # layers, one for mean and one for log_std, without activations: both outputs can be any real number.
        # BEGIN SOLUTION Q1.7
        c = num_filters
        self.net = nn.Sequential(
            nn.Conv2d(num_input_channels, c, kernel_size=3, stride=2, padding=1),  # 28 -> 14
            nn.GELU(),
            nn.Conv2d(c, c, kernel_size=3, padding=1),
            nn.GELU(),
            nn.Conv2d(c, 2 * c, kernel_size=3, stride=2, padding=1),  # 14 -> 7
            nn.GELU(),
            nn.Conv2d(2 * c, 2 * c, kernel_size=3, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * c, 2 * c, kernel_size=3, stride=2, padding=1),  # 7 -> 4
            nn.GELU(),
            nn.Flatten(),
        )
        self.mean = nn.Linear(2 * c * 4 * 4, z_dim)
        self.log_std = nn.Linear(2 * c * 4 * 4, z_dim)
        # END SOLUTION

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map 4-bit integers [B, C, 28, 28] to the mean and log_std of q(z|x), each [B, D]."""
        x = x.float() / (GREY_LEVELS - 1) * 2 - 1  # 0..15 -> -1..1
        # Q1.7: compute mean and log_std for these images.
        # Hint: call `.float()` at the end, so that the result is float32 even if the layers ran in bfloat16.
        # BEGIN SOLUTION Q1.7
        hidden = self.net(x)
        return self.mean(hidden).float(), self.log_std(hidden).float()
        # END SOLUTION


class CNNDecoder(nn.Module):
    """The decoder p(x|z), which maps a latent vector to a categorical distribution for each pixel (Eq. 5, Q1.7).

    Args:
        num_input_channels: number of grey levels, i.e. channels of the logits.
        num_filters: channels of the last two hidden layers; the earlier ones have twice as many.
        z_dim: size D of the latent space.
    """

    def __init__(self, num_input_channels: int = GREY_LEVELS, num_filters: int = 32, z_dim: int = 20):
        super().__init__()
        # Q1.7: define the layers that map z to logits: the encoder in reverse.
        # Hint: a linear layer to 4x4 pixels, then transposed convolutions with stride 2 (4, 7, 14, 28). Where the size
        # doubles exactly, they need output_padding=1. The last one has no activation: logits can be any real number.
        # BEGIN SOLUTION Q1.7
        c = num_filters
        self.linear = nn.Sequential(nn.Linear(z_dim, 2 * c * 4 * 4), nn.GELU())
        self.net = nn.Sequential(
            nn.ConvTranspose2d(2 * c, 2 * c, kernel_size=3, stride=2, padding=1),  # 4 -> 7, hence no output padding
            nn.GELU(),
            nn.Conv2d(2 * c, 2 * c, kernel_size=3, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(2 * c, c, kernel_size=3, stride=2, padding=1, output_padding=1),  # 7 -> 14
            nn.GELU(),
            nn.Conv2d(c, c, kernel_size=3, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(c, num_input_channels, kernel_size=3, stride=2, padding=1, output_padding=1),  # -> 28
        )
        # END SOLUTION

    def forward(self, z: Tensor) -> Tensor:
        """Map z [B, D] to logits over the grey levels of each pixel [B, 16, 28, 28]."""
        # Q1.7: compute the logits for these codes.
        # Hint: between the linear layer and the convolutions, reshape [B, C * 4 * 4] to [B, C, 4, 4].
        # BEGIN SOLUTION Q1.7
        hidden = self.linear(z)
        return self.net(hidden.view(len(z), -1, 4, 4)).float()
        # END SOLUTION

    @property
    def device(self) -> torch.device:
        """The device of the parameters; z must be on it too."""
        return next(self.parameters()).device
