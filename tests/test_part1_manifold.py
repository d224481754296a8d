"""Part 1, graded: the manifold (Q1.9).

PYTEST_DONT_REWRITE: a message says what is wrong in the assignment's terms, pytest adds nothing to it.
"""

import math

import pytest
import torch
from scipy import stats

from adapters import part1
from expected_vae import linear_decoder
from judge import assert_shape, assert_value

# --- manifold --------------------------------------------------------------------------------------------------------


def tiles(image, grid_size):
    """Cut a grid of 28x28 images, with or without lines between them, into [rows, columns, 28, 28]."""
    grid = f"a grid of {grid_size}x{grid_size} images of 28x28 pixels"
    assert image.ndim == 3 and image.size(0) in (1, 3), f"one image [1 or 3, H, W] is wanted, not {tuple(image.shape)}"
    padding, rest = divmod(image.size(1) - grid_size * 28, grid_size + 1)
    assert image.size(1) == image.size(2) and padding >= 0 and rest == 0, f"{tuple(image.shape)} is not {grid}"
    starts = [padding + i * (28 + padding) for i in range(grid_size)]
    return torch.stack([torch.stack([image[0, r : r + 28, c : c + 28] for c in starts]) for r in starts])


def axis_mistakes(n):
    """What goes wrong with the percentiles, for n of them."""
    i = torch.arange(n).double()

    def ppf(p):
        return torch.from_numpy(stats.norm.ppf(p.numpy()))

    yield "it is at i/n, and so at infinity; (i + 0.5)/n is in the middle of each share", ppf(i / n)
    yield "it is at (i + 1)/n, and so at infinity; (i + 0.5)/n is in the middle of each share", ppf((i + 1) / n)
    yield "it is at i/(n - 1), and so at infinity; (i + 0.5)/n is in the middle of each share", ppf(i / (n - 1))
    yield "it is at (i + 1)/(n + 1); (i + 0.5)/n is in the middle of each share", ppf((i + 1) / (n + 1))
    yield "it has the percentages; their percent point function is wanted", (i + 0.5) / n
    yield (
        "the cumulative distribution function is taken of the percentages; it is its inverse that is wanted",
        (torch.from_numpy(stats.norm.cdf((i + 0.5) / n))),
    )


def even(values):
    """Whether values [N], in their order, stand at even distances."""
    gaps = values.diff()
    return bool(torch.allclose(gaps, gaps.mean().expand_as(gaps), rtol=1e-3, atol=1e-5))


def assert_axis(values, grid_size):
    """Coordinates [grid_size²] of the grid along one latent dimension, each of them grid_size times."""
    axis = torch.from_numpy(stats.norm.ppf([(i + 0.5) / grid_size for i in range(grid_size)]))
    values = values.double().sort().values
    found = values[::grid_size]
    hint = "it should stand at the percentiles 0.5/n, 1.5/n, ... of N(0, 1)"
    if even(found):
        hint = f"its codes are evenly spaced (linspace?); {hint}"
    elif even(torch.from_numpy(stats.norm.cdf(found))):
        hint = f"these are percentiles of N(0, 1), but others; {hint}"
    assert_value(
        f"the grid of {grid_size}x{grid_size} codes", values, axis.repeat_interleave(grid_size), rtol=1e-3, atol=1e-3,
        mistakes=((name, wrong.repeat_interleave(grid_size)) for name, wrong in axis_mistakes(grid_size)), hint=hint,
    )  # fmt: skip


def picture_mistakes(logits):
    """What goes wrong, and the images [rows, columns, 28, 28] then, for logits [rows, 16, columns, 28, 28]."""
    p, levels = logits.softmax(1), torch.arange(16.0)
    yield "an image is the likeliest grey level of each pixel (argmax); it should be the expectation", p.argmax(1)
    yield (
        "the grey levels are weighted with logits; softmax makes them probabilities",
        (torch.einsum("rlchw,l->rchw", logits, levels)),
    )
    yield "it is one grey level's probability; the expectation over all levels is wanted", p[:, -1]
    yield "it is one grey level's probability; the expectation over all levels is wanted", p[:, 0]
    mean = torch.einsum("rlchw,l->rchw", p, levels)
    yield "dark and bright are exchanged", -mean
    yield "rows and columns of each image are exchanged", mean.mT
    yield "the images are not in the order of their codes", mean.transpose(0, 1).flip(0)


@pytest.mark.question("1.9", points=1.5)
def test_manifold(rng):
    for grid_size in (12, 5):
        weight, bias = linear_decoder(rng, 2)
        got = part1.run_visualize_manifold(weight, bias, grid_size, training=True)
        assert_shape("all codes that the decoder gets", got["z"], (grid_size**2, 2))
        for dim in range(2):
            assert_axis(got["z"][:, dim], grid_size)
        different = len(got["z"].unique(dim=0))
        assert different == grid_size**2, (
            f"the grid should have each pair of coordinates once: {grid_size**2} codes, not {different} different ones"
        )
        axis = torch.tensor(stats.norm.ppf([(i + 0.5) / grid_size for i in range(grid_size)]), dtype=torch.float32)
        # which latent dimension runs along the rows is free
        found = tiles(got["image"], grid_size)
        errors, mistakes = [], []
        for order in ((0, 1), (1, 0)):
            z = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)[..., list(order)]
            logits = torch.einsum("lhwd,rcd->rlchw", weight, z) + bias[:, None]
            mean = torch.einsum("rlchw,l->rchw", logits.softmax(1), torch.arange(16.0))
            # so is the scale: 0..15, 0..1 or between the darkest and brightest pixel
            errors.append(affine_error(found, mean))
            mistakes.append(picture_mistakes(logits))
            if errors[-1] < 1e-3:
                break
        if min(errors) < 1e-3:
            continue
        hint = "are they in the order of the grid, and the expectation of each pixel under the softmax?"
        for each in mistakes:
            for sentence, wrong in each:
                if affine_error(found, wrong) < 1e-3:
                    hint = sentence
        raise AssertionError(
            f"the images of the manifold are wrong: {hint}\nexpected the expectation of each pixel, row by row\n"
            f"obtained something else, by up to {min(errors):.2g} of the range from black to white"
        )


def affine_error(found, expected):
    """The largest difference after the best a * expected + b with a > 0, as a share of the range of `found`."""
    found, expected = found.flatten().double(), expected.flatten().double()
    a = ((found - found.mean()) * (expected - expected.mean())).sum() / (expected - expected.mean()).square().sum()
    difference = (found - found.mean() - a * (expected - expected.mean())).abs().max()
    return (difference / (found.max() - found.min())).item() if a > 0 else math.inf


@pytest.mark.question("1.9", points=0.5)
def test_manifold_leaves_the_decoder_alone(rng):
    for training in (True, False):
        got = part1.run_visualize_manifold(*linear_decoder(rng, 2), 3, training)
        assert got["training"] == training, (
            f"the decoder's mode should be as it was, decoder.training {training}; it is {got['training']} afterwards"
        )
        assert not got["grad"], "a picture needs no gradient (torch.no_grad), and the decoder keeps its own"
