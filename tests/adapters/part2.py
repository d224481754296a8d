"""Part 2: the networks and losses of the adversarial autoencoder."""

import torch
from torch import Tensor, nn

from adapters.stand_ins import (
    LinearDecoder,
    LinearDiscriminator,
    LinearEncoder,
    TableDiscriminator,
    as_numbers,
    gradient_of,
    gradient_sizes,
    has_convolution,
    left_alone,
    on_another_device,
    perturbed,
    replace,
    sample_several_times,
    to_be_replaced,
)  # fmt: skip


def _aae(z_dim: int) -> nn.Module:
    from part2_aae.models import AdversarialAE, ConvDecoder, ConvEncoder, Discriminator

    with to_be_replaced(ConvEncoder, ConvDecoder, Discriminator):
        return AdversarialAE(z_dim=z_dim)


def _network(name: str, z_dim: int, seed: int) -> nn.Module:
    from part2_aae import models

    torch.default_generator.manual_seed(seed)
    return perturbed(getattr(models, name)(z_dim=z_dim))


# --- part 2: models.py ------------------------------------------------------------------------------------------------


def run_aae_network(name: str, x: Tensor, z_dim: int, seed: int, gain: float = 1) -> Tensor:
    """Run a fresh "ConvEncoder", "ConvDecoder" or "Discriminator" in evaluation mode -> its output for x.

    Its parameters are first multiplied by the gain; if this is large, so are the inputs to the last activation.
    """
    network = _network(name, z_dim, seed).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= gain
    return network(x).detach()


def run_discriminators(z: Tensor, number: int, gain: float = 1) -> Tensor:
    """Run `number` newly initialized discriminators (see `run_aae_network`) -> their logits [number, B]."""
    logits = [run_aae_network("Discriminator", z, z.size(1), seed, gain) for seed in range(number)]
    return torch.stack([each.flatten() for each in logits])


def run_aae_network_gradients(name: str, x: Tensor, z_dim: int, seed: int) -> tuple[dict[str, float], Tensor, bool]:
    """For a loss on the output, return the size of each parameter's gradient by name, the gradient that reaches x, and
    whether there is a convolution."""
    network = _network(name, z_dim, seed)
    x = x.clone().requires_grad_()
    loss = network(x).square().sum()
    return gradient_sizes(network, loss, x), gradient_of(x), has_convolution(network)


def run_aae_forward(x: Tensor, encoder: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Run AdversarialAE.forward with linear encoder [D, 784] and decoder [1, 28, 28, D], [1, 28, 28] -> recon_x, z."""
    aae = _aae(len(encoder))
    replace(aae, encoder=LinearEncoder(encoder), decoder=LinearDecoder(weight, bias))
    recon_x, z = aae(x)
    return recon_x.detach(), z.detach()


def run_aae_loss_autoencoder(
    x: Tensor, recon_x: Tensor, z_fake: Tensor, lambda_: float, weight: Tensor, bias: Tensor
) -> dict:
    """Call get_loss_autoencoder with a linear discriminator (weight [D], bias []).

    Returns loss; logs: name -> number; gradients: of the loss with respect to recon_x and z_fake.
    """
    aae = _aae(z_fake.size(1))
    replace(aae, discriminator=LinearDiscriminator(weight, bias))
    recon_x, z_fake = recon_x.clone().requires_grad_(), z_fake.clone().requires_grad_()
    x = x.clone()
    with left_alone(aae, x=x, recon_x=recon_x, z_fake=z_fake):
        loss, logs = aae.get_loss_autoencoder(x, recon_x, z_fake, lambda_)
    loss.backward()
    elsewhere = [each.to("meta") for each in (x, recon_x, z_fake)]
    gradients = [gradient_of(recon_x), gradient_of(z_fake)]
    on_another_device(lambda: aae.to("meta").get_loss_autoencoder(*elsewhere, lambda_))
    return {"loss": loss.detach(), "logs": as_numbers(logs), "gradients": gradients}


def run_aae_loss_discriminator(z_fake: Tensor, fake: Tensor, real: Tensor) -> dict:
    """Call get_loss_discriminator; the codes z_fake have the logits fake [B], all other codes the logit real [].

    Returns loss; logs: name -> number; seen: the codes that the discriminator received, from the prior and from z_fake;
    to_fake, to_real: gradients of the loss with respect to these logits.
    """
    aae = _aae(z_fake.size(1))
    replace(aae, discriminator=TableDiscriminator(z_fake, fake, real))
    given = z_fake.clone().requires_grad_()
    with left_alone(aae, z_fake=given):
        loss, logs = aae.get_loss_discriminator(given)
    loss.backward()
    result = {"loss": loss.detach(), "logs": as_numbers(logs), "seen": torch.cat(aae.discriminator.seen)}
    return {
        **result, "to_fake": gradient_of(aae.discriminator.weight), "to_real": gradient_of(aae.discriminator.bias),
    }  # fmt: skip


def run_aae_prior(z_fake: Tensor, calls: int) -> list[Tensor]:
    """Call one model's get_loss_discriminator several times -> the codes that the discriminator received in each."""
    aae = _aae(z_fake.size(1))
    weight, bias = torch.zeros(z_fake.size(1)), torch.zeros(())
    replace(aae, discriminator=LinearDiscriminator(weight, bias))
    seen = aae.discriminator.seen
    ends = [aae.get_loss_discriminator(z_fake.clone()) and len(seen) for _ in range(calls)]
    codes = [torch.cat(seen[first:end]) for first, end in zip([0, *ends], ends, strict=False)]
    on_another_device(lambda: aae.to("meta").get_loss_discriminator(z_fake.to("meta")))
    return codes


def run_aae_sample(weight: Tensor, bias: Tensor, batch_size: int, calls: int) -> tuple[list[Tensor], list[Tensor]]:
    """Call AdversarialAE.sample several times, with a linear decoder -> the samples, and the decoder's inputs z."""
    aae = _aae(weight.size(-1)).train()
    replace(aae, decoder=LinearDecoder(weight, bias))
    with left_alone(aae):
        samples = sample_several_times(aae, batch_size, calls)
    on_another_device(lambda: aae.to("meta").sample(batch_size))
    return samples
