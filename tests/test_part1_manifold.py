"""Part 1, graded: the manifold (Q1.9).

PYTEST_DONT_REWRITE is a keyword for pytest: it then shows only our own messages.
"""

import pytest
import torch

from adapters import part1
from inputs import integers, normal
from judge import assert_any, assert_shape, assert_value, standardized

# --- manifold --------------------------------------------------------------------------------------------------------


def tiles(image, grid_size):
    """Cut a grid of 28x28 images, with or without lines between them, into [rows, columns, 28, 28]."""
    grid = f"a grid of {grid_size}x{grid_size} images of 28x28 pixels"
    assert image.ndim == 3 and image.size(0) in (1, 3), f"return one image [1 or 3, H, W], not {tuple(image.shape)}"
    padding, rest = divmod(image.size(1) - grid_size * 28, grid_size + 1)
    assert image.size(1) == image.size(2) and padding >= 0 and rest == 0, (
        f"{tuple(image.shape)} is not {grid}: are there {grid_size} images in each row?"
    )
    starts = [padding + i * (28 + padding) for i in range(grid_size)]
    return torch.stack([torch.stack([image[0, r : r + 28, c : c + 28] for c in starts]) for r in starts])


def linear_decoder(rng):
    return normal(rng, 16, 28, 28, 2), normal(rng, 16, 28, 28)


def even(values):
    """Return whether the values [N], in this order, are evenly spaced, up to 0.1 %."""
    gaps = values.diff()
    return bool(torch.allclose(gaps, gaps.mean().expand_as(gaps), rtol=1e-3, atol=1e-5))


@pytest.mark.question("1.9", points=1.5, needs=["visualize_manifold"])
def test_manifold(rng, expected):
    for grid_size in (12, 5):
        weight, bias = linear_decoder(rng)
        axis = expected("manifold_axis", n=grid_size)["coordinates"]
        places = integers(rng, 784, 16)  # some pixels of an image
        images = expected("manifold", weight=weight, bias=bias, n=grid_size, places=places)
        got = part1.run_visualize_manifold(weight, bias, grid_size, training=True)
        assert_shape("all codes that the decoder gets", got["z"], (grid_size**2, 2), "decode each of the codes once")
        hint = "does it follow the percentiles of N(0, 1) in the docstring?"
        for values in got["z"].T:
            values = values.sort().values  # in any order; each coordinate occurs grid_size times
            linear = "its codes are evenly spaced (linspace?); " if even(values[::grid_size]) else ""
            what = f"the grid of {grid_size}x{grid_size} codes"
            assert_value(what, values, axis, rtol=1e-3, atol=1e-3, hint=linear + hint)  # far above float32 errors
        different = len(got["z"].unique(dim=0))
        assert different == grid_size**2, (
            f"the grid should contain each pair of coordinates once: {grid_size**2} different codes, not {different}"
        )
        pixels = tiles(got["image"], grid_size).double().flatten(2)[..., places]
        steps = 15 * pixels / pixels.max()
        hint = "are they in the order of the grid, and are they the output of expected_image?"
        if (steps - steps.round()).abs().max() < 1e-4:
            hint = "each pixel is one of the 16 grey levels: is it sampled? It should be the expected grey level"
        # the first latent dimension should run down, but may run to the right; the scale does not matter yet
        assert_any(
            "some pixels of the manifold's images", standardized(pixels),
            [images["first_down"], images["first_right"]],
            atol=5e-3, hint=hint,  # in standard deviations: float32 is off by 1e-6, rounding to 8 bits by 1e-2
        )  # fmt: skip
        if got["image"].min() == 0 and got["image"].max() == 1:
            continue  # scaled from the darkest to the brightest pixel
        # the docstring asks for 0..1, but 0..15 and 0..255 are accepted; a range of 0..15/16 is off by 6 %
        size = torch.stack([pixels.mean(), pixels.std()])
        allowed = [factor * images["mean_and_std"].tensor for factor in (1, 15, 255)]
        what = "the mean and the standard deviation of some pixels of the manifold"
        assert_any(what, size, allowed, rtol=3e-3, hint="grey values should be scaled to 0..1")


@pytest.mark.question("1.9", points=0.5, needs=["visualize_manifold"])
def test_manifold_leaves_the_decoder_alone(rng):
    for training in (True, False):
        got = part1.run_visualize_manifold(*linear_decoder(rng), 3, training)
        assert got["training"] == training, (
            f"the decoder's mode should not change: decoder.training was {training}, but is now {got['training']}"
        )
        assert not got["left"], (
            f"visualize_manifold should neither leave gradients nor change what requires them, but {got['left']}: "
            "does it call backward, or change requires_grad?"
        )
