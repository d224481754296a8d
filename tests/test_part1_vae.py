"""Part 1, graded: the VAE's losses and samples (Q1.7, Q1.8).

PYTEST_DONT_REWRITE is a keyword for pytest: it then shows only our own messages.
"""

from functools import partial

import pytest
import torch

from adapters import part1
from inputs import grey_levels, normal, uniform
from judge import (
    SIGMAS,
    assert_independent,
    assert_moments,
    assert_nan,
    assert_shape,
    assert_standard_normal,
    assert_value,
    check_samples,
    entry,
)
from messages import FEW, shown


def linear_decoder(rng, z_dim, scale=1.0):
    return normal(rng, 16, 28, 28, z_dim, scale=scale), normal(rng, 16, 28, 28)


@pytest.mark.question(
    "1.7", points=0.5,
    needs=["VAE.forward", "VAE._reconstruction", "sample_reparameterize", "KLD", "KLD_per_dim", "elbo_to_bpd"],
)  # fmt: skip
def test_vae_forward_losses(rng, expected):
    """Use a decoder that ignores z (scale 0) or hardly any noise (shift -13): losses do not depend on random draws."""
    for batch, z_dim, shift, scale in [(3, 4, 0.0, 0), (5, 2, 0.7, 0), (2, 20, -2.0, 0), (4, 3, -13.0, 1)]:
        imgs = grey_levels(rng, batch)
        mean, log_std = uniform(rng, batch, z_dim, low=-2, high=2), uniform(rng, batch, z_dim) + shift
        weight, bias = linear_decoder(rng, z_dim, scale)
        answer = expected("vae_losses", imgs=imgs, mean=mean, log_std=log_std, weight=weight, bias=bias)
        forward = partial(part1.run_vae_forward, imgs, mean, log_std, weight, bias)
        got = forward()
        assert_shape("the z that the decoder gets", got["z"], (batch, z_dim))
        hints = {
            "L_rec": "the cross-entropy of logits and grey levels, summed over the pixels, averaged over the batch",
            "L_reg": "the values that KLD returns, averaged over the batch",
            "bpd": "the values of elbo_to_bpd for the sum of both terms, averaged over the batch",
        }
        for name, hint in hints.items():
            obtained = got[name].squeeze() if got[name].numel() == 1 else got[name]  # the shape [1] is accepted
            # float32 sums of 784 terms
            again = partial(entry, name, forward)
            assert_value(f"{name} of VAE.forward", obtained, answer[name], rtol=1e-4, hint=hint, again=again)
        alone = part1.run_vae_reconstruction(imgs, mean, weight, bias)
        hint = "it should be the cross-entropy summed over the pixels, one number per image"
        assert_value("_reconstruction", alone, answer["of_each_image"], rtol=1e-4, hint=hint)
        with_nan = mean.clone()
        with_nan[0, 0] = torch.nan
        broken = part1.run_vae_forward(imgs, with_nan, log_std, weight, bias)
        for name in hints:
            assert_nan(f"{name} of VAE.forward", broken[name])


def assert_posterior(imgs, mean, log_std, std, decoder):
    """Check that the decoder gets draws from q(z|x), which is the same for all images; std: from an oracle."""
    n = len(imgs)
    z = part1.run_vae_forward(imgs, mean.expand(n, 4), log_std.expand(n, 4), *decoder)["z"]
    assert_shape("the z that the decoder gets", z, (n, 4))
    assert_moments("the z that the decoder gets", z, mean, std, hint="is it that of q(z|x)?")
    # two calls in training mode, one in evaluation mode, and one without gradients
    latents = part1.run_vae_latents(imgs, torch.zeros(n, 4), torch.zeros(n, 4), *decoder)
    for one, other in zip(latents, latents[1:], strict=False):
        assert_independent("the noise of z", one, other)
    assert_standard_normal("the z that the decoder gets for mean and log_std 0", torch.cat(latents))


@pytest.mark.question(
    "1.7", points=0.25,
    needs=["VAE.forward", "VAE._reconstruction", "sample_reparameterize", "KLD", "KLD_per_dim", "elbo_to_bpd"],
)  # fmt: skip
def test_vae_forward_samples_from_the_posterior(rng, expected):
    imgs, decoder = grey_levels(rng, 200), linear_decoder(rng, 4, scale=0.1)
    # 200 draws: 5 sigma are 25 % of a standard deviation. log_std is far from 0, so that other powers of the
    # standard deviation differ by more
    mean, log_std = uniform(rng, 4, low=-2, high=2), torch.tensor([-1.5, -0.7, 0.7, 1.5])
    std = expected("posterior_spread", log_std=log_std)["std"]
    check_samples(assert_posterior, imgs, mean, log_std, std, decoder)


@pytest.mark.question(
    "1.7", points=0.25,
    needs=["VAE.forward", "VAE._reconstruction", "sample_reparameterize", "KLD", "KLD_per_dim", "elbo_to_bpd"],
)  # fmt: skip
def test_vae_forward_gradients(rng, expected):
    imgs, log_std = grey_levels(rng, 3), uniform(rng, 3, 4)
    mean, (weight, bias) = uniform(rng, 3, 4, low=-2, high=2), linear_decoder(rng, 4, scale=0.3)
    inputs = {"imgs": imgs, "mean": mean, "log_std": log_std - 20, "weight": weight, "bias": bias}  # hardly any noise
    answer = expected("vae_gradients", **inputs)
    got = part1.run_vae_forward(**inputs)["gradients"]
    names = ("the mean", "log_std", "the decoder's weights", "the decoder's biases")
    for name, obtained, value in zip(names, got, answer.values(), strict=True):
        # float32 against float64, sums of 784 terms of both signs
        assert_value(
            f"the gradient of the bpd with respect to {name}", obtained, value, rtol=1e-3, atol=1e-6,
            hint="is something detached, or is the loss wrong too?",
        )  # fmt: skip
    # with noise, compare the gradient with the slope of the bpd itself
    inputs |= {name: value.double() for name, value in inputs.items() if name != "imgs"}
    # a step along `direction` in log_std; `detached`: the slope if only the KL divergence contributed, for the hint
    inputs["log_std"], direction, step = log_std.double(), uniform(rng, 3, 4, dtype=torch.float64), 1e-3
    detached = expected("vae_slope", mean=mean, log_std=log_std, direction=direction)["of_the_divergence"]
    got = part1.run_vae_slope(**inputs, direction=direction, step=step)
    slope, obtained = ((got["above"] - got["below"]) / (2 * step)).squeeze(), (got["gradient"] * direction).sum()
    # the error of the slope is of order step²
    cut = detached.right.error(obtained, rtol=1e-3, atol=1e-6) <= 1
    hint = "the gradient of the reconstruction is missing: is z detached?" if cut else "is something detached?"
    assert_value("the gradient of the bpd with respect to log_std", obtained, slope, rtol=1e-3, atol=1e-5, hint=hint)


# --- VAE.sample ------------------------------------------------------------------------------------------------------


# A score is a number for each grey level of each pixel. Summed over the drawn pixels, it has a mean and a variance that
# follow from the probabilities (`moments`). There are 20 random scores and, last, the logarithms of the right
# probabilities. Known mistakes move the last sum by more than 20 sigma; the other sums tell these mistakes apart.


def sigmas(sums, moments, images):
    """Return how many sigmas the summed scores of some images are from those expected for draws with these moments."""
    mean, variance = images * moments.T
    return (sums - mean) / variance.clamp(min=1e-6).sqrt()


def misfit(sums, moments, images):
    """Return the mean of the squared `sigmas`: about 1 if the draws have these moments."""
    return sigmas(sums, moments, images).square().mean().item()


def assert_drawn_from(samples, scores, answer):
    """Check that image i of the samples [B, 1, 28, 28] is drawn from probabilities i % 2 in the oracle's answer."""
    p, rows = answer["probabilities"].tensor, torch.arange(len(samples)) % 2
    levels = torch.bincount(samples.flatten(), minlength=16).double()
    share, variance = (each[rows].sum((0, 2, 3)) for each in (p, p * (1 - p)))
    unusual = ((levels - share).abs() / variance.sqrt() > SIGMAS).any()
    each_score = torch.cat([scores.double(), p.log()[None]])[:, rows]
    sums = torch.stack([score.gather(1, samples.long()).sum() for score in each_score])
    pairs = len(samples) / 2
    excess = sigmas(sums, answer["moments"].tensor, pairs).abs().max().item()
    if not unusual and excess < SIGMAS:
        return
    fits = {sentence: misfit(sums, wrong.tensor, pairs) for sentence, wrong in answer["moments"].mistakes}
    least = min(fits.values())
    # a mistake is named if it fits, and at most one other fits about as well; the misfit of the one that was made is
    # about 1, and above 3 with a probability of 5e-6
    *_, unrelated = fits  # the last one, equal probabilities, resembles several others: named only if it fits best
    known = [sentence for sentence, each in fits.items() if each == least or each < 2 * least and sentence != unrelated]
    sure = least < 3 and len(known) <= 2
    hint = "" if unusual else "the frequencies of the grey levels are right overall, but not at individual pixels: "
    hint = "; or ".join(known) if sure else hint + "are they drawn from the softmax of their own logits?"
    for name, sentence in (("likeliest", "grey level (argmax)"), ("mean", "grey level, rounded")):
        if answer[name].right.error(samples[:2, 0].double(), 0, 0.1) <= 1:
            hint = f"each is the {name} {sentence}; it should be drawn"
    worst = ((levels - share).abs() / variance.sqrt()).argsort(descending=True)[:FEW]
    shares, found = shown((share / share.sum())[worst], (levels / levels.sum())[worst])
    raise AssertionError(
        f"the pixels of VAE.sample are wrong: {hint}\n"
        f"expected frequencies {shares} of grey levels {', '.join(map(str, worst.tolist()))}\n"
        f"obtained frequencies {found}\n"
        f"(compared with each pixel's own probabilities, the grey levels are off by {excess:.3g} sigma)"
    )


def assert_samples(logits, scores, answer, n=50, z_dim=30):
    """Check two calls to VAE.sample: shapes, z from N(0, I), pixels from their probabilities, and independence."""
    single = part1.run_vae_sample(logits, z_dim, 1, calls=1)[0][0]
    assert_shape("the output of VAE.sample for one image", single, (1, 1, 28, 28))
    (first, second), latents = part1.run_vae_sample(logits, z_dim, n, calls=2)
    assert_shape("the output of VAE.sample", first, (n, 1, 28, 28))
    assert not first.is_floating_point(), f"samples are integers 0..15, not {first.dtype}"
    assert 0 <= first.min() and first.max() <= 15, f"samples are integers 0..15, not {first.min()}..{first.max()}"
    for z in latents:
        assert_shape("the z that the decoder gets", z, (n, z_dim))
    assert_independent("the z", *(z[:, :3] for z in latents))
    # a few columns, each with 100 numbers, then all 3000 numbers, which reveal smaller errors
    assert_standard_normal("the z that the decoder gets", torch.cat(latents)[:, :3])
    assert_standard_normal("the z that the decoder gets", torch.cat(latents).flatten()[:, None])

    for samples in (first, second):
        assert_drawn_from(samples, scores, answer)
    # independent pixels with probabilities p and p' are equal with probability sum(p p')
    p = answer["probabilities"].tensor[torch.arange(n) % 2]
    neighbours = {
        "two calls": (first, second, p, p),
        "images of a batch": (first[::2], first[1::2], p[::2], p[1::2]),
        "neighbouring pixels": (first[..., 1:], first[..., :-1], p[..., 1:], p[..., :-1]),
    }
    for what, (one, other, p_one, p_other) in neighbours.items():
        equal = (p_one * p_other).sum(1)
        excess = ((one == other).sum() - equal.sum()) / (equal * (1 - equal)).sum().sqrt()
        assert abs(excess) < SIGMAS, (
            f"{what} are not drawn independently\nexpected {equal.sum():.0f} equal pixels\n"
            f"obtained {(one == other).sum()}, off by {excess:.3g} sigma"
        )


@pytest.mark.question("1.8", points=1, needs=["VAE.sample"])
def test_vae_sample(rng, expected):
    """Use a decoder that returns logits i % 2 for image i of a batch, regardless of z."""
    # squares of 2x2 pixels share logits, so neighbours that share noise are equal too often; with a factor of 1.3, a
    # pixel's likeliest grey level has a probability of about 0.3
    logits = 1.3 * normal(rng, 2, 16, 14, 14).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    scores = normal(rng, 20, 2, 16, 28, 28)
    answer = expected("pixels", logits=logits, scores=scores)  # the probabilities, and the moments of the scores
    check_samples(assert_samples, logits, scores, answer)
