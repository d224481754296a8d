"""Part 2, graded: encoder, decoder and discriminator (Q2.4, Q2.5).

PYTEST_DONT_REWRITE is a keyword for pytest: it then shows only our own messages.
"""

import pytest
import torch

from adapters import part2
from inputs import codes, images, normal
from judge import assert_not_linear, assert_nothing_on_top, assert_numbers, assert_reached, assert_value
from messages import beyond

# --- encoder and decoder ---------------------------------------------------------------------------------------------


@pytest.mark.question("2.4", points=0.25, needs=["ConvEncoder"])
def test_aae_encoder_shapes(rng):
    for batch, z_dim in [(2, 8), (5, 2), (1, 20)]:
        z = part2.run_aae_network("ConvEncoder", images(rng, batch), z_dim, seed=1)
        assert_numbers("the encoder's code", z, (batch, z_dim))
    # parameters 5 times as large: the code is far beyond -1.5 and 1.5, unless an activation bounds it
    z = part2.run_aae_network("ConvEncoder", images(rng, 16), 40, seed=2, gain=5)
    assert_nothing_on_top("a code", z)


@pytest.mark.question("2.4", points=0.25, needs=["ConvEncoder"])
def test_aae_encoder_depends_on_its_input(rng):
    """Check also that there is a convolution and a non-linearity, and that a gradient reaches all parameters."""
    x = images(rng, 6)
    z = part2.run_aae_network("ConvEncoder", x, 8, seed=2)
    distance = torch.cdist(z, z) + torch.eye(6)
    assert distance.min() > 1e-6, "different images get the same code: is x used?"
    alone = part2.run_aae_network("ConvEncoder", x[2:4], 8, seed=2)
    # loose: another order of summation changes the numbers by up to about 1e-5, the other inputs by much more
    assert_value(
        "the code for just two of the images", alone, z[2:4], rtol=1e-3, atol=1e-4,
        hint="it depends on the others in the batch",
    )  # fmt: skip
    # every region with digits must affect the code, but a single pixel need not, for example with max pooling
    pixels = [(6, 6), (6, 20), (20, 6), (20, 20), (14, 14)]
    changed = x[:2].repeat(1 + len(pixels), 1, 1, 1)
    for number, (row, column) in enumerate(pixels, start=1):
        changed[2 * number : 2 * number + 2, :, row, column] *= -1
    unchanged, *codes_then = part2.run_aae_network("ConvEncoder", changed, 8, seed=2).split(2)
    for pixel, each in zip(pixels, codes_then, strict=True):
        # larger than the effect of a different order of summation
        matters = (each - unchanged).abs().max() > 1e-5 * unchanged.abs().max()
        assert matters, f"pixel {pixel} of the image does not affect the code: do the layers cover the whole image?"
    gradients, _, has_convolution = part2.run_aae_network_gradients("ConvEncoder", images(rng, 16), 8, seed=3)
    assert_reached("encoder", gradients)
    assert has_convolution, "the encoder should be a convolutional network, but it has no convolution"
    middle = part2.run_aae_network("ConvEncoder", x[:2].mean(0, keepdim=True), 8, seed=2)
    assert_not_linear("encoder", z[:2], middle[0])


@pytest.mark.question("2.4", points=0.25, needs=["ConvDecoder"])
def test_aae_decoder_shapes_and_range(rng):
    for batch, z_dim in [(2, 8), (5, 2), (1, 20)]:
        imgs = part2.run_aae_network("ConvDecoder", codes(rng, batch, z_dim), z_dim, seed=1)
        assert_numbers("the decoder's image", imgs, (batch, 1, 28, 28))
    # parameters 5 times as large: they push a tanh close to -1 and 1
    imgs = part2.run_aae_network("ConvDecoder", codes(rng, 10, 8), 8, seed=2, gain=5)
    assert imgs.abs().max() <= 1, (
        f"images are in -1..1, not up to {beyond(1, imgs.abs().max().item())}: is there a tanh at the end?"
    )
    low, high = imgs.min().item(), imgs.max().item()
    why = "use tanh, not a sigmoid" if low >= 0 else "is there a second tanh, or another factor?"
    assert low < -0.9 and high > 0.9, (
        f"images should reach beyond -0.9 and 0.9: {why}\n"
        f"expected a range of nearly -1 to 1\nobtained {beyond(-0.9, low)} to {beyond(0.9, high)}"
    )


@pytest.mark.question("2.4", points=0.25, needs=["ConvDecoder"])
def test_aae_decoder_depends_on_its_input(rng):
    """Check also that there is a convolution, and that a gradient reaches all parameters and dimensions of z."""
    z = codes(rng, 5, 6)
    imgs = part2.run_aae_network("ConvDecoder", z, 6, seed=2)
    distance = torch.cdist(imgs.flatten(1), imgs.flatten(1)) + torch.eye(5)
    assert distance.min() > 1e-6, "different codes give the same image: is z used?"
    # loose: another order of summation changes the numbers by up to about 1e-5, the other inputs by much more
    assert_value(
        "the decoder's output for just two of the codes",
        part2.run_aae_network("ConvDecoder", z[1:3], 6, seed=2), imgs[1:3],
        rtol=1e-3, atol=1e-4, hint="it depends on the others in the batch",
    )  # fmt: skip
    for dim, what in ((2, "rows"), (3, "columns")):
        assert imgs.std(dim).max() > 1e-6, f"all {what} of an image are the same"
    gradients, to_z, has_convolution = part2.run_aae_network_gradients("ConvDecoder", codes(rng, 16, 5), 5, seed=3)
    assert has_convolution, "the decoder should be a convolutional network, but it has no convolution"
    assert_reached("decoder", gradients)
    assert (to_z.abs().sum(0) > 0).all(), "some latent dimensions do not affect the image"


@pytest.mark.question("2.4", points=0.25, needs=["AdversarialAE.forward"])
def test_aae_forward(rng, expected):
    for batch, z_dim in [(4, 3), (1, 8)]:
        networks = {"encoder": normal(rng, z_dim, 784, scale=0.1), "weight": normal(rng, 1, 28, 28, z_dim, scale=0.1)}
        networks |= {"bias": normal(rng, 1, 28, 28), "x": images(rng, batch)}
        answer = expected("linear_autoencoder", **networks)
        recon_x, z = part2.run_aae_forward(**networks)
        # float32 sums of 784 terms are right within about 1e-6; recon_x inherits the error of z
        assert_value("z of forward", z, answer["z"], rtol=1e-4, atol=1e-4, hint="it should be the code of x")
        assert_value(
            "recon_x of forward", recon_x, answer["recon_x"], rtol=1e-3, atol=1e-3,
            hint="it should be the decoder's output for z",
        )  # fmt: skip


# --- discriminator ---------------------------------------------------------------------------------------------------


@pytest.mark.question("2.5", points=0.25, needs=["Discriminator"])
def test_discriminator_shapes(rng):
    for batch, z_dim in [(2, 8), (5, 2), (1, 20)]:
        logits = part2.run_aae_network("Discriminator", codes(rng, batch, z_dim), z_dim, seed=1)
        assert_numbers("the discriminator's logits", logits, (batch, 1))
    # a probability or a ReLU could not be below 0, nor a tanh beyond 1; the logits of a deep network may all have the
    # same sign, but those of 30 networks only with a probability of 2 / 2^30
    assert_nothing_on_top("a logit", part2.run_discriminators(10 * codes(rng, 8, 8), 30, gain=5))
    # in 100 fresh networks, negative and positive logits are about equally large: the ratio of their means is 1, with a
    # standard deviation of 16 %; a leaky ReLU with slope 0.2 makes it about 0.2, and 0.45 is 5 sigma from both
    logits = part2.run_discriminators(codes(rng, 1, 8), 100)
    below, above = -logits[logits < 0].mean(), logits[logits > 0].mean()
    assert 0.45 < below / above < 1 / 0.45, (
        "a logit can be any number: is a leaky ReLU on top of the last layer?\n"
        f"expected fresh networks' logits around 0\nobtained -{below:.3g} on average if negative, {above:.3g} otherwise"
    )


@pytest.mark.question("2.5", points=0.25, needs=["Discriminator"])
def test_discriminator_depends_on_its_input(rng):
    """Check also that there is a non-linearity, and that a gradient reaches all parameters and dimensions of z."""
    z = codes(rng, 5, 6)
    logits = part2.run_aae_network("Discriminator", z, 6, seed=2)
    # a logit is a single number, so two of them may be close by chance: a lower bound than for codes and images
    assert torch.pdist(logits).min() > 1e-7, "different codes get the same logit: is z used?"
    # loose: another order of summation changes the numbers by up to about 1e-5, the other inputs by much more
    assert_value(
        "the discriminator's output for just two of the codes",
        part2.run_aae_network("Discriminator", z[1:3], 6, seed=2), logits[1:3],
        rtol=1e-3, atol=1e-4, hint="it depends on the others in the batch",
    )  # fmt: skip
    gradients, to_z, _ = part2.run_aae_network_gradients("Discriminator", codes(rng, 32, 5), 5, seed=3)
    assert_reached("discriminator", gradients)
    assert (to_z.abs().sum(0) > 0).all(), "some dimensions of the code do not affect the logit"
    # without activations in between, three linear layers are equivalent to one; rounding in float32 is below 1e-6
    middle = part2.run_aae_network("Discriminator", (z[:1] + z[1:2]) / 2, 6, seed=2)
    assert (middle - logits[:2].mean()).abs() > 2e-6, "the discriminator is linear: are there hidden activations?"
