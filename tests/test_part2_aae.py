"""Part 2, graded: the losses of the adversarial autoencoder (Q2.4, Q2.5).

PYTEST_DONT_REWRITE is a keyword for pytest: it then shows only our own messages.
"""

import pytest
import torch

from adapters import part2
from inputs import codes, images, normal
from judge import (
    assert_any,
    assert_independent,
    assert_logs,
    assert_nan,
    assert_shape,
    assert_standard_normal,
    assert_value,
    check_samples,
)
from messages import beyond

LAMBDAS = (0, 0.3, 0.995, 1)


def loss_inputs(rng, batch=6, z_dim=4):
    """Return inputs for get_loss_autoencoder, and the weight and bias of a linear discriminator."""
    given = {"x": images(rng, batch), "recon_x": images(rng, batch), "z_fake": codes(rng, batch, z_dim)}
    return given | {"weight": normal(rng, z_dim), "bias": normal(rng)}


@pytest.mark.question("2.4", points=0.5, needs=["AdversarialAE.get_loss_autoencoder"])
def test_reconstruction_loss(rng, expected):
    given = loss_inputs(rng) | {"lambda_": 1}
    answer = expected("autoencoder_loss", **given)
    got = part2.run_aae_loss_autoencoder(**given)
    assert_logs(got["logs"], {"recon_loss", "gen_loss", "ae_loss"})
    # float32 sums of a few thousand terms
    values = {"recon_loss": got["logs"]["recon_loss"], "the loss": got["loss"], "ae_loss": got["logs"]["ae_loss"]}
    for name, value in values.items():
        assert_value(
            f"{name} at lambda 1", value, answer["ae_loss"], rtol=1e-5,
            hint="the mean squared error over images and pixels",
        )  # fmt: skip
    assert_value(
        "the gradient with respect to the reconstructed images at lambda 1", got["gradients"][0],
        answer["to_recon_x"], rtol=1e-4, atol=1e-8, hint="the loss itself is right, so is something detached?",
    )  # fmt: skip
    influence = got["gradients"][1].abs().max()
    assert not influence, f"at lambda 1, the codes should get no gradient, but it is up to {influence:.3g}"
    broken = part2.run_aae_loss_autoencoder(**given | {"recon_x": given["recon_x"] * torch.nan})
    assert_nan("recon_loss", broken["logs"]["recon_loss"])
    assert_nan("the loss at lambda 1", broken["loss"])


@pytest.mark.question("2.5", points=0.75, needs=["2.4", "AdversarialAE.get_loss_autoencoder"])
def test_generator_loss(rng, expected):
    # 1 and 0 come last: one of the losses has weight 0 there, so some mistakes cannot be distinguished
    for lambda_ in LAMBDAS[1:] + LAMBDAS[:1]:
        given = loss_inputs(rng) | {"lambda_": lambda_}
        answer = expected("autoencoder_loss", **given)
        got = part2.run_aae_loss_autoencoder(**given)
        assert_logs(got["logs"], {"recon_loss", "gen_loss", "ae_loss"})
        # float32 sums of a few thousand terms
        obtained = got["logs"] | {"the loss": got["loss"]}
        names = {"recon_loss": "recon_loss", "gen_loss": "gen_loss", "the loss": "ae_loss", "ae_loss": "ae_loss"}
        equations = {"recon_loss": "Eq. 18", "gen_loss": "Eq. 18c", "ae_loss": "Eq. 18b"}
        for name, which in names.items():
            if name != "gen_loss" or lambda_ < 1:  # at lambda 1, gen_loss is not used
                assert_value(
                    f"{name} at lambda {lambda_}", obtained[name], answer[which], rtol=1e-5, atol=1e-6,
                    hint=f"see {equations[which]}",
                )  # fmt: skip
    broken = part2.run_aae_loss_autoencoder(**given | {"z_fake": given["z_fake"] * torch.nan, "lambda_": 0})
    assert_nan("gen_loss", broken["logs"]["gen_loss"])
    assert_nan("the loss at lambda 0", broken["loss"])


@pytest.mark.question("2.5", points=0.5, needs=["2.4", "AdversarialAE.get_loss_autoencoder"])
def test_autoencoder_loss_gradients(rng, expected):
    for lambda_ in LAMBDAS:
        given = loss_inputs(rng) | {"lambda_": lambda_}
        answer = expected("autoencoder_loss", **given)
        got = part2.run_aae_loss_autoencoder(**given)
        names = {"the reconstructed images": "to_recon_x", "the codes, through the discriminator,": "to_z"}
        for (name, which), obtained in zip(names.items(), got["gradients"], strict=True):
            # where the discriminator is confident, probabilities have an error of 3e-8 in float32
            assert_value(
                f"the gradient with respect to {name} at lambda {lambda_}", obtained, answer[which],
                rtol=1e-4, atol=1e-6, hint="is something detached? If a loss is wrong too, fix it first",
            )  # fmt: skip


def codes_of_the_prior(seen, z_fake):
    """Return the codes that the discriminator saw besides z_fake; check that it saw all of z_fake."""
    seen, fake = (dict.fromkeys(map(tuple, z.tolist())) for z in (seen, z_fake))
    real = [z for z in seen if z not in fake]
    found = f"it saw {len(seen)} different codes, including {len(seen) - len(real)} of the {len(fake)} in z_fake"
    assert fake.keys() <= seen.keys(), f"the discriminator should see the codes z_fake unchanged: {found}"
    assert real, f"the discriminator should see codes from the prior too: {found}"
    return torch.tensor(real)


@pytest.mark.question("2.5", points=0.75, needs=["AdversarialAE.get_loss_discriminator"])
def test_discriminator_loss(rng, expected):
    """Use a discriminator with one logit per image code and the same logit for all codes from the prior."""
    for batch, z_dim in [(6, 4), (50, 8), (7, 1)]:
        logits = {"fake": normal(rng, batch, scale=2), "real": normal(rng, scale=2)}
        answer, z = expected("discriminator_loss", **logits), codes(rng, batch, z_dim)
        got = part2.run_aae_loss_discriminator(z, **logits)
        logs = got["logs"]
        assert_logs(logs, {"disc_loss", "loss_real", "loss_fake", "accuracy"})
        codes_of_the_prior(got["seen"], z)
        # float32, summed in a different order
        for name, of in (("loss_real", "codes drawn from the prior"), ("loss_fake", "codes of images")):
            assert_value(f"{name}, of {of},", logs[name], answer[name], rtol=1e-4)
        # the sum is accepted too: it has the same effect as twice the learning rate
        assert_any(
            "the discriminator's loss", got["loss"], [answer["mean"], answer["sum"]], rtol=1e-4,
            hint="it should be the mean of loss_real and loss_fake",
        )  # fmt: skip
        assert_value("disc_loss in the log", logs["disc_loss"], got["loss"], rtol=1e-5, hint="it should be the loss")
        for name, whose in (("loss_fake", "fake"), ("loss_real", "real")):
            broken = part2.run_aae_loss_discriminator(z, **logits | {whose: logits[whose] * torch.nan})
            assert_nan(name, broken["logs"][name])
            assert_nan("the discriminator's loss", broken["loss"])


def assert_prior(z):
    """Check the codes that the discriminator sees in two calls besides the codes z of images."""
    first, again = (codes_of_the_prior(seen, z) for seen in part2.run_aae_prior(z, calls=2))
    assert_shape("the codes from the prior", first, z.shape, "draw as many codes as z_fake has, all different")
    assert_independent("the prior's code", first, again)
    assert_standard_normal("the prior's code", torch.cat([first, again]))


@pytest.mark.question("2.5", points=0.25, needs=["AdversarialAE.get_loss_discriminator"])
def test_prior_is_standard_normal(rng):
    # 12 000 numbers in two calls: 5 sigma is less than 4 % of a standard deviation
    check_samples(assert_prior, codes(rng, 2000, 3) + 2)  # + 2: the prior does not depend on the codes of images


@pytest.mark.question(
    "2.5", points=0.25,
    needs=["2.4", "AdversarialAE.get_loss_autoencoder", "AdversarialAE.get_loss_discriminator"],
)  # fmt: skip
def test_losses_are_stable(rng, expected):
    """Use a discriminator so confident that a probability would be exactly 0 or 1."""
    given = loss_inputs(rng, 3) | {"lambda_": 0, "weight": torch.zeros(4)}
    for logit in (-1.0, 1.0, -150.0, -100.0, -30.0, 30.0, 60.0, 100.0, 150.0):
        answer = expected("sure_losses", logit=logit)  # each loss if all codes have this logit
        of_encoder = part2.run_aae_loss_autoencoder(**given | {"bias": torch.tensor(logit)})
        got = part2.run_aae_loss_discriminator(given["z_fake"], torch.full((3,), logit), torch.tensor(logit))
        obtained = {"gen_loss": of_encoder["loss"]} | got["logs"]
        hint = "compute losses from logits (binary_cross_entropy_with_logits), without a sigmoid before a logarithm"
        if abs(logit) == 1:
            hint = "first fix test_generator_loss and test_discriminator_loss"
        for name, value in answer.items():  # losses below 1e-12 may be returned as 0
            assert_value(f"{name} at logit {logit:g}", obtained[name], value, rtol=1e-5, atol=1e-12, hint=hint)
        # if all is right, 0.23 for logits of 1 or -1, and 0.5 for large ones (twice as much if the loss is the sum)
        gradient = (got["to_fake"].sum() + got["to_real"]).abs()
        assert gradient > 0.2, (
            f"the gradient of the discriminator's loss vanishes at logit {logit:g}: {hint}\n"
            f"expected more than 0.2, summed over the logits of all codes\nobtained {beyond(0.2, gradient.item())}"
        )


@pytest.mark.question("2.5", points=0.25, needs=["AdversarialAE.get_loss_discriminator"])
def test_discriminator_accuracy(rng, expected):
    cases = {
        "that are all classified correctly": (torch.full((8,), -4.0), 4.0),
        "that are all classified wrongly": (torch.full((8,), 4.0), -4.0),
        "that are all classified as the prior's": (torch.ones(8), 1.0),
        "that are all classified as images'": (-torch.ones(8), -1.0),
        "whose logits are all 0": (torch.zeros(8), 0.0),
        "with various logits": (normal(rng, 300), 0.3),
        "with various logits, the prior's classified wrongly": (normal(rng, 300), -0.3),
        "with logits near 0": (normal(rng, 300, scale=0.05), 0.02),
        "with logits near 0, the prior's classified wrongly": (normal(rng, 300, scale=0.05), -0.02),
    }
    for case, (fake, real) in cases.items():
        answer = expected("accuracy", fake=fake, real=torch.tensor(real))
        logs = part2.run_aae_loss_discriminator(codes(rng, len(fake), 3), fake, torch.tensor(real))["logs"]
        assert "accuracy" in logs, f"the log should contain the accuracy, but it contains {sorted(logs)}"
        # a logit of 0 may count as wrong for both kinds of code
        assert_any(
            f"the accuracy for codes {case}", logs["accuracy"], list(answer.values()), atol=1e-6,
            hint="it is the fraction classified correctly, of all codes together",
        )  # fmt: skip


def assert_samples(weight, bias, n=1500, z_dim=3):
    """Check shapes, that images are the decoded z, and that two calls draw each z independently from N(0, I).

    n = 1500: two calls draw 9000 numbers, so 5 sigma is little more than 4 % of a standard deviation.
    """
    assert_shape("the output of sample for one image", part2.run_aae_sample(weight, bias, 1, 1)[0][0], (1, 1, 28, 28))
    samples, latents = part2.run_aae_sample(weight, bias, n, calls=2)
    for image, z in zip(samples, latents, strict=True):
        assert_shape("the z that the decoder gets", z, (n, z_dim))
        written = bias.repeat(n, 1, 1, 1)
        written[:, 0, 0, :z_dim] = z
        assert_value("the output of sample", image, written, rtol=1e-5, atol=1e-5, hint="it should be the decoded z")
    assert_independent("the z", *latents)
    assert_standard_normal("the z that the decoder gets", torch.cat(latents))


@pytest.mark.question("2.5", points=0.25, needs=["AdversarialAE.sample"])
def test_aae_sample(rng):
    """Use a decoder that writes z into the first pixels of the image."""
    weight, bias = torch.zeros(1, 28, 28, 3), normal(rng, 1, 28, 28)
    weight[0, 0, :3], bias[0, 0, :3] = torch.eye(3), 0
    check_samples(assert_samples, weight, bias)
