"""Part 2: the graded tests that students do not get.

PYTEST_DONT_REWRITE: a message says what is wrong in the assignment's terms, pytest adds nothing to it.
"""

import pytest

from adapters import part2
from expected_aae import loss_inputs, nats, split_codes
from judge import assert_value


@pytest.mark.question("2.5", points=0.25)
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
