"""Part 1, graded: the VAE (Q1.7), its samples (Q1.8), its manifold (Q1.9).

The oracles are torch.distributions, SciPy and formulas written out here. Statistical tests allow 5 sigma.
PYTEST_DONT_REWRITE: a message says what is wrong in the assignment's terms, pytest adds nothing to it.
"""

import math

import pytest
import torch
from scipy import stats
from torch import distributions as D

from adapters import part1
from judge import SIGMAS, assert_independent, assert_reached, assert_shape, assert_standard_normal, assert_value


def draw(rng, *shape, low=-1.0, high=1.0, dtype=torch.float32):
    return low + (high - low) * torch.rand(*shape, generator=rng, dtype=dtype)


def images(rng, batch):
    return torch.randint(0, 16, (batch, 1, 28, 28), generator=rng)


# --- reparameterization ----------------------------------------------------------------------------------------------


def spreads(std):
    """What goes wrong with the spread of z, where it should be std."""
    yield "std is squared: the variance is used where the standard deviation belongs", std**2
    yield "the root of std is taken: it is a standard deviation, not a variance", std.sqrt()
    yield "exp(std) is used: std is a standard deviation, not its logarithm", std.exp()
    yield "std is not used", torch.ones_like(std)
    yield "there is no noise, or one noise for the whole batch", torch.zeros_like(std)
    yield "the noise is uniform: torch.rand in place of torch.randn?", std / math.sqrt(12)


@pytest.mark.question("1.7", points=0.5)
def test_reparameterize_mean_and_spread(rng):
    n = 20_000
    mean, std = draw(rng, 5, low=-3, high=3), draw(rng, 5, low=0.1, high=4)
    z = part1.run_sample_reparameterize(mean.expand(n, 5), std.expand(n, 5))
    assert_shape("z", z, (n, 5), "it has the shape of the mean")
    noise = (z - mean) / std
    # the spread of n draws is known to 1 / sqrt(2n) of itself, their mean to std / sqrt(n)
    assert_value(
        "the standard deviation of many draws of z", z.std(0), std, rtol=SIGMAS / math.sqrt(2 * n), atol=1e-6,
        mistakes=spreads(std),
    )  # fmt: skip
    assert_value(
        "the mean of the noise, (z - mean) / std", noise.mean(0), torch.zeros(5), atol=SIGMAS / math.sqrt(n),
        hint="z should have the given mean",
    )  # fmt: skip
    assert_standard_normal("the noise, (z - mean) / std,", noise)


@pytest.mark.question("1.7", points=0.5)
def test_reparameterize_noise_is_independent(rng):
    for shape in [(20_000, 6), (40, 50, 6)]:
        mean, std = draw(rng, *shape), draw(rng, *shape, low=0.5, high=2)
        first, again = (part1.run_sample_reparameterize(mean, std) for _ in range(2))
        assert_shape("z", first, shape, "it has the shape of the mean")
        first, again = (((z - mean) / std).reshape(-1, 6) for z in (first, again))
        assert_independent("the noise", first, again)


@pytest.mark.question("1.7", points=0.5)
def test_reparameterize_gradients(rng):
    mean, std, weight = draw(rng, 7, 3), draw(rng, 7, 3, low=0.2, high=2), draw(rng, 7, 3, low=0.5, high=2)
    z, to_mean, to_std = part1.run_sample_reparameterize_gradients(mean, std, weight)
    cut = "no gradient arrives: is something detached, or does torch.normal draw z?", torch.zeros_like(mean)
    # of sum(weight * z): dz/dmean is 1, and dz/dstd the noise, which comes back from z with a few roundings
    assert_value("the gradient with respect to the mean", to_mean, weight, rtol=1e-5, mistakes=[cut])
    noise = (z - mean) / std
    assert_value(
        "the gradient with respect to std", to_std, weight * noise, rtol=1e-4, atol=1e-4, mistakes=[cut],
        hint="dz/dstd is the noise",
    )  # fmt: skip


# --- KL divergence ---------------------------------------------------------------------------------------------------


def kl_oracle(mean, log_std):
    prior = D.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return D.kl_divergence(D.Normal(mean, log_std.exp()), prior).sum(-1)


def kl_mistakes(mean, log_std):
    mean, log_std = mean.double(), log_std.double()
    square, std, variance = mean.square(), log_std.exp(), (2 * log_std).exp()
    right = (variance + square - 1) / 2 - log_std  # of each dimension
    yield "it is half of what it should be: is there a factor 1/2 too many?", right.sum(-1) / 2
    yield "it is twice what it should be: is the factor 1/2 missing?", 2 * right.sum(-1)
    yield "is log_std used where log_var belongs?", (std + square - 1 - log_std).sum(-1) / 2
    yield "the logarithm of the variance is 2 log_std, not log_std", (variance + square - 1 - log_std).sum(-1) / 2
    yield "the variance is exp(2 log_std), not exp(log_std)", ((std + square - 1) / 2 - log_std).sum(-1)
    yield "the mean is to be squared", ((variance + mean - 1) / 2 - log_std).sum(-1)
    yield "the -1 of Eq. 13 is missing", (right + 0.5).sum(-1)
    yield "it has the wrong sign", -right.sum(-1)
    yield "log sigma has the wrong sign", (right + 2 * log_std).sum(-1)
    yield "it is the mean over the latent dimensions; Eq. 13 sums over them", right.mean(-1)
    yield "it is summed over the batch too: one number for each image is wanted", right.sum()
    yield "it is averaged over the batch: one number for each image is wanted", right.sum(-1).mean()
    yield "it is averaged over everything: one number for each image is wanted", right.mean()
    yield "it is not summed over the latent dimensions", right
    for dim in range(mean.dim() - 1):
        yield (
            f"it is summed over dimension {dim}: Eq. 13 sums over the latent dimensions, the last ones",
            right.sum(dim),
        )
    yield (
        "it is the divergence of N(0, I) from q(z|x), not the other way round",
        (((1 + square) / variance - 1) / 2 + log_std).sum(-1),
    )


@pytest.mark.question("1.7", points=0.5)
def test_kld_values(rng):
    for shape in [(4, 20), (1, 1), (3, 2), (5, 128), (2, 3, 4, 7), (20,)]:
        mean, log_std = draw(rng, *shape, low=-3, high=3), draw(rng, *shape, low=-3, high=2)
        kld = part1.run_kld(mean, log_std)
        # float32: sums of up to 128 terms
        assert_value(
            f"KLD of mean and log_std {list(shape)}", kld, kl_oracle(mean, log_std), rtol=1e-4, atol=1e-4,
            mistakes=kl_mistakes(mean, log_std), hint=f"one number for each vector of {shape[-1]}, see Eq. 13",
        )  # fmt: skip
    zero = part1.run_kld(torch.zeros(3, 5), torch.zeros(3, 5))
    assert_value("KLD of N(0, I) from itself", zero, torch.zeros(3), atol=1e-5)


@pytest.mark.question("1.7", points=0.5, hidden=True)
def test_kld_extreme_values(rng):
    for log_std in (-10.0, 10.0):
        for mean in (-100.0, 0.0, 100.0):
            inputs = torch.full((2, 3), mean), torch.full((2, 3), log_std)
            assert_value(
                f"KLD where the mean is {mean:g} and log_std {log_std:g}", part1.run_kld(*inputs),
                kl_oracle(*inputs), rtol=1e-4, atol=1e-4, mistakes=kl_mistakes(*inputs),
                hint="is something clamped, or does it overflow?",
            )  # fmt: skip


@pytest.mark.question("1.7", points=0.5)
def test_kld_gradients(rng):
    mean = draw(rng, 4, 6, low=-2, high=2, dtype=torch.float64)
    log_std = draw(rng, 4, 6, low=-2, high=2, dtype=torch.float64)
    obtained = part1.run_kld_gradients(mean, log_std)
    mean.requires_grad_(), log_std.requires_grad_()
    kl_oracle(mean, log_std).sum().backward()
    for name, ours, theirs in zip(("the mean", "log_std"), obtained, (mean.grad, log_std.grad), strict=True):
        ours = torch.zeros_like(theirs) if ours is None else ours
        # float64: what differs in more than the last digits is another formula
        assert_value(
            f"the gradient of KLD with respect to {name}", ours, theirs, rtol=1e-9, atol=1e-9,
            mistakes=[("no gradient arrives: is something detached?", torch.zeros_like(theirs))],
        )  # fmt: skip


# --- bits per dimension ----------------------------------------------------------------------------------------------


def bpd_mistakes(elbo, shape):
    dimensions = math.prod(shape[1:])
    right = elbo.double() / math.log(2) / dimensions
    yield "it is in nats: a nat is log2(e) bits", elbo / dimensions
    yield "it is multiplied by ln 2: bits are nats divided by ln 2, times log2(e)", elbo * math.log(2) / dimensions
    yield "the batch is counted as a dimension", right / shape[0]
    yield "it has the wrong sign", -right
    yield "it is averaged over the batch: one number for each image is wanted", right.mean()
    yield "it is summed over the batch: one number for each image is wanted", right.sum()
    yield "the channels are dimensions too", right * shape[1]
    yield "it is not divided by the number of dimensions", right * dimensions
    yield "the number of dimensions is that of img_shape, not always 784", right * dimensions / 784
    yield "the divisor is the sum of height and width, not their product", right * dimensions / sum(shape[1:])


@pytest.mark.question("1.7", points=1)
def test_bpd(rng):
    for shape in map(torch.Size, [(4, 1, 28, 28), (1, 1, 28, 28), (7, 3, 5, 11), (2, 1, 1, 1), (3, 2, 9, 4)]):
        elbo = draw(rng, shape[0], low=1, high=3000)
        # one nat is 1/ln(2) bits
        expected = elbo.double() / math.log(2) / math.prod(shape[1:])
        assert_value(
            f"bits per dimension of images {list(shape)}", part1.run_elbo_to_bpd(elbo, shape), expected,
            rtol=1e-5, atol=1e-6, mistakes=bpd_mistakes(elbo, shape), hint="one number for each image",
        )  # fmt: skip
    uniform = part1.run_elbo_to_bpd(torch.tensor([28 * 28 * math.log(16)]), torch.Size([1, 1, 28, 28]))
    assert_value("bits per dimension of 16 equally likely grey levels", uniform, torch.tensor([4.0]), rtol=1e-5)


# --- encoder and decoder ---------------------------------------------------------------------------------------------


def assert_numbers(what, output, shape):
    assert_shape(what, output, shape)
    assert output.dtype == torch.float32, f"{what} should be float32, not {output.dtype}"
    assert torch.isfinite(output).all(), f"{what} should be finite numbers"


@pytest.mark.question("1.7", points=0.5)
def test_encoder_shapes(rng):
    for batch, filters, z_dim in [(2, 8, 20), (3, 4, 2), (4, 32, 7)]:
        outputs = part1.run_encoder(images(rng, batch), filters, z_dim, seed=1)
        for name, output in zip(("mean", "log_std"), outputs, strict=True):
            assert_numbers(f"the encoder's {name}", output, (batch, z_dim))


@pytest.mark.question("1.7", points=0.5)
def test_encoder_depends_on_its_input(rng):
    imgs = images(rng, 6)
    mean, log_std = part1.run_encoder(imgs, 8, 64, seed=2)
    for name, output in (("mean", mean), ("log_std", log_std)):
        distance = torch.cdist(output, output) + torch.eye(6)
        assert distance.min() > 1e-6, f"different images get the same {name}"
        assert (output < 0).any() and (output > 0).any(), f"{name} can be positive and negative: is something on top?"
    assert (mean - log_std).abs().max() > 1e-6, "mean and log_std are the same: each needs a layer of its own"
    alone = part1.run_encoder(imgs[2:4], 8, 64, seed=2)
    # the same numbers in another order of summation
    assert_value(
        "the mean of two images alone", alone[0], mean[2:4], rtol=1e-3, atol=1e-4,
        hint="it depends on the others in the batch",
    )  # fmt: skip
    # each region that has digits counts; one pixel need not change each code, where there is max pooling for example
    pixels = [(6, 6), (6, 20), (20, 6), (20, 20), (14, 14)]
    changed = imgs[:2].repeat(1 + len(pixels), 1, 1, 1)
    for number, (row, column) in enumerate(pixels, start=1):
        changed[2 * number : 2 * number + 2, :, row, column] = 15 - imgs[:2, :, row, column]
    unchanged, *means = part1.run_encoder(changed, 8, 64, seed=2)[0].split(2)
    for pixel, each in zip(pixels, means, strict=True):
        # more than another order of summation makes
        matters = (each - unchanged).abs().max() > 1e-5 * unchanged.abs().max()
        assert matters, f"pixel {pixel} of the image does not matter to the mean"


@pytest.mark.question("1.7", points=0.5)
def test_encoder_gradients(rng):
    assert_reached("encoder", part1.run_encoder_gradients(images(rng, 16), 8, 5, seed=3))


@pytest.mark.question("1.7", points=0.5)
def test_decoder_shapes(rng):
    for batch, filters, z_dim in [(2, 8, 20), (3, 4, 2), (4, 32, 7)]:
        logits = part1.run_decoder(draw(rng, batch, z_dim, low=-2, high=2), filters, seed=1)
        assert_numbers("the decoder's logits", logits, (batch, 16, 28, 28))
        for name, sums in (("softmax", logits.sum(1)), ("log_softmax", logits.exp().sum(1))):
            assert not torch.allclose(sums, torch.ones_like(sums), atol=1e-4), (
                f"logits are wanted, any numbers: is there a {name} on top of the last layer?"
            )
        assert logits.min() < 0 < logits.max(), "logits, not probabilities: is something on top of the last layer?"
    for device in ("cpu", "meta"):
        found = part1.run_decoder_device(device)
        assert found == device, f"decoder.device is {found} for a decoder on {device}: it should follow the parameters"


@pytest.mark.question("1.7", points=0.5)
def test_decoder_depends_on_its_input(rng):
    z = draw(rng, 5, 6, low=-2, high=2)
    logits = part1.run_decoder(z, 8, seed=2)
    distance = torch.cdist(logits.flatten(1), logits.flatten(1)) + torch.eye(5)
    assert distance.min() > 1e-6, "different codes z give the same image"
    # the same numbers in another order of summation
    assert_value(
        "what the decoder gives for two codes alone", part1.run_decoder(z[1:3], 8, seed=2), logits[1:3],
        rtol=1e-3, atol=1e-4, hint="it depends on the others in the batch",
    )  # fmt: skip


@pytest.mark.question("1.7", points=0.5)
def test_decoder_gradients(rng):
    gradients, to_z = part1.run_decoder_gradients(draw(rng, 16, 5, low=-2, high=2), 8, seed=3)
    assert_reached("decoder", gradients)
    assert (to_z.abs().sum(0) > 0).all(), "some latent dimensions have no influence on the image"


# --- VAE.forward -----------------------------------------------------------------------------------------------------


def linear_decoder(rng, z_dim, scale=1.0):
    weight = torch.randn(16, 28, 28, z_dim, generator=rng) * scale
    return weight, torch.randn(16, 28, 28, generator=rng)


def cross_entropy(logits, imgs):
    """Nats of each pixel: logits [B, H, W, 16], imgs [B, 1, H, W] -> [B, H, W]."""
    return -D.Categorical(logits=logits).log_prob(imgs.squeeze(1))


def loss_mistakes(right, other, twice):
    """For a loss of each image [B], that which it may be exchanged with, and the reconstruction after two softmaxes."""
    yield "it is summed over the batch; Eq. 14 takes the mean", right.sum()
    yield "it is one number for each image; Eq. 14 takes the mean over the batch", right
    yield "there is a softmax before the cross-entropy, which has one of its own", twice.mean()
    yield "the mean over the pixels is taken; Eq. 13 sums over them", right.mean() / 784
    yield "the mean over images and pixels is taken, of sums already", right.mean() / 784 / len(right)
    yield "it has the wrong sign", -right.mean()
    yield "L_rec and L_reg are exchanged", other.mean()
    yield "it is in bits: L_rec and L_reg are in nats", right.mean() / math.log(2)


def bpd_of_losses_mistakes(rec, reg, twice):
    """For both losses of each image [B]."""
    in_bits = 1 / math.log(2) / 784
    yield "the KL divergence is missing", rec.mean() * in_bits
    yield "the reconstruction is missing", reg.mean() * in_bits
    yield "the KL divergence is subtracted; the loss is the sum of both terms (Eq. 14)", (rec - reg).mean() * in_bits
    yield "it is in nats, not in bits per dimension", (rec + reg).mean()
    yield "it is summed over the batch; Eq. 14 takes the mean", (rec + reg).sum() * in_bits
    yield "it is one number for each image; Eq. 14 takes the mean over the batch", (rec + reg) * in_bits
    yield "there is a softmax before the cross-entropy, which has one of its own", (twice + reg).mean() * in_bits
    yield "the batch is counted as a dimension", (rec + reg).mean() * in_bits / len(rec)
    yield "the mean over the pixels is taken; Eq. 13 sums over them", (rec / 784 + reg).mean() * in_bits


@pytest.mark.question("1.7", points=0.5)
def test_vae_forward_losses(rng):
    for batch, z_dim, spread in [(3, 4, 0.0), (5, 2, 0.7), (2, 20, -2.0)]:
        imgs = images(rng, batch)
        mean, log_std = draw(rng, batch, z_dim, low=-2, high=2), draw(rng, batch, z_dim) + spread
        weight, bias = linear_decoder(rng, z_dim)
        got = part1.run_vae_forward(imgs, mean, log_std, weight, bias)
        assert_shape("the z that the decoder gets", got["z"], (batch, z_dim))
        logits = torch.einsum("lhwd,bd->bhwl", weight, got["z"]) + bias.permute(1, 2, 0)
        rec, twice = (cross_entropy(x, imgs).sum((1, 2)).double() for x in (logits, logits.softmax(-1)))
        reg = kl_oracle(mean, log_std).double()
        expected = {
            "L_rec": (rec.mean(), loss_mistakes(rec, reg, twice)),
            "L_reg": (reg.mean(), loss_mistakes(reg, rec, twice)),
            "bpd": ((rec + reg).mean() / math.log(2) / 784, bpd_of_losses_mistakes(rec, reg, twice)),
        }
        hints = {
            "L_rec": "the cross-entropy of logits and grey levels, summed over the pixels, then the mean of the batch",
            "L_reg": "what KLD gives, then the mean of the batch",
            "bpd": "what elbo_to_bpd gives for the sum of both terms, then the mean of the batch",
        }
        for name, (value, mistakes) in expected.items():
            obtained = got[name].squeeze() if got[name].numel() == 1 else got[name]
            # float32 sums of 784 terms
            assert_value(f"{name} of VAE.forward", obtained, value, rtol=1e-4, mistakes=mistakes, hint=hints[name])


@pytest.mark.question("1.7", points=0.25)
def test_vae_forward_samples_from_the_posterior(rng):
    n = 200
    mean = draw(rng, 4, low=-2, high=2)
    log_std = torch.tensor([-1.5, -0.7, 0.7, 1.5])
    got = part1.run_vae_forward(
        images(rng, n), mean.expand(n, 4), log_std.expand(n, 4), *linear_decoder(rng, 4, scale=0.1)
    )
    std = log_std.exp()
    wrong = [
        ("it is the same for all images: the mean, not a sample of q(z|x)?", torch.zeros(4)),
        ("it is exp(2 log_std), the variance", std**2),
        ("it is exp(log_std / 2), as if log_std were log_var", std**0.5),
        ("log_std is used where exp(log_std) belongs", log_std.abs()),
        ("log_std is not used", torch.ones(4)),
    ]
    assert_shape("the z that the decoder gets", got["z"], (n, 4))
    # as in the tests of the reparameterization
    assert_value(
        "the standard deviation of the z that the decoder gets", got["z"].std(0), std,
        rtol=SIGMAS / math.sqrt(2 * n), atol=1e-6, mistakes=wrong, hint="that of q(z|x) is exp(log_std)",
    )  # fmt: skip
    noise = (got["z"] - mean) / std
    assert_value(
        "the mean of the z that the decoder gets, in standard deviations from that of q(z|x),",
        noise.mean(0), torch.zeros(4), atol=SIGMAS / math.sqrt(n),
    )  # fmt: skip
    assert_standard_normal("the noise of z, (z - mean) / exp(log_std),", noise)


@pytest.mark.question("1.7", points=0.25)
def test_vae_forward_gradients(rng):
    imgs = images(rng, 3)
    inputs = [draw(rng, 3, 4, low=-2, high=2), draw(rng, 3, 4), *linear_decoder(rng, 4, scale=0.3)]
    got = part1.run_vae_forward(imgs, *inputs)
    noise = (got["z"] - inputs[0]) / inputs[1].exp()
    mean, log_std, weight, bias = inputs = [x.double().requires_grad_() for x in inputs]
    logits = torch.einsum("lhwd,bd->bhwl", weight, mean + noise * log_std.exp()) + bias.permute(1, 2, 0)
    rec, reg = cross_entropy(logits, imgs).sum((1, 2)).mean(), kl_oracle(mean, log_std).mean()
    of_rec, of_reg = (
        torch.autograd.grad(loss / math.log(2) / 784, inputs, allow_unused=True, materialize_grads=True)
        for loss in (rec, reg)
    )
    names = ("the mean", "log_std", "the decoder's weights", "the decoder's biases")
    for name, obtained, r, k in zip(names, got["gradients"], of_rec, of_reg, strict=True):
        mistakes = [
            ("no gradient arrives: is something detached?", torch.zeros_like(r)),
            ("that of the reconstruction is missing: is z detached?", k),
            ("that of the KL divergence is missing: is it detached?", r),
        ]
        # float32 against float64, sums of 784 terms with both signs
        assert_value(
            f"the gradient of the bpd with respect to {name}", obtained, r + k, rtol=1e-3,
            atol=1e-4 * (r + k).abs().max().item(), mistakes=mistakes,
            hint="is something detached, or the loss wrong too?",
        )  # fmt: skip


# --- VAE.sample ------------------------------------------------------------------------------------------------------


def sigmas(samples, probabilities, score):
    """How far the summed score of images [B, 1, 28, 28] is from that of such draws; both others are [B, 16, 28, 28]."""
    mean, square = (probabilities * score).sum(1), (probabilities * score**2).sum(1)
    excess = (score.gather(1, samples).squeeze(1) - mean).sum() / (square - mean**2).sum().clamp(min=1e-6).sqrt()
    return excess.abs().item()


def sampling_mistakes(logits):
    """What goes wrong with the probabilities of pixels, for logits [B, 16, 28, 28]."""
    p = logits.softmax(1)
    yield "there are two softmaxes", p.softmax(1)
    yield "the softmax runs over the rows of the image, not over the grey levels", logits.softmax(2)
    yield "the softmax runs over the columns of the image, not over the grey levels", logits.softmax(3)
    yield "rows and columns of the image are exchanged", p.mT
    # [B * 784, 16] by view alone: 16 numbers that belong to different pixels
    for name, each in (("probabilities", p), ("logits", logits)):
        rows = each.reshape(len(each), 784, 16)
        rows = rows.softmax(-1) if name == "logits" else rows
        yield (
            f"{name} are made rows of 16 without moving the grey levels to the end first (permute)",
            rows.mT.reshape_as(p),
        )
    yield "the logits are drawn from as if they were probabilities", logits.clamp(min=0) + 1e-9
    yield "all images have the probabilities of the first one", p[:1].expand_as(p)
    yield "the probabilities are averaged over the batch", p.mean(0, keepdim=True).expand_as(p)
    # last: draws that have nothing to do with their logits look like this
    yield "each grey level is equally likely", torch.full_like(p, 1 / 16)


def assert_drawn_from(samples, logits):
    """Images [B, 1, 28, 28] are draws from the softmax of logits [B, 16, 28, 28]."""
    p = logits.softmax(1)
    levels = torch.arange(16)
    counts = torch.bincount(samples.flatten(), minlength=16).double()
    expected, variance = p.sum((0, 2, 3)), (p * (1 - p)).sum((0, 2, 3))
    rare = ((counts - expected).abs() / variance.sqrt() > SIGMAS).nonzero().flatten().tolist()
    excess = sigmas(samples, p, p.log())
    if not rare and excess < SIGMAS:
        return
    hint = "are they drawn from the softmax of their own logits?"
    if torch.equal(samples, p.argmax(1, keepdim=True)):
        hint = "each is the likeliest grey level (argmax); it should be drawn"
    elif torch.equal(samples.squeeze(1), torch.einsum("blhw,l->bhw", p, levels.double()).round().long()):
        hint = "each is the expected grey level; it should be drawn"
    else:
        for sentence, wrong in sampling_mistakes(logits):
            wrong = wrong / wrong.sum(1, keepdim=True)
            if all(sigmas(samples, wrong, score) < SIGMAS for score in (p.log(), wrong.clamp(min=1e-300).log())):
                hint = sentence
                break
    shares = [f"{share:.3f}" for share in (expected / expected.sum()).tolist()[:4]]
    found = [f"{share:.3f}" for share in (counts / counts.sum()).tolist()[:4]]
    raise AssertionError(
        f"the pixels of VAE.sample are wrong: {hint}\n"
        f"expected shares {', '.join(shares)}, ... of grey levels 0, 1, 2, 3, ...\n"
        f"obtained shares {', '.join(found)}, ... and a log-likelihood {excess:.3g} sigma off"
    )


@pytest.mark.question("1.8", points=1)
def test_vae_sample(rng):
    n, z_dim = 50, 3
    weight, bias = linear_decoder(rng, z_dim, scale=0.5)
    (first, second), latents = part1.run_vae_sample(weight, bias, n, calls=2)
    assert_shape("what VAE.sample gives", first, (n, 1, 28, 28))
    assert not first.is_floating_point(), f"samples are integers 0..15, not {first.dtype}"
    assert 0 <= first.min() and first.max() <= 15, f"samples are integers 0..15, not {first.min()}..{first.max()}"
    for z in latents:
        assert_shape("the z that the decoder gets", z, (n, z_dim))
    assert_independent("the z", *latents)
    assert_standard_normal("the z that the decoder gets", torch.cat(latents))

    # what the decoder said for these z: [B, 16, 28, 28]
    logits = [(torch.einsum("lhwd,bd->blhw", weight, z) + bias).double() for z in latents]
    for samples, given in zip((first, second), logits, strict=True):
        assert_drawn_from(samples, given)
    # independent pixels with probabilities p and p' are equal with probability sum(p p')
    p = [given.softmax(1) for given in logits]
    neighbours = {
        "two calls": (first, second, *p),
        "images of a batch": (first[::2], first[1::2], p[0][::2], p[0][1::2]),
        "pixels beside each other": (first[..., 1:], first[..., :-1], p[0][..., 1:], p[0][..., :-1]),
    }
    for what, (one, other, p_one, p_other) in neighbours.items():
        equal = (p_one * p_other).sum(1)
        excess = ((one == other).sum() - equal.sum()) / (equal * (1 - equal)).sum().sqrt()
        assert abs(excess) < SIGMAS, (
            f"{what} are not drawn independently\nexpected {equal.sum():.0f} equal pixels\n"
            f"obtained {(one == other).sum()}, {excess:.3g} sigma off"
        )


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
