"""Part 1, graded: the VAE (Q1.7), its samples (Q1.8), its manifold (Q1.9).

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


def draw(rng, *shape, low=-1.0, high=1.0, dtype=torch.float32):
    return low + (high - low) * torch.rand(*shape, generator=rng, dtype=dtype)


def images(rng, batch):
    return torch.randint(0, 16, (batch, 1, 28, 28), generator=rng)


# --- reparameterization ----------------------------------------------------------------------------------------------


@pytest.mark.question("1.7", points=0.5)
def test_reparameterize_mean_and_spread(rng):
    n = 40_000
    mean, std = draw(rng, 5, low=-3, high=3), draw(rng, 5, low=0.1, high=4)
    z = adapters.run_sample_reparameterize(mean.expand(n, 5), std.expand(n, 5))
    assert z.shape == (n, 5), f"z should have the shape of the mean, {(n, 5)}, not {tuple(z.shape)}"
    off = (z.mean(0) - mean).abs() / (std / math.sqrt(n))
    assert off.max() < SIGMAS, f"the mean of many draws is {z.mean(0)}, should be {mean}"
    off = (z.std(0) - std).abs() / (std / math.sqrt(2 * n))
    assert off.max() < SIGMAS, f"the spread of many draws is {z.std(0)}, should be {std}: is std a standard deviation?"
    noise = (z - mean) / std
    assert stats.kstest(noise.flatten().double().numpy(), "norm").pvalue > P_5_SIGMA, "the noise is not Gaussian"


@pytest.mark.question("1.7", points=0.5)
def test_reparameterize_noise_is_independent(rng):
    for shape in [(20_000, 6), (40, 50, 6)]:
        mean, std = draw(rng, *shape), draw(rng, *shape, low=0.5, high=2)
        first, again = (adapters.run_sample_reparameterize(mean, std) for _ in range(2))
        assert first.shape == shape
        first, again = (((z - mean) / std).reshape(-1, 6) for z in (first, again))
        bound = SIGMAS / math.sqrt(len(first))
        between = torch.corrcoef(first.T) - torch.eye(6)
        assert between.abs().max() < bound, "the noise of different dimensions is correlated: is it drawn once for all?"
        rows = (first[1:] * first[:-1]).mean(0)
        assert rows.abs().max() < 1.1 * bound, "the noise of different images is correlated: is it drawn once for all?"
        assert (first * again).mean(0).abs().max() < 1.1 * bound, "two calls give the same noise"


@pytest.mark.question("1.7", points=0.5)
def test_reparameterize_gradients(rng):
    mean, std, weight = draw(rng, 7, 3), draw(rng, 7, 3, low=0.2, high=2), draw(rng, 7, 3, low=0.5, high=2)
    z, to_mean, to_std = adapters.run_sample_reparameterize_gradients(mean, std, weight)
    assert_close(to_mean, weight, msg=lambda m: f"dz/dmean should be 1; is the mean detached?\n{m}")
    # dz/dstd is the noise that was drawn; in float32 it comes back from z with a few roundings
    expected = weight * (z - mean) / std
    assert_close(to_std, expected, rtol=1e-4, atol=1e-4, msg=lambda m: f"dz/dstd should be the noise\n{m}")


# --- KL divergence ---------------------------------------------------------------------------------------------------


def kl_oracle(mean, log_std):
    prior = D.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return D.kl_divergence(D.Normal(mean, log_std.exp()), prior).sum(-1)


@pytest.mark.question("1.7", points=0.5)
def test_kld_values(rng):
    for shape in [(4, 20), (1, 1), (3, 2), (5, 128), (2, 3, 4, 7), (20,)]:
        mean, log_std = draw(rng, *shape, low=-3, high=3), draw(rng, *shape, low=-3, high=2)
        kld = adapters.run_kld(mean, log_std)
        assert kld.shape == shape[:-1], f"[..., D] should give [...]: {shape} gave {tuple(kld.shape)}"
        # float32: sums of up to 128 terms
        assert_close(kld, kl_oracle(mean, log_std), rtol=1e-4, atol=1e-4)
    zero = adapters.run_kld(torch.zeros(3, 5), torch.zeros(3, 5))
    assert_close(zero, torch.zeros(3), msg="the divergence of N(0, I) from itself is 0")


@pytest.mark.question("1.7", points=0.5)
def test_kld_extreme_values(rng):
    for log_std in (-10.0, 10.0):
        for mean in (-100.0, 0.0, 100.0):
            inputs = torch.full((2, 3), mean), torch.full((2, 3), log_std)
            assert_close(adapters.run_kld(*inputs), kl_oracle(*inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.question("1.7", points=0.5)
def test_kld_gradients(rng):
    mean = draw(rng, 4, 6, low=-2, high=2, dtype=torch.float64)
    log_std = draw(rng, 4, 6, low=-2, high=2, dtype=torch.float64)
    obtained = adapters.run_kld_gradients(mean, log_std)
    mean.requires_grad_(), log_std.requires_grad_()
    kl_oracle(mean, log_std).sum().backward()
    for name, ours, theirs in zip(("mean", "log_std"), obtained, (mean.grad, log_std.grad), strict=True):
        # float64: what differs in more than the last digits is another formula
        assert_close(ours, theirs, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"gradient to {name}\n{m}")


# --- bits per dimension ----------------------------------------------------------------------------------------------


@pytest.mark.question("1.7", points=1)
def test_bpd(rng):
    for shape in map(torch.Size, [(4, 1, 28, 28), (1, 1, 28, 28), (7, 3, 5, 11), (2, 1, 1, 1), (3, 2, 9, 4)]):
        elbo = draw(rng, shape[0], low=1, high=3000)
        dimensions = 1
        for size in shape[1:]:
            dimensions *= size
        bpd = adapters.run_elbo_to_bpd(elbo, shape)
        assert bpd.shape == (shape[0],), f"one value for each image, not {tuple(bpd.shape)}"
        # one nat is 1/ln(2) bits
        assert_close(bpd, elbo / math.log(2) / dimensions, rtol=1e-5, atol=1e-6)
    uniform = adapters.run_elbo_to_bpd(torch.tensor([28 * 28 * math.log(16)]), torch.Size([1, 1, 28, 28]))
    assert_close(uniform, torch.tensor([4.0]), msg="16 equally likely grey levels take 4 bits")


# --- encoder and decoder ---------------------------------------------------------------------------------------------


@pytest.mark.question("1.7", points=0.5)
def test_encoder_shapes(rng):
    for batch, filters, z_dim in [(2, 8, 20), (3, 4, 2), (4, 32, 7)]:
        for output in adapters.run_encoder(images(rng, batch), filters, z_dim, seed=1):
            assert output.shape == (batch, z_dim), f"should be {(batch, z_dim)}, is {tuple(output.shape)}"
            assert output.dtype == torch.float32 and torch.isfinite(output).all()


@pytest.mark.question("1.7", points=0.5)
def test_encoder_depends_on_its_input(rng):
    imgs = images(rng, 6)
    mean, log_std = adapters.run_encoder(imgs, 8, 64, seed=2)
    for name, output in (("mean", mean), ("log_std", log_std)):
        distance = torch.cdist(output, output) + torch.eye(6)
        assert distance.min() > 1e-6, f"different images get the same {name}"
        assert (output < 0).any() and (output > 0).any(), f"{name} can be positive and negative: is something on top?"
    assert (mean - log_std).abs().max() > 1e-6, "mean and log_std are the same"
    alone = adapters.run_encoder(imgs[2:4], 8, 64, seed=2)
    # the same numbers in another order of summation
    assert_close(
        alone[0], mean[2:4], rtol=1e-3, atol=1e-4, msg="the code of an image depends on the others in the batch"
    )
    # each region that has digits counts; one pixel need not change each code, where there is max pooling for example
    for row, column in [(6, 6), (6, 20), (20, 6), (20, 20), (14, 14)]:
        changed = imgs.clone()
        changed[:, :, row, column] = 15 - changed[:, :, row, column]
        difference = adapters.run_encoder(changed, 8, 64, seed=2)[0] - mean
        assert difference.abs().max() > 0, f"pixel ({row}, {column}) does not matter"


@pytest.mark.question("1.7", points=0.5)
def test_encoder_gradients(rng):
    unreached = adapters.run_encoder_gradients(images(rng, 16), 8, 5, seed=3)
    assert not unreached, f"no gradient reaches {unreached}"


@pytest.mark.question("1.7", points=0.5)
def test_decoder_shapes(rng):
    for batch, filters, z_dim in [(2, 8, 20), (3, 4, 2), (4, 32, 7)]:
        logits = adapters.run_decoder(draw(rng, batch, z_dim, low=-2, high=2), filters, seed=1)
        assert logits.shape == (batch, 16, 28, 28), f"should be {(batch, 16, 28, 28)}, is {tuple(logits.shape)}"
        assert logits.dtype == torch.float32 and torch.isfinite(logits).all()
        assert logits.min() < 0 < logits.max(), "logits, not probabilities: is something on top of the last layer?"
    assert adapters.run_decoder_device("cpu") == "cpu"
    assert adapters.run_decoder_device("meta") == "meta", "device should follow the parameters"


@pytest.mark.question("1.7", points=0.5)
def test_decoder_depends_on_its_input(rng):
    z = draw(rng, 5, 6, low=-2, high=2)
    logits = adapters.run_decoder(z, 8, seed=2)
    distance = torch.cdist(logits.flatten(1), logits.flatten(1)) + torch.eye(5)
    assert distance.min() > 1e-6, "different codes give the same image"
    # the same numbers in another order of summation
    assert_close(adapters.run_decoder(z[1:3], 8, seed=2), logits[1:3], rtol=1e-3, atol=1e-4)


@pytest.mark.question("1.7", points=0.5)
def test_decoder_gradients(rng):
    unreached, to_z = adapters.run_decoder_gradients(draw(rng, 16, 5, low=-2, high=2), 8, seed=3)
    assert not unreached, f"no gradient reaches {unreached}"
    assert (to_z.abs().sum(0) > 0).all(), "some latent dimensions have no influence on the image"


# --- VAE.forward -----------------------------------------------------------------------------------------------------


def linear_decoder(rng, z_dim, scale=1.0):
    weight = torch.randn(16, 28, 28, z_dim, generator=rng) * scale
    return weight, torch.randn(16, 28, 28, generator=rng)


@pytest.mark.question("1.7", points=0.5)
def test_vae_forward_losses(rng):
    for batch, z_dim, spread in [(3, 4, 0.0), (5, 2, 0.7), (2, 20, -2.0)]:
        imgs = images(rng, batch)
        mean, log_std = draw(rng, batch, z_dim, low=-2, high=2), draw(rng, batch, z_dim) + spread
        weight, bias = linear_decoder(rng, z_dim)
        got = adapters.run_vae_forward(imgs, mean, log_std, weight, bias)
        assert got["z"].shape == (batch, z_dim)
        logits = torch.einsum("lhwd,bd->bhwl", weight, got["z"]) + bias.permute(1, 2, 0)
        rec = -D.Categorical(logits=logits).log_prob(imgs.squeeze(1)).sum((1, 2)).mean()
        reg = kl_oracle(mean, log_std).mean()
        for name, expected in (("L_rec", rec), ("L_reg", reg), ("bpd", (rec + reg) / math.log(2) / 784)):
            assert got[name].numel() == 1, f"{name} should be one number, not {tuple(got[name].shape)}"
            # float32 sums of 784 terms
            assert_close(
                got[name].reshape(()), expected, rtol=1e-4, atol=1e-4,
                msg=lambda m, name=name: f"{name}: summed over pixels or dimensions, then the mean of the batch?\n{m}",
            )  # fmt: skip


@pytest.mark.question("1.7", points=0.25)
def test_vae_forward_samples_from_the_posterior(rng):
    n = 2000
    mean = draw(rng, 4, low=-2, high=2).expand(n, 4)
    log_std = torch.tensor([-1.5, -0.7, 0.7, 1.5]).expand(n, 4)
    got = adapters.run_vae_forward(images(rng, n), mean, log_std, *linear_decoder(rng, 4, scale=0.1))
    noise = (got["z"] - mean) / log_std.exp()
    for values in noise.T:
        assert values.mean().abs() < SIGMAS / math.sqrt(n), "the mean of z is not that of q(z|x)"
        assert (values.std() - 1).abs() < SIGMAS / math.sqrt(2 * n), "the spread of z is not exp(log_std)"
        assert stats.kstest(values.double().numpy(), "norm").pvalue > P_5_SIGMA, "z is not drawn from q(z|x)"


@pytest.mark.question("1.7", points=0.25)
def test_vae_forward_gradients(rng):
    imgs = images(rng, 3)
    inputs = [draw(rng, 3, 4, low=-2, high=2), draw(rng, 3, 4), *linear_decoder(rng, 4, scale=0.3)]
    got = adapters.run_vae_forward(imgs, *inputs)
    noise = (got["z"] - inputs[0]) / inputs[1].exp()
    mean, log_std, weight, bias = (x.double().requires_grad_() for x in inputs)
    logits = torch.einsum("lhwd,bd->bhwl", weight, mean + noise * log_std.exp()) + bias.permute(1, 2, 0)
    rec = -D.Categorical(logits=logits).log_prob(imgs.squeeze(1)).sum((1, 2))
    ((rec + kl_oracle(mean, log_std)).mean() / math.log(2) / 784).backward()
    for name, ours, theirs in zip(
        ("mean", "log_std", "the decoder's weights", "the decoder's biases"),
        got["gradients"], (mean.grad, log_std.grad, weight.grad, bias.grad), strict=True,
    ):  # fmt: skip
        # float32 against float64, sums of 784 terms with both signs
        assert_close(
            ours.double(), theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item(),
            msg=lambda m, name=name: f"the gradient of the bpd with respect to {name}: is something detached?\n{m}",
        )  # fmt: skip


# --- VAE.sample ------------------------------------------------------------------------------------------------------


@pytest.mark.question("1.8", points=1)
def test_vae_sample(rng):
    n, z_dim = 500, 3
    weight, bias = linear_decoder(rng, z_dim, scale=0.5)
    (first, second), latents = adapters.run_vae_sample(weight, bias, n, calls=2)
    assert first.shape == (n, 1, 28, 28), f"should be {(n, 1, 28, 28)}, is {tuple(first.shape)}"
    assert not first.is_floating_point(), f"samples are integers 0..15, not {first.dtype}"
    assert 0 <= first.min() and first.max() <= 15, "samples are integers 0..15"
    z = torch.cat(latents)
    assert z.shape == (2 * n, z_dim), f"the decoder should get z of shape {(n, z_dim)}"
    for values in z.T:
        assert stats.kstest(values.double().numpy(), "norm").pvalue > P_5_SIGMA, "z is not drawn from the prior N(0, I)"
    assert not torch.equal(latents[0], latents[1]), "two calls use the same z"

    # what the decoder said for these z: [B, 16, 28, 28]
    p = [(torch.einsum("lhwd,bd->blhw", weight, z) + bias).double().softmax(1) for z in latents]
    for samples, probabilities in zip((first, second), p, strict=True):
        # the log-likelihood of the samples, against its mean and spread over all samples there could be
        log_p = probabilities.log()
        mean, square = (probabilities * log_p).sum(1), (probabilities * log_p**2).sum(1)
        excess = (log_p.gather(1, samples).squeeze(1) - mean).sum() / (square - mean**2).sum().sqrt()
        assert abs(excess) < SIGMAS, "pixels are not drawn from the softmax of their own logits (argmax? reordered?)"
        # how often each grey level comes
        for level in range(16):
            expected, variance = probabilities[:, level].sum(), (probabilities * (1 - probabilities))[:, level].sum()
            excess = ((samples == level).sum() - expected) / variance.sqrt()
            assert abs(excess) < SIGMAS, f"grey level {level} does not come as often as the softmax says"
    # independent pixels with probabilities p and p' are equal with probability sum(p p')
    pairs = [("two calls", first, second, *p), ("images of a batch", first[::2], first[1::2], p[0][::2], p[0][1::2])]
    for what, one, other, p_one, p_other in pairs:
        equal = (p_one * p_other).sum(1)
        excess = ((one == other).sum() - equal.sum()) / (equal * (1 - equal)).sum().sqrt()
        assert abs(excess) < SIGMAS, f"{what} are not drawn independently"


# --- manifold --------------------------------------------------------------------------------------------------------


def tiles(image, grid_size):
    """Cut a grid of 28x28 images, with or without lines between them, into [rows, columns, 28, 28]."""
    assert image.ndim == 3 and image.size(0) in (1, 3), f"one image [1 or 3, H, W], not {tuple(image.shape)}"
    padding, rest = divmod(image.size(1) - grid_size * 28, grid_size + 1)
    assert image.size(1) == image.size(2) and padding >= 0 and rest == 0, f"{tuple(image.shape)} is no such grid"
    starts = [padding + i * (28 + padding) for i in range(grid_size)]
    return torch.stack([torch.stack([image[0, r : r + 28, c : c + 28] for c in starts]) for r in starts])


@pytest.mark.question("1.9", points=1.5)
def test_manifold(rng):
    for grid_size in (20, 6):
        weight, bias = linear_decoder(rng, 2)
        got = adapters.run_visualize_manifold(weight, bias, grid_size, training=True)
        axis = torch.tensor(stats.norm.ppf([(i + 0.5) / grid_size for i in range(grid_size)]), dtype=torch.float32)
        assert got["z"].shape == (grid_size**2, 2), f"the decoder should get {(grid_size**2, 2)} codes in all"
        for dim in range(2):
            values = got["z"][:, dim].sort().values
            assert_close(
                values, axis.repeat_interleave(grid_size), rtol=1e-3, atol=1e-3,
                msg=lambda m: f"the grid should stand at the percentiles 0.5/n, 1.5/n, ... of N(0, 1)\n{m}",
            )  # fmt: skip
        # which latent dimension runs along the rows is free
        found = tiles(got["image"], grid_size)
        errors = []
        for order in ((0, 1), (1, 0)):
            z = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)[..., list(order)]
            logits = torch.einsum("lhwd,rcd->rclhw", weight, z) + bias
            mean = torch.einsum("rclhw,l->rchw", logits.softmax(2), torch.arange(16.0))
            errors.append(affine_error(found, mean))
        # so is the scale: 0..15, 0..1 or between the darkest and brightest pixel
        assert min(errors) < 1e-3, (
            "the images should be the expectation of each pixel under the softmax, row by row over the grid "
            f"(largest difference {min(errors):.2g} of the range)"
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
        got = adapters.run_visualize_manifold(*linear_decoder(rng, 2), 3, training)
        assert got["training"] == training, "the decoder's mode (train or eval) should be as it was"
        assert not got["grad"], "a picture needs no gradient (torch.no_grad), and the decoder keeps its own"
