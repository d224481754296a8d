"""Tests of the mathematics of part 2 other than the losses."""

from types import SimpleNamespace

import pytest
import torch
from scipy import ndimage
from torch.testing import assert_close

from part2_aae import code_figures, models, utils
from part2_aae.codes import CodeStatistics, _manifold, compare_with_prior
from part2_aae.models import AdversarialAE
from part2_aae.train import LitAAE

# --- the mathematics --------------------------------------------------------------------------------------------------


def test_image_gradients_are_sobels():
    images = torch.randn(3, 1, 9, 7)
    gradients = utils.image_gradients(images)
    for image, (across, down) in zip(images[:, 0].double().numpy(), gradients, strict=True):
        assert_close(across.double(), torch.tensor(ndimage.sobel(image, axis=1, mode="constant")), rtol=1e-5, atol=1e-5)
        assert_close(down.double(), torch.tensor(ndimage.sobel(image, axis=0, mode="constant")), rtol=1e-5, atol=1e-5)


def test_the_gradient_error_sees_edges_and_brightness():
    x = torch.rand(2, 1, 28, 28)
    error = utils.mean_squared_gradient_error
    assert error(x, x) == 0 and error(x, x + 0.1) > 0
    difference = (x - x.flip(-1)).double().numpy()[:, 0]
    squares = [ndimage.sobel(d, axis=a, mode="constant") ** 2 for d in difference for a in (0, 1)]
    assert_close(error(x, x.flip(-1)).double(), torch.tensor(sum(s.mean() for s in squares) / 4), rtol=1e-5, atol=0)
    model = AdversarialAE(z_dim=2, num_filters=2, reconstruction="msge")
    _, logs = model.get_loss_autoencoder(x, x.flip(-1), torch.zeros(2, 2))
    assert logs["recon_loss"] == error(x.flip(-1), x)


def test_mmd_against_samples_of_the_prior():
    """The oracle replaces the integrals over the prior with means over many samples from it."""
    torch.manual_seed(0)

    def kernel(a, b):
        return torch.exp(-torch.cdist(a, b).square() / (2 * a.size(1)))

    for d in (1, 2, 8):
        codes = 0.7 * torch.randn(1000, d) + 0.4
        prior = torch.randn(3000, d)
        n, m = len(codes), len(prior)
        codes_codes = (kernel(codes, codes).sum() - n) / (n * (n - 1))
        prior_prior = (kernel(prior, prior).sum() - m) / (m * (m - 1))
        cross = kernel(codes, prior)
        estimate = codes_codes - 2 * cross.mean() + prior_prior
        # five standard errors due to the samples from the prior; kernel values are between 0 and 1
        bound = 5 * 2 * (cross.mean(0).std() + 1 / m**0.5 / 2) / m**0.5
        assert abs(utils.mmd_to_normal(codes) - estimate) < bound, d


def test_mmd_is_zero_for_the_prior_alone():
    torch.manual_seed(0)
    values = torch.stack([utils.mmd_to_normal(torch.randn(300, 3)) for _ in range(60)])
    assert values.mean().abs() < 5 * values.std() / 60**0.5, "the estimate must be unbiased"
    assert values.std() < 1e-2
    match = utils.mmd_to_normal(torch.randn(2000, 3)).abs()
    for codes in (torch.randn(2000, 3) + 0.3, 1.5 * torch.randn(2000, 3), torch.rand(2000, 3) * 12**0.5 - 3**0.5):
        assert utils.mmd_to_normal(codes) > 3 * match
    far = utils.mmd_to_normal(torch.randn(2500, 2) + 1e4)
    assert far == pytest.approx(utils.mmd_to_normal(torch.randn(2500, 2) + 1e2).item(), abs=0.01)
    assert utils.mmd_to_normal(torch.randn(2500, 2) * 1000) == pytest.approx(0.5, abs=0.01), "far off: E k(z, z')"


def test_the_grid_grows_to_the_right_and_upwards():
    axis = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    grid = utils.even_grid(5, limit=2.0)
    assert_close(grid, torch.stack([axis.expand(5, 5), axis.flip(0)[:, None].expand(5, 5)], dim=2))


def test_the_picture_of_the_grid_grows_to_the_right_and_upwards():
    def decoder(z):
        """Decode z to a picture whose upper half shows z[0], and whose lower half shows z[1]."""
        return torch.tanh(torch.cat([z[:, :1, None].expand(-1, 2, 4), z[:, 1:, None].expand(-1, 2, 4)], 1))[:, None]

    image = _manifold(SimpleNamespace(decoder=decoder, device="cpu"))
    assert image.shape == (3, 20 * 4, 20 * 4)
    grey = (torch.tanh(torch.linspace(-3, 3, 20)) + 1) / 2
    assert_close(image[0, 0, ::4], grey)
    assert_close(image[0, 2::4, 0], grey.flip(0))


def test_interpolate():
    got = utils.interpolate(torch.tensor([[0.0, 1.0], [5.0, 5.0]]), torch.tensor([[4.0, -1.0], [5.0, 9.0]]), 5)
    assert_close(got[0], torch.tensor([[0, 1], [1, 0.5], [2, 0], [3, -0.5], [4, -1]]))
    assert_close(got[1, :, 1], torch.tensor([5.0, 6, 7, 8, 9]))


def test_codes_compared_with_the_prior():
    codes = torch.randn(600, 2) @ torch.tensor([[2.0, 0.0], [0.5, 1.0]]) + torch.tensor([3.0, 4.0])
    numbers, spread = compare_with_prior(codes)
    distance = (torch.cov(codes.T) - torch.eye(2)).square().sum().sqrt().item()
    assert numbers["code_mean"] == pytest.approx(codes.mean(0).norm().item())
    assert numbers["code_cov"] == pytest.approx(distance, rel=1e-5)
    assert numbers["mmd"] == utils.mmd_to_normal(codes)
    assert_close(spread, codes.std(0))
    line, _ = compare_with_prior(codes[:, :1])
    assert line["code_cov"] == pytest.approx(abs(codes[:, 0].var().item() - 1), rel=1e-5)


def test_the_codes_of_all_processes_are_compared():
    codes, logged = torch.randn(600, 2), {}
    lit = SimpleNamespace(
        hparams=SimpleNamespace(z_dim=2, reconstruction="mse"), log_dict=lambda v, **_: logged.update(v)
    )
    lit.model = SimpleNamespace(encoder=lambda x: x)
    # as if another process had the other half: first gather the number of codes, then the codes
    lit.all_gather = lambda mine: torch.stack([mine, codes[300:] if mine.dim() else torch.tensor(300)])
    run, trainer = SimpleNamespace(vectors={}), SimpleNamespace(logger=None, world_size=2)
    callback = CodeStatistics(run)
    for half in (codes[:200], codes[200:300]):
        callback.on_validation_batch_end(trainer, lit, None, (half, None), 0)
    callback.on_validation_epoch_end(trainer, lit)
    assert logged["val/mmd"] == utils.mmd_to_normal(codes)
    assert_close(torch.tensor(run.vectors["val/code_std"]), codes.std(0))
    assert callback.codes == [], "the next epoch starts without codes"
    logged.clear()
    lit.all_gather = lambda mine: mine
    callback.on_test_batch_end(trainer, lit, None, (codes[:1], None), 0)
    callback.on_test_epoch_end(trainer, lit)
    assert not logged, "one code has no covariance"


def test_scatter_draws_what_it_is_given(monkeypatch):
    drawn = {}
    monkeypatch.setattr(code_figures, "as_image", lambda figure: drawn.update(axes=figure.axes[0]))
    points, labels = torch.randn(30, 2), torch.arange(30) % 10
    code_figures.scatter_over_normal(points, labels, "")
    dots, *legend = drawn["axes"].collections
    assert_close(torch.tensor(dots.get_offsets().data), points, check_dtype=False)
    colours = {handle.get_label(): handle.get_facecolor()[0].tolist() for handle in legend}
    assert [colours[str(label.item())] for label in labels] == dots.get_facecolor().tolist()
    assert len({tuple(colour) for colour in colours.values()}) == 10
    contours = [(circle.center, circle.radius) for circle in drawn["axes"].patches]
    assert contours == [((0, 0), 1), ((0, 0), 2), ((0, 0), 3)], "the contours of N(0, I) at 1, 2 and 3 sigma"


def test_spread_draws_what_it_is_given(monkeypatch):
    drawn = {}
    monkeypatch.setattr(code_figures, "as_image", lambda figure: drawn.update(axes=figure.axes[0]))
    codes = torch.randn(400, 3) * torch.tensor([0.5, 2.0, 1.0])
    code_figures.spread(codes, "")
    assert_close(torch.tensor([bar.get_height() for bar in drawn["axes"].patches]).float(), codes.std(0)[[1, 2, 0]])
    principal = torch.linalg.eigvalsh(torch.cov(codes.T)).flip(0).sqrt()
    assert_close(torch.tensor(drawn["axes"].lines[0].get_ydata()), principal, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_mse_is_logged_beside_the_gradient_error():
    lit, logged, x = LitAAE(z_dim=2, num_filters=2, reconstruction="msge"), {}, torch.rand(4, 1, 28, 28)
    lit.log = lambda name, value, **_: logged.update({name: value})
    lit.log_dict = lambda values, **_: logged.update(values)
    lit.validation_step((x, None), 0)
    CodeStatistics(None).on_validation_batch_end(None, lit, None, (x, None), 0)
    recon_x, _ = lit(x)
    assert logged["val/mse"] == pytest.approx((recon_x - x).square().mean().item())
    assert logged["val/recon_loss"] == pytest.approx(utils.mean_squared_gradient_error(recon_x, x).item())


@torch.no_grad()
def test_the_initialization_does_what_its_docstring_says():
    """Estimate the ratio of the output's variance to the input's mean square from many weights and pixels."""
    for layer, x, expected in [
        (torch.nn.Linear(400, 300), torch.randn(200, 400), 2),
        (torch.nn.Conv2d(64, 64, 3), torch.randn(8, 64, 16, 16), 2),
        (torch.nn.ConvTranspose2d(64, 64, 3, stride=2), torch.randn(8, 64, 16, 16), 0.5),
        (torch.nn.ConvTranspose2d(64, 16, 3, stride=2), torch.randn(8, 64, 16, 16), 0.5 * 64 / 16),
    ]:
        models.initialize(layer)
        y = layer(x)
        inside = y[..., 2:-2, 2:-2] if y.dim() == 4 else y
        assert inside.var().item() / x.square().mean().item() == pytest.approx(expected, rel=0.1), layer
