"""Part 2, graded: the losses of the adversarial autoencoder (Q2.4, Q2.5).

PYTEST_DONT_REWRITE: a message says what is wrong in the assignment's terms, pytest adds nothing to it.
"""

import math

import pytest
import torch

from adapters import part2
from expected_aae import assert_logs, codes, loss_inputs, nats, split_codes
from judge import assert_independent, assert_shape, assert_standard_normal, assert_value

LAMBDAS = (0, 0.3, 0.995, 1)


def nats_mistakes(logits, from_prior):
    """What goes wrong with the mean of `nats`."""
    right = nats(logits, from_prior)
    probability = logits.double().sigmoid()
    yield "the labels are exchanged: 1 is 'from the prior', 0 is 'from an image'", nats(logits, not from_prior).mean()
    yield "it is summed over the batch; the mean is wanted", right.sum()
    yield "there is a sigmoid before the loss, which has one of its own", nats(probability, from_prior).mean()
    yield "it has the wrong sign", -right.mean()
    yield "it is the negative of the cross-entropy with the other label", -nats(logits, not from_prior).mean()
    yield (
        "it is a squared error; the binary cross-entropy is wanted",
        ((probability - float(from_prior)).square().mean()),
    )
    yield "it is half of what it should be", right.mean() / 2
    yield "it is twice what it should be", right.mean() * 2
    yield "the label 'from the prior' is 1, it is not smoothed to 0.9", (0.9 * right + 0.1 * nats(logits, False)).mean()


def recon_mistakes(x, recon_x):
    difference = recon_x.double() - x.double()
    error = difference.square()
    yield "it is the sum over images and pixels; the mean is wanted", error.sum()
    yield "it is the sum over the pixels; the mean is wanted", error.sum() / len(x)
    yield "it is the sum over the images; the mean is wanted", error.mean() * len(x)
    yield "it is the mean absolute error, not the squared one", difference.abs().mean()
    yield "a root is taken: the mean squared error is wanted", error.mean().sqrt()
    yield "it is half of what it should be", error.mean() / 2
    yield "the images are moved to 0..1: they are in -1..1", error.mean() / 4


@pytest.mark.question("2.4", points=0.5)
def test_reconstruction_loss(rng):
    x, recon_x, z, weight, bias = loss_inputs(rng)
    got = part2.run_aae_loss_autoencoder(x, recon_x, z, 1, weight, bias)
    assert_logs(got["logs"], {"recon_loss", "gen_loss", "ae_loss"})
    difference = recon_x.double() - x.double()
    # float32 sums of some thousand terms
    values = {"recon_loss": got["logs"]["recon_loss"], "the loss": got["loss"], "ae_loss": got["logs"]["ae_loss"]}
    for name, value in values.items():
        assert_value(
            f"{name} at lambda 1", value, difference.square().mean(), rtol=1e-5,
            mistakes=recon_mistakes(x, recon_x), hint="the mean squared error over images and pixels",
        )  # fmt: skip
    cut = "no gradient arrives: is something detached?", torch.zeros_like(difference)
    assert_value(
        "the gradient with respect to the reconstructed images at lambda 1", got["gradients"][0],
        2 * difference / x.numel(), rtol=1e-4, atol=1e-8, mistakes=[cut],
    )  # fmt: skip
    assert not got["gradients"][1].any(), "at lambda 1 the discriminator has no influence on the codes"


def ae_loss_mistakes(recon_loss, gen_loss, lambda_):
    yield "lambda weights the reconstruction, 1 - lambda the generator", (1 - lambda_) * recon_loss + lambda_ * gen_loss
    yield "the reconstruction is not weighted", recon_loss + (1 - lambda_) * gen_loss
    yield "the generator's loss is not weighted", lambda_ * recon_loss + gen_loss
    yield "nothing is weighted", recon_loss + gen_loss
    yield "the generator's loss is left out", lambda_ * recon_loss
    yield "the reconstruction is left out", (1 - lambda_) * gen_loss
    yield "the generator's loss is subtracted; both are minimized", lambda_ * recon_loss - (1 - lambda_) * gen_loss
    yield "lambda_ is not used, it is always 0.995", 0.995 * recon_loss + 0.005 * gen_loss


@pytest.mark.question("2.5", points=0.75, needs=["2.4"])
def test_generator_loss(rng):
    for lambda_ in LAMBDAS[1:] + LAMBDAS[:1]:  # at 0 and 1 some mistakes cannot be told apart
        x, recon_x, z, weight, bias = loss_inputs(rng)
        got = part2.run_aae_loss_autoencoder(x, recon_x, z, lambda_, weight, bias)
        assert_logs(got["logs"], {"recon_loss", "gen_loss", "ae_loss"})
        logits = z @ weight + bias
        recon_loss, gen_loss = (recon_x - x).double().square().mean(), nats(logits, from_prior=True).mean()
        # float32 sums of some thousand terms
        weighted = "it is weighted: the log has the loss itself", lambda_ * recon_loss
        assert_value(
            f"recon_loss at lambda {lambda_}", got["logs"]["recon_loss"], recon_loss, rtol=1e-5,
            mistakes=[*recon_mistakes(x, recon_x), weighted],
        )  # fmt: skip
        if lambda_ < 1:
            weighted = "it is weighted: the log has the loss itself", (1 - lambda_) * gen_loss
            assert_value(
                f"gen_loss at lambda {lambda_}", got["logs"]["gen_loss"], gen_loss, rtol=1e-5,
                mistakes=[*nats_mistakes(logits, from_prior=True), weighted],
                hint="the binary cross-entropy of the discriminator's logits with 'from the prior'",
            )  # fmt: skip
        for name, value in (("the loss", got["loss"]), ("ae_loss", got["logs"]["ae_loss"])):
            assert_value(
                f"{name} at lambda {lambda_}", value, lambda_ * recon_loss + (1 - lambda_) * gen_loss,
                rtol=1e-5, atol=1e-6, mistakes=ae_loss_mistakes(recon_loss, gen_loss, lambda_),
                hint="lambda * recon_loss + (1 - lambda) * gen_loss",
            )  # fmt: skip


@pytest.mark.question("2.5", points=0.5, needs=["2.4"])
def test_autoencoder_loss_gradients(rng):
    for lambda_ in LAMBDAS:
        x, recon_x, z, weight, bias = loss_inputs(rng)
        got = part2.run_aae_loss_autoencoder(x, recon_x, z, lambda_, weight, bias)
        recon_x, z = recon_x.double().requires_grad_(), z.double().requires_grad_()
        gen_loss = nats(z @ weight.double() + bias.double(), from_prior=True).mean()
        (lambda_ * (recon_x - x).square().mean() + (1 - lambda_) * gen_loss).backward()
        names = "the reconstructed images", "the codes, through the discriminator,"
        for name, obtained, right in zip(names, got["gradients"], (recon_x.grad, z.grad), strict=True):
            # where the discriminator is sure, sigmoid(logit) - 1 has an error of 3e-8 in float32
            assert_value(
                f"the gradient with respect to {name} at lambda {lambda_}", obtained, right, rtol=1e-4, atol=1e-6,
                mistakes=[
                    ("no gradient arrives: is something detached?", torch.zeros_like(right)),
                    ("it has the wrong sign: the encoder wants its codes to be taken for the prior's", -right),
                ],
            )  # fmt: skip


@pytest.mark.question("2.5", points=0.75)
def test_discriminator_loss(rng):
    for batch, z_dim in [(6, 4), (50, 8), (7, 1)]:
        _, _, z, weight, bias = loss_inputs(rng, batch, z_dim)
        got = part2.run_aae_loss_discriminator(z, weight, bias)
        logs = got["logs"]
        assert_logs(logs, {"disc_loss", "loss_real", "loss_fake", "accuracy"})
        real = split_codes(got["seen"], z)
        logits = {"loss_real": real @ weight + bias, "loss_fake": z @ weight + bias}
        losses = {}
        for name, what in (("loss_real", "codes drawn from the prior"), ("loss_fake", "codes of images")):
            losses[name] = nats(logits[name], from_prior=name == "loss_real").mean()
            other = "loss_fake" if name == "loss_real" else "loss_real"
            exchanged = nats(logits[other], from_prior=name == "loss_real").mean()
            # float32, from other orders of summation
            assert_value(
                f"{name}, of {what},", logs[name], losses[name], rtol=1e-4,
                mistakes=[
                    *nats_mistakes(logits[name], from_prior=name == "loss_real"),
                    ("codes of the prior and of images are exchanged", exchanged),
                ],
            )  # fmt: skip
        real_half, fake_half = losses.values()
        total = real_half + fake_half
        # their sum or their mean
        if not math.isclose(got["loss"].item(), total, rel_tol=1e-4):
            mistakes = [
                ("loss_fake is left out", real_half), ("loss_real is left out", fake_half),
                ("they are subtracted", real_half - fake_half), ("it has the wrong sign", -total),
                ("they are subtracted", fake_half - real_half), ("it has the wrong sign", -total / 2),
                ("it is summed over the batch", total * batch), ("it is summed over the batch", total * batch / 2),
            ]  # fmt: skip
            assert_value(
                "the discriminator's loss", got["loss"], total / 2, rtol=1e-4, mistakes=mistakes,
                hint="the sum or the mean of loss_real and loss_fake",
            )  # fmt: skip
        assert_value("disc_loss in the log", logs["disc_loss"], got["loss"], rtol=1e-5, hint="it is the loss itself")


@pytest.mark.question("2.5", points=0.25)
def test_prior_is_standard_normal(rng):
    n = 2000
    _, _, z, weight, bias = loss_inputs(rng, n, 3)
    z = z + 2  # the prior has nothing to do with the codes of images
    first, again = (split_codes(part2.run_aae_loss_discriminator(z, weight, bias)["seen"], z) for _ in range(2))
    assert_shape("what the discriminator sees of the prior", first, (n, 3), "as many codes as z_fake, all different")
    assert_independent("the prior's code", first, again)
    assert_standard_normal("the prior's code", torch.cat([first, again]))


@pytest.mark.question("2.5", points=0.25, needs=["2.4"])
def test_losses_are_stable(rng):
    """Where the discriminator is sure: a sigmoid before the logarithm would be exactly 0 or 1."""
    x, recon_x, z, weight, _ = loss_inputs(rng, 3)
    weight = torch.zeros_like(weight)
    hint = "the loss works on logits (binary_cross_entropy_with_logits): no sigmoid before a logarithm"
    for logit in (-150.0, -100.0, -30.0, 30.0, 60.0, 100.0, 150.0):
        bias = torch.tensor(logit)
        of_encoder = part2.run_aae_loss_autoencoder(x, recon_x, z, 0, weight, bias)
        got = part2.run_aae_loss_discriminator(z, weight, bias)
        # softplus(-logit); what is below the smallest float32 may be 0
        expected = {"gen_loss": max(-logit, 0), "loss_real": max(-logit, 0), "loss_fake": max(logit, 0)}
        obtained = {"gen_loss": of_encoder["loss"]} | got["logs"]
        for name, value in expected.items():
            assert_value(f"{name} at logit {logit:g}", obtained[name], value, rtol=1e-5, atol=1e-12, hint=hint)
        assert got["gradients"][1].abs() > 0.4, f"the gradient of the discriminator is gone at logit {logit:g}: {hint}"


@pytest.mark.question("2.5", points=0.25)
def test_discriminator_accuracy(rng):
    z = codes(rng, 200, 3)
    z[:, 0] = 100  # far from the prior
    axis, zero = torch.tensor([1.0, 0.0, 0.0]), torch.zeros(3)
    # weight, bias, shares told right: of the prior's codes, of images' codes
    cases = {
        "told apart": (-axis, 50.0, 1.0, 1.0),
        "told apart the wrong way round": (axis, -50.0, 0.0, 0.0),
        "all taken for the prior's": (zero, 1.0, 1.0, 0.0),
        "all taken for images'": (zero, -1.0, 0.0, 1.0),
    }
    for case, (weight, bias, real, fake) in cases.items():
        got = part2.run_aae_loss_discriminator(z, weight, torch.tensor(bias))["logs"]
        assert "accuracy" in got, f"the log should have the accuracy, it has {sorted(got)}"
        right = (real + fake) / 2
        mistakes = [
            ("it is in percent", 100 * right), ("it counts codes that are told wrong", 1 - right),
            ("codes of images count too", real), ("codes of the prior count too", fake),
        ]  # fmt: skip
        assert_value(f"the accuracy for codes {case}", got["accuracy"], right, atol=1e-6, mistakes=mistakes)
    _, _, z, weight, bias = loss_inputs(rng, 300)
    got = part2.run_aae_loss_discriminator(z, weight, bias)
    real, fake = (split_codes(got["seen"], z) @ weight + bias).double(), (z @ weight + bias).double()
    half = torch.cat([real > 0.5, fake <= 0.5]).double().mean()
    # one code on the edge may fall on the other side in another order of summation
    assert_value(
        "the accuracy, the share of all codes that are told right,", got["logs"]["accuracy"],
        torch.cat([real > 0, fake <= 0]).double().mean(), atol=1.1 / 600,
        mistakes=[("a logit above 0 means 'from the prior', a probability above 0.5", half)],
    )  # fmt: skip


@pytest.mark.question("2.5", points=0.25)
def test_aae_sample(rng):
    n, z_dim = 500, 3
    weight, bias = 0.3 * torch.randn(1, 28, 28, z_dim, generator=rng), torch.randn(1, 28, 28, generator=rng)
    samples, latents = part2.run_aae_sample(weight, bias, n, calls=2)
    for image, z in zip(samples, latents, strict=True):
        assert_shape("the z that the decoder gets", z, (n, z_dim))
        expected = torch.einsum("chwd,bd->bchw", weight, z) + bias
        # float32 sums of three terms
        assert_value("what sample gives", image, expected, rtol=1e-4, atol=1e-4, hint="it is the decoder's image of z")
    assert_independent("the z", *latents)
    assert_standard_normal("the z that the decoder gets", torch.cat(latents))
