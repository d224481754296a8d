"""Part 1, graded: encoder and decoder (Q1.7).

PYTEST_DONT_REWRITE is a keyword for pytest: it then shows only our own messages.
"""

import pytest
import torch

from adapters import part1
from inputs import grey_levels, uniform
from judge import assert_not_linear, assert_nothing_on_top, assert_numbers, assert_reached, assert_value

# --- encoder and decoder ---------------------------------------------------------------------------------------------


@pytest.mark.question("1.7", points=0.5, needs=["CNNEncoder"])
def test_encoder_shapes(rng):
    for batch, filters, z_dim, channels in [(2, 8, 20, 1), (3, 4, 2, 1), (1, 32, 7, 1), (2, 4, 3, 2)]:
        imgs = grey_levels(rng, batch).repeat(1, channels, 1, 1)
        outputs = part1.run_encoder(imgs, filters, z_dim, seed=1)
        for name, output in zip(("mean", "log_std"), outputs, strict=True):
            what = f"the encoder's {name} for {batch} images of num_input_channels {channels}"
            assert_numbers(what, output, (batch, z_dim))
    # with parameters 10 times as large, outputs go far beyond ±1.5, unless an activation on top bounds them
    outputs = part1.run_encoder(grey_levels(rng, 16), 8, 40, seed=2, gain=10)
    for name, output in zip(("mean", "log_std"), outputs, strict=True):
        assert_nothing_on_top(f"the encoder's {name}", output)


@pytest.mark.question("1.7", points=0.5, needs=["CNNEncoder"])
def test_encoder_depends_on_its_input(rng):
    """Check that the outputs differ between images; for the mean, also the batch, linearity and single pixels.

    The mean is enough: with the layers that the hint suggests, log_std differs only in the last one.
    """
    imgs = grey_levels(rng, 6)
    mean, log_std = part1.run_encoder(imgs, 8, 64, seed=2)
    for name, output in (("mean", mean), ("log_std", log_std)):
        distance = torch.cdist(output, output) + torch.eye(6)
        assert distance.min() > 1e-6, f"different images get the same {name}"
    assert (mean - log_std).abs().max() > 1e-6, "mean and log_std are the same: each needs its own layer"
    alone = part1.run_encoder(imgs[2:4], 8, 64, seed=2)
    # loose: with another order of summation, outputs of about 0.1 change by less than 1e-6
    assert_value(
        "the mean for just two of the images", alone[0], mean[2:4], rtol=1e-3, atol=1e-4,
        hint="it depends on the others in the batch",
    )  # fmt: skip
    ends = grey_levels(rng, 2) // 2 * 2  # even, so that their mean consists of grey levels too
    middle = part1.run_encoder(ends.sum(0, keepdim=True) // 2, 8, 64, seed=2)[0]
    assert_not_linear("encoder", part1.run_encoder(ends, 8, 64, seed=2)[0], middle[0])
    # every region with digits must affect the code, but a single pixel need not, for example with max pooling
    pixels = [(6, 6), (6, 20), (20, 6), (20, 20), (14, 14)]
    changed = imgs[:2].repeat(1 + len(pixels), 1, 1, 1)
    for number, (row, column) in enumerate(pixels, start=1):
        changed[2 * number : 2 * number + 2, :, row, column] = 15 - imgs[:2, :, row, column]
    unchanged, *means = part1.run_encoder(changed, 8, 64, seed=2)[0].split(2)
    for pixel, each in zip(pixels, means, strict=True):
        # larger than the effect of a different order of summation
        matters = (each - unchanged).abs().max() > 1e-5 * unchanged.abs().max()
        assert matters, (
            f"pixel {pixel} does not affect the mean: do the layers cover the whole image (stride, padding)?"
        )


@pytest.mark.question("1.7", points=0.5, needs=["CNNEncoder"])
def test_encoder_gradients(rng):
    """Check that gradients reach all parameters, that the encoder knows its layers, and that one is a convolution."""
    gradients, has_convolution = part1.run_encoder_gradients(grey_levels(rng, 16), 8, 5, seed=3)
    assert_reached("encoder", gradients)
    assert has_convolution, "the encoder should be a convolutional network, but it has no convolution"


@pytest.mark.question("1.7", points=0.5, needs=["CNNDecoder"])
def test_decoder_shapes(rng):
    for batch, filters, z_dim, levels in [(2, 8, 20, 16), (3, 4, 2, 16), (1, 32, 7, 16), (2, 4, 3, 5)]:
        logits = part1.run_decoder(uniform(rng, batch, z_dim, low=-2, high=2), filters, seed=1, levels=levels)
        assert_numbers(f"the decoder's logits, num_input_channels {levels},", logits, (batch, levels, 28, 28))
        # probabilities sum to 1 over the grey levels, and so do exponentials of log-probabilities
        for name, sums in (("softmax", logits.sum(1)), ("log_softmax", logits.exp().sum(1))):
            assert not torch.allclose(sums, torch.ones_like(sums), atol=1e-4), (
                f"the decoder should return logits, not probabilities: is there a {name} on top of the last layer?"
            )
    assert_nothing_on_top("a logit", part1.run_decoder(uniform(rng, 8, 6, low=-2, high=2), 8, seed=2, gain=10))
    for device in ("cpu", "meta"):
        found = part1.run_decoder_device(device)
        assert found == device, f"decoder.device is {found} for a decoder on {device}: it should follow the parameters"


@pytest.mark.question("1.7", points=0.5, needs=["CNNDecoder"])
def test_decoder_depends_on_its_input(rng):
    z = uniform(rng, 5, 6, low=-2, high=2)
    logits = part1.run_decoder(z, 8, seed=2)
    distance = torch.cdist(logits.flatten(1), logits.flatten(1)) + torch.eye(5)
    assert distance.min() > 1e-6, "different codes z give the same image"
    for dim, what in ((2, "rows"), (3, "columns")):
        assert logits.std(dim).max() > 1e-6, f"all {what} of the image have the same logits"
    middle = part1.run_decoder((z[:1] + z[1:2]) / 2, 8, seed=2)
    assert_not_linear("decoder", logits[:2], middle[0])
    # loose: with another order of summation, outputs of about 0.1 change by less than 1e-6
    assert_value(
        "the decoder's output for just two of the codes", part1.run_decoder(z[1:3], 8, seed=2), logits[1:3],
        rtol=1e-3, atol=1e-4, hint="it depends on the others in the batch",
    )  # fmt: skip


@pytest.mark.question("1.7", points=0.5, needs=["CNNDecoder"])
def test_decoder_gradients(rng):
    """Check the same as for the encoder, and that gradients reach each latent dimension."""
    gradients, to_z, has_convolution = part1.run_decoder_gradients(uniform(rng, 16, 5, low=-2, high=2), 8, seed=3)
    assert_reached("decoder", gradients)
    assert (to_z.abs().sum(0) > 0).all(), "some latent dimensions do not affect the image"
    assert has_convolution, "the decoder should be a convolutional network, but it has no convolution"
