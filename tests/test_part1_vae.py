"""Part 1, graded: the VAE's losses and samples (Q1.7, Q1.8).

PYTEST_DONT_REWRITE: a message says what is wrong in the assignment's terms, pytest adds nothing to it.
"""

import math

import pytest
import torch
from torch import distributions as D

from adapters import part1
from expected_vae import draw, images, kl_oracle, linear_decoder
from judge import SIGMAS, assert_independent, assert_shape, assert_standard_normal, assert_value


def cross_entropy(logits, imgs):
    """Nats of each pixel: logits [B, H, W, 16], imgs [B, 1, H, W] -> [B, H, W]."""
    return -D.Categorical(logits=logits).log_prob(imgs.squeeze(1))


def loss_mistakes(right, other, twice):
    """For a loss of each image [B], that which it may be exchanged with, and the reconstruction after two softmaxes."""
    yield "it is summed over the batch; Eq. 14 takes the mean", right.sum()
    yield "it is one number for each image; Eq. 14 takes the mean over the batch", right
    yield "there is a softmax before the cross-entropy, which has one of its own", twice.mean()
    yield "the mean over the pixels is taken; Eq. 13 sums over them", right.mean() / 784
    yield "the mean over images and pixels is taken, of sums already", right.mean() / 784 / len(right)
    yield "it has the wrong sign", -right.mean()
    yield "L_rec and L_reg are exchanged", other.mean()
    yield "it is in bits: L_rec and L_reg are in nats", right.mean() / math.log(2)


def bpd_of_losses_mistakes(rec, reg, twice):
    """For both losses of each image [B]."""
    in_bits = 1 / math.log(2) / 784
    yield "the KL divergence is missing", rec.mean() * in_bits
    yield "the reconstruction is missing", reg.mean() * in_bits
    yield "the KL divergence is subtracted; the loss is the sum of both terms (Eq. 14)", (rec - reg).mean() * in_bits
    yield "it is in nats, not in bits per dimension", (rec + reg).mean()
    yield "it is summed over the batch; Eq. 14 takes the mean", (rec + reg).sum() * in_bits
    yield "it is one number for each image; Eq. 14 takes the mean over the batch", (rec + reg) * in_bits
    yield "there is a softmax before the cross-entropy, which has one of its own", (twice + reg).mean() * in_bits
    yield "the batch is counted as a dimension", (rec + reg).mean() * in_bits / len(rec)
    yield "the mean over the pixels is taken; Eq. 13 sums over them", (rec / 784 + reg).mean() * in_bits


@pytest.mark.question("1.7", points=0.5)
def test_vae_forward_losses(rng):
    for batch, z_dim, spread in [(3, 4, 0.0), (5, 2, 0.7), (2, 20, -2.0)]:
        imgs = images(rng, batch)
        mean, log_std = draw(rng, batch, z_dim, low=-2, high=2), draw(rng, batch, z_dim) + spread
        weight, bias = linear_decoder(rng, z_dim)
        got = part1.run_vae_forward(imgs, mean, log_std, weight, bias)
        assert_shape("the z that the decoder gets", got["z"], (batch, z_dim))
        logits = torch.einsum("lhwd,bd->bhwl", weight, got["z"]) + bias.permute(1, 2, 0)
        rec, twice = (cross_entropy(x, imgs).sum((1, 2)).double() for x in (logits, logits.softmax(-1)))
        reg = kl_oracle(mean, log_std).double()
        expected = {
            "L_rec": (rec.mean(), loss_mistakes(rec, reg, twice)),
            "L_reg": (reg.mean(), loss_mistakes(reg, rec, twice)),
            "bpd": ((rec + reg).mean() / math.log(2) / 784, bpd_of_losses_mistakes(rec, reg, twice)),
        }
        hints = {
            "L_rec": "the cross-entropy of logits and grey levels, summed over the pixels, then the mean of the batch",
            "L_reg": "what KLD gives, then the mean of the batch",
            "bpd": "what elbo_to_bpd gives for the sum of both terms, then the mean of the batch",
        }
        for name, (value, mistakes) in expected.items():
            obtained = got[name].squeeze() if got[name].numel() == 1 else got[name]
            # float32 sums of 784 terms
            assert_value(f"{name} of VAE.forward", obtained, value, rtol=1e-4, mistakes=mistakes, hint=hints[name])


@pytest.mark.question("1.7", points=0.25)
def test_vae_forward_samples_from_the_posterior(rng):
    n = 200
    mean = draw(rng, 4, low=-2, high=2)
    log_std = torch.tensor([-1.5, -0.7, 0.7, 1.5])
    got = part1.run_vae_forward(
        images(rng, n), mean.expand(n, 4), log_std.expand(n, 4), *linear_decoder(rng, 4, scale=0.1)
    )
    std = log_std.exp()
    wrong = [
        ("it is the same for all images: the mean, not a sample of q(z|x)?", torch.zeros(4)),
        ("it is exp(2 log_std), the variance", std**2),
        ("it is exp(log_std / 2), as if log_std were log_var", std**0.5),
        ("log_std is used where exp(log_std) belongs", log_std.abs()),
        ("log_std is not used", torch.ones(4)),
    ]
    assert_shape("the z that the decoder gets", got["z"], (n, 4))
    # as in the tests of the reparameterization
    assert_value(
        "the standard deviation of the z that the decoder gets", got["z"].std(0), std,
        rtol=SIGMAS / math.sqrt(2 * n), atol=1e-6, mistakes=wrong, hint="that of q(z|x) is exp(log_std)",
    )  # fmt: skip
    noise = (got["z"] - mean) / std
    assert_value(
        "the mean of the z that the decoder gets, in standard deviations from that of q(z|x),",
        noise.mean(0), torch.zeros(4), atol=SIGMAS / math.sqrt(n),
    )  # fmt: skip
    assert_standard_normal("the noise of z, (z - mean) / exp(log_std),", noise)


@pytest.mark.question("1.7", points=0.25)
def test_vae_forward_gradients(rng):
    imgs = images(rng, 3)
    inputs = [draw(rng, 3, 4, low=-2, high=2), draw(rng, 3, 4), *linear_decoder(rng, 4, scale=0.3)]
    got = part1.run_vae_forward(imgs, *inputs)
    noise = (got["z"] - inputs[0]) / inputs[1].exp()
    mean, log_std, weight, bias = inputs = [x.double().requires_grad_() for x in inputs]
    logits = torch.einsum("lhwd,bd->bhwl", weight, mean + noise * log_std.exp()) + bias.permute(1, 2, 0)
    rec, reg = cross_entropy(logits, imgs).sum((1, 2)).mean(), kl_oracle(mean, log_std).mean()
    of_rec, of_reg = (
        torch.autograd.grad(loss / math.log(2) / 784, inputs, allow_unused=True, materialize_grads=True)
        for loss in (rec, reg)
    )
    names = ("the mean", "log_std", "the decoder's weights", "the decoder's biases")
    for name, obtained, r, k in zip(names, got["gradients"], of_rec, of_reg, strict=True):
        mistakes = [
            ("no gradient arrives: is something detached?", torch.zeros_like(r)),
            ("that of the reconstruction is missing: is z detached?", k),
            ("that of the KL divergence is missing: is it detached?", r),
        ]
        # float32 against float64, sums of 784 terms with both signs
        assert_value(
            f"the gradient of the bpd with respect to {name}", obtained, r + k, rtol=1e-3,
            atol=1e-4 * (r + k).abs().max().item(), mistakes=mistakes,
            hint="is something detached, or the loss wrong too?",
        )  # fmt: skip


# --- VAE.sample ------------------------------------------------------------------------------------------------------


def sigmas(samples, probabilities, score):
    """How far the summed score of images [B, 1, 28, 28] is from that of such draws; both others are [B, 16, 28, 28]."""
    mean, square = (probabilities * score).sum(1), (probabilities * score**2).sum(1)
    excess = (score.gather(1, samples).squeeze(1) - mean).sum() / (square - mean**2).sum().clamp(min=1e-6).sqrt()
    return excess.abs().item()


def sampling_mistakes(logits):
    """What goes wrong with the probabilities of pixels, for logits [B, 16, 28, 28]."""
    p = logits.softmax(1)
    yield "there are two softmaxes", p.softmax(1)
    yield "the softmax runs over the rows of the image, not over the grey levels", logits.softmax(2)
    yield "the softmax runs over the columns of the image, not over the grey levels", logits.softmax(3)
    yield "rows and columns of the image are exchanged", p.mT
    # [B * 784, 16] by view alone: 16 numbers that belong to different pixels
    for name, each in (("probabilities", p), ("logits", logits)):
        rows = each.reshape(len(each), 784, 16)
        rows = rows.softmax(-1) if name == "logits" else rows
        yield (
            f"{name} are made rows of 16 without moving the grey levels to the end first (permute)",
            rows.mT.reshape_as(p),
        )
    yield "the logits are drawn from as if they were probabilities", logits.clamp(min=0) + 1e-9
    yield "all images have the probabilities of the first one", p[:1].expand_as(p)
    yield "the probabilities are averaged over the batch", p.mean(0, keepdim=True).expand_as(p)
    # last: draws that have nothing to do with their logits look like this
    yield "each grey level is equally likely", torch.full_like(p, 1 / 16)


def assert_drawn_from(samples, logits):
    """Images [B, 1, 28, 28] are draws from the softmax of logits [B, 16, 28, 28]."""
    p = logits.softmax(1)
    levels = torch.arange(16)
    counts = torch.bincount(samples.flatten(), minlength=16).double()
    expected, variance = p.sum((0, 2, 3)), (p * (1 - p)).sum((0, 2, 3))
    rare = ((counts - expected).abs() / variance.sqrt() > SIGMAS).nonzero().flatten().tolist()
    excess = sigmas(samples, p, p.log())
    if not rare and excess < SIGMAS:
        return
    hint = "are they drawn from the softmax of their own logits?"
    if torch.equal(samples, p.argmax(1, keepdim=True)):
        hint = "each is the likeliest grey level (argmax); it should be drawn"
    elif torch.equal(samples.squeeze(1), torch.einsum("blhw,l->bhw", p, levels.double()).round().long()):
        hint = "each is the expected grey level; it should be drawn"
    else:
        for sentence, wrong in sampling_mistakes(logits):
            wrong = wrong / wrong.sum(1, keepdim=True)
            if all(sigmas(samples, wrong, score) < SIGMAS for score in (p.log(), wrong.clamp(min=1e-300).log())):
                hint = sentence
                break
    shares = [f"{share:.3f}" for share in (expected / expected.sum()).tolist()[:4]]
    found = [f"{share:.3f}" for share in (counts / counts.sum()).tolist()[:4]]
    raise AssertionError(
        f"the pixels of VAE.sample are wrong: {hint}\n"
        f"expected shares {', '.join(shares)}, ... of grey levels 0, 1, 2, 3, ...\n"
        f"obtained shares {', '.join(found)}, ... and a log-likelihood {excess:.3g} sigma off"
    )


@pytest.mark.question("1.8", points=1)
def test_vae_sample(rng):
    n, z_dim = 50, 3
    weight, bias = linear_decoder(rng, z_dim, scale=0.5)
    (first, second), latents = part1.run_vae_sample(weight, bias, n, calls=2)
    assert_shape("what VAE.sample gives", first, (n, 1, 28, 28))
    assert not first.is_floating_point(), f"samples are integers 0..15, not {first.dtype}"
    assert 0 <= first.min() and first.max() <= 15, f"samples are integers 0..15, not {first.min()}..{first.max()}"
    for z in latents:
        assert_shape("the z that the decoder gets", z, (n, z_dim))
    assert_independent("the z", *latents)
    assert_standard_normal("the z that the decoder gets", torch.cat(latents))

    # what the decoder said for these z: [B, 16, 28, 28]
    logits = [(torch.einsum("lhwd,bd->blhw", weight, z) + bias).double() for z in latents]
    for samples, given in zip((first, second), logits, strict=True):
        assert_drawn_from(samples, given)
    # independent pixels with probabilities p and p' are equal with probability sum(p p')
    p = [given.softmax(1) for given in logits]
    neighbours = {
        "two calls": (first, second, *p),
        "images of a batch": (first[::2], first[1::2], p[0][::2], p[0][1::2]),
        "pixels beside each other": (first[..., 1:], first[..., :-1], p[0][..., 1:], p[0][..., :-1]),
    }
    for what, (one, other, p_one, p_other) in neighbours.items():
        equal = (p_one * p_other).sum(1)
        excess = ((one == other).sum() - equal.sum()) / (equal * (1 - equal)).sum().sqrt()
        assert abs(excess) < SIGMAS, (
            f"{what} are not drawn independently\nexpected {equal.sum():.0f} equal pixels\n"
            f"obtained {(one == other).sum()}, {excess:.3g} sigma off"
        )
