"""Part 2: the losses of the adversarial autoencoder, and the gradients for its two optimizers."""

import torch
from torch import Tensor
from torch import distributions as D

from answers import Answer, Value
from staff.oracles.common import CUT, gradients

Weights = dict[str, Tensor]


def _nats(logits: Tensor, from_prior: bool) -> Tensor:
    """Return each logit's binary cross-entropy, in float64; the label is 1 if `from_prior`, else 0."""
    label = torch.full_like(logits, float(from_prior), dtype=torch.float64)
    return -D.Bernoulli(logits=logits.double()).log_prob(label)


def _nats_mistakes(logits: Tensor, from_prior: bool):
    """Yield known mistakes in the mean of `_nats`."""
    right, other = (_nats(logits, label) for label in (from_prior, not from_prior))
    probability = logits.double().sigmoid()
    yield "the labels are swapped: 1 is 'from the prior', 0 is 'from an image'", other.mean()
    yield "it is summed over the batch; it should be the mean", right.sum()
    yield "there is a sigmoid before the loss, which already includes one", _nats(probability, from_prior).mean()
    yield "it has the wrong sign", -right.mean()
    yield "it is the negative of the cross-entropy with the other label", -other.mean()
    yield "it is a squared error, not a cross-entropy", (probability - float(from_prior)).square().mean()
    yield "it is half of what it should be", right.mean() / 2
    yield "it is twice what it should be", right.mean() * 2
    yield "the label 'from the prior' is 1, without smoothing", (0.9 * right + 0.1 * _nats(logits, False)).mean()


# --- the autoencoder's loss -------------------------------------------------------------------------------------------


def linear_autoencoder(x: Tensor, encoder: Tensor, weight: Tensor, bias: Tensor) -> Answer:
    """Return the outputs of forward for a linear encoder [D, 784] and decoder ([1, 28, 28, D], [1, 28, 28])."""
    x, encoder, weight, bias = (each.double() for each in (x, encoder, weight, bias))
    code = x.flatten(1) @ encoder.T
    image = torch.einsum("chwd,bd->bchw", weight, code) + bias
    swapped = "recon_x and z are swapped: forward returns recon_x, then z", image
    return {"z": Value(code, [swapped]), "recon_x": Value(image, [("it is x itself", x)])}


def _recon_mistakes(x: Tensor, recon_x: Tensor):
    difference = recon_x.double() - x.double()
    error = difference.square()
    yield "it is the sum over images and pixels; it should be the mean", error.sum()
    yield "it is the sum over the pixels; it should be the mean", error.sum() / len(x)
    yield "it is the sum over the images; it should be the mean", error.mean() * len(x)
    yield "it is the mean absolute error, not the squared one", difference.abs().mean()
    yield "it is the root of the mean squared error", error.mean().sqrt()
    yield "it is half of what it should be", error.mean() / 2
    yield "the images are rescaled to 0..1; they should stay in -1..1", error.mean() / 4


def _weighted_mistakes(recon: Tensor, gen: Tensor, lambda_: float):
    yield "lambda weights the reconstruction, and 1 - lambda the generator", (1 - lambda_) * recon + lambda_ * gen
    yield "the reconstruction is not weighted", recon + (1 - lambda_) * gen
    yield "the generator's loss is not weighted", lambda_ * recon + gen
    yield "neither loss is weighted", recon + gen
    yield "the generator's loss is left out", lambda_ * recon
    yield "the reconstruction is left out", (1 - lambda_) * gen
    yield "the generator's loss is subtracted; both are minimized", lambda_ * recon - (1 - lambda_) * gen
    yield "lambda_ is not used: the weight is always 0.995", 0.995 * recon + 0.005 * gen


def _autoencoder_loss(x: Tensor, recon_x: Tensor, logits: Tensor, lambda_: float) -> Tensor:
    return lambda_ * (recon_x - x).square().mean() + (1 - lambda_) * _nats(logits, True).mean()


def autoencoder_loss(
    x: Tensor, recon_x: Tensor, z_fake: Tensor, lambda_: float, weight: Tensor, bias: Tensor
) -> Answer:
    """Return the losses for a linear discriminator (weight [D], bias []), and the gradients of ae_loss."""
    logits = z_fake.double() @ weight.double() + bias.double()
    recon, gen = (recon_x.double() - x.double()).square().mean(), _nats(logits, from_prior=True).mean()

    def loss(recon_x: Tensor, z_fake: Tensor) -> Tensor:
        return _autoencoder_loss(x.double(), recon_x, z_fake @ weight.double() + bias.double(), lambda_)

    to_recon_x, to_z = gradients(loss, recon_x, z_fake)
    weighted = "it is weighted; log the unweighted loss"
    sign = "it has the wrong sign: the encoder should make its codes look like samples from the prior"
    total = _weighted_mistakes(recon, gen, lambda_) if lambda_ < 1 else _recon_mistakes(x, recon_x)
    return {
        "recon_loss": Value(recon, [*_recon_mistakes(x, recon_x), (weighted, lambda_ * recon)]),
        "gen_loss": Value(gen, [*_nats_mistakes(logits, from_prior=True), (weighted, (1 - lambda_) * gen)]),
        "ae_loss": Value(lambda_ * recon + (1 - lambda_) * gen, total),
        "to_recon_x": Value(to_recon_x, [(CUT, torch.zeros_like(to_recon_x)), (sign, -to_recon_x)]),
        "to_z": Value(to_z, [(CUT, torch.zeros_like(to_z)), (sign, -to_z)]),
    }


# --- the discriminator's loss -----------------------------------------------------------------------------------------


def _total_mistakes(real: Tensor, fake: Tensor, batch: int):
    """Yield known mistakes in the discriminator's loss, which may be the mean or the sum of both halves."""
    total = real + fake
    yield "loss_fake is left out", real
    yield "loss_real is left out", fake
    yield "the halves are subtracted", real - fake
    yield "the halves are subtracted", fake - real
    for factor in (1, 0.5):
        yield "it has the wrong sign", -factor * total
        yield "it is summed over the batch", factor * total * batch


def discriminator_loss(fake: Tensor, real: Tensor) -> Answer:
    """Return the discriminator's losses for codes of images with logits [B] and codes from the prior with one logit [].

    The gradients are those of the sum of both halves with respect to these logits; for `..._of_mean`, of their mean.
    """
    real = real.expand(len(fake)).double()
    halves = {"loss_real": (real, fake.double(), True), "loss_fake": (fake.double(), real, False)}
    answer, losses = {}, []
    for name, (logits, other, label) in halves.items():
        losses.append(_nats(logits, label).mean())
        swapped = "codes from the prior and codes of images are swapped", _nats(other, label).mean()
        answer[name] = Value(losses[-1], [*_nats_mistakes(logits, label), swapped])
    mean = sum(losses) / 2
    answer |= {"mean": Value(mean, _total_mistakes(*losses, len(fake))), "sum": Value(2 * mean)}
    to_fake, to_real = gradients(lambda f, r: _nats(r, True).mean() + _nats(f, False).mean(), fake, real)
    for name, gradient in (("to_fake", to_fake), ("to_real", to_real.sum())):
        answer |= {name: Value(gradient, [(CUT, 0 * gradient)]), f"{name}_of_mean": Value(gradient / 2)}
    return answer


def sure_losses(logit: float) -> Answer:
    """Return the losses if every code has the same logit, which may be far from 0."""
    logit = torch.tensor(logit).double()
    of_prior, of_image = torch.nn.functional.softplus(-logit), torch.nn.functional.softplus(logit)
    whole = "it is the discriminator's whole loss; only the codes of images depend on the encoder"
    mistakes = [(whole, sign * factor * (of_prior + of_image)) for sign in (1, -1) for factor in (1, 0.5)]
    return {"gen_loss": Value(of_prior, mistakes), "loss_real": Value(of_prior), "loss_fake": Value(of_image)}


def accuracy(fake: Tensor, real: Tensor) -> Answer:
    """Return the fraction of codes that are classified correctly, for logits as in `discriminator_loss`."""
    real = real.expand(len(fake))
    of_real, of_fake = (real > 0).double().mean(), (fake <= 0).double().mean()
    right = (of_real + of_fake) / 2
    half = ((real > 0.5).double().mean() + (fake <= 0.5).double().mean()) / 2
    mistakes = [
        ("it is in percent", 100 * right),
        ("it counts misclassified codes", 1 - right),
        ("codes of images should also count", of_real),
        ("codes from the prior should also count", of_fake),
        ("the threshold for logits is 0, not 0.5", half),
        ("the halves are added, not averaged", of_real + of_fake),
    ]
    ties_are_wrong = (of_real + (fake < 0).double().mean()) / 2
    return {"accuracy": Value(right, mistakes), "ties_are_wrong": Value(ties_are_wrong)}


# --- the steps of both optimizers -------------------------------------------------------------------------------------


def autoencoder_step(x: Tensor, weights: Weights, lambda_: float) -> Answer:
    """Return the gradients of Eq. 15 for linear networks: name of an encoder or decoder parameter -> gradient."""
    names = [name for name in weights if "coder" in name]
    rest = {name: value.double() for name, value in weights.items() if name not in names}

    def loss(lambda_: float):
        def of(*parameters: Tensor) -> Tensor:
            w = dict(zip(names, parameters, strict=True)) | rest
            z = x.double().flatten(1) @ w["encoder.weight"].T
            recon_x = torch.einsum("chwd,bd->bchw", w["decoder.weight"], z) + w["decoder.bias"]
            logits = z @ w["discriminator.weight"] + w["discriminator.bias"]
            return _autoencoder_loss(x.double(), recon_x, logits, lambda_)

        return gradients(of, *(weights[name] for name in names))

    answer = {}
    for name, right, plain in zip(names, loss(lambda_), loss(1.0), strict=True):
        mistakes = [("the loss gets larger, not smaller", -right)]
        mistakes += [("lambda_ is not passed on", plain)] if lambda_ != 1 else []
        answer[name] = Value(right, mistakes)
    return answer


def discriminator_step(x: Tensor, weights: Weights) -> Answer:
    """Return the gradients of the sum of both halves for a discriminator with weight 0, whose logits equal its bias.

    The weight's gradient depends on the mean of the codes drawn from the prior, so its expectation and its standard
    deviation (`spread`) are returned.
    """
    bias = weights["discriminator.bias"].double()
    of_fake, of_real = bias.sigmoid(), bias.sigmoid() - 1
    code = x.double().flatten(1).mean(0) @ weights["encoder.weight"].double().T
    return {
        "bias": Value(of_fake + of_real),
        "bias_of_mean": Value((of_fake + of_real) / 2),
        "weight": Value(of_fake * code),
        "weight_of_mean": Value(of_fake * code / 2),
        "spread": Value(of_real.abs() / len(x) ** 0.5),
    }


ORACLES = {
    each.__name__: each
    for each in (
        linear_autoencoder, autoencoder_loss, discriminator_loss, sure_losses, accuracy, autoencoder_step,
        discriminator_step,
    )
}  # fmt: skip
