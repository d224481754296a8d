"""Part 2, graded: the autoencoder (Q2.4) and what makes it adversarial (Q2.5).

The oracles are torch.distributions, SciPy and formulas written out here. Statistical tests allow 5 sigma.
PYTEST_DONT_REWRITE: a message says what is wrong in the assignment's terms, pytest adds nothing to it.
"""

import math

import pytest
import torch
from torch import distributions as D

from adapters import part2, part2_training
from judge import assert_independent, assert_reached, assert_shape, assert_standard_normal, assert_value

LAMBDAS = (0, 0.3, 0.995, 1)


def images(rng, batch):
    """Random grey values in -1..1."""
    return 2 * torch.rand(batch, 1, 28, 28, generator=rng) - 1


def codes(rng, batch, z_dim):
    return 1.5 * torch.randn(batch, z_dim, generator=rng)


def nats(logits, from_prior):
    """The binary cross-entropy of each logit with "from the prior" or "not": float64."""
    label = torch.full_like(logits, float(from_prior), dtype=torch.float64)
    return -D.Bernoulli(logits=logits.double()).log_prob(label)


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


def assert_logs(logs, names):
    """The log has these names, and numbers that do not hang on to the graph."""
    assert set(names) <= set(logs), f"the log should have {sorted(names)}, it has {sorted(logs)}"
    attached = [name for name in sorted(names) if math.isnan(logs[name])]
    assert not attached, f"{attached} in the log should be finite and detached from the graph"


# --- encoder and decoder ---------------------------------------------------------------------------------------------


def assert_numbers(what, output, shape):
    assert_shape(what, output, shape)
    assert output.dtype == torch.float32, f"{what} should be float32, not {output.dtype}"
    assert torch.isfinite(output).all(), f"{what} should be finite numbers"


@pytest.mark.question("2.4", points=0.25)
def test_aae_encoder_shapes(rng):
    for batch, z_dim in [(2, 8), (5, 2), (3, 20)]:
        z = part2.run_aae_network("ConvEncoder", images(rng, batch), z_dim, seed=1)
        assert_numbers("the encoder's code", z, (batch, z_dim))
    z = part2.run_aae_network("ConvEncoder", images(rng, 16), 40, seed=2, gain=5)
    assert z.min() < -1.5 and z.max() > 1.5, "codes can be any numbers: is something on top of the last layer?"


@pytest.mark.question("2.4", points=0.25)
def test_aae_encoder_depends_on_its_input(rng):
    x = images(rng, 6)
    z = part2.run_aae_network("ConvEncoder", x, 8, seed=2)
    distance = torch.cdist(z, z) + torch.eye(6)
    assert distance.min() > 1e-6, "different images get the same code"
    alone = part2.run_aae_network("ConvEncoder", x[2:4], 8, seed=2)
    # the same numbers in another order of summation
    assert_value(
        "the code of two images alone", alone, z[2:4], rtol=1e-3, atol=1e-4,
        hint="it depends on the others in the batch",
    )  # fmt: skip
    # each region that has digits counts; one pixel need not change each code, where there is max pooling for example
    pixels = [(6, 6), (6, 20), (20, 6), (20, 20), (14, 14)]
    changed = x[:2].repeat(1 + len(pixels), 1, 1, 1)
    for number, (row, column) in enumerate(pixels, start=1):
        changed[2 * number : 2 * number + 2, :, row, column] *= -1
    unchanged, *codes_then = part2.run_aae_network("ConvEncoder", changed, 8, seed=2).split(2)
    for pixel, each in zip(pixels, codes_then, strict=True):
        # more than another order of summation makes
        matters = (each - unchanged).abs().max() > 1e-5 * unchanged.abs().max()
        assert matters, f"pixel {pixel} of the image does not matter to the code"
    assert_reached("encoder", part2.run_aae_network_gradients("ConvEncoder", images(rng, 16), 8, seed=3)[0])


@pytest.mark.question("2.4", points=0.25)
def test_aae_decoder_shapes_and_range(rng):
    for batch, z_dim in [(2, 8), (5, 2), (3, 20)]:
        imgs = part2.run_aae_network("ConvDecoder", codes(rng, batch, z_dim), z_dim, seed=1)
        assert_numbers("the decoder's image", imgs, (batch, 1, 28, 28))
    imgs = part2.run_aae_network("ConvDecoder", codes(rng, 10, 8), 8, seed=2, gain=5)
    assert imgs.abs().max() <= 1, f"images are in -1..1, not up to {imgs.abs().max():.3g}: is there a tanh at the end?"
    assert imgs.min() < -0.5 and imgs.max() > 0.5, (
        f"images reach from -1 to 1, not from {imgs.min():.3g} to {imgs.max():.3g}: tanh, not a sigmoid"
    )


@pytest.mark.question("2.4", points=0.25)
def test_aae_decoder_depends_on_its_input(rng):
    z = codes(rng, 5, 6)
    imgs = part2.run_aae_network("ConvDecoder", z, 6, seed=2)
    distance = torch.cdist(imgs.flatten(1), imgs.flatten(1)) + torch.eye(5)
    assert distance.min() > 1e-6, "different codes give the same image"
    # the same numbers in another order of summation
    assert_value(
        "what the decoder gives for two codes alone",
        part2.run_aae_network("ConvDecoder", z[1:3], 6, seed=2), imgs[1:3],
        rtol=1e-3, atol=1e-4, hint="it depends on the others in the batch",
    )  # fmt: skip
    gradients, to_z = part2.run_aae_network_gradients("ConvDecoder", codes(rng, 16, 5), 5, seed=3)
    assert_reached("decoder", gradients)
    assert (to_z.abs().sum(0) > 0).all(), "some latent dimensions have no influence on the image"


@pytest.mark.question("2.4", points=0.25)
def test_aae_forward(rng):
    for batch, z_dim in [(4, 3), (1, 8)]:
        x = images(rng, batch)
        encoder, weight = (0.1 * torch.randn(*s, generator=rng) for s in ((z_dim, 784), (1, 28, 28, z_dim)))
        bias = torch.randn(1, 28, 28, generator=rng)
        recon_x, z = part2.run_aae_forward(x, encoder, weight, bias)
        code = x.flatten(1) @ encoder.T
        image = torch.einsum("chwd,bd->bchw", weight, code) + bias
        turned = [("recon_x and z are exchanged: forward gives recon_x, then z", image)]
        # float32 sums of 784 terms
        assert_value("z of forward", z, code, rtol=1e-4, atol=1e-4, mistakes=turned, hint="it is the code of x")
        assert_value(
            "recon_x of forward", recon_x, image, rtol=1e-3, atol=1e-3, hint="it is what the decoder makes of z",
            mistakes=[("it is x itself", x)],
        )  # fmt: skip


def loss_inputs(rng, batch=6, z_dim=4):
    """x, recon_x, z_fake, and the weight and bias of a linear discriminator."""
    weight, bias = torch.randn(z_dim, generator=rng), torch.randn((), generator=rng)
    return images(rng, batch), images(rng, batch), codes(rng, batch, z_dim), weight, bias


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


def linear_networks(rng, z_dim):
    """Weights of a linear encoder, decoder and discriminator, by name."""
    shapes = {"encoder.weight": (z_dim, 784), "decoder.weight": (1, 28, 28, z_dim), "decoder.bias": (1, 28, 28)}
    shapes |= {"discriminator.weight": (z_dim,), "discriminator.bias": ()}
    scale = {name: 0.05 if "coder" in name else 1 for name in shapes}
    return {name: scale[name] * torch.randn(shape, generator=rng) for name, shape in shapes.items()}


def autoencoder_gradients(x, weights, lambda_):
    """Of Eq. 15 for linear networks, with respect to encoder and decoder: name -> float64."""
    w = {name: value.double().requires_grad_() for name, value in weights.items()}
    z = x.double().flatten(1) @ w["encoder.weight"].T
    recon_x = torch.einsum("chwd,bd->bchw", w["decoder.weight"], z) + w["decoder.bias"]
    logits = z @ w["discriminator.weight"] + w["discriminator.bias"]
    loss = lambda_ * (recon_x - x).square().mean() + (1 - lambda_) * nats(logits, from_prior=True).mean()
    names = [name for name in w if "coder" in name]
    return dict(zip(names, torch.autograd.grad(loss, [w[name] for name in names]), strict=True))


def discriminator_gradients(real, fake, weights):
    """Of the sum of its loss's two halves, with respect to a linear discriminator: name -> float64."""
    names = ["discriminator.weight", "discriminator.bias"]
    weight, bias = (weights[name].double().requires_grad_() for name in names)
    loss = nats(real.double() @ weight + bias, True).mean() + nats(fake.double() @ weight + bias, False).mean()
    return dict(zip(names, torch.autograd.grad(loss, [weight, bias]), strict=True))


def agree(ours, theirs):
    """Whether gradients are the same, up to the rounding of float32 in sums of some thousand terms of both signs."""
    return ours.keys() == theirs.keys() and all(
        torch.allclose(ours[name].double(), theirs[name], rtol=1e-3, atol=1e-3 * theirs[name].abs().max().item())
        for name in theirs
    )


def negative(gradients):
    return {name: -value for name, value in gradients.items()}


def the_step(batch, optimizer):
    """The one step of this optimizer."""
    steps = [step for step in batch["steps"] if step["class"] == optimizer]
    others = sorted({step["class"] for step in batch["steps"]})
    assert len(steps) == 1, (
        f"{optimizer} should do one step for each batch, it did {len(steps)}; the optimizers that did one: {others}"
    )
    return steps[0]


def assert_trains(step, optimizer, networks, wanted):
    """The step changed the parameters with these names, and no others."""
    trained = {name for name, value in step["after"].items() if not torch.equal(value, step["before"][name])}
    assert trained == wanted, (
        f"a step of {optimizer} should train {networks}\nexpected changes of {sorted(wanted)}\n"
        f"obtained changes of {sorted(trained)}"
    )


def assert_adam_step(batch, x, lambda_):
    """One step of Adam on encoder and decoder, with the gradients of their loss."""
    step = the_step(batch, "Adam")
    assert_trains(step, "Adam", "encoder and decoder", {"encoder.weight", "decoder.weight", "decoder.bias"})
    # the discriminator may have done its step already, or not
    for when in (batch["start"], step["before"]):
        weights = step["before"] | {name: value for name, value in when.items() if "discriminator" in name}
        if agree(step["gradients"], autoencoder_gradients(x, weights, lambda_)):
            return step
    hint = "is it zero_grad that is missing, is something detached, or another loss mixed in?"
    if agree(step["gradients"], negative(autoencoder_gradients(x, weights, lambda_))):
        hint = "the loss gets larger, not smaller"
    elif lambda_ != 1 and agree(step["gradients"], autoencoder_gradients(x, weights, 1)):
        hint = "lambda_ is not passed on to it"
    raise AssertionError(
        f"Adam's step does not follow the gradient of this batch's get_loss_autoencoder at lambda {lambda_}: {hint}"
    )


@pytest.mark.question("2.4", points=0.25)
def test_autoencoder_step(rng):
    x = images(rng, 16).view(2, 8, 1, 28, 28)
    for batch, imgs in zip(part2_training.run_aae_training(x, 1, 2e-3, 3e-3, linear_networks(rng, 3)), x, strict=True):
        assert_adam_step(batch, imgs, lambda_=1)
        others = [step["class"] for step in batch["steps"] if step["class"] != "Adam"]
        assert not others, f"at lambda 1 the discriminator is not trained, but {others} did a step"
        assert len(batch["seen"]) == 0, "at lambda 1 the discriminator is not run: it is a plain autoencoder"


# --- discriminator and losses ----------------------------------------------------------------------------------------


@pytest.mark.question("2.5", points=0.25)
def test_discriminator_shapes(rng):
    for batch, z_dim in [(2, 8), (5, 2), (3, 20)]:
        logits = part2.run_aae_network("Discriminator", codes(rng, batch, z_dim), z_dim, seed=1)
        assert_numbers("the discriminator's logits", logits, (batch, 1))
    # a probability or a ReLU could not be below 0, a tanh not beyond 1
    logits = part2.run_aae_network("Discriminator", 10 * codes(rng, 200, 8), 8, seed=2, gain=5)
    assert logits.min() < -1 and logits.max() > 1, (
        "the discriminator gives logits, any numbers: is something on top of the last layer?\n"
        f"expected some below -1 and some above 1\nobtained {logits.min():.3g} to {logits.max():.3g}"
    )


@pytest.mark.question("2.5", points=0.25)
def test_discriminator_depends_on_its_input(rng):
    z = codes(rng, 5, 6)
    logits = part2.run_aae_network("Discriminator", z, 6, seed=2)
    assert torch.pdist(logits).min() > 1e-7, "different codes get the same logit"
    # the same numbers in another order of summation
    assert_value(
        "what the discriminator gives for two codes alone",
        part2.run_aae_network("Discriminator", z[1:3], 6, seed=2), logits[1:3],
        rtol=1e-3, atol=1e-4, hint="it depends on the others in the batch",
    )  # fmt: skip
    gradients, to_z = part2.run_aae_network_gradients("Discriminator", codes(rng, 32, 5), 5, seed=3)
    assert_reached("discriminator", gradients)
    assert (to_z.abs().sum(0) > 0).all(), "some dimensions of the code have no influence on the logit"
    # without something between them, three linear layers are one
    middle = part2.run_aae_network("Discriminator", (z[:1] + z[1:2]) / 2, 6, seed=2)
    assert (middle - logits[:2].mean()).abs() > 1e-6, "the discriminator is linear: are there activations?"


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


def split_codes(seen, z_fake):
    """What the discriminator saw: codes of the prior. The others have to be all of z_fake."""
    seen, fake = (dict.fromkeys(map(tuple, z.tolist())) for z in (seen, z_fake))
    assert fake.keys() <= seen.keys(), "the discriminator should see the codes z_fake as they are"
    real = [z for z in seen if z not in fake]
    assert real, "the discriminator should see codes from the prior too"
    return torch.tensor(real)


def distinct(z):
    """Codes [N, D] without repetitions, for whoever asks the discriminator twice."""
    return torch.tensor(list(dict.fromkeys(map(tuple, z.tolist()))))


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


@pytest.mark.question("2.5", points=0.25, hidden=True)
def test_discriminator_loss_gradients(rng):
    _, _, z, weight, bias = loss_inputs(rng, 20)
    got = part2.run_aae_loss_discriminator(z, weight, bias)
    real = split_codes(got["seen"], z)
    weight, bias = weight.double().requires_grad_(), bias.double().requires_grad_()
    loss_real = nats(real.double() @ weight + bias, from_prior=True).mean()
    loss_fake = nats(z.double() @ weight + bias, from_prior=False).mean()
    (loss_real + loss_fake).backward()
    scale = 1 if got["loss"] > 0.75 * (loss_real + loss_fake) else 0.5  # the sum or the mean
    for name, obtained, right in zip(
        ("weight", "bias"), got["gradients"], (weight.grad, bias.grad), strict=True
    ):  # fmt: skip
        # float32, terms with both signs
        assert_value(
            f"the gradient of the discriminator's loss with respect to its {name}", obtained, scale * right,
            rtol=1e-3, atol=1e-5, hint="is something detached?",
        )  # fmt: skip


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


@pytest.mark.question("2.5", points=0.25, needs=["2.4"])
def test_adversarial_step(rng):
    lambda_, ae_lr, d_lr = 0.9, 2e-3, 3e-3
    x = images(rng, 24).view(3, 8, 1, 28, 28)
    batches = part2_training.run_aae_training(x, lambda_, ae_lr, d_lr, linear_networks(rng, 3))
    for batch, imgs in zip(batches, x, strict=True):
        adam = assert_adam_step(batch, imgs, lambda_)
        assert_value("Adam's learning rate", adam["lr"], ae_lr, rtol=1e-6, mistakes=[("it is d_lr", d_lr)])
        assert_value("Adam's beta1", adam["betas"][0], 0.5, rtol=1e-6)
        sgd = the_step(batch, "SGD")
        wanted = {"discriminator.weight", "discriminator.bias"}
        assert_trains(sgd, "SGD", "the discriminator alone", wanted)
        assert_value("SGD's learning rate", sgd["lr"], d_lr, rtol=1e-6, mistakes=[("it is ae_lr", ae_lr)])
        assert_sgd_step(batch, sgd, imgs)
        for name in wanted:  # down the gradient
            change, gradient = sgd["after"][name] - sgd["before"][name], sgd["gradients"][name]
            assert_value(
                f"SGD's change of {name}", change, -d_lr * gradient, rtol=1e-2, atol=1e-6,
                mistakes=[("it goes up the gradient: the loss is to be minimized", d_lr * gradient)],
            )  # fmt: skip
        assert_logs(
            batch["logged"],
            {"recon_loss", "gen_loss", "ae_loss", "disc_loss", "loss_real", "loss_fake", "accuracy"},
        )


def assert_sgd_step(batch, step, x):
    """SGD's gradients are those of the discriminator's loss, the sum or the mean of its halves."""
    # the codes may be those from before the autoencoder's step, or after it
    codes = [x.flatten(1) @ weights["encoder.weight"].T for weights in (batch["start"], step["before"])]
    is_fake = (torch.cdist(batch["seen"], torch.cat(codes)) < 1e-3).any(1)
    assert is_fake.any(), "the discriminator should see the codes of this batch's images"
    assert not is_fake.all(), "the discriminator should see codes of the prior too"
    real = distinct(batch["seen"][~is_fake])
    for fake in codes:
        gradients = discriminator_gradients(real, fake, step["before"])
        halves = {name: value / 2 for name, value in gradients.items()}
        if agree(step["gradients"], gradients) or agree(step["gradients"], halves):
            return
    raise AssertionError(
        "SGD's step does not follow the gradient of this batch's get_loss_discriminator: zero_grad called? "
        "the codes of the images passed? a gradient of the autoencoder's loss mixed in?"
    )
