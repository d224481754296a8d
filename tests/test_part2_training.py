"""Part 2, graded: the steps of both optimizers (Q2.4, Q2.5).

PYTEST_DONT_REWRITE: a message says what is wrong in the assignment's terms, pytest adds nothing to it.
"""

import pytest
import torch

from adapters import part2_training
from expected_aae import assert_logs, images, nats
from judge import assert_value


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


def distinct(z):
    """Codes [N, D] without repetitions, for whoever asks the discriminator twice."""
    return torch.tensor(list(dict.fromkeys(map(tuple, z.tolist()))))


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
