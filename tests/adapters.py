"""The only file that touches a submission: one plain function for each thing that is tested.

Tensors and numbers go in, tensors and numbers come out, and the tests judge what comes back. A submission is imported
when a function is called, so that one part can be tested without the others.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def _gradient(x: Tensor) -> Tensor:
    """The gradient that reached x; zeros if none did."""
    return torch.zeros_like(x) if x.grad is None else x.grad


# --- part 1: helpers that stand in for networks ---------------------------------------------------------------------


class _StandIn(nn.Module):
    """A linear network. Remembers the codes it was given, where it takes codes."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.bias = None if bias is None else nn.Parameter(bias.clone())
        self.seen: list[Tensor] = []

    @property
    def device(self) -> torch.device:
        return self.weight.device


def _no_layers(self, *args, **kwargs) -> None:
    nn.Module.__init__(self)
    self.nothing = nn.Parameter(torch.zeros(()))


@contextmanager
def _without_layers(*networks: type[nn.Module]) -> Iterator[None]:
    """Networks that are built meanwhile have no layers: stand-ins take their place, so that they need not be done."""
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(mock.patch.object(network, "__init__", _no_layers))
        yield


class _LinearDecoder(_StandIn):
    """A decoder whose logits are linear in z: weight [L, H, W, D], bias [L, H, W]. Remembers the z it was given."""

    def forward(self, z: Tensor) -> Tensor:
        self.seen.append(z.detach().clone())
        return torch.einsum("lhwd,bd->blhw", self.weight, z) + self.bias


class _FixedEncoder(nn.Module):
    """An encoder that answers with a given mean and log_std."""

    def __init__(self, mean: Tensor, log_std: Tensor):
        super().__init__()
        self.answer = (mean, log_std)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.answer


# --- part 1: utils.py -------------------------------------------------------------------------------------------------


def run_sample_reparameterize(mean: Tensor, std: Tensor) -> Tensor:
    """-> z, one draw."""
    from part1_vae.utils import sample_reparameterize

    return sample_reparameterize(mean, std).detach()


def run_sample_reparameterize_gradients(mean: Tensor, std: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """-> z, and the gradients of sum(weight * z) with respect to mean and std."""
    from part1_vae.utils import sample_reparameterize

    mean, std = mean.clone().requires_grad_(), std.clone().requires_grad_()
    z = sample_reparameterize(mean, std)
    if z.requires_grad:
        (z * weight).sum().backward()
    return z.detach(), _gradient(mean), _gradient(std)


def run_kld(mean: Tensor, log_std: Tensor) -> Tensor:
    """-> the divergence, [...] for [..., D]."""
    from part1_vae.utils import KLD

    return KLD(mean, log_std).detach()


def run_kld_gradients(mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
    """-> the gradients of the summed divergence with respect to mean and log_std."""
    from part1_vae.utils import KLD

    mean, log_std = mean.clone().requires_grad_(), log_std.clone().requires_grad_()
    KLD(mean, log_std).sum().backward()
    return mean.grad, log_std.grad


def run_elbo_to_bpd(elbo: Tensor, img_shape: tuple[int, ...]) -> Tensor:
    """-> bits per dimension [B]."""
    from part1_vae.utils import elbo_to_bpd

    return elbo_to_bpd(elbo, img_shape)


def run_visualize_manifold(weight: Tensor, bias: Tensor, grid_size: int, training: bool) -> dict:
    """The manifold of a linear decoder (weight [16, 28, 28, 2], bias [16, 28, 28]).

    -> image [1 or 3, H, W]; z: what the decoder was asked; training: its mode afterwards; grad: whether the image
    needs a gradient, or the parameters have one or need none any more.
    """
    from part1_vae.utils import visualize_manifold

    decoder = _LinearDecoder(weight, bias).train(training)
    image = visualize_manifold(decoder, grid_size=grid_size)
    left = image.requires_grad or any(p.grad is not None or not p.requires_grad for p in decoder.parameters())
    return {"image": image.detach(), "z": torch.cat(decoder.seen), "training": decoder.training, "grad": left}


# --- part 1: cnn_encoder_decoder.py -------------------------------------------------------------------------------


def _networks(num_filters: int, z_dim: int, seed: int) -> tuple[nn.Module, nn.Module]:
    from part1_vae.cnn_encoder_decoder import CNNDecoder, CNNEncoder

    torch.default_generator.manual_seed(seed)
    networks = CNNEncoder(num_filters=num_filters, z_dim=z_dim), CNNDecoder(num_filters=num_filters, z_dim=z_dim)
    return _shaken(networks[0]), _shaken(networks[1])


@torch.no_grad()
def _shaken(network: nn.Module) -> nn.Module:
    """As after some training: a layer may well begin at zero."""
    for parameter in network.parameters():
        parameter += 0.03 * torch.randn_like(parameter)
    return network


def _gradients(module: nn.Module) -> dict[str, float]:
    """Name of each parameter -> the sum of its gradient's absolute values; 0 if it got none."""
    return {name: float(_gradient(parameter).abs().sum()) for name, parameter in module.named_parameters()}


def run_encoder(imgs: Tensor, num_filters: int, z_dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """A fresh encoder in evaluation mode -> mean, log_std, each [B, D]."""
    encoder = _networks(num_filters, z_dim, seed)[0].eval()
    mean, log_std = encoder(imgs)
    return mean.detach(), log_std.detach()


def run_encoder_gradients(imgs: Tensor, num_filters: int, z_dim: int, seed: int) -> dict[str, float]:
    """-> names of the parameters, and the sizes of the gradients that reach them of a loss of mean and log_std."""
    encoder = _networks(num_filters, z_dim, seed)[0]
    mean, log_std = encoder(imgs)
    (mean.square().sum() + log_std.square().sum()).backward()
    return _gradients(encoder)


def run_decoder(z: Tensor, num_filters: int, seed: int) -> Tensor:
    """A fresh decoder in evaluation mode -> logits [B, 16, 28, 28]."""
    return _networks(num_filters, z.size(1), seed)[1].eval()(z).detach()


def run_decoder_gradients(z: Tensor, num_filters: int, seed: int) -> tuple[dict[str, float], Tensor]:
    """-> names of the decoder's parameters, and the sizes of the gradients that reach them of a loss of the logits;
    the gradient that reaches z."""
    decoder = _networks(num_filters, z.size(1), seed)[1]
    z = z.clone().requires_grad_()
    decoder(z).square().sum().backward()
    return _gradients(decoder), z.grad


def run_decoder_device(device: str) -> str:
    """-> what `decoder.device` says for a decoder that was moved there."""
    return str(_networks(4, 2, 0)[1].to(device).device)


# --- part 1: train.py -----------------------------------------------------------------------------------------------


def _vae(z_dim: int) -> nn.Module:
    from part1_vae.cnn_encoder_decoder import CNNDecoder, CNNEncoder
    from part1_vae.train import VAE

    with _without_layers(CNNEncoder, CNNDecoder):
        return VAE(num_filters=4, z_dim=z_dim, lr=1e-3)


def run_vae_forward(imgs: Tensor, mean: Tensor, log_std: Tensor, weight: Tensor, bias: Tensor) -> dict:
    """VAE.forward with an encoder that answers (mean, log_std) and a linear decoder.

    -> L_rec, L_reg, bpd: scalars; z [B, D]: what the decoder was given; gradients of the bpd with respect to mean,
    log_std, weight and bias.
    """
    vae = _vae(mean.size(1))
    mean, log_std = mean.clone().requires_grad_(), log_std.clone().requires_grad_()
    vae.encoder, vae.decoder = _FixedEncoder(mean, log_std), _LinearDecoder(weight, bias)
    rec, reg, bpd = vae(imgs)
    bpd.backward()
    inputs = (mean, log_std, vae.decoder.weight, vae.decoder.bias)
    gradients = [_gradient(x) for x in inputs]
    losses = {"L_rec": rec.detach(), "L_reg": reg.detach(), "bpd": bpd.detach()}
    return {**losses, "z": vae.decoder.seen[-1], "gradients": gradients}


def run_vae_sample(weight: Tensor, bias: Tensor, batch_size: int, calls: int) -> tuple[list[Tensor], list[Tensor]]:
    """VAE.sample with a linear decoder, called several times -> the samples, and the z's that the decoder was given."""
    vae = _vae(weight.size(-1)).eval()
    vae.decoder = _LinearDecoder(weight, bias)
    samples, latents = [], []
    for _ in range(calls):
        vae.decoder.seen.clear()
        samples.append(vae.sample(batch_size).detach())
        latents.append(torch.cat(vae.decoder.seen))
    return samples, latents


# --- part 2: helpers ------------------------------------------------------------------------------------------------


class _LinearEncoder(_StandIn):
    """An encoder whose codes are linear in the image: weight [D, 784]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


class _LinearDiscriminator(_StandIn):
    """A discriminator whose logit is linear in the code: weight [D], bias []. Remembers the codes it was given."""

    def forward(self, z: Tensor) -> Tensor:
        self.seen.append(z.detach().clone())
        return (z @ self.weight + self.bias)[:, None]


def _aae(z_dim: int) -> nn.Module:
    from part2_aae.models import AdversarialAE, ConvDecoder, ConvEncoder, Discriminator

    with _without_layers(ConvEncoder, ConvDecoder, Discriminator):
        return AdversarialAE(z_dim=z_dim)


def _network(name: str, z_dim: int, seed: int) -> nn.Module:
    from part2_aae import models

    torch.default_generator.manual_seed(seed)
    return _shaken(getattr(models, name)(z_dim=z_dim))


def _log(logs: dict) -> dict[str, float]:
    """Logged values, numbers or tensors, as numbers. One that still has its graph, and so keeps it alive, is NaN."""
    return {
        key: float("nan") if getattr(value, "requires_grad", False) else float(value) for key, value in logs.items()
    }


# --- part 2: models.py ------------------------------------------------------------------------------------------------


def run_aae_network(name: str, x: Tensor, z_dim: int, seed: int, gain: float = 1) -> Tensor:
    """A fresh "ConvEncoder", "ConvDecoder" or "Discriminator" in evaluation mode -> what it makes of x.

    Its parameters are multiplied by the gain first: with a large one, so is what comes before the last activation.
    """
    network = _network(name, z_dim, seed).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= gain
    return network(x).detach()


def run_aae_network_gradients(name: str, x: Tensor, z_dim: int, seed: int) -> tuple[dict[str, float], Tensor]:
    """-> names of the parameters, and the sizes of the gradients that reach them of a loss of the output; the gradient
    that reaches x."""
    network = _network(name, z_dim, seed)
    x = x.clone().requires_grad_()
    network(x).square().sum().backward()
    return _gradients(network), _gradient(x)


def run_aae_forward(x: Tensor, encoder: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """AdversarialAE.forward with a linear encoder [D, 784] and decoder ([1, 28, 28, D], [1, 28, 28]) -> recon_x, z."""
    aae = _aae(len(encoder))
    aae.encoder, aae.decoder = _LinearEncoder(encoder), _LinearDecoder(weight, bias)
    recon_x, z = aae(x)
    return recon_x.detach(), z.detach()


def run_aae_loss_autoencoder(
    x: Tensor, recon_x: Tensor, z_fake: Tensor, lambda_: float, weight: Tensor, bias: Tensor
) -> dict:
    """get_loss_autoencoder with a linear discriminator (weight [D], bias []).

    -> loss; logs: name -> number; gradients of the loss with respect to recon_x and z_fake.
    """
    aae = _aae(z_fake.size(1))
    aae.discriminator = _LinearDiscriminator(weight, bias)
    recon_x, z_fake = recon_x.clone().requires_grad_(), z_fake.clone().requires_grad_()
    loss, logs = aae.get_loss_autoencoder(x, recon_x, z_fake, lambda_)
    loss.backward()
    return {"loss": loss.detach(), "logs": _log(logs), "gradients": [_gradient(recon_x), _gradient(z_fake)]}


def run_aae_loss_discriminator(z_fake: Tensor, weight: Tensor, bias: Tensor) -> dict:
    """get_loss_discriminator with a linear discriminator (weight [D], bias []).

    -> loss; logs: name -> number; seen: the codes that the discriminator was given, of the prior and of z_fake;
    gradients of the loss with respect to weight and bias.
    """
    aae = _aae(z_fake.size(1))
    aae.discriminator = _LinearDiscriminator(weight, bias)
    loss, logs = aae.get_loss_discriminator(z_fake.clone().requires_grad_())
    loss.backward()
    gradients = [_gradient(aae.discriminator.weight), _gradient(aae.discriminator.bias)]
    result = {"loss": loss.detach(), "logs": _log(logs), "gradients": gradients}
    return {**result, "seen": torch.cat(aae.discriminator.seen)}


def run_aae_sample(weight: Tensor, bias: Tensor, batch_size: int, calls: int) -> tuple[list[Tensor], list[Tensor]]:
    """AdversarialAE.sample with a linear decoder, called several times -> the samples, and the z's it was given."""
    aae = _aae(weight.size(-1)).eval()
    aae.decoder = _LinearDecoder(weight, bias)
    samples, latents = [], []
    for _ in range(calls):
        aae.decoder.seen.clear()
        samples.append(aae.sample(batch_size).detach())
        latents.append(torch.cat(aae.decoder.seen))
    return samples, latents


# --- part 2: train.py -----------------------------------------------------------------------------------------------


def run_aae_training(x: Tensor, lambda_: float, ae_lr: float, d_lr: float, weights: dict[str, Tensor]) -> list[dict]:
    """Train linear networks on the batches x [batches, B, 1, 28, 28], through Lightning's Trainer.

    Args:
        weights: "encoder.weight" [D, 784], "decoder.weight" [1, 28, 28, D], "decoder.bias" [1, 28, 28],
            "discriminator.weight" [D], "discriminator.bias" [].

    -> for each batch: steps of optimizers in their order (class, lr, betas or None; weights and gradients, of the
    parameters it trains, just before it; weights after it), seen: the codes that the discriminator was given, and
    logged: what the training step returned, but for the loss.
    """
    import logging
    import warnings

    import pytorch_lightning as pl

    from part2_aae.models import ConvDecoder, ConvEncoder, Discriminator
    from part2_aae.train import LitAAE

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    z_dim = len(weights["encoder.weight"])
    with _without_layers(ConvEncoder, ConvDecoder, Discriminator):
        lit = LitAAE(z_dim=z_dim, lambda_=lambda_, ae_lr=ae_lr, d_lr=d_lr)
    lit.model.encoder = _LinearEncoder(weights["encoder.weight"])
    lit.model.decoder = _LinearDecoder(weights["decoder.weight"], weights["decoder.bias"])
    lit.model.discriminator = _LinearDiscriminator(weights["discriminator.weight"], weights["discriminator.bias"])
    parameters = {name: lit.model.get_parameter(name) for name in weights}
    result: list[dict] = []

    def values() -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in parameters.items()}

    def before_step(optimizer, *_):
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        group = optimizer.param_groups[0]
        step = {"class": type(optimizer).__name__, "lr": group["lr"], "betas": group.get("betas"), "before": values()}
        step["gradients"] = {name: _gradient(p).clone() for name, p in parameters.items() if id(p) in trained}
        result[-1]["steps"].append(step)

    def after_step(optimizer, *_):
        result[-1]["steps"][-1]["after"] = values()

    class Watch(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            for optimizer in trainer.optimizers:
                optimizer.register_step_pre_hook(before_step)
                optimizer.register_step_post_hook(after_step)

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            lit.model.discriminator.seen.clear()
            result.append({"start": values(), "steps": []})

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            logged = {name: value for name, value in (outputs or {}).items() if name != "loss"}
            seen = lit.model.discriminator.seen
            result[-1].update(
                logged=_log(logged), seen=torch.cat(seen) if seen else torch.zeros(0, len(weights["encoder.weight"]))
            )

    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, callbacks=[Watch()],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    batches = [(batch, torch.zeros(len(batch), dtype=torch.int64)) for batch in x]
    trainer.fit(lit, torch.utils.data.DataLoader(batches, batch_size=None))
    return result


# --- part 3: helpers --------------------------------------------------------------------------------------------------


def _gpt_config(**fields):
    from part3_gpt.gpt import GPT

    config = GPT.get_default_config()
    for name, value in fields.items():
        setattr(config, name, value)
    return config


@torch.no_grad()
def _filled(module: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """The module with some of its parameters set."""
    for name, value in weights.items():
        module.get_parameter(name).copy_(value)
    return module


def _attention(weights: dict[str, Tensor], n_head: int, block_size: int, **fields) -> nn.Module:
    """CausalSelfAttention with these weights, in evaluation mode; without dropout and written out unless said so."""
    from part3_gpt.gpt import CausalSelfAttention

    sizes = {"n_layer": 1, "n_head": n_head, "n_embd": len(weights["c_proj.weight"]), "vocab_size": 2}
    fields = {"flash": False, "attn_pdrop": 0.0, "resid_pdrop": 0.0} | fields
    return _filled(CausalSelfAttention(_gpt_config(**sizes, block_size=block_size, **fields)), weights).eval()


def _gpt(sizes: dict[str, int], seed: int, gain: float, weights: dict[str, Tensor] | None, flash: bool) -> nn.Module:
    """A GPT in evaluation mode, without dropout; the noise of the tests goes on as if none had been drawn for it.

    Its matrices are multiplied by the gain first: fresh ones are so small that the tokens hardly matter to each other.
    """
    from part3_gpt.gpt import GPT

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = GPT(_gpt_config(**sizes, flash=flash, embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= gain if parameter.dim() > 1 else 1
    return _filled(model, weights or {}).eval()


class _Watch(TorchFunctionMode):
    """Whether PyTorch's own attention is called."""

    fused = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.fused |= "attention" in getattr(func, "__name__", "")
        return func(*args, **(kwargs or {}))


# --- part 3: gpt.py ---------------------------------------------------------------------------------------------------


def run_attention(
    x: Tensor,
    weights: dict[str, Tensor],
    n_head: int,
    block_size: int,
    flash: bool = False,
    training: bool = False,
    attn_pdrop: float = 0.0,
    resid_pdrop: float = 0.0,
) -> Tensor:
    """CausalSelfAttention -> what it makes of x [B, T, C].

    Args:
        weights: "c_attn.weight" [3C, C] and "c_attn.bias" [3C], of queries, keys and values in this order,
            "c_proj.weight" [C, C] and "c_proj.bias" [C].
        flash: the provided path through PyTorch's kernel, not the one that is written out.
    """
    attention = _attention(
        weights, n_head, block_size, flash=flash, attn_pdrop=attn_pdrop, resid_pdrop=resid_pdrop
    ).train(training)
    return attention(x).detach()


def run_attention_gradients(
    x: Tensor, weights: dict[str, Tensor], n_head: int, block_size: int, direction: Tensor
) -> dict[str, Tensor]:
    """-> the gradients of sum(direction * output), while training, with respect to x ("x") and to each weight."""
    attention = _attention(weights, n_head, block_size).train()
    x = x.clone().requires_grad_()
    (attention(x) * direction).sum().backward()
    return {"x": _gradient(x)} | {name: _gradient(attention.get_parameter(name)) for name in weights}


def run_attention_twice(x: Tensor, weights: dict[str, Tensor], n_head: int, block_size: int) -> dict:
    """One CausalSelfAttention called two times.

    -> outputs of both calls; x and weights as they are afterwards; fused: whether it called PyTorch's own attention.
    """
    attention = _attention(weights, n_head, block_size)
    x = x.clone()
    with _Watch() as watch, torch.no_grad():
        outputs = [attention(x).clone() for _ in range(2)]
    afterwards = {name: attention.get_parameter(name).detach() for name in weights}
    return {"outputs": outputs, "x": x, "weights": afterwards, "fused": watch.fused}


def run_attention_in_pieces(
    x: Tensor, weights: dict[str, Tensor], n_head: int, block_size: int, lengths: list[int]
) -> Tensor:
    """x cut along T into pieces of these lengths, one after the other with a key/value cache -> outputs [B, T, C]."""
    from part3_gpt.gpt import KVCache

    attention, cache = _attention(weights, n_head, block_size), KVCache(x.size(1))
    with torch.no_grad():
        return torch.cat([attention(piece, cache) for piece in x.split(lengths, dim=1)], dim=1)


def run_gpt_logits(
    idx: Tensor,
    sizes: dict[str, int],
    seed: int,
    gain: float = 1.0,
    weights: dict[str, Tensor] | None = None,
    flash: bool = False,
    batches: Tensor | None = None,
) -> Tensor:
    """GPT.forward in evaluation mode -> logits [B, T, V].

    Args:
        sizes: n_layer, n_head, n_embd, vocab_size and block_size.
        seed, gain: of its random weights, see `_gpt`.
        weights: some of its parameters, by name, if they are not to be random.
        flash: see `run_attention`.
        batches: it is trained on these first [steps, B, T + 1], by plain gradient descent.
    """
    model = _gpt(sizes, seed, gain, weights, flash).train()
    for batch in () if batches is None else batches:
        model.zero_grad()
        model(batch[:, :-1], batch[:, 1:])[1].backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * _gradient(parameter)
    with torch.no_grad():
        return model.eval()(idx)[0]


def run_generate(
    idx: Tensor,
    max_new_tokens: int,
    sizes: dict[str, int],
    seed: int,
    gain: float = 1.0,
    weights: dict[str, Tensor] | None = None,
    flash: bool = True,
    generator_seed: int | None = None,
    **options,
) -> dict[str, Tensor]:
    """GPT.generate -> tokens [B, T + max_new_tokens]; idx: the prompts as they are afterwards.

    Args:
        sizes, seed, gain, weights, flash: as in `run_gpt_logits`.
        generator_seed: of a generator for the draws; without one, none is given.
        options: temperature, do_sample, top_k, top_p, use_cache.
    """
    if generator_seed is not None:
        options["generator"] = torch.Generator().manual_seed(generator_seed)
    idx = idx.clone()
    tokens = _gpt(sizes, seed, gain, weights, flash).generate(idx, max_new_tokens, **options)
    return {"tokens": tokens.clone(), "idx": idx}


# --- runs that are handed in ------------------------------------------------------------------------------------------


def _stored(path: str, network: type[nn.Module], flags: dict[str, float]) -> nn.Module:
    """The network of a checkpoint, in evaluation mode. Nothing is unpickled but numbers, texts and tensors.

    Args:
        flags: what it is built with if the checkpoint does not say.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    model = network(**(checkpoint.get("hyper_parameters") or flags))
    model.load_state_dict(checkpoint["state_dict"], strict=True)
    return model.eval()


def _stored_vae(path: str, flags: dict[str, float]) -> nn.Module:
    from part1_vae.train import VAE

    return _stored(path, VAE, flags)


def _stored_aae(path: str, flags: dict[str, float]) -> nn.Module:
    from part2_aae.train import LitAAE

    return _stored(path, LitAAE, flags).model


@torch.no_grad()
def run_stored_vae_encode(path: str, flags: dict[str, float], imgs: Tensor) -> tuple[Tensor, Tensor]:
    """The VAE of a checkpoint -> mean and log_std of integers 0..15 [B, 1, 28, 28], each [B, D]."""
    mean, log_std = _stored_vae(path, flags).encoder(imgs)
    return mean, log_std


@torch.no_grad()
def run_stored_vae_decode(path: str, flags: dict[str, float], z: Tensor) -> Tensor:
    """The VAE of a checkpoint -> logits of codes [B, D], [B, 16, 28, 28]."""
    return _stored_vae(path, flags).decoder(z)


@torch.no_grad()
def run_stored_aae_encode(path: str, flags: dict[str, float], imgs: Tensor) -> Tensor:
    """The autoencoder of a checkpoint -> codes [B, D] of images in -1..1 [B, 1, 28, 28]."""
    return _stored_aae(path, flags).encoder(imgs)


@torch.no_grad()
def run_stored_aae_decode(path: str, flags: dict[str, float], z: Tensor) -> Tensor:
    """The autoencoder of a checkpoint -> images of codes [B, D], [B, 1, 28, 28]."""
    return _stored_aae(path, flags).decoder(z)


def run_event_curves(
    paths: list[str], most_tags: int = 200, most_points: int = 20_000
) -> dict[str, tuple[Tensor, Tensor]]:
    """The scalars in event files -> tag: steps (int64 [N]) and values (float64 [N]), in the order they were written.

    Args:
        paths: the files of one run, in the order they were written.
        most_tags, most_points: so many tags, and points of each, are read; what comes after is left out.
    """
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    curves: dict[str, list[tuple[int, float]]] = {}
    for path in paths:
        for event in LegacyEventFileLoader(path).Load():
            for value in event.summary.value:
                if value.WhichOneof("value") != "simple_value":
                    continue
                if value.tag in curves or len(curves) < most_tags:
                    points = curves.setdefault(value.tag, [])
                    points += [(event.step, value.simple_value)] * (len(points) < most_points)
    return {
        tag[:200]: (torch.tensor([step for step, _ in points]), torch.tensor([y for _, y in points]).double())
        for tag, points in curves.items()
    }
