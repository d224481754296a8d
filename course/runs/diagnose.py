"""List unusual numbers in a run and their likely causes: `python -m course diagnose RUN ...`.

It sees only the numbers, neither the code nor the pictures, so its remarks say "may". Each rule is a function that
takes a run and yields remarks. Only this file and rubric.toml know what the metrics of the three parts mean.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from course.runs.folder import Run, RunError, is_number, read

LOSS = {"vae": "bpd", "aae": "recon_loss", "gpt": "bits_per_char"}  # the metric to minimize
PIXELS = 28 * 28
UNIFORM_NATS = PIXELS * math.log(16)  # an image of 16 grey levels, all equally likely: 2174 nats, 4 bits per dimension
# Measured on the training images of MNIST: the best that a decoder can do if it ignores z.
FIXED_BPD = 0.98  # the best distribution for each pixel, 4-bit images
FIXED_NATS = FIXED_BPD * PIXELS * math.log(2)
BLACK, MEAN_IMAGE = 0.448, 0.269  # squared error per pixel, images in -1..1, of a black and of the mean image
LARGE_RATE, SMALL_RATE = 0.03, 1e-5  # the defaults of the parts are 0.001 and 0.003 (SGD 0.005)


@dataclass(frozen=True)
class Remark:
    """An observed number, and what it may mean. `minor`: not a symptom, only a note."""

    seen: str
    look: str
    minor: bool = False


Remarks = Iterator[Remark]


def remarks(run: Run) -> list[Remark]:
    """All remarks about a run.

    Raises:
        RunError: the run belongs to no part.
    """
    if run.program not in RULES:
        raise RunError(f"{run.folder}: a run of {run.program!r}; only {', '.join(RULES)} can be diagnosed")
    if not run.done:
        return list(_first_epoch(run))
    return [remark for rule in (*RULES[run.program], *FOR_ALL) for remark in rule(run)]


# --- for all parts ----------------------------------------------------------------------------------------------------


def _first_epoch(run: Run) -> Remarks:
    stopped = "if it stopped, its last line of output says why; if the loss became NaN, try a smaller learning rate"
    yield Remark(f"no epoch is done yet{_rates(run)}", stopped, minor=not _rate_is(run, lambda rate: rate > LARGE_RATE))


def _rates(run: Run) -> str:
    """The learning rates among the flags, in parentheses."""
    found = [f"--{name} {run.flags[name]:g}" for name in ("lr", "ae_lr", "d_lr") if is_number(run.flags.get(name))]
    return f" ({', '.join(found)})" if found else ""


def _rate_is(run: Run, so: Callable[[float], bool]) -> bool:
    return any(so(run.flags[name]) for name in ("lr", "ae_lr") if is_number(run.flags.get(name)))


def _stuck(run: Run, tag: str) -> bool:
    """Whether the last of at least two epochs changed it by less than 2 %."""
    _, values = run.curve(tag)
    return len(values) > 1 and abs(values[-1] - values[-2]) < 0.02 * abs(values[-2])


def nothing_learned(run: Run) -> Remarks:
    """The loss of the last epoch is no better than that of the first step."""
    name = LOSS[run.program]
    first, (epochs, values) = run.first_step.get(f"train/{name}_step"), run.curve(f"train/{name}")
    if first is None or not values or min(values[-1], run.curve(f"val/{name}")[1][-1]) < 0.97 * first:
        return
    seen = f"train/{name} was {first:.4g} at the first step and is {values[-1]:.4g} in epoch {epochs[-1]}{_rates(run)}"
    if _rate_is(run, lambda rate: rate < SMALL_RATE):
        yield Remark(seen, "the learning rate may be far too small")
    elif values[-1] > 1.5 * first or _rate_is(run, lambda rate: rate > LARGE_RATE):
        yield Remark(seen, "the learning rate may be far too large, or the loss has the wrong sign")
    else:
        cut = "does the optimizer step, does it have these parameters, is there a detach() or no_grad() in between?"
        limit = run.flags.get("limit_batches")
        few = is_number(limit) and limit * run.done < 100  # steps
        yield Remark(seen, f"the model learns nothing; the gradient may not reach the weights: {cut}", minor=few)


def jumps(run: Run) -> Remarks:
    """The first epoch is far worse than the first step, but then the model learns."""
    name = LOSS[run.program]
    first, (_, values) = run.first_step.get(f"train/{name}_step"), run.curve(f"train/{name}")
    if first is not None and values and values[0] > 1.2 * first > values[-1]:
        seen = f"train/{name} was {first:.4g} at the first step and {values[0]:.4g} on average in the first epoch"
        yield Remark(seen + _rates(run), "the learning rate may be far too large")


def validation_rises(run: Run) -> Remarks:
    """The best epoch was not the last: overfitting if the training loss still falls, else too large a learning rate."""
    name = LOSS[run.program]
    (epochs, val), (_, train) = run.curve(f"val/{name}"), run.curve(f"train/{name}")
    if len(val) < 2 or len(train) != len(val):
        return
    best = val.index(min(val))
    if val[-1] <= val[best] + 0.02 * abs(val[best]):
        return
    seen = f"val/{name} was {val[best]:.4g} in epoch {epochs[best]} and is {val[-1]:.4g} in epoch {epochs[-1]}"
    if train[-1] < train[best]:
        seen += f", while train/{name} went from {train[best]:.4g} to {train[-1]:.4g}"
        yield Remark(
            seen, "this may be overfitting: checkpoints/best.ckpt has the better weights, and fewer epochs are enough"
        )
    else:
        yield Remark(seen + _rates(run), "the training loss rises too: the learning rate may be too large")


def short(run: Run) -> Remarks:
    """Reasons why the numbers are not final."""
    epochs, limit = run.flags.get("epochs"), run.flags.get("limit_batches")
    if limit:
        yield Remark(f"--limit_batches {limit}", "each epoch used only part of the data", minor=True)
    if is_number(epochs) and run.done < epochs:
        yield Remark(f"{run.done} of {epochs} epochs are done", "continue with --resume", minor=True)
    _, values = run.curve(f"val/{LOSS[run.program]}")
    if len(values) > 1 and values[-1] < 0.98 * values[-2]:
        seen = f"val/{LOSS[run.program]} fell from {values[-2]:.4g} to {values[-1]:.4g} in the last epoch"
        yield Remark(seen, "it may improve with more epochs", minor=True)


# --- the VAE ----------------------------------------------------------------------------------------------------------


def vae_first_step(run: Run) -> Remarks:
    """Before training, a decoder of 16 grey levels needs 4 bits per dimension, or 2174 nats per image."""
    nats, bpd = run.first_step.get("train/reconstruction_step"), run.first_step.get("train/bpd_step")
    if nats is not None and not UNIFORM_NATS / 1.5 < nats < UNIFORM_NATS * 1.5:
        seen = (
            f"the reconstruction loss of the first step is {nats:.4g} nats; expected are {UNIFORM_NATS:.0f} per image"
        )
        few = "it may be averaged over the pixels instead of summed (Eq. 13)"
        yield Remark(seen, few if nats < UNIFORM_NATS else "it may be summed over the batch instead of averaged")
    elif bpd is not None and not 3.5 < bpd < 4.5:
        seen = f"the first step has {bpd:.4g} bits per dimension; with 16 grey levels, 4 are expected"
        yield Remark(seen, "check elbo_to_bpd: the factor log2(e) (2.77 without it), and the number of dimensions")


def vae_sum(run: Run) -> Remarks:
    """The bpd must match the two terms of the loss."""
    bpd, nats, kl = (run.last(f"val/{name}") for name in ("bpd", "reconstruction", "regularization"))
    if bpd is None or nats is None or kl is None:
        return
    if kl < -0.01 or bpd < 0:
        seen = f"val/regularization is {kl:.4g} nats and val/bpd {bpd:.4g}; neither can be negative"
        yield Remark(seen, "the KL divergence may have the wrong sign or a wrong term: check KLD")
        return
    expected = (nats + kl) * math.log2(math.e) / PIXELS
    if abs(bpd - expected) > 0.02 * expected:
        seen = (
            f"val/bpd is {bpd:.4g}; reconstruction ({nats:.4g} nats) and regularization ({kl:.4g}) give {expected:.4g}"
        )
        yield Remark(seen, "check how the loss combines them: is a term missing or weighted, or is the unit wrong?")


def vae_collapse(run: Run) -> Remarks:
    """If z has no information, the best that the decoder can do is the same blurred image for every z."""
    bpd, nats, kl = (run.last(f"val/{name}") for name in ("bpd", "reconstruction", "regularization"))
    if bpd is None or nats is None or kl is None or kl < -0.01:
        return
    fixed = f"val/bpd is {bpd:.4g}; the same blurred image for every z gives {FIXED_BPD}"
    if kl < 0.1 and nats < 0.9 * UNIFORM_NATS:
        seen = f"val/regularization is {kl:.2g} nats, " + (fixed if bpd > 0.9 else f"val/bpd {bpd:.4g}")
        where = "does the decoder get z from sample_reparameterize, does its gradient reach the encoder"
        weight = "is the weight of the KL divergence too large? Look at the reconstructions"
        yield Remark(seen, f"z may carry no information (posterior collapse): {where}, {weight}")
    elif abs(bpd - FIXED_BPD) < 0.1 and run.done > 2 and _stuck(run, "val/bpd"):
        minor = bool(run.flags.get("limit_batches"))
        yield Remark(fixed, "the decoder may hardly use z: look at the reconstructions and at val/active_dims", minor)


def vae_too_good(run: Run) -> Remarks:
    """Good reconstructions at hardly any KL: z has no noise, or not the noise that the KL divergence assumes."""
    nats, kl, bpd = (run.last(f"val/{name}") for name in ("reconstruction", "regularization", "bpd"))
    if nats is None or kl is None or bpd is None or kl < 0.1 or bpd < 0.3:  # a bpd this low is in another unit
        return
    gain = FIXED_NATS - nats
    if gain > 40 and gain > 25 * kl:
        seen = f"with {kl:.3g} nats of KL divergence, reconstruction is {gain:.0f} nats better than one fixed image"
        noise = "is noise added to z, does sample_reparameterize get exp(log_std), does KLD get log_std and not std?"
        yield Remark(seen, f"that is too little for so much information: {noise}")


def vae_slow(run: Run) -> Remarks:
    """It should be below 2 after two epochs, as in the assignment, and then better than one fixed image."""
    bpd, minor = run.last("val/bpd"), bool(run.flags.get("limit_batches"))
    if bpd is None or run.done < 2 or bpd > 0.97 * run.first_step.get("train/bpd_step", 4):
        return
    if bpd > 2:
        seen = f"val/bpd is {bpd:.4g} after {run.done} epochs; it should be below 2 after two{_rates(run)}"
        yield Remark(seen, "the learning rate may be too small or too large", minor)
    elif bpd > FIXED_BPD + 0.1 and _stuck(run, "val/bpd"):
        seen = f"val/bpd stays at {bpd:.4g}; even one blurred image for every z gives {FIXED_BPD}{_rates(run)}"
        yield Remark(
            seen, "check the decoder's last layers (no activation after the logits) and the learning rate", minor
        )


# --- the AAE ----------------------------------------------------------------------------------------------------------


def aae_reconstruction(run: Run) -> Remarks:
    """Values of a decoder that ignores the code, and values that are impossible after a tanh."""
    value = run.last("val/recon_loss")
    if value is None or run.flags.get("reconstruction", "mse") != "mse":
        return
    first = run.first_step.get("train/recon_loss_step", 0)
    if max(value, first) > 4:
        seen = f"the reconstruction loss is {max(value, first):.4g}; for images in -1..1 it is at most 4 per pixel"
        yield Remark(seen, "it may be summed over the pixels or the batch instead of averaged")
    elif abs(value - BLACK) < 0.02 and _stuck(run, "val/recon_loss"):
        seen = f"val/recon_loss stays at {value:.4g}; a black image has {BLACK}"
        yield Remark(seen, f"the tanh may be saturated: check the initialization and the learning rate{_rates(run)}")
    elif abs(value - MEAN_IMAGE) < 0.02 and _stuck(run, "val/recon_loss"):
        seen = f"val/recon_loss stays at {value:.4g}; the mean of all images has {MEAN_IMAGE}"
        yield Remark(seen, "the code may carry no information: does the gradient reach the encoder?")
    elif run.flags.get("z_dim") == 8 and run.done >= 40 and value > 0.05:
        seen = f"val/recon_loss is {value:.4g} after {run.done} epochs; with z_dim 8 it should be below 0.05"
        yield Remark(seen, f"check lambda, the learning rate{_rates(run)} and the layers of encoder and decoder")


def aae_sum(run: Run) -> Remarks:
    """The autoencoder's loss must match its two terms."""
    weight = run.flags.get("lambda_")
    total, recon, gen = (run.last(f"train/{name}") for name in ("ae_loss", "recon_loss", "gen_loss"))
    if not is_number(weight) or total is None or recon is None:
        return
    expected = weight * recon + (1 - weight) * (gen or 0)
    if abs(total - expected) > 0.02 * abs(expected):
        seen = f"train/ae_loss is {total:.4g}; with --lambda_ {weight:g} its two terms give {expected:.4g}"
        yield Remark(seen, "lambda_ may be on the wrong term: it is the weight of the reconstruction")


def aae_discriminator(run: Run) -> Remarks:
    """One side has won, or does not learn."""
    _, accuracies = run.curve("val/accuracy")
    if not accuracies:
        return
    accuracy = accuracies[-1]
    disc, gen, mmd = (run.last(f"val/{name}") for name in ("disc_loss", "gen_loss", "mmd"))
    seen = f"val/accuracy of the discriminator is {accuracy:.3g} in epoch {run.done}"
    if gen is not None and gen < 0.3 and not 0.2 < accuracy < 0.9:
        seen += f" with val/gen_loss at {gen:.2g}"
        both = (
            "the encoder may help the discriminator instead of fooling it: check the labels of real, fake and generator"
        )
        yield Remark(seen, both)
    elif accuracy > 0.99:
        cut = "is the generator's loss part of ae_loss, does its gradient reach the encoder?"
        yield Remark(seen, f"the encoder may not learn to fool the discriminator: {cut}")
    elif len(accuracies) > 1 and max(accuracies) - min(accuracies) < 1e-5:
        yield Remark(f"{seen}, as in every epoch", "it may not be trained at all: does its optimizer step?")
    elif disc is not None and disc > 0.75:
        seen += f" with val/disc_loss at {disc:.3g}; always answering 1/2 gives {math.log(2):.3g}"
        yield Remark(
            seen, f"it learns more slowly than the encoder: check its labels and its learning rate{_rates(run)}"
        )
    elif abs(accuracy - 0.5) < 0.02 and mmd is not None and mmd > 0.1:
        seen += f", which is chance, although the codes are far from the prior (val/mmd {mmd:.3g})"
        yield Remark(seen, "it may give every code the same answer: check its layers and its learning rate")


# --- the GPT ----------------------------------------------------------------------------------------------------------


def gpt_sees_the_answer(run: Run) -> Remarks:
    """A model that predicts nearly every character of the validation text sees the answers."""
    bits, accuracy = run.last("val/bits_per_char"), run.last("val/accuracy")
    if bits is None or accuracy is None or bits > 1 or accuracy < 0.75:
        return
    seen = f"val/bits_per_char is {bits:.3g}, and the most likely token is right in {accuracy:.1%} of all cases"
    if run.first_step.get("train/cross_entropy_step", 9) < 1 or run.last("val/bits_per_char", 0) < 0.1:
        yield Remark(seen, "the targets may be the inputs themselves: are they shifted by one (TextDataset)?")
    else:
        yield Remark(
            seen, "attention may see later tokens: check the mask, and the attention figure above the diagonal"
        )


def gpt_single_characters(run: Run) -> Remarks:
    """About 4.7 bits: the model knows how frequent each character is, but ignores the context."""
    bits, start = run.last("val/bits_per_char"), run.first_step.get("train/bits_per_char_step", 0)
    if bits is None or run.flags.get("tokenizer") != "char" or not 4.2 < bits < 0.9 * start:
        return
    of_characters = f"{bits:.3g}, about what single-character frequencies give{_rates(run)}"
    if _rate_is(run, lambda rate: rate > LARGE_RATE):
        yield Remark(f"val/bits_per_char is {of_characters}", "the learning rate may be far too large")
    elif _stuck(run, "val/bits_per_char"):
        other = "the model may ignore the context: check attention and positions"
        yield Remark(f"val/bits_per_char stays at {of_characters}", other)


RULES: dict[str, tuple[Callable[[Run], Remarks], ...]] = {
    "vae": (vae_first_step, vae_sum, vae_collapse, vae_too_good, vae_slow),
    "aae": (aae_reconstruction, aae_sum, aae_discriminator),
    "gpt": (gpt_sees_the_answer, gpt_single_characters),
}
FOR_ALL: tuple[Callable[[Run], Remarks], ...] = (nothing_learned, jumps, validation_rises, short)


# --- command line -----------------------------------------------------------------------------------------------------


def text(run: Run) -> str:
    """The remarks about a run as text: its progress, the symptoms, then the notes."""
    found = remarks(run)
    loss = f"val/{LOSS[run.program]}"
    value = run.last(loss)
    stands = f", {loss} {value:.4g}" if value is not None else ""
    lines = [f"{run.folder}: {run.program}, {run.done} of {run.flags.get('epochs', '?')} epochs{stands}"]
    lines += [f"  note: {note}" for note in run.notes]
    lines += [f"- {remark.seen}\n  {remark.look}" for remark in found if not remark.minor]
    if all(remark.minor for remark in found):
        lines.append("  nothing unusual")
    return "\n".join([*lines, *(f"  note: {remark.seen}; {remark.look}" for remark in found if remark.minor)])


def command(args: argparse.Namespace) -> None:
    """Print the remarks about each run."""
    print("\n".join([text(read(folder)) for folder in args.runs]))


def add(commands) -> None:
    """Add `diagnose` to the commands."""
    parser = commands.add_parser("diagnose", help="list unusual numbers of a run and their likely causes")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, e.g. logs/vae/version_0")
    parser.set_defaults(run=command)
