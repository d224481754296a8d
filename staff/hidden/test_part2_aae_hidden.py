"""Part 2: the graded tests that students do not get.

PYTEST_DONT_REWRITE is a keyword for pytest: it then shows only our own messages.
"""

import pytest

from adapters import part2
from inputs import codes, normal
from judge import assert_any


@pytest.mark.question("2.5", points=0.25, needs=["AdversarialAE.get_loss_discriminator"])
def test_discriminator_loss_gradients(rng, expected):
    logits = {"fake": normal(rng, 20), "real": normal(rng)}
    answer = expected("discriminator_loss", **logits)
    got = part2.run_aae_loss_discriminator(codes(rng, 20, 4), **logits)
    for name, whose in (("to_fake", "codes of images"), ("to_real", "codes from the prior")):
        # float32
        assert_any(
            f"the gradient of the discriminator's loss with respect to its logits for {whose}", got[name],
            [answer[name], answer[f"{name}_of_mean"]], rtol=1e-3, atol=1e-5, hint="is something detached?",
        )  # fmt: skip
