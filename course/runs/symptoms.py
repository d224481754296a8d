"""The rules of `python -m course diagnose` for the runs of each part."""

import math
from collections.abc import Callable

from course.runs.folder import Run, is_number
from course.runs.remarks import LARGE_RATE, Remark, Remarks, rate_is, rates, stuck

UNIFORM_NATS = 2174  # an image of 16 grey levels, all equally likely: 4 bits per dimension
# The best result of a decoder that ignores z, measured on the training images of MNIST.
FIXED_BPD, FIXED_NATS = 0.98, 532.5  # with the best fixed distribution for each pixel; 4-bit images
LIMITED_BPD = math.log2(math.e + 15 / math.e) - math.log2(math.e)  # lower bound with logits in -1..1: 1.6
BLACK, MEAN_IMAGE = 0.448, 0.269  # squared error per pixel of a black image and of the mean image, in -1..1


# --- the VAE ----------------------------------------------------------------------------------------------------------


def vae_first_step(run: Run) -> Remarks:
    """Compare the first step with a uniform decoder over 16 grey levels: 4 bits per dimension, 2174 nats per image."""
    nats, bpd = run.first_step.get("train/reconstruction_step"), run.first_step.get("train/bpd_step")
    if nats is not None and not UNIFORM_NATS / 1.5 < nats < UNIFORM_NATS * 1.5:
        seen = f"the reconstruction loss at the first step is {nats:.4g} nats, not near {UNIFORM_NATS:.0f} per image"
        few = "it may be averaged over the pixels instead of summed (Eq. 13)"
        yield Remark(seen, few if nats < UNIFORM_NATS else "it may be summed over the batch instead of averaged")
    elif bpd is not None and not 3.5 < bpd < 4.5:
        seen = f"the first step has {bpd:.4g} bits per dimension; with 16 grey levels, 4 are expected"
        yield Remark(seen, "check elbo_to_bpd: the factor log2(e) (2.77 without it), and the number of dimensions")


def vae_sum(run: Run) -> Remarks:
    """Check that the bpd changes in proportion to the sum of the two terms of the loss, from the first step on."""
    names = ("bpd", "reconstruction", "regularization")
    bpd, nats, kl = last = [run.last(f"val/{name}") for name in names]
    if None in last:
        return
    if kl < -0.01 or bpd < 0:
        seen = f"val/regularization is {kl:.4g} nats and val/bpd {bpd:.4g}; neither can be negative"
        yield Remark(seen, "the KL divergence may have the wrong sign or a wrong term: check KLD")
        return
    first_bpd, first_nats, first_kl = first = [run.first_step.get(f"train/{name}_step") for name in names]
    if None in first or first_nats + first_kl <= 0:
        return
    expected = first_bpd * (nats + kl) / (first_nats + first_kl)
    if abs(bpd - expected) > 0.02 * expected:
        seen = (
            f"val/bpd is {bpd:.4g}; reconstruction ({nats:.4g} nats) and regularization ({kl:.4g}) give {expected:.4g}"
        )
        yield Remark(seen, "check how the loss combines them: is a term missing or weighted, or is the unit wrong?")


def vae_limited(run: Run) -> Remarks:
    """Report a bpd that is stuck above the lowest value that logits in -1..1 allow."""
    bpd = run.last("val/bpd")
    if _is_limited(run):
        seen = f"val/bpd stays at {bpd:.4g}; with logits in -1..1 it cannot fall below {LIMITED_BPD:.2g}{rates(run)}"
        yield Remark(seen, "is there a tanh or a sigmoid after the decoder's last layer? Logits need no activation")


def _is_limited(run: Run) -> bool:
    bpd, kl = run.last("val/bpd"), run.last("val/regularization")
    learned = bpd is not None and LIMITED_BPD < bpd < 0.9 * run.first_step.get("train/bpd_step", 4)
    return learned and stuck(run, "val/bpd") and kl is not None and kl > -0.01


def vae_collapse(run: Run) -> Remarks:
    """Report that z seems to carry no information; the best output is then the same blurred image for every z."""
    bpd, nats, kl = (run.last(f"val/{name}") for name in ("bpd", "reconstruction", "regularization"))
    if bpd is None or nats is None or kl is None or kl < -0.01 or _is_limited(run):
        return
    fixed = f"val/bpd is {bpd:.4g}; the same blurred image for every z gives {FIXED_BPD}"
    if kl < 0.1 and nats < 0.9 * UNIFORM_NATS:
        seen = f"val/regularization is {kl:.2g} nats, " + (fixed if bpd > 0.9 else f"val/bpd {bpd:.4g}")
        where = "does the decoder get z from sample_reparameterize? Does its gradient reach the encoder?"
        weight = "Is the weight of the KL divergence too large? Look at the reconstructions"
        yield Remark(seen, f"z may carry no information (posterior collapse): {where} {weight}")
    elif abs(bpd - FIXED_BPD) < 0.1 and run.done > 2 and stuck(run, "val/bpd"):
        minor = bool(run.flags.get("limit_batches"))
        yield Remark(fixed, "the decoder may make little use of z: see the reconstructions and val/active_dims", minor)


def vae_too_good(run: Run) -> Remarks:
    """Report good reconstructions with a low KL divergence: z lacks the noise that the KL divergence assumes."""
    nats, kl, bpd = (run.last(f"val/{name}") for name in ("reconstruction", "regularization", "bpd"))
    if nats is None or kl is None or bpd is None or kl < 0.1 or bpd < 0.3:  # a bpd this low is in a different unit
        return
    gain = FIXED_NATS - nats
    if gain > 40 and gain > 25 * kl:
        seen = f"the KL divergence is {kl:.3g} nats, but reconstruction is {gain:.0f} nats better than one fixed image"
        noise = "is there noise in z, and is each function given the quantity that its docstring names?"
        yield Remark(seen, f"so small a KL divergence cannot carry that much information: {noise}")


def vae_slow(run: Run) -> Remarks:
    """Check that the bpd is below 2 after two epochs (see the assignment), and later below that of a fixed image."""
    bpd, minor = run.last("val/bpd"), bool(run.flags.get("limit_batches"))
    if bpd is None or run.done < 2 or bpd > 0.97 * run.first_step.get("train/bpd_step", 4) or _is_limited(run):
        return
    if bpd > 2:
        seen = f"val/bpd is {bpd:.4g} after {run.done} epochs; it should be below 2 after two{rates(run)}"
        yield Remark(seen, "the learning rate may be too low or too high", minor)
    elif bpd > FIXED_BPD + 0.1 and stuck(run, "val/bpd"):
        seen = f"val/bpd stays at {bpd:.4g}; even one blurred image for every z gives {FIXED_BPD}{rates(run)}"
        yield Remark(
            seen, "check the decoder's last layers (no activation after the logits) and the learning rate", minor
        )


# --- the AAE ----------------------------------------------------------------------------------------------------------


def aae_reconstruction(run: Run) -> Remarks:
    """Report losses typical of decoders that ignore the code, and values that are impossible after a tanh."""
    value = run.last("val/recon_loss")
    if value is None or run.flags.get("reconstruction", "mse") != "mse":
        return
    first = run.first_step.get("train/recon_loss_step", 0)
    if max(value, first) > 4:
        seen = f"the reconstruction loss is {max(value, first):.4g}; for images in -1..1 it is at most 4 per pixel"
        yield Remark(seen, "it may be summed over the pixels or the batch instead of averaged")
    elif abs(value - BLACK) < 0.02 and stuck(run, "val/recon_loss"):
        seen = f"val/recon_loss stays at {value:.4g}; a black image gives {BLACK}"
        yield Remark(seen, f"the tanh may be saturated: check the initialization and the learning rate{rates(run)}")
    elif abs(value - MEAN_IMAGE) < 0.02 and stuck(run, "val/recon_loss"):
        seen = f"val/recon_loss stays at {value:.4g}; the mean of all images gives {MEAN_IMAGE}"
        yield Remark(seen, "the code may carry no information: does the gradient reach the encoder?")
    elif run.flags.get("z_dim") == 8 and run.done >= 40 and (lowest := min(run.curve("val/recon_loss")[1])) > 0.05:
        seen = f"val/recon_loss fell only to {lowest:.4g} in {run.done} epochs; with z_dim 8, it should be below 0.05"
        yield Remark(seen, f"check lambda, the learning rate{rates(run)} and the encoder's and decoder's layers")


def aae_sum(run: Run) -> Remarks:
    """Check that the autoencoder's loss is the mean of its two terms, weighted by --lambda_."""
    weight = run.flags.get("lambda_")
    total, recon, gen = (run.last(f"train/{name}") for name in ("ae_loss", "recon_loss", "gen_loss"))
    if not is_number(weight) or total is None or recon is None:
        return
    gen = gen or 0
    error = (total - gen) - weight * (recon - gen)  # without dividing by recon - gen, which can be 0
    expected = total - error
    if abs(error) > 0.02 * abs(expected):
        seen = f"train/ae_loss is {total:.4g}; with --lambda_ {weight:g} its two terms give {expected:.4g}"
        yield Remark(seen, "lambda_ may be on the wrong term: it is the weight of the reconstruction")


def aae_discriminator(run: Run) -> Remarks:
    """Report that the discriminator or the encoder has won or is not learning."""
    _, accuracies = run.curve("val/accuracy")
    if not accuracies:
        return
    accuracy = accuracies[-1]
    disc, gen, mmd = (run.last(f"val/{name}") for name in ("disc_loss", "gen_loss", "mmd"))
    seen = f"val/accuracy of the discriminator is {accuracy:.3g} in epoch {run.done}"
    if gen is not None and gen < 0.3 and not 0.2 < accuracy < 0.9:
        seen += f" with val/gen_loss at {gen:.2g}"
        both = "the encoder may help the discriminator instead of fooling it: check the real, fake and generator labels"
        yield Remark(seen, both)
    elif accuracy > 0.99:
        cut = "is the generator's loss part of ae_loss, and does its gradient reach the encoder?"
        yield Remark(seen, f"the encoder may not be learning to fool the discriminator: {cut}")
    elif _unchanged(accuracies) or _unchanged(run.curve("val/loss_real")[1]):
        name = "val/accuracy" if _unchanged(accuracies) else "val/loss_real"
        yield Remark(
            f"{seen}; {name} is the same in every epoch", "it may not be trained at all: does its optimizer step?"
        )
    elif disc is not None and disc > 0.75:
        seen += f" with val/disc_loss at {disc:.3g}; always answering 1/2 gives {math.log(2):.3g}"
        yield Remark(
            seen, f"it learns more slowly than the encoder: check its labels and its learning rate{rates(run)}"
        )
    elif abs(accuracy - 0.5) < 0.02 and mmd is not None and mmd > 0.1:
        seen += f", which is chance level, although the codes are far from the prior (val/mmd {mmd:.3g})"
        yield Remark(seen, "it may give every code the same answer: check its layers and its learning rate")


def _unchanged(values: list[float]) -> bool:
    """Return whether all epochs have the same value. (Validation draws the same codes from the prior each time.)"""
    return len(values) > 1 and max(values) - min(values) < 1e-5


# --- the GPT ----------------------------------------------------------------------------------------------------------


def gpt_sees_the_answer(run: Run) -> Remarks:
    """Report a model that predicts nearly every token of the validation text: it must be seeing the answers."""
    bits, accuracy = run.last("val/bits_per_char"), run.last("val/accuracy")
    if bits is None or accuracy is None or bits > 1 or accuracy < 0.75:
        return
    seen = f"val/bits_per_char is {bits:.3g}, and the most likely token is correct in {accuracy:.1%} of cases"
    if run.first_step.get("train/cross_entropy_step", 9) < 1 or run.last("val/bits_per_char", 0) < 0.1:
        yield Remark(seen, "the targets may be the inputs themselves: are they shifted by one (TextDataset)?")
    else:
        yield Remark(
            seen, "attention may see later tokens: check the mask, and the attention figure above the diagonal"
        )


def gpt_single_characters(run: Run) -> Remarks:
    """Report values near 4.7 bits: the model knows the frequencies of the characters, but ignores the context."""
    bits, start = run.last("val/bits_per_char"), run.first_step.get("train/bits_per_char_step", 0)
    if bits is None or run.flags.get("tokenizer") != "char" or not 4.2 < bits < 0.9 * start:
        return
    of_characters = f"{bits:.3g}, about what single-character frequencies give{rates(run)}"
    if rate_is(run, lambda rate: rate > LARGE_RATE):
        yield Remark(f"val/bits_per_char is {of_characters}", "the learning rate may be far too high")
    elif stuck(run, "val/bits_per_char"):
        other = "the model may be ignoring the context: check attention and positions"
        yield Remark(f"val/bits_per_char stays at {of_characters}", other)


RULES: dict[str, tuple[Callable[[Run], Remarks], ...]] = {
    "vae": (vae_first_step, vae_sum, vae_limited, vae_collapse, vae_too_good, vae_slow),
    "aae": (aae_reconstruction, aae_sum, aae_discriminator),
    "gpt": (gpt_sees_the_answer, gpt_single_characters),
}
