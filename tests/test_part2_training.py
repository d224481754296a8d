"""Part 2, graded: the steps of both optimizers (Q2.4, Q2.5).

PYTEST_DONT_REWRITE is a keyword for pytest: it then shows only our own messages.
"""

import pytest
import torch

from adapters import part2_training
from inputs import images, normal
from judge import SIGMAS, assert_any, assert_logs, assert_value, check_samples


def linear_networks(rng, z_dim):
    """Return weights of a linear encoder, decoder and discriminator, by name."""
    shapes = {"encoder.weight": (z_dim, 784), "decoder.weight": (1, 28, 28, z_dim), "decoder.bias": (1, 28, 28)}
    shapes |= {"discriminator.weight": (z_dim,), "discriminator.bias": ()}
    # "coder": encoder and decoder
    return {name: normal(rng, *shape, scale=0.05 if "coder" in name else 1) for name, shape in shapes.items()}


def the_step(batch, optimizer):
    """Return the only step of this optimizer."""
    steps = [step for step in batch["steps"] if step["class"] == optimizer]
    others = sorted({step["class"] for step in batch["steps"]})
    assert len(steps) == 1, (
        f"{optimizer} should take one step per batch, but it took {len(steps)}; optimizers that took a step: {others}"
    )
    return steps[0]


def assert_trains(step, optimizer, networks, wanted):
    """Check that the optimizer has exactly the parameters named in `wanted` and that its step changed only those."""
    assert set(step["gradients"]) == wanted, (
        f"{optimizer} should have the parameters of {networks}\nexpected {sorted(wanted)}\n"
        f"obtained {sorted(step['gradients'])}"
    )
    trained = {name for name, value in step["after"].items() if not torch.equal(value, step["before"][name])}
    assert trained == wanted, (
        f"a step of {optimizer} should train {networks}\nexpected changes to {sorted(wanted)}\n"
        f"obtained changes to {sorted(trained)}"
    )


def assert_adam_step(batch, answer, lambda_):
    """Check that Adam took one step on encoder and decoder, with the gradients of their loss; return that step."""
    step = the_step(batch, "Adam")
    assert_trains(step, "Adam", "encoder and decoder", {"encoder.weight", "decoder.weight", "decoder.bias"})
    for name, value in answer.items():
        # atol is 1 % of the rms: float32 gives 1e-6 of it; if the discriminator steps first (lambda < 1), about 1e-4
        assert_value(
            f"the gradient of get_loss_autoencoder that Adam follows for {name} in this batch at lambda {lambda_}",
            step["gradients"][name], value, rtol=1e-3, atol=1e-2 * value.rms,
            hint="is zero_grad missing, is something detached, or is another loss mixed in?",
        )  # fmt: skip
    assert not step["amsgrad"], "use Adam, not its variant AMSGrad (amsgrad=True)"
    assert not step["maximize"], "the loss increases instead of decreasing: maximize=True"
    assert_value("Adam's weight_decay", step["weight_decay"], 0.0, hint="it would add another loss to that of Eq. 15")
    assert batch["training"], "the training step leaves a network in evaluation mode: remove .eval()?"
    return step


@pytest.mark.question(
    "2.4", points=0.25, needs=["AdversarialAE.forward", "AdversarialAE.get_loss_autoencoder", "LitAAE"]
)  # fmt: skip
def test_autoencoder_step(rng, expected):
    """At lambda 1, check Adam's parameters, gradients and settings, and that the discriminator is not used at all.

    A second batch, with the same weights, shows whether the gradients of the first one are still there.
    """
    x, weights = images(rng, 16).view(2, 8, 1, 28, 28), linear_networks(rng, 3)
    answers = [expected("autoencoder_step", x=imgs, weights=weights, lambda_=1) for imgs in x]  # gradients, by name
    batches = part2_training.run_aae_training(x, 1, 2e-3, 3e-3, weights)
    for batch, answer in zip(batches, answers, strict=True):
        assert_adam_step(batch, answer, lambda_=1)
        others = [step["class"] for step in batch["steps"] if step["class"] != "Adam"]
        assert not others, f"at lambda 1, the discriminator should not be trained, but {others} took a step"
        assert len(batch["seen"]) == 0, "at lambda 1, the discriminator should not run: this is a plain autoencoder"


LOGGED = {"recon_loss", "gen_loss", "ae_loss", "disc_loss", "loss_real", "loss_fake", "accuracy"}


@pytest.mark.question(
    "2.5", points=0.25,
    needs=[
        "2.4", "AdversarialAE.forward", "AdversarialAE.get_loss_autoencoder", "AdversarialAE.get_loss_discriminator",
        "LitAAE",
    ],
)  # fmt: skip
def test_adversarial_step(rng, expected):
    """Check the steps of both optimizers in three batches, and then the gradients of SGD in larger batches.

    Adam: as in test_autoencoder_step, and the learning rate and betas. SGD: its parameters, learning rate and weight
    decay, and that a step changes them by -lr times the gradient. Both: one step per batch, and the log.
    """
    # the learning rates are so low that the order of the two steps hardly matters
    lambda_, ae_lr, d_lr = 0.9, 1e-5, 1e-4
    x, weights = images(rng, 24).view(3, 8, 1, 28, 28), linear_networks(rng, 3)
    answers = [expected("autoencoder_step", x=imgs, weights=weights, lambda_=lambda_) for imgs in x]
    batches = part2_training.run_aae_training(x, lambda_, ae_lr, d_lr, weights)
    for batch, answer in zip(batches, answers, strict=True):
        adam = assert_adam_step(batch, answer, lambda_)
        assert_value("Adam's learning rate", adam["lr"], ae_lr, rtol=1e-6, hint="is it ae_lr?")
        assert_value("Adam's beta1", adam["betas"][0], 0.5, rtol=1e-6)
        assert 0.9 <= adam["betas"][1] < 1, f"Adam's beta2 should be near its default 0.999, not {adam['betas'][1]}"
        sgd = the_step(batch, "SGD")
        wanted = {"discriminator.weight", "discriminator.bias"}
        assert_trains(sgd, "SGD", "only the discriminator", wanted)
        hint = "it is ae_lr" if sgd["lr"] == ae_lr else "is it d_lr?"
        assert_value("SGD's learning rate", sgd["lr"], d_lr, rtol=1e-6, hint=hint)
        assert_value("SGD's weight_decay", sgd["weight_decay"], 0.0, hint="a step should follow only the loss")
        for name in wanted:
            change, gradient = sgd["after"][name] - sgd["before"][name], sgd["gradients"][name]
            uphill = (change * gradient).sum() > 0
            hint = "it increases the loss" if uphill else "a step is -lr times the gradient: is anything added?"
            # changes are about 1e-5, and float32 rounds weights near 1 by up to 1e-7
            assert_value(f"SGD's change of {name}", change, -d_lr * gradient, rtol=1e-2, atol=1e-6, hint=hint)
        assert_logs(batch["logged"], LOGGED)
    # with a weight of 0, each logit is the bias, regardless of the draws from the prior; with a bias of 2, the gradient
    # depends more on the codes of images (0.88) than on these draws (0.12); + 0.3: the codes' mean is not near 0
    x, weights = images(rng, 1024).view(2, 512, 1, 28, 28) + 0.3, linear_networks(rng, 3)
    weights |= {"discriminator.weight": torch.zeros(3), "discriminator.bias": torch.tensor(2.0)}
    answers = [expected("discriminator_step", x=imgs, weights=weights) for imgs in x]
    check_samples(assert_sgd_steps, x, weights, answers, lambda_, ae_lr, d_lr)


def assert_sgd_steps(x, weights, answers, lambda_, ae_lr, d_lr):
    """Check that SGD follows the gradients of the discriminator's loss: the sum or the mean of its two terms."""
    batches = part2_training.run_aae_training(x, lambda_, ae_lr, d_lr, weights)
    for batch, answer in zip(batches, answers, strict=True):
        gradients = the_step(batch, "SGD")["gradients"]
        # spread: the standard deviation that the mean of 512 codes from the prior causes; 5 sigma is 0.026
        tolerances = {"bias": 1e-3, "weight": SIGMAS * answer["spread"].tensor.item()}
        for name, atol in tolerances.items():
            allowed = [answer[f"{name}_of_mean"], answer[name]]
            assert_any(
                f"the gradient that SGD uses, of the discriminator's loss with respect to its {name}",
                gradients[f"discriminator.{name}"], allowed, rtol=1e-3, atol=atol,
                hint="is it that of get_loss_discriminator alone, for this batch's codes? Is zero_grad missing?",
            )  # fmt: skip
