"""Part 1: the VAE's formulas, networks and module."""

import torch
from torch import Tensor, nn

from adapters.stand_ins import (
    FixedEncoder,
    LinearDecoder,
    RowDecoder,
    gradient_of,
    gradient_sizes,
    has_convolution,
    left_alone,
    on_another_device,
    perturbed,
    replace,
    replayed,
    sample_several_times,
    to_be_replaced,
)

# --- part 1: utils.py -------------------------------------------------------------------------------------------------


def run_sample_reparameterize(mean: Tensor, std: Tensor) -> Tensor:
    """Return one draw of z."""
    from part1_vae.utils import sample_reparameterize

    mean, std = mean.clone(), std.clone()
    with left_alone(mean=mean, std=std):
        return sample_reparameterize(mean, std).detach()


def run_sample_reparameterize_gradients(mean: Tensor, std: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Return z; to_mean and to_std: gradients of sum(weight * z); wider: z with the same noise and twice the std."""
    from part1_vae.utils import sample_reparameterize

    on_another_device(lambda: sample_reparameterize(mean.to("meta"), std.to("meta")))
    mean, std = mean.clone().requires_grad_(), std.clone().requires_grad_()
    z, wider = replayed(lambda factor: sample_reparameterize(mean, factor * std), 1, 2)
    if z.requires_grad:
        (z * weight).sum().backward()
    return {"z": z.detach(), "wider": wider.detach(), "to_mean": gradient_of(mean), "to_std": gradient_of(std)}


def run_kld(mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the divergence, [...] for [..., D]."""
    from part1_vae.utils import KLD

    mean, log_std = mean.clone(), log_std.clone()
    with left_alone(mean=mean, log_std=log_std):
        return KLD(mean, log_std).detach()


def run_kld_per_dim(mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the terms of the divergence, [..., D]."""
    from part1_vae.utils import KLD_per_dim

    return KLD_per_dim(mean, log_std).detach()


def run_kld_gradients(mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the summed divergence with respect to mean and log_std."""
    from part1_vae.utils import KLD

    mean, log_std = mean.clone().requires_grad_(), log_std.clone().requires_grad_()
    KLD(mean, log_std).sum().backward()
    return mean.grad, log_std.grad


def run_elbo_to_bpd(elbo: Tensor, img_shape: tuple[int, ...]) -> Tensor:
    """Return bits per dimension [B]."""
    from part1_vae.utils import elbo_to_bpd

    elbo = elbo.clone()
    with left_alone(elbo=elbo):
        return elbo_to_bpd(elbo, img_shape)


def run_visualize_manifold(weight: Tensor, bias: Tensor, grid_size: int, training: bool) -> dict:
    """Draw the manifold of a linear decoder (weight [16, 28, 28, 2], bias [16, 28, 28]).

    Returns image [1 or 3, H, W]; z: the codes that the decoder received; training: the decoder's mode afterwards; left:
    a description of remaining gradients, or "".
    """
    from part1_vae.utils import visualize_manifold

    on_another_device(lambda: visualize_manifold(LinearDecoder(weight, bias).to("meta"), grid_size=grid_size))
    decoder = LinearDecoder(weight, bias).train(training)
    image = visualize_manifold(decoder, grid_size=grid_size)
    left = "the image requires gradients" if image.requires_grad else ""
    for parameter in decoder.parameters():
        left = left or ("the decoder's parameters have gradients" if parameter.grad is not None else "")
        left = left or ("" if parameter.requires_grad else "the decoder's parameters no longer require them")
    return {"image": image.detach(), "z": torch.cat(decoder.seen), "training": decoder.training, "left": left}


# --- part 1: cnn_encoder_decoder.py -------------------------------------------------------------------------------


def _network(name: str, seed: int, gain: float = 1, **sizes: int) -> nn.Module:
    """Return a fresh "CNNEncoder" or "CNNDecoder" whose parameters are multiplied by the gain."""
    from part1_vae import cnn_encoder_decoder

    torch.default_generator.manual_seed(seed)
    network = perturbed(getattr(cnn_encoder_decoder, name)(**sizes))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= gain
    return network


def run_encoder(imgs: Tensor, num_filters: int, z_dim: int, seed: int, gain: float = 1) -> tuple[Tensor, Tensor]:
    """Run a fresh encoder for the images' number of channels in evaluation mode -> mean, log_std, each [B, D].

    With a large gain, the inputs to a final activation, if there is one, are also large.
    """
    sizes = {"num_input_channels": imgs.size(1), "num_filters": num_filters, "z_dim": z_dim}
    imgs, encoder = imgs.clone(), _network("CNNEncoder", seed, gain, **sizes).eval()
    with left_alone(encoder, imgs=imgs):
        mean, log_std = encoder(imgs)
    return mean.detach(), log_std.detach()


def run_encoder_gradients(imgs: Tensor, num_filters: int, z_dim: int, seed: int) -> tuple[dict[str, float], bool]:
    """For a loss on mean and log_std, return the size of each parameter's gradient by name, and whether there is a
    convolution."""
    encoder = _network("CNNEncoder", seed, num_filters=num_filters, z_dim=z_dim)
    mean, log_std = encoder(imgs)
    return gradient_sizes(encoder, mean.square().sum() + log_std.square().sum()), has_convolution(encoder)


def run_decoder(z: Tensor, num_filters: int, seed: int, levels: int = 16, gain: float = 1) -> Tensor:
    """Run a fresh decoder in evaluation mode -> logits [B, levels, 28, 28]; gain: see `run_encoder`."""
    sizes = {"num_input_channels": levels, "num_filters": num_filters, "z_dim": z.size(1)}
    return _network("CNNDecoder", seed, gain, **sizes).eval()(z).detach()


def run_decoder_gradients(z: Tensor, num_filters: int, seed: int) -> tuple[dict[str, float], Tensor, bool]:
    """For a loss on the logits, return the size of each parameter's gradient by name, the gradient that reaches z, and
    whether there is a convolution."""
    decoder = _network("CNNDecoder", seed, num_filters=num_filters, z_dim=z.size(1))
    z = z.clone().requires_grad_()
    return gradient_sizes(decoder, decoder(z).square().sum(), z), gradient_of(z), has_convolution(decoder)


def run_decoder_device(device: str) -> str:
    """Return `decoder.device` of a decoder on this device."""
    return str(_network("CNNDecoder", 0, num_filters=4, z_dim=2).to(device).device)


# --- part 1: train.py -----------------------------------------------------------------------------------------------


def _vae(z_dim: int) -> nn.Module:
    from part1_vae.cnn_encoder_decoder import CNNDecoder, CNNEncoder
    from part1_vae.train import VAE

    with to_be_replaced(CNNEncoder, CNNDecoder):
        return VAE(num_filters=4, z_dim=z_dim, lr=1e-3)


def run_vae_forward(imgs: Tensor, mean: Tensor, log_std: Tensor, weight: Tensor, bias: Tensor) -> dict:
    """Run VAE.forward with an encoder that returns (mean, log_std) and a linear decoder.

    Returns L_rec, L_reg, bpd: scalars; z [B, D]: the codes that the decoder received; gradients: of the bpd with
    respect to mean, log_std, weight and bias.
    """
    vae = _vae(mean.size(1))
    mean, log_std = mean.clone().requires_grad_(), log_std.clone().requires_grad_()
    replace(vae, encoder=FixedEncoder(mean, log_std), decoder=LinearDecoder(weight, bias))
    imgs = imgs.clone()
    with left_alone(vae, imgs=imgs):
        rec, reg, bpd = vae(imgs)
    bpd.backward()
    inputs = (mean, log_std, vae.decoder.weight, vae.decoder.bias)
    gradients = [gradient_of(x) for x in inputs]
    losses = {"L_rec": rec.detach(), "L_reg": reg.detach(), "bpd": bpd.detach()}
    return {**losses, "z": vae.decoder.seen[-1], "gradients": gradients}


def run_vae_latents(imgs: Tensor, mean: Tensor, log_std: Tensor, weight: Tensor, bias: Tensor) -> list[Tensor]:
    """Return the codes that a VAE's decoder gets in two training calls, then evaluation with and without gradients."""
    vae = _vae(mean.size(1))
    replace(vae, encoder=FixedEncoder(mean, log_std), decoder=LinearDecoder(weight, bias))
    for training, gradients in ((True, True), (True, True), (False, True), (False, False)):
        with torch.set_grad_enabled(gradients):
            vae.train(training)(imgs)
    return vae.decoder.seen


def run_vae_reconstruction(imgs: Tensor, z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Call VAE._reconstruction with the logits of a linear decoder -> nats [B]."""
    from part1_vae.train import VAE

    return VAE._reconstruction(LinearDecoder(weight, bias)(z), imgs).detach()


def run_vae_slope(
    imgs: Tensor, mean: Tensor, log_std: Tensor, weight: Tensor, bias: Tensor, direction: Tensor, step: float
) -> dict[str, Tensor]:
    """Run VAE.forward at points along a direction in log_std, with the same noise each time.

    Returns gradient: of the bpd with respect to log_std [B, D]; below, above: the bpd one step to either side.
    """

    def forward(size: float) -> dict:
        return run_vae_forward(imgs, mean, log_std + size * direction, weight, bias)

    below, here, above = replayed(forward, -step, 0, step)
    return {"gradient": here["gradients"][1], "below": below["bpd"], "above": above["bpd"]}


def run_vae_sample(logits: Tensor, z_dim: int, batch_size: int, calls: int) -> tuple[list[Tensor], list[Tensor]]:
    """Call VAE.sample several times, with a decoder that returns logits[i % N] for image i of a batch, for any z.

    Returns the samples, and the z's that the decoder received.
    """
    vae = _vae(z_dim).train()
    replace(vae, decoder=RowDecoder(logits))
    with left_alone(vae):
        samples = sample_several_times(vae, batch_size, calls)
    on_another_device(lambda: vae.to("meta").sample(batch_size))
    return samples
