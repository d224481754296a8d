"""Tests of `python -m course diagnose` on trained runs."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from diagnose_cases import symptoms

import part1_vae.train as vae_program
import part2_aae.models as aae_models
import part2_aae.train as aae_program
from part3_gpt import gpt as gpt_models
from part3_gpt import train as gpt_program
from small_runs import Program

SMALL_VAE = ["--num_filters", "8", "--z_dim", "8", "--batch_size", "32", "--lr", "3e-3"]


SMALL_AAE = ["--num_filters", "8", "--z_dim", "8", "--batch_size", "64"]


SMALL_GPT = "--n_layer 2 --n_head 2 --n_embd 48 --block_size 32 --batch_size 32 --generate_every_n_steps 0".split()


# --- trained runs -----------------------------------------------------------------------------------------------------


def vae_losses(std: str, kl: str):
    """Return a `VAE.forward` that uses this as the std for sampling ("log_std", "std" or "none") and for the KL."""

    def losses(self, imgs):
        mean, log_std = self.encoder(imgs)
        scale = {"log_std": log_std, "std": log_std.exp(), "none": 0 * log_std}[std]
        logits = self.decoder(mean + scale * torch.randn_like(mean))
        rec = self._reconstruction(logits, imgs)
        reg = vae_program.KLD(mean, {"log_std": log_std, "std": log_std.exp()}[kl])
        return rec.mean(), reg.mean(), vae_program.elbo_to_bpd(rec + reg, imgs.shape).mean()

    return losses


def weighted(self, imgs):
    """Compute the losses of `VAE.forward` with a weight of 0.1 on the KL divergence."""
    mean, log_std = self.encoder(imgs)
    rec, reg = (
        self._reconstruction(self.decoder(mean + log_std.exp() * torch.randn_like(mean)), imgs),
        KLD(mean, log_std),
    )
    return rec.mean(), reg.mean(), vae_program.elbo_to_bpd(rec + 0.1 * reg, imgs.shape).mean()


def averaged(logits, imgs):
    return F.cross_entropy(logits, imgs.squeeze(1), reduction="none").mean(dim=(1, 2))


def adversarial_losses(generator: float = 1.0, cut: bool = False, lambda_of=lambda weight: weight):
    """Return a `get_loss_autoencoder` with another generator label, a cut gradient, or another weight."""

    def losses(self, x, recon_x, z_fake, lambda_=1):
        logits = self.discriminator(z_fake.detach() if cut else z_fake)
        recon, gen = F.mse_loss(recon_x, x), BCE(logits, torch.full_like(logits, generator))
        total = lambda_of(lambda_) * recon + (1 - lambda_of(lambda_)) * gen
        return total, {"gen_loss": gen.detach(), "recon_loss": recon.detach(), "ae_loss": total.detach()}

    return losses


def swapped(self, z_fake):
    """Compute `get_loss_discriminator` with the labels of real and fake codes swapped."""
    real, fake = self.discriminator(torch.randn_like(z_fake)), self.discriminator(z_fake.detach())
    loss_real, loss_fake = BCE(real, torch.zeros_like(real)), BCE(fake, torch.ones_like(fake))
    loss = (loss_real + loss_fake) / 2
    accuracy = torch.cat([real > 0, fake <= 0]).float().mean()
    return loss, {"disc_loss": loss.detach(), "loss_real": loss_real, "loss_fake": loss_fake, "accuracy": accuracy}


def no_discriminator_step(self, optimizer, loss):
    if not isinstance(optimizer.optimizer, torch.optim.SGD):
        STEP(self, optimizer, loss)


def no_mask(self, q, k, v):
    return F.softmax(q @ k.transpose(-2, -1) / math.sqrt(k.size(-1)), dim=-1) @ v


KLD, BCE, STEP = vae_program.KLD, F.binary_cross_entropy_with_logits, aae_program.LitAAE._step


GPT_STEP = gpt_program.LitGPT._step


VAE_CLASS, AAE_MODEL = vae_program.VAE, aae_models.AdversarialAE


SHORT, LONG = ["--limit_batches", "60", "--epochs", "2"], ["--limit_batches", "240", "--epochs", "2"]


ADVERSARIAL = [*SMALL_AAE, "--limit_batches", "100", "--epochs", "2"]


LEARNS = [*SMALL_GPT, "--limit_batches", "120", "--epochs", "2"]


# name: program, flags, replacement (owner, name, value), symptoms that must be reported, symptoms that may be
BANK = {
    "vae, healthy": ("vae", [*SMALL_VAE, *LONG], None, set(), set()),
    "vae, rate 1": ("vae", [*SMALL_VAE, *SHORT, "--lr", "1"], None, {"not finite"}, set()),
    "vae, rate 1e-7": ("vae", [*SMALL_VAE, *SHORT, "--lr", "1e-7"], None, {"small rate"}, set()),
    "vae, averaged": ("vae", [*SMALL_VAE, *SHORT], (VAE_CLASS, "_reconstruction", staticmethod(averaged)),
                      {"averaged"}, {"collapse"}),
    "vae, KL weighted less": ("vae", [*SMALL_VAE, *SHORT], (VAE_CLASS, "forward", weighted), {"sum"}, set()),
    "vae, KL weighted more": ("vae", [*SMALL_VAE, *SHORT], (vae_program, "KLD", lambda *z: 784 * KLD(*z)),
                              {"collapse"}, set()),
    "vae, KL subtracted": ("vae", [*SMALL_VAE, *SHORT], (vae_program, "KLD", lambda *z: -KLD(*z)), {"sign"},
                           {"overfitting", "rising", "large rate", "nothing"}),
    "vae, nats for bits": ("vae", [*SMALL_VAE, *SHORT], (vae_program, "elbo_to_bpd", lambda elbo, shape: elbo / 784),
                           {"bits"}, {"slow", "above"}),
    "vae, gradient cut": ("vae", [*SMALL_VAE, *SHORT],
                          (vae_program, "sample_reparameterize", lambda m, s: (m + s * torch.randn_like(s)).detach()),
                          {"collapse"}, set()),
    "vae, z from the prior": ("vae", [*SMALL_VAE, *SHORT],
                              (vae_program, "sample_reparameterize", lambda m, s: torch.randn_like(s)),
                              {"collapse"}, set()),
    "vae, no sampling": ("vae", [*SMALL_VAE, *LONG], (VAE_CLASS, "forward", vae_losses("none", "log_std")),
                         {"cheap"}, set()),
    "vae, KL of std": ("vae", [*SMALL_VAE, *LONG], (VAE_CLASS, "forward", vae_losses("std", "std")), {"cheap"}, set()),
    "aae, healthy": ("aae", ADVERSARIAL, None, set(), set()),
    "aae, rate 1e-7": ("aae", [*ADVERSARIAL, "--lr", "1e-7"], None, {"small rate"}, {"not trained", "chance"}),
    "aae, no step": ("aae", ADVERSARIAL, (aae_program.LitAAE, "_step", no_discriminator_step), {"not trained"}, set()),
    "aae, labels swapped": ("aae", ADVERSARIAL, (AAE_MODEL, "get_loss_discriminator", swapped), {"helps"}, set()),
    "aae, generator's label": ("aae", ADVERSARIAL, (AAE_MODEL, "get_loss_autoencoder", adversarial_losses(0.0)),
                               {"helps"}, set()),
    "aae, generator cut": ("aae", ADVERSARIAL, (AAE_MODEL, "get_loss_autoencoder", adversarial_losses(cut=True)),
                           {"never fooled"}, set()),
    "aae, lambda": ("aae", ADVERSARIAL,
                    (AAE_MODEL, "get_loss_autoencoder", adversarial_losses(lambda_of=lambda weight: 1 - weight)),
                    {"lambda"}, {"disc slow", "mean image", "black"}),
    "gpt, healthy": ("gpt", LEARNS, None, set(), set()),
    "gpt, rate 1": ("gpt", [*LEARNS, "--lr", "1"], None, {"large rate"}, set()),
    "gpt, rate 1e-7": ("gpt", [*LEARNS, "--lr", "1e-7"], None, {"small rate"}, set()),
    "gpt, no mask": ("gpt", [*SMALL_GPT, "--limit_batches", "400", "--epochs", "1", "--lr", "6e-3", "--no-flash"],
                     (gpt_models.CausalSelfAttention, "attention", no_mask), {"mask"}, set()),
    "gpt, not shifted": ("gpt", LEARNS,
                         (gpt_program.LitGPT, "_step", lambda lit, b, stage: GPT_STEP(lit, (b[0], b[0]), stage)),
                         {"shift"}, set()),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", BANK)
def test_the_bank_of_broken_runs(tmp_path, mnist_files, monkeypatch, one_thread, name):
    kind, flags, replaced, must, may = BANK[name]
    program = Program(kind, mnist_files, tmp_path / "logs")
    if replaced:
        monkeypatch.setattr(*replaced)
    monkeypatch.setattr(program.train.Figures, "pictures", lambda self, model: {})
    stops = "not finite" in must
    assert program(*flags) == stops
    found = symptoms(program.run())
    summary = program.run() / "summary.json"
    history = json.loads(summary.read_text())["history"] if summary.exists() else []
    assert must <= found <= must | may, (found, history)


@pytest.mark.slow
def test_a_text_that_is_too_small(tmp_path, one_thread, monkeypatch):
    """The model memorizes the small text, so the validation loss rises."""
    text = tmp_path / "small.txt"
    text.write_text(
        "".join(f"{number} times {number} is {number * number}, not {number + 7}.\n" for number in range(90))
    )
    program = Program("gpt", tmp_path, tmp_path / "logs")
    monkeypatch.setattr(program.train.Figures, "pictures", lambda self, model: {})
    words = ["--txt_file", str(text), *SMALL_GPT, "--batch_size", "8", "--limit_batches", "500", "--epochs", "12"]
    assert program(*words) == 0
    assert symptoms(program.run()) == {"overfitting"}
