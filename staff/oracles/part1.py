"""Part 1: the VAE's formulas, losses, samples and manifold."""

import math

import torch
from torch import Tensor
from torch import distributions as D

from answers import Answer, Value
from judge import standardized
from staff.oracles.common import CUT, gradients

NATS_PER_BIT = math.log(2)

# --- reparameterization -----------------------------------------------------------------------------------------------


def spread(std: Tensor) -> Answer:
    """Return the standard deviation over many draws of z."""
    mistakes = [
        ("std is squared: the variance is used where the standard deviation belongs", std**2),
        ("the square root of std is used: std is a standard deviation, not a variance", std.sqrt()),
        ("exp(std) is used: std is a standard deviation, not its logarithm", std.exp()),
        ("std is not used", torch.ones_like(std)),
        ("there is no noise, or the whole batch shares the same noise", torch.zeros_like(std)),
        ("the noise is uniform: torch.rand instead of torch.randn?", std / math.sqrt(12)),
    ]
    return {"std": Value(std, mistakes)}


def reparameterized_gradient(weight: Tensor) -> Answer:
    """Return the gradient of sum(weight * z) with respect to the mean."""
    return {"mean": Value(weight, [(f"{CUT[:-1]}, or does torch.normal draw z?", torch.zeros_like(weight))])}


def posterior_spread(log_std: Tensor) -> Answer:
    """Return the standard deviation of z in VAE.forward."""
    std = log_std.double().exp()
    mistakes = [
        ("it is the same for all images: is z the mean, not a sample from q(z|x)?", torch.zeros_like(std)),
        ("it is the variance of q(z|x)", std**2),
        ("it is the square root of the expected value, as if log_std were log_var", std**0.5),
        ("log_std is used where the standard deviation belongs", log_std.abs()),
        ("log_std is not used", torch.ones_like(std)),
    ]
    return {"std": Value(std, mistakes)}


# --- KL divergence ----------------------------------------------------------------------------------------------------


def _kl(mean: Tensor, log_std: Tensor) -> Tensor:
    prior = D.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return D.kl_divergence(D.Normal(mean, log_std.exp()), prior).sum(-1)


def _kl_mistakes(mean: Tensor, log_std: Tensor):
    mean, log_std = mean.double(), log_std.double()
    square, std, variance = mean.square(), log_std.exp(), (2 * log_std).exp()
    right = (variance + square - 1) / 2 - log_std  # for each dimension
    yield "it is half of what it should be: is there an extra factor of 1/2?", right.sum(-1) / 2
    yield "it is twice what it should be: is the factor 1/2 missing?", 2 * right.sum(-1)
    yield "is log_std used where log_var belongs?", (std + square - 1 - log_std).sum(-1) / 2
    yield "Eq. 13 has the logarithm of sigma^2, not of sigma", (variance + square - 1 - log_std).sum(-1) / 2
    yield "the standard deviation is used where the variance belongs", ((std + square - 1) / 2 - log_std).sum(-1)
    yield "the mean is not squared", ((variance + mean - 1) / 2 - log_std).sum(-1)
    yield "the -1 of Eq. 13 is missing", (right + 0.5).sum(-1)
    yield "it has the wrong sign", -right.sum(-1)
    yield "log sigma has the wrong sign", (right + 2 * log_std).sum(-1)
    yield "it is the mean over the latent dimensions; Eq. 13 sums over them", right.mean(-1)
    yield "it is also summed over the batch: return one number for each image", right.sum()
    yield "it is averaged over the batch: return one number for each image", right.sum(-1).mean()
    yield "it is averaged over everything: return one number for each image", right.mean()
    yield "it is not summed over the latent dimensions", right
    for dim in range(mean.dim() - 1):
        yield (
            f"it is summed over dimension {dim}: Eq. 13 sums over the latent dimensions, along the last axis",
            right.sum(dim),
        )
    other_way = ((1 + square) / variance - 1) / 2 + log_std
    yield "the arguments are swapped: it is the divergence of N(0, I) from q(z|x)", other_way.sum(-1)


def kld(mean: Tensor, log_std: Tensor) -> Answer:
    """Return KLD, KLD_per_dim, and the gradients of the sum of KLD."""
    of_mean, of_log_std = gradients(lambda *x: _kl(*x).sum(), mean, log_std)
    return {
        "kld": Value(_kl(mean.double(), log_std.double()), _kl_mistakes(mean, log_std)),
        "per_dim": Value(_kl(mean.double()[..., None], log_std.double()[..., None])),
        "to_mean": Value(of_mean, [(CUT, torch.zeros_like(of_mean))]),
        "to_log_std": Value(of_log_std, [(CUT, torch.zeros_like(of_log_std))]),
    }


# --- bits per dimension -----------------------------------------------------------------------------------------------


def bpd(elbo: Tensor, shape: list[int]) -> Answer:
    dimensions = math.prod(shape[1:])
    elbo = elbo.double()
    right = elbo / NATS_PER_BIT / dimensions
    mistakes = [
        ("it is in nats: a nat is log2(e) bits", elbo / dimensions),
        ("it is multiplied by ln 2, which converts bits to nats", elbo * NATS_PER_BIT / dimensions),
        ("the batch is counted as a dimension", right / shape[0]),
        ("it has the wrong sign", -right),
        ("it is averaged over the batch: return one number for each image", right.mean()),
        ("it is summed over the batch: return one number for each image", right.sum()),
        ("the channels also count as dimensions", right * shape[1]),
        ("it is not divided by the number of dimensions", right * dimensions),
        ("the number of dimensions depends on img_shape; it is not always 784", right * dimensions / 784),
        ("the sizes in img_shape are added", right * dimensions / sum(shape[1:])),
    ]
    return {"bpd": Value(right, mistakes)}


# --- VAE.forward ------------------------------------------------------------------------------------------------------


def _reconstruction(weight: Tensor, bias: Tensor, z: Tensor, imgs: Tensor, twice: bool = False) -> Tensor:
    """Return the reconstruction loss of each image [B] in nats, for a decoder whose logits are linear in z."""
    logits = torch.einsum("lhwd,bd->bhwl", weight, z) + bias.permute(1, 2, 0)
    logits = logits.softmax(-1) if twice else logits
    return -D.Categorical(logits=logits).log_prob(imgs.squeeze(1)).sum((1, 2))


def _loss_mistakes(right: Tensor, other: Tensor, twice: Tensor):
    """Yield known mistakes in a loss, from values per image [B]: the loss, the other loss, L_rec with two softmaxes."""
    yield "it is summed over the batch; Eq. 14 takes the mean", right.sum()
    yield "it is one number for each image; Eq. 14 takes the mean over the batch", right
    yield "there is a softmax before the cross-entropy, which already includes one", twice.mean()
    yield "the mean over the pixels is taken; Eq. 13 sums over them", right.mean() / 784
    yield "the sums over the pixels are averaged over images and pixels", right.mean() / 784 / len(right)
    yield "it has the wrong sign", -right.mean()
    yield "L_rec and L_reg are swapped", other.mean()
    yield "it is in bits: L_rec and L_reg are in nats", right.mean() / NATS_PER_BIT


def _bpd_mistakes(rec: Tensor, reg: Tensor, twice: Tensor):
    """Yield known mistakes in the bpd, from the losses per image [B]."""
    in_bits = 1 / NATS_PER_BIT / 784
    yield "the KL divergence is missing", rec.mean() * in_bits
    yield "the reconstruction is missing", reg.mean() * in_bits
    for weight in (0.1, 0.5, 2):
        yield (
            f"the KL divergence is weighted by {weight}; in Eq. 14 it has weight 1",
            (rec + weight * reg).mean() * in_bits,
        )
    yield "the KL divergence is subtracted; Eq. 14 adds it", (rec - reg).mean() * in_bits
    yield "it is in nats, not in bits per dimension", (rec + reg).mean()
    yield "it is summed over the batch; Eq. 14 takes the mean", (rec + reg).sum() * in_bits
    yield "it is one number for each image; Eq. 14 takes the mean over the batch", (rec + reg) * in_bits
    yield "there is a softmax before the cross-entropy, which already includes one", (twice + reg).mean() * in_bits
    yield "the batch is counted as a dimension", (rec + reg).mean() * in_bits / len(rec)
    yield "the mean over the pixels is taken; Eq. 13 sums over them", (rec / 784 + reg).mean() * in_bits


def vae_losses(imgs: Tensor, mean: Tensor, log_std: Tensor, weight: Tensor, bias: Tensor) -> Answer:
    """Return the losses of VAE.forward without noise: z is the mean."""
    mean, log_std, weight, bias = (x.double() for x in (mean, log_std, weight, bias))
    rec, twice = (_reconstruction(weight, bias, mean, imgs, twice) for twice in (False, True))
    reg = _kl(mean, log_std)
    return {
        "L_rec": Value(rec.mean(), _loss_mistakes(rec, reg, twice)),
        "L_reg": Value(reg.mean(), _loss_mistakes(reg, rec, twice)),
        "bpd": Value((rec + reg).mean() / NATS_PER_BIT / 784, _bpd_mistakes(rec, reg, twice)),
        "of_each_image": Value(rec),
    }


def vae_gradients(imgs: Tensor, mean: Tensor, log_std: Tensor, weight: Tensor, bias: Tensor) -> Answer:
    """Return the gradients of the bpd of VAE.forward without noise."""
    in_bits = 1 / NATS_PER_BIT / 784
    inputs = mean, log_std, weight, bias
    of_rec = gradients(lambda m, s, w, b: _reconstruction(w, b, m, imgs).mean() * in_bits, *inputs)
    of_reg = gradients(lambda m, s, w, b: _kl(m, s).mean() * in_bits, *inputs)
    answer = {}
    for name, rec, reg in zip(("mean", "log_std", "weight", "bias"), of_rec, of_reg, strict=True):
        mistakes = [
            (CUT, torch.zeros_like(rec)),
            ("the gradient of the reconstruction is missing: is z detached?", reg),
            ("the gradient of the KL divergence is missing: is it detached?", rec),
        ]
        answer[name] = Value(rec + reg, mistakes)
    return answer


def vae_slope(mean: Tensor, log_std: Tensor, direction: Tensor) -> Answer:
    """Return the bpd's slope along a direction of log_std if z is detached: only the KL divergence contributes."""
    of_reg = gradients(lambda m, s: _kl(m, s).mean() / NATS_PER_BIT / 784, mean, log_std)[1]
    return {"of_the_divergence": Value((of_reg * direction).sum())}


# --- VAE.sample -------------------------------------------------------------------------------------------------------


def _pixel_mistakes(logits: Tensor):
    """Yield known mistakes in the probabilities of pixels, for logits [B, 16, 28, 28]."""
    p = logits.softmax(1)
    yield "there are two softmaxes", p.softmax(1)
    yield "the grey levels are mirrored: 0 for 15, 1 for 14, ...", p.flip(1)
    if len(logits) > 1:
        # the test's batches are larger and repeat the same two rows of logits
        yield "the softmax runs over the batch, not over the grey levels", logits.softmax(0)
    yield "the softmax runs over the rows of the image, not over the grey levels", logits.softmax(2)
    yield "the softmax runs over the columns of the image, not over the grey levels", logits.softmax(3)
    yield "rows and columns of the image are swapped", p.mT
    # reshaped to [B * 784, 16] by view alone: each row mixes values from different pixels
    for name, each in (("probabilities", p), ("logits", logits)):
        rows = each.reshape(len(each), 784, 16)
        rows = rows.softmax(-1) if name == "logits" else rows
        sentence = f"{name} are reshaped to rows of 16 without moving the grey levels to the end first"
        yield sentence, rows.mT.reshape_as(p)
    yield "samples are drawn from the logits as if they were probabilities", logits.clamp(min=0) + 1e-9
    yield "all images have the probabilities of the first one", p[:1].expand_as(p)
    yield "the probabilities are averaged over the batch", p.mean(0, keepdim=True).expand_as(p)
    # last, because samples that are unrelated to their logits look like this
    yield "all grey levels are equally likely", torch.full_like(p, 1 / 16)


def pixels(logits: Tensor, scores: Tensor) -> Answer:
    """Return the distribution of pixels sampled from these logits [B, 16, 28, 28].

    Args:
        scores: [N, B, 16, 28, 28], one for each grey level of each pixel.

    Returns:
        probabilities [B, 16, 28, 28]; moments [N + 1, 2]: mean and variance of the sums of scores, where the last row
        uses the logarithms of the probabilities as scores; likeliest and mean: images made without sampling.
    """
    logits = logits.double()
    p = logits.softmax(1)
    scores = torch.cat([scores.double(), p.float().double().log()[None]])
    mistakes = ((name, _moments(wrong / wrong.sum(1, keepdim=True), scores)) for name, wrong in _pixel_mistakes(logits))
    mean = torch.einsum("blhw,l->bhw", p, torch.arange(16.0).double()).round()
    return {
        "probabilities": Value(p.float(), whole=True),
        "moments": Value(_moments(p, scores), mistakes, whole=True),
        "likeliest": Value(p.argmax(1)),
        "mean": Value(mean),
    }


def _moments(p: Tensor, scores: Tensor) -> Tensor:
    mean, square = (p * scores).sum(2), (p * scores**2).sum(2)
    return torch.stack([mean.sum((1, 2, 3)), (square - mean**2).sum((1, 2, 3))], 1)


# --- manifold ---------------------------------------------------------------------------------------------------------


def _ppf(p: Tensor) -> Tensor:
    return torch.special.ndtri(p)


def manifold_axis(n: int) -> Answer:
    """Return the coordinates of the grid along one latent dimension, each repeated n times, in order."""
    i = torch.arange(n).double()
    share = "; is each code in the middle of its share of the prior?"
    wrong = {
        "the codes are at i/n, so some are infinite" + share: _ppf(i / n),
        "the codes are at (i + 1)/n, so some are infinite" + share: _ppf((i + 1) / n),
        "the codes are at i/(n - 1), so some are infinite" + share: _ppf(i / (n - 1)),
        "the codes are at (i + 1)/(n + 1)" + share: _ppf((i + 1) / (n + 1)),
        "it contains the probabilities instead of the percentiles": (i + 0.5) / n,
        "it uses the inverse of the right function": torch.special.ndtr((i + 0.5) / n),
    }
    mistakes = [(sentence, values.repeat_interleave(n)) for sentence, values in wrong.items()]
    return {"coordinates": Value(_ppf((i + 0.5) / n).repeat_interleave(n), mistakes)}


def _images(logits: Tensor) -> Tensor:
    """Return the expected value of each pixel: [rows, 16, columns, 28, 28] -> [rows, columns, 28, 28]."""
    return torch.einsum("rlchw,l->rchw", logits.softmax(1), torch.arange(16.0).double())


def _image_mistakes(logits: Tensor):
    p, levels, mean = logits.softmax(1), torch.arange(16.0).double(), _images(logits)
    yield "an image has the likeliest grey level of each pixel (argmax)", p.argmax(1)
    yield (
        "the grey levels are weighted by logits, not by probabilities",
        torch.einsum("rlchw,l->rchw", logits, levels),
    )
    yield "it is the probability of a single grey level", p[:, -1]
    yield "it is the probability of a single grey level", p[:, 0]
    yield "dark and bright are swapped", -mean
    yield "rows and columns of each image are swapped", mean.mT
    yield "the images are in a different order than their codes", mean.transpose(0, 1).flip(0)


def manifold(weight: Tensor, bias: Tensor, n: int, places: Tensor) -> Answer:
    """Return selected pixels [n, n, P] of a grid of images, standardized, for both orders of the latent dimensions.

    Args:
        places: [P], indices into the 784 pixels of an image.
    """
    axis = _ppf((torch.arange(n).double() + 0.5) / n)
    answer = {}
    for name, order in (("first_down", (0, 1)), ("first_right", (1, 0))):
        z = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)[..., list(order)]
        logits = torch.einsum("lhwd,rcd->rlchw", weight.double(), z) + bias.double()[:, None]
        mistakes = ((what, _some(wrong, places)) for what, wrong in _image_mistakes(logits))
        answer[name] = Value(_some(_images(logits), places), mistakes)
        pixels = _images(logits).flatten(2)[..., places] / 15
    return answer | {"mean_and_std": Value([pixels.mean(), pixels.std()])}


def _some(images: Tensor, places: Tensor) -> Tensor:
    return standardized(images.double().flatten(2)[..., places])


ORACLES = {
    each.__name__: each
    for each in (
        spread, reparameterized_gradient, posterior_spread, kld, bpd, vae_losses, vae_gradients, vae_slope, pixels,
        manifold_axis, manifold,
    )
}  # fmt: skip
