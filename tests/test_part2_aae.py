"""Part 2, graded: the autoencoder (Q2.4) and what makes it adversarial (Q2.5).

The oracles are torch.distributions, SciPy and formulas written out here. Statistical tests allow 5 sigma.
"""

import math

import pytest
import torch
from scipy import stats
from torch import distributions as D
from torch.testing import assert_close

import adapters

SIGMAS = 5
P_5_SIGMA = 5.7e-7  # the probability that a normal variable is farther out than 5 sigma
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


def assert_logs(logs, names):
    """The log has these names, and numbers that do not hang on to the graph."""
    assert set(names) <= set(logs), f"the log should have {sorted(names)}, it has {sorted(logs)}"
    attached = [name for name in names if math.isnan(logs[name])]
    assert not attached, f"{attached} should be finite and detached"


# --- encoder and decoder ---------------------------------------------------------------------------------------------


@pytest.mark.question("2.4", points=0.25)
def test_aae_encoder_shapes(rng):
    for batch, z_dim in [(2, 8), (5, 2), (3, 20)]:
        z = adapters.run_aae_network("ConvEncoder", images(rng, batch), z_dim, seed=1)
        assert z.shape == (batch, z_dim), f"should be {(batch, z_dim)}, is {tuple(z.shape)}"
        assert z.dtype == torch.float32 and torch.isfinite(z).all()
    z = adapters.run_aae_network("ConvEncoder", images(rng, 40), 40, seed=2, gain=5)
    assert z.min() < -1.5 and z.max() > 1.5, "codes can be any numbers: is something on top of the last layer?"


@pytest.mark.question("2.4", points=0.25)
def test_aae_encoder_depends_on_its_input(rng):
    x = images(rng, 6)
    z = adapters.run_aae_network("ConvEncoder", x, 8, seed=2)
    distance = torch.cdist(z, z) + torch.eye(6)
    assert distance.min() > 1e-6, "different images get the same code"
    alone = adapters.run_aae_network("ConvEncoder", x[2:4], 8, seed=2)
    # the same numbers in another order of summation
    assert_close(alone, z[2:4], rtol=1e-3, atol=1e-4, msg="the code of an image depends on the others in the batch")
    # each region that has digits counts; one pixel need not change each code, where there is max pooling for example
    for row, column in [(6, 6), (6, 20), (20, 6), (20, 20), (14, 14)]:
        changed = x.clone()
        changed[:, :, row, column] = -changed[:, :, row, column]
        difference = adapters.run_aae_network("ConvEncoder", changed, 8, seed=2) - z
        assert difference.abs().max() > 0, f"pixel ({row}, {column}) does not matter"
    unreached, _ = adapters.run_aae_network_gradients("ConvEncoder", images(rng, 16), 8, seed=3)
    assert not unreached, f"no gradient reaches {unreached}"


@pytest.mark.question("2.4", points=0.25)
def test_aae_decoder_shapes_and_range(rng):
    for batch, z_dim in [(2, 8), (5, 2), (3, 20)]:
        imgs = adapters.run_aae_network("ConvDecoder", codes(rng, batch, z_dim), z_dim, seed=1)
        assert imgs.shape == (batch, 1, 28, 28), f"should be {(batch, 1, 28, 28)}, is {tuple(imgs.shape)}"
        assert imgs.dtype == torch.float32 and torch.isfinite(imgs).all()
    imgs = adapters.run_aae_network("ConvDecoder", codes(rng, 20, 8), 8, seed=2, gain=5)
    assert imgs.abs().max() <= 1, "images are in -1..1: is there a tanh at the end?"
    assert imgs.min() < -0.5 and imgs.max() > 0.5, "images reach from -1 to 1: tanh, not a sigmoid"


@pytest.mark.question("2.4", points=0.25)
def test_aae_decoder_depends_on_its_input(rng):
    z = codes(rng, 5, 6)
    imgs = adapters.run_aae_network("ConvDecoder", z, 6, seed=2)
    distance = torch.cdist(imgs.flatten(1), imgs.flatten(1)) + torch.eye(5)
    assert distance.min() > 1e-6, "different codes give the same image"
    # the same numbers in another order of summation
    assert_close(adapters.run_aae_network("ConvDecoder", z[1:3], 6, seed=2), imgs[1:3], rtol=1e-3, atol=1e-4)
    unreached, to_z = adapters.run_aae_network_gradients("ConvDecoder", codes(rng, 16, 5), 5, seed=3)
    assert not unreached, f"no gradient reaches {unreached}"
    assert (to_z.abs().sum(0) > 0).all(), "some latent dimensions have no influence on the image"


@pytest.mark.question("2.4", points=0.25)
def test_aae_forward(rng):
    for batch, z_dim in [(4, 3), (1, 8)]:
        x = images(rng, batch)
        encoder, weight = (0.1 * torch.randn(*s, generator=rng) for s in ((z_dim, 784), (1, 28, 28, z_dim)))
        bias = torch.randn(1, 28, 28, generator=rng)
        recon_x, z = adapters.run_aae_forward(x, encoder, weight, bias)
        assert z.shape == (batch, z_dim), f"forward should give recon_x and then z, {(batch, z_dim)}: {tuple(z.shape)}"
        # float32 sums of 784 terms
        assert_close(z, x.flatten(1) @ encoder.T, rtol=1e-4, atol=1e-4, msg=lambda m: f"z is the code of x\n{m}")
        expected = torch.einsum("chwd,bd->bchw", weight, z) + bias
        assert_close(recon_x, expected, rtol=1e-4, atol=1e-4, msg=lambda m: f"recon_x is the decoded code\n{m}")


def loss_inputs(rng, batch=6, z_dim=4):
    """x, recon_x, z_fake, and the weight and bias of a linear discriminator."""
    weight, bias = torch.randn(z_dim, generator=rng), torch.randn((), generator=rng)
    return images(rng, batch), images(rng, batch), codes(rng, batch, z_dim), weight, bias


@pytest.mark.question("2.4", points=0.5)
def test_reconstruction_loss(rng):
    x, recon_x, z, weight, bias = loss_inputs(rng)
    got = adapters.run_aae_loss_autoencoder(x, recon_x, z, 1, weight, bias)
    assert_logs(got["logs"], {"recon_loss", "gen_loss", "ae_loss"})
    difference = recon_x.double() - x.double()
    expected = difference.square().mean()
    # float32 sums of some thousand terms
    for name, value in (("the loss", got["loss"].item()), *got["logs"].items()):
        if name != "gen_loss":
            assert value == pytest.approx(expected.item(), rel=1e-5), f"{name}: the mean over images and pixels?"
    assert_close(
        got["gradients"][0].double(), 2 * difference / x.numel(), rtol=1e-4, atol=1e-8,
        msg=lambda m: f"gradient to the reconstructed images\n{m}",
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


def assert_adam_step(batch, x, lambda_):
    """One step of Adam on encoder and decoder, with the gradients of their loss."""
    steps = [step for step in batch["steps"] if step["class"] == "Adam"]
    assert len(steps) == 1, f"Adam should do one step a batch, it did {len(steps)}"
    step = steps[0]
    trained = {name for name, value in step["after"].items() if not torch.equal(value, step["before"][name])}
    wanted = {"encoder.weight", "decoder.weight", "decoder.bias"}
    assert trained == wanted, f"a step of Adam should train encoder and decoder; it changed {sorted(trained)}"
    # the discriminator may have done its step already, or not
    expected = []
    for when in (batch["start"], step["before"]):
        discriminator = {name: weights for name, weights in when.items() if "discriminator" in name}
        expected.append(autoencoder_gradients(x, step["before"] | discriminator, lambda_))
    assert any(agree(step["gradients"], gradients) for gradients in expected), (
        "Adam's step does not follow the gradient of this batch's get_loss_autoencoder: lambda_ passed on? "
        "zero_grad called? something detached?"
    )
    return step


@pytest.mark.question("2.4", points=0.25)
def test_autoencoder_step(rng):
    x = images(rng, 16).view(2, 8, 1, 28, 28)
    for batch, imgs in zip(adapters.run_aae_training(x, 1, 2e-3, 3e-3, linear_networks(rng, 3)), x, strict=True):
        assert_adam_step(batch, imgs, lambda_=1)
        others = [step["class"] for step in batch["steps"] if step["class"] != "Adam"]
        assert not others, f"at lambda 1 the discriminator is not trained, but {others} did a step"
        assert len(batch["seen"]) == 0, "at lambda 1 the discriminator is not run: it is a plain autoencoder"


# --- discriminator and losses ----------------------------------------------------------------------------------------


@pytest.mark.question("2.5", points=0.25)
def test_discriminator_shapes(rng):
    for batch, z_dim in [(2, 8), (5, 2), (3, 20)]:
        logits = adapters.run_aae_network("Discriminator", codes(rng, batch, z_dim), z_dim, seed=1)
        assert logits.shape == (batch, 1), f"should be {(batch, 1)}, is {tuple(logits.shape)}"
        assert logits.dtype == torch.float32 and torch.isfinite(logits).all()
    # a probability or a ReLU could not be below 0, a tanh not beyond 1
    logits = adapters.run_aae_network("Discriminator", 10 * codes(rng, 200, 8), 8, seed=2, gain=5)
    assert logits.min() < -1 and logits.max() > 1, "logits: is something on top of the last layer?"


@pytest.mark.question("2.5", points=0.25)
def test_discriminator_depends_on_its_input(rng):
    z = codes(rng, 5, 6)
    logits = adapters.run_aae_network("Discriminator", z, 6, seed=2)
    assert torch.pdist(logits).min() > 1e-7, "different codes get the same logit"
    # the same numbers in another order of summation
    assert_close(adapters.run_aae_network("Discriminator", z[1:3], 6, seed=2), logits[1:3], rtol=1e-3, atol=1e-4)
    unreached, to_z = adapters.run_aae_network_gradients("Discriminator", codes(rng, 32, 5), 5, seed=3)
    assert not unreached, f"no gradient reaches {unreached}"
    assert (to_z.abs().sum(0) > 0).all(), "some dimensions of the code have no influence"
    # without something between them, three linear layers are one
    middle = adapters.run_aae_network("Discriminator", (z[:1] + z[1:2]) / 2, 6, seed=2)
    assert (middle - logits[:2].mean()).abs() > 1e-6, "the discriminator is linear: are there activations?"


@pytest.mark.question("2.5", points=0.75)
def test_generator_loss(rng):
    for lambda_ in LAMBDAS:
        x, recon_x, z, weight, bias = loss_inputs(rng)
        got = adapters.run_aae_loss_autoencoder(x, recon_x, z, lambda_, weight, bias)
        assert_logs(got["logs"], {"recon_loss", "gen_loss", "ae_loss"})
        recon_loss = (recon_x - x).double().square().mean().item()
        gen_loss = nats(z @ weight + bias, from_prior=True).mean().item()
        expected = lambda_ * recon_loss + (1 - lambda_) * gen_loss
        # float32 sums of some thousand terms
        assert got["logs"]["recon_loss"] == pytest.approx(recon_loss, rel=1e-5)
        if lambda_ < 1:
            assert got["logs"]["gen_loss"] == pytest.approx(gen_loss, rel=1e-5), (
                "gen_loss: the binary cross-entropy of the discriminator's logits with 'from the prior'"
            )
        for name, value in (("the loss", got["loss"].item()), ("ae_loss", got["logs"]["ae_loss"])):
            assert value == pytest.approx(expected, rel=1e-5), (
                f"{name} at lambda {lambda_}: which term has which weight?"
            )


@pytest.mark.question("2.5", points=0.5)
def test_autoencoder_loss_gradients(rng):
    for lambda_ in LAMBDAS:
        x, recon_x, z, weight, bias = loss_inputs(rng)
        got = adapters.run_aae_loss_autoencoder(x, recon_x, z, lambda_, weight, bias)
        recon_x, z = recon_x.double().requires_grad_(), z.double().requires_grad_()
        gen_loss = nats(z @ weight.double() + bias.double(), from_prior=True).mean()
        (lambda_ * (recon_x - x).square().mean() + (1 - lambda_) * gen_loss).backward()
        names = "the reconstructed images", "the codes, through the discriminator"
        for name, ours, theirs in zip(names, got["gradients"], (recon_x.grad, z.grad), strict=True):
            # where the discriminator is sure, sigmoid(logit) - 1 has an error of 3e-8 in float32
            assert_close(
                ours.double(), theirs, rtol=1e-4, atol=1e-6,
                msg=lambda m, name=name, lambda_=lambda_: f"lambda {lambda_}: gradient to {name}: detached?\n{m}",
            )  # fmt: skip


def split_codes(seen, z_fake):
    """What the discriminator saw: codes of the prior. The others have to be all of z_fake."""
    is_fake = (seen[:, None] == z_fake).all(-1)  # [seen, fake]
    assert is_fake.any(0).all(), "the discriminator should see the codes z_fake as they are"
    real = seen[~is_fake.any(1)]
    assert len(real) > 0, "the discriminator should see codes from the prior too"
    return distinct(real)


def distinct(z):
    """Codes [N, D] without repetitions, for whoever asks the discriminator twice."""
    return torch.tensor(list(dict.fromkeys(map(tuple, z.tolist()))))


@pytest.mark.question("2.5", points=0.75)
def test_discriminator_loss(rng):
    for batch, z_dim in [(6, 4), (50, 8), (7, 1)]:
        _, _, z, weight, bias = loss_inputs(rng, batch, z_dim)
        got = adapters.run_aae_loss_discriminator(z, weight, bias)
        assert_logs(got["logs"], {"disc_loss", "loss_real", "loss_fake", "accuracy"})
        real = split_codes(got["seen"], z)
        loss_real = nats(real @ weight + bias, from_prior=True).mean().item()
        loss_fake = nats(z @ weight + bias, from_prior=False).mean().item()
        # float32, from other orders of summation
        assert got["logs"]["loss_real"] == pytest.approx(loss_real, rel=1e-4), "loss_real: codes drawn from the prior"
        assert got["logs"]["loss_fake"] == pytest.approx(loss_fake, rel=1e-4), "loss_fake: codes of images"
        total = loss_real + loss_fake
        halves = [pytest.approx(total, rel=1e-4), pytest.approx(total / 2, rel=1e-4)]
        assert got["loss"].item() in halves, "the loss should be the sum or the mean of loss_real and loss_fake"
        assert got["logs"]["disc_loss"] == pytest.approx(got["loss"].item(), rel=1e-5), "disc_loss is not the loss"


@pytest.mark.question("2.5", points=0.25)
def test_discriminator_loss_gradients(rng):
    _, _, z, weight, bias = loss_inputs(rng, 20)
    got = adapters.run_aae_loss_discriminator(z, weight, bias)
    real = split_codes(got["seen"], z)
    weight, bias = weight.double().requires_grad_(), bias.double().requires_grad_()
    loss_real = nats(real.double() @ weight + bias, from_prior=True).mean()
    loss_fake = nats(z.double() @ weight + bias, from_prior=False).mean()
    (loss_real + loss_fake).backward()
    scale = 1 if got["loss"] > 0.75 * (loss_real + loss_fake) else 0.5  # the sum or the mean
    for ours, theirs in zip(got["gradients"], (weight.grad, bias.grad), strict=True):
        # float32, terms with both signs
        assert_close(
            ours.double(), scale * theirs, rtol=1e-3, atol=1e-5,
            msg=lambda m: f"gradient to the discriminator's parameters: is something detached?\n{m}",
        )  # fmt: skip


@pytest.mark.question("2.5", points=0.25)
def test_prior_is_standard_normal(rng):
    n = 4000
    _, _, z, weight, bias = loss_inputs(rng, n, 3)
    first, again = (split_codes(adapters.run_aae_loss_discriminator(z, weight, bias)["seen"], z) for _ in range(2))
    for values in torch.cat([first, again]).T:
        p = stats.kstest(values.double().numpy(), "norm").pvalue
        assert p > P_5_SIGMA, (
            f"the prior is N(0, I), not something with mean {values.mean():.2f}, std {values.std():.2f}"
        )
    bound = SIGMAS / math.sqrt(len(first))
    between = torch.corrcoef(first.T) - torch.eye(3)
    assert between.abs().max() < bound, "the dimensions of the prior's codes are correlated: drawn once for all?"
    assert (first[1:] * first[:-1]).mean(0).abs().max() < 1.1 * bound, "the prior's codes are correlated"
    assert not torch.equal(first, again), "two calls use the same codes of the prior"


@pytest.mark.question("2.5", points=0.25)
def test_losses_are_stable(rng):
    """Where the discriminator is sure: a sigmoid before the logarithm would be exactly 0 or 1."""
    x, recon_x, z, weight, _ = loss_inputs(rng, 3)
    weight = torch.zeros_like(weight)
    for logit in (-150.0, -100.0, -30.0, 30.0, 60.0, 100.0, 150.0):
        bias = torch.tensor(logit)
        got = adapters.run_aae_loss_autoencoder(x, recon_x, z, 0, weight, bias)
        # softplus(-logit); what is below the smallest float32 may be 0
        assert got["loss"].item() == pytest.approx(max(-logit, 0), rel=1e-5, abs=1e-12), f"gen_loss at logit {logit}"
        got = adapters.run_aae_loss_discriminator(z, weight, bias)
        assert got["logs"]["loss_real"] == pytest.approx(max(-logit, 0), rel=1e-5, abs=1e-12), f"at logit {logit}"
        assert got["logs"]["loss_fake"] == pytest.approx(max(logit, 0), rel=1e-5, abs=1e-12), f"at logit {logit}"
        assert got["gradients"][1].abs() > 0.4, f"the gradient is gone at logit {logit}"


@pytest.mark.question("2.5", points=0.25)
def test_discriminator_accuracy(rng):
    z = codes(rng, 200, 3)
    z[:, 0] = 100  # far from the prior
    axis, zero = torch.tensor([1.0, 0.0, 0.0]), torch.zeros(3)
    expected = {
        "told apart": (-axis, 50.0, 1.0),
        "told apart the wrong way round": (axis, -50.0, 0.0),
        "all taken for the prior's": (zero, 1.0, 0.5),
        "all taken for images'": (zero, -1.0, 0.5),
    }
    for case, (weight, bias, accuracy) in expected.items():
        got = adapters.run_aae_loss_discriminator(z, weight, torch.tensor(bias))["logs"]["accuracy"]
        assert got == pytest.approx(accuracy, abs=1e-6), f"codes {case}: the accuracy is {accuracy}, not {got}"
    _, _, z, weight, bias = loss_inputs(rng, 300)
    got = adapters.run_aae_loss_discriminator(z, weight, bias)
    real = split_codes(got["seen"], z)
    right = torch.cat([real @ weight + bias > 0, z @ weight + bias <= 0]).double().mean().item()
    # one code on the edge may fall on the other side in another order of summation
    assert got["logs"]["accuracy"] == pytest.approx(right, abs=1.1 / 600), "the share of all codes that are told right"


@pytest.mark.question("2.5", points=0.25)
def test_aae_sample(rng):
    n, z_dim = 2000, 3
    weight, bias = 0.3 * torch.randn(1, 28, 28, z_dim, generator=rng), torch.randn(1, 28, 28, generator=rng)
    samples, latents = adapters.run_aae_sample(weight, bias, n, calls=2)
    for image, z in zip(samples, latents, strict=True):
        assert z.shape == (n, z_dim), f"the decoder should get z of shape {(n, z_dim)}, not {tuple(z.shape)}"
        assert image.shape == (n, 1, 28, 28), f"should be {(n, 1, 28, 28)}, is {tuple(image.shape)}"
        expected = torch.einsum("chwd,bd->bchw", weight, z) + bias
        # float32 sums of three terms
        assert_close(
            image, expected, rtol=1e-4, atol=1e-4, msg=lambda m: f"samples are what the decoder makes of z\n{m}"
        )
    for values in torch.cat(latents).T:
        assert stats.kstest(values.double().numpy(), "norm").pvalue > P_5_SIGMA, "z is not drawn from the prior N(0, I)"
    bound = SIGMAS / math.sqrt(n)
    assert (torch.corrcoef(latents[0].T) - torch.eye(z_dim)).abs().max() < bound, "the dimensions of z are correlated"
    assert (latents[0][1:] * latents[0][:-1]).mean(0).abs().max() < 1.1 * bound, "the codes of images are correlated"
    assert not torch.equal(*latents), "two calls use the same z"


@pytest.mark.question("2.5", points=0.25)
def test_adversarial_step(rng):
    lambda_, ae_lr, d_lr = 0.9, 2e-3, 3e-3
    x = images(rng, 24).view(3, 8, 1, 28, 28)
    for batch, imgs in zip(adapters.run_aae_training(x, lambda_, ae_lr, d_lr, linear_networks(rng, 3)), x, strict=True):
        adam = assert_adam_step(batch, imgs, lambda_)
        assert adam["lr"] == pytest.approx(ae_lr), f"Adam: learning rate {adam['lr']}, should be {ae_lr}"
        assert adam["betas"][0] == pytest.approx(0.5), f"Adam's beta1 is 0.5, not {adam['betas'][0]}"
        steps = [step for step in batch["steps"] if step["class"] == "SGD"]
        assert len(steps) == 1, f"SGD should do one step a batch, it did {len(steps)}"
        (sgd,) = steps
        assert sgd["lr"] == pytest.approx(d_lr), f"SGD: learning rate {sgd['lr']}, should be {d_lr}"
        changes = {name: sgd["after"][name] - value for name, value in sgd["before"].items()}
        trained = {name for name, change in changes.items() if change.any()}
        wanted = {"discriminator.weight", "discriminator.bias"}
        assert trained == wanted, f"a step of SGD should train the discriminator alone; it changed {sorted(trained)}"
        # the codes may be those from before the autoencoder's step, or after it
        codes = [imgs.flatten(1) @ weights["encoder.weight"].T for weights in (batch["start"], sgd["before"])]
        is_fake = (torch.cdist(batch["seen"], torch.cat(codes)) < 1e-3).any(1)
        assert is_fake.any() and not is_fake.all(), "the discriminator should see codes of the images and of the prior"
        real = distinct(batch["seen"][~is_fake])
        halves = [discriminator_gradients(real, fake, sgd["before"]) for fake in codes]
        means = [{name: value / 2 for name, value in gradients.items()} for gradients in halves]
        assert any(agree(sgd["gradients"], gradients) for gradients in (*halves, *means)), (
            "SGD's step does not follow the gradient of this batch's get_loss_discriminator: zero_grad called? "
            "the codes of the images passed? a gradient of the autoencoder's loss mixed in?"
        )
        for name in wanted:  # down the gradient
            assert_close(changes[name], -d_lr * sgd["gradients"][name], rtol=1e-2, atol=1e-6)
        assert_logs(
            batch["logged"],
            {"recon_loss", "gen_loss", "ae_loss", "disc_loss", "loss_real", "loss_fake", "accuracy"},
        )
