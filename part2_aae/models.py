"""The networks of the adversarial autoencoder and its losses. Shapes: B batch, D latent; images are in -1..1."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from part2_aae.utils import mean_squared_gradient_error


def initialize(module: nn.Module) -> None:
    """Apply He initialization to one module: weights from N(0, 2/n), biases 0. Pass this function to `Module.apply`.

    In linear layers and convolutions, n is the number of inputs per output, so the variance of the output is twice the
    mean square of the input (less at the padded border); a ReLU would then halve it. In a transposed convolution,
    PyTorch uses n = kernel elements times *output* channels, but with stride 2 and a 3x3 kernel, an output depends on
    9/4 inputs per input channel on average. Its variance is therefore half the mean square, times input channels over
    output channels. With PyTorch's default initialization, a two-dimensional code initially changes the image so little
    that the decoder learns only the mean image and saturates its tanh; the gradient then vanishes.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(module.bias)


class ConvEncoder(nn.Module):
    """The encoder, which maps an image to a latent code (Q2.4).

    Args:
        z_dim: size D of the code.
        num_filters: channels of the first two layers; the deeper ones have twice as many.
    """

    def __init__(self, z_dim: int = 8, num_filters: int = 32):
        super().__init__()
        # Q2.4: define the layers that map an image to its code.
        # Hint: as in part 1, but end with one linear layer without an activation: a code can be any real vector.
        # BEGIN SOLUTION Q2.4
        c = num_filters
        self.net = nn.Sequential(
            nn.Conv2d(1, c, kernel_size=3, stride=2, padding=1),  # 28 -> 14
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
            nn.Linear(2 * c * 4 * 4, z_dim),
        )
        # END SOLUTION
        self.apply(initialize)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, 1, 28, 28] to codes [B, D]."""
        # Q2.4: compute the codes of these images.
        # Hint: call `.float()` at the end, so that the result is float32 even if the layers ran in bfloat16.
        # BEGIN SOLUTION Q2.4
        return self.net(x).float()
        # END SOLUTION


# the values of --reconstruction
RECONSTRUCTIONS = {"mse": F.mse_loss, "msge": mean_squared_gradient_error}


class ConvDecoder(nn.Module):
    """The decoder, which maps a latent code to an image (Q2.4).

    Args:
        z_dim: size D of the code.
        num_filters: channels of the last two hidden layers; the earlier ones have twice as many.
    """

    def __init__(self, z_dim: int = 8, num_filters: int = 32):
        super().__init__()
        # Q2.4: define the layers that map a code to an image in -1..1.
        # Hint: a linear layer to 4x4 pixels, then transposed convolutions with stride 2 (4, 7, 14, 28), and at the end
        # a function that limits the output to -1..1.
        # BEGIN SOLUTION Q2.4
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
            nn.ConvTranspose2d(c, 1, kernel_size=3, stride=2, padding=1, output_padding=1),  # 14 -> 28
            nn.Tanh(),
        )
        # END SOLUTION
        self.apply(initialize)

    def forward(self, z: Tensor) -> Tensor:
        """Map codes [B, D] to images in -1..1 [B, 1, 28, 28]."""
        # Q2.4: decode these codes.
        # Hint: as in part 1, reshape [B, C * 4 * 4] to [B, C, 4, 4] between the linear layer and the convolutions.
        # BEGIN SOLUTION Q2.4
        hidden = self.linear(z)
        return self.net(hidden.view(len(z), -1, 4, 4)).float()
        # END SOLUTION


class Discriminator(nn.Module):
    """Classifies codes as samples from the prior or as outputs of the encoder (Q2.5).

    Args:
        z_dim: size D of the code.
    """

    def __init__(self, z_dim: int = 8):
        super().__init__()
        # Q2.5: define the layers that map a code to one logit.
        # Hint: use the layers in the table in Section 2.4. The losses expect logits: the last layer has no activation.
        # BEGIN SOLUTION Q2.5
        self.net = nn.Sequential(
            nn.Linear(z_dim, 512),
            nn.LeakyReLU(0.2),
            nn.Linear(512, 512),
            nn.LeakyReLU(0.2),
            nn.Linear(512, 1),
        )
        # END SOLUTION

    def forward(self, z: Tensor) -> Tensor:
        """Map codes [B, D] to logits [B, 1]; a logit above 0 means "from the prior"."""
        # Q2.5: compute the logits of these codes.
        # Hint: return one number per code, not a probability, in float32 as in the other networks.
        # BEGIN SOLUTION Q2.5
        return self.net(z).float()
        # END SOLUTION


class AdversarialAE(nn.Module):
    """An autoencoder with a discriminator that compares its codes with the prior N(0, I).

    Args:
        z_dim: size D of the codes.
        num_filters: see `ConvEncoder`.
        reconstruction: "mse" or "msge" (the squared error of the image gradients).
        adversarial: if False, build a plain autoencoder without a discriminator.
    """

    def __init__(
        self,
        z_dim: int = 8,
        num_filters: int = 32,
        reconstruction: str = "mse",
        adversarial: bool = True,
    ):
        super().__init__()
        self.z_dim = z_dim
        self.encoder = ConvEncoder(z_dim, num_filters)
        self.decoder = ConvDecoder(z_dim, num_filters)
        self.discriminator = Discriminator(z_dim) if adversarial else None
        self.reconstruction_loss = RECONSTRUCTIONS[reconstruction]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images [B, 1, 28, 28] to their reconstructions [B, 1, 28, 28] and codes [B, D] (Q2.4)."""
        # Q2.4: encode the images, then decode their codes.
        # Hint: return both, in the order given in the docstring.
        # BEGIN SOLUTION Q2.4
        z = self.encoder(x)
        recon_x = self.decoder(z)
        return recon_x, z
        # END SOLUTION

    def get_loss_autoencoder(
        self, x: Tensor, recon_x: Tensor, z_fake: Tensor, lambda_: float = 1
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of encoder and decoder, Eq. 18b: their side of Eq. 15 (Q2.4, Q2.5).

        The encoder tries to make the discriminator classify its codes as samples from the prior. Its loss is the binary
        cross-entropy with the target "from the prior". Minimizing it has the same goal as minimizing Eq. 16, but its
        gradient does not vanish when the discriminator is confident.

        Args:
            x, recon_x: images and reconstructions [B, 1, 28, 28].
            z_fake: the codes of the images [B, D]; gradients flow back through them to the encoder.
            lambda_: weight of the reconstruction loss, 0..1. At 1, the discriminator is not used.

        Returns:
            the loss, a scalar; and for logging, detached: recon_loss (Eq. 18, mean over the pixels), gen_loss (Eq. 18c,
            nats per code; 0 if the discriminator is not used) and ae_loss, their sum weighted by lambda_ and
            1 - lambda_.
        """
        # Q2.4: compute recon_loss, the error of the reconstructions.
        # Hint: `self.reconstruction_loss` is the function chosen by --reconstruction, by default the mean squared
        # error.
        # BEGIN SOLUTION Q2.4
        recon_loss = self.reconstruction_loss(recon_x, x)
        # END SOLUTION
        gen_loss, ae_loss = torch.zeros_like(recon_loss), recon_loss
        if lambda_ != 1:
            # Q2.5: compute gen_loss, and ae_loss as the weighted sum of both losses.
            # Hint: gen_loss is low if the discriminator mistakes the codes for samples from the prior; compute it from
            # logits (F.binary_cross_entropy_with_logits).
            # BEGIN SOLUTION Q2.5
            logits = self.discriminator(z_fake)
            gen_loss = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
            ae_loss = lambda_ * recon_loss + (1 - lambda_) * gen_loss
            # END SOLUTION
        logs = {"gen_loss": gen_loss, "recon_loss": recon_loss, "ae_loss": ae_loss}
        return ae_loss, {name: value.detach() for name, value in logs.items()}

    def get_loss_discriminator(self, z_fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the discriminator's loss, Eq. 18a: the negative of Eq. 16 and 17, from logits (Q2.5).

        Args:
            z_fake: codes of images [B, D]; no gradient flows back through them.

        Returns:
            the loss, a scalar, in nats: the mean of loss_real and loss_fake; and for logging, detached: disc_loss,
            loss_real (samples from the prior), loss_fake (codes), and accuracy, the fraction classified correctly.
        """
        # Q2.5: compute loss_real, loss_fake, their mean disc_loss, and the accuracy.
        # Hint: draw as many codes from the prior N(0, I) as z_fake contains. No gradient may flow back to the encoder.
        # BEGIN SOLUTION Q2.5
        z_real = torch.randn_like(z_fake)
        real, fake = self.discriminator(z_real), self.discriminator(z_fake.detach())
        loss_real = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        loss_fake = F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
        disc_loss = (loss_real + loss_fake) / 2
        accuracy = torch.cat([real > 0, fake <= 0]).float().mean()
        # END SOLUTION
        logs = {"disc_loss": disc_loss, "loss_real": loss_real, "loss_fake": loss_fake, "accuracy": accuracy}
        return disc_loss, {name: value.detach() for name, value in logs.items()}

    @torch.no_grad()
    def sample(self, batch_size: int) -> Tensor:
        """Decode codes drawn from the prior: images in -1..1 [batch_size, 1, 28, 28] (Q2.5)."""
        # Q2.5: draw codes from the prior and decode them.
        # Hint: the prior is N(0, I) with `self.z_dim` dimensions; the codes must be on `self.device`.
        # BEGIN SOLUTION Q2.5
        return self.decoder(torch.randn(batch_size, self.z_dim, device=self.device))
        # END SOLUTION

    @property
    def device(self) -> torch.device:
        """The device of the parameters; images and codes must be on it too."""
        return next(self.parameters()).device
