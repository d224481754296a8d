"""Tests of part 1 beyond grading: the files of a run, the importance-weighted bound, and several processes."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import distributions as D
from torch.testing import assert_close

from course.training import entry, network
from course.training.folders import new_folder
from part1_vae import evaluation, train, utils
from part1_vae.train import VAE


def test_what_a_run_writes(vae):
    run = vae.finished()
    printed = (run / "printed.txt").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    drawn = {path.name for path in (run / "figures").iterdir()}
    names = ("samples", "reconstructions", "manifold")
    assert drawn == {f"{name}_epoch_{epoch:03d}.png" for name in names for epoch in (0, 2, 3)} | {"bpd_curve.png"}
    for name in drawn:
        assert f"figures/{name}" in printed
    assert re.search(r"^report: .*/version_0/report.html$", printed, re.MULTILINE) and (run / "report.html").exists()
    assert f"test/bpd: {summary['results']['test/bpd']:.4f}" in printed
    for epoch, row in enumerate(summary["history"], start=1):
        assert row["epoch"] == epoch and f"epoch {epoch}/3  train/bpd {row['train/bpd']:.4f}" in printed
        nats = row["val/reconstruction"] + row["val/regularization"]
        assert row["val/bpd"] == pytest.approx(nats / math.log(2) / 784, rel=1e-5)
        assert sum(row["val/kl_per_dim"]) == pytest.approx(row["val/regularization"], rel=1e-4)
        assert row["val/active_dims"] == sum(nats > 0.01 for nats in row["val/kl_per_dim"])
    best = min(summary["history"], key=lambda row: row["val/bpd"])
    assert summary["best"] == {"epoch": best["epoch"], "value": best["val/bpd"]}
    assert summary["first_step"]["train/bpd_step"] == pytest.approx(4, abs=0.1), "16 grey levels: 4 bits at the start"
    assert summary["flags"]["sample_every"] == 2 and summary["parameters"] > 0 and summary["training_seconds"] > 0
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", summary["git_commit"] or "0" * 40)
    assert "z_dim: 2" in (run / "hparams.yaml").read_text()


@torch.no_grad()
def test_a_gelu_sees_rows_of_channels_and_gives_back_what_it_did():
    plain = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3), torch.nn.GELU(), torch.nn.Conv2d(3, 4, 3), torch.nn.GELU(), torch.nn.Flatten(),
        torch.nn.Linear(36, 5), torch.nn.GELU(),
    )  # fmt: skip
    x, seen = torch.randn(6, 2, 7, 7), []
    expected = plain(x)
    for layer in network.channels_last(plain):
        if isinstance(layer, torch.nn.GELU):
            layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert_close(plain(x), expected)
    assert [tuple(each.shape) for each in seen] == [(6, 5, 5, 3), (6, 3, 3, 4), (6, 5)]
    assert all(each.is_contiguous() for each in seen)


def test_subnormal_numbers_are_0_while_a_program_runs():
    """Subnormals would double the time for the last steps of an epoch; when the program ends, they are re-enabled."""
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot change its treatment of subnormals")
    small, there = torch.full((100,), 1e-30), []
    assert entry.main(lambda args: there.append(bool((small * 1e-10).any())), None) == 0
    assert there == [False] and (small * 1e-10).all()


def test_event_file(vae):
    run = vae.finished()
    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0}).Reload()
    tags = accumulator.Tags()
    metrics = {"bpd", "reconstruction", "regularization"}
    expected = {f"{stage}/{name}" for stage in ("train", "val", "test") for name in metrics}
    expected |= {f"train/{name}_step" for name in metrics} | {"val/active_dims", "test/active_dims"}
    expected |= {"train/lr", "train/images_per_second"}
    assert set(tags["scalars"]) == expected
    assert set(tags["histograms"]) == {"val/kl_per_dim", "test/kl_per_dim"}
    assert set(tags["images"]) == {"val/samples", "val/reconstructions", "val/manifold"}
    summary = json.loads((run / "summary.json").read_text())
    for tag in ("train/bpd", "val/bpd", "val/reconstruction"):
        values = [event.value for event in accumulator.Scalars(tag)]
        assert values == pytest.approx([row[tag] for row in summary["history"]])
        assert [event.step for event in accumulator.Scalars(tag)] == [5, 11, 17], "Lightning counts from 0"
    assert [event.step for event in accumulator.Images("val/samples")] == [0, 2, 3]
    assert [event.value for event in accumulator.Scalars("train/lr")] == pytest.approx([1e-3] * 3)


def test_pictures_are_pictures(vae):
    figures = vae.finished() / "figures"
    sizes = {path.name: Image.open(path).size for path in figures.iterdir()}
    assert sizes["samples_epoch_003.png"] == (2 * (8 * 29 + 1),) * 2
    assert sizes["reconstructions_epoch_003.png"] == (2 * (8 * 29 + 1), 2 * (4 * 29 + 1))
    assert sizes["manifold_epoch_003.png"] == (20 * 28, 20 * 28)
    for name in ("samples_epoch_003.png", "reconstructions_epoch_003.png", "bpd_curve.png"):
        low, high = Image.open(figures / name).convert("L").getextrema()
        assert high - low > 100, f"{name} is blank"


@pytest.mark.usefixtures("without_pictures")
def test_best_checkpoint_is_the_one_tested(vae, tmp_path, monkeypatch):
    class Spoil(train.Figures):
        """Ruin the grey levels before validation, starting with the third epoch."""

        @torch.no_grad()
        def on_validation_start(self, trainer, pl_module):
            if trainer.current_epoch >= 2:
                pl_module.decoder.net[-1].bias.normal_(0, 3)

    monkeypatch.setattr(train, "Figures", Spoil)
    assert vae("--epochs", "4") == 0
    run = vae.run()
    summary = json.loads((run / "summary.json").read_text())
    values = [row["val/bpd"] for row in summary["history"]]
    assert len(values) == 4, "testing the best checkpoint must not shorten the history"
    assert summary["best"] == {"epoch": 2, "value": min(values)} and values[3] > min(values) + 0.1
    assert torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["run"]["epochs_done"] == 2
    assert summary["results"]["test/bpd"] == pytest.approx(min(values), abs=0.02)


def test_a_module_used_without_our_trainer():
    """The VAE is an ordinary LightningModule; its steps and optimizer do not need course.training."""
    torch.manual_seed(0)
    vae = VAE(num_filters=4, z_dim=3, lr=1e-2)
    batch = (torch.zeros(8, 1, 28, 28, dtype=torch.int64), torch.zeros(8))
    optimizer = vae.configure_optimizers()
    losses = []
    for _ in range(30):
        loss = vae.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(4, abs=0.1) and losses[-1] < 3


def test_active_dimensions_have_more_than_a_hundredth_of_a_nat():
    assert evaluation.active_dims(torch.tensor([0.0, 0.009, 0.011, 0.05, 3.0])) == 3


def test_about_270_000_parameters():
    assert sum(parameter.numel() for parameter in VAE().parameters()) == pytest.approx(270_000, rel=0.01)


# --- the provided mathematics ----------------------------------------------------------------------------------------


def test_negative_std_asks_whether_it_is_log_std():
    with pytest.raises(ValueError, match="-0.5.*log_std"):
        utils.sample_reparameterize(torch.zeros(2), torch.tensor([1.0, -0.5]))


def test_the_manifold_grows_downwards_and_to_the_right():
    class Decoder(torch.nn.Module):
        """A decoder with two grey levels: the upper half of the picture shows z[0], the lower half z[1]."""

        device = torch.device("cpu")

        def forward(self, z):
            value = torch.cat([z[:, :1, None].expand(-1, 2, 4), z[:, 1:, None].expand(-1, 2, 4)], 1)
            return torch.stack([torch.zeros_like(value), value], 1)

    image = utils.visualize_manifold(Decoder(), grid_size=3)[0]
    assert image.shape == (12, 12)
    low, middle, high = (torch.sigmoid(D.Normal(0, 1).icdf(torch.tensor(p))) for p in (1 / 6, 1 / 2, 5 / 6))
    assert_close(image[:, 0].view(3, 4)[:, 0], torch.stack([low, middle, high]))
    assert_close(image[2].view(3, 4)[:, 0], torch.stack([low, middle, high]))


def test_log_normal():
    z, mean, log_std = torch.randn(3, 5, 4), torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    assert_close(evaluation.log_normal(z, mean, log_std), D.Normal(mean, log_std.exp()).log_prob(z).sum(-1))


def test_importance_weighted_bound_tightens_to_the_closed_form():
    """For x = z + noise, with z ~ N(0, 1) and noise ~ N(0, 0.5²), p(x) = N(0, 1.25); q is not the true posterior."""
    torch.manual_seed(0)
    x = torch.tensor([-2.0, 0.3, 1.5])
    exact = D.Normal(0, math.sqrt(1.25)).log_prob(x)
    q = D.Normal(0.5 * x, torch.full((3,), 0.8))
    prior = D.Normal(0, 1)

    def bound(samples: int, repeats: int) -> torch.Tensor:
        z = q.sample((samples, repeats))  # [K, repeats, 3]
        log_weights = D.Normal(z, 0.5).log_prob(x) + prior.log_prob(z) - q.log_prob(z)
        return evaluation.importance_weighted_bound(log_weights.flatten(1)).view(repeats, 3)

    means, errors = [], []
    for samples in (1, 4, 16, 64):
        values = bound(samples, repeats=20_000)
        means.append(values.mean(0))
        errors.append(values.std(0) / math.sqrt(20_000))
    for below, above, error in zip(means, means[1:], errors, strict=False):
        assert (above - below > 5 * error).all(), "the bound grows with K"
    assert (means[-1] < exact + 5 * errors[-1]).all(), "it stays a lower bound"
    assert_close(bound(20_000, 1)[0], exact, atol=0.03, rtol=0)
    elbo = -D.kl_divergence(q, D.Normal(0, 1)) + D.Normal(q.mean, 0.5).log_prob(x) - 0.5 * (q.stddev / 0.5) ** 2
    assert ((means[0] - elbo).abs() < 5 * errors[0]).all(), "K = 1 is the ELBO"
    assert evaluation.importance_weighted_bound(torch.full((5, 2), -2000.0)).tolist() == [-2000, -2000], "in log space"


def test_log_likelihood_of_the_vae_against_quadrature():
    """With a one-dimensional latent space, the likelihood can be integrated numerically."""
    torch.manual_seed(0)
    vae = VAE(num_filters=2, z_dim=1)
    weight, bias = 0.05 * torch.randn(16, 28, 28), torch.randn(16, 28, 28)
    imgs = torch.randint(0, 16, (3, 1, 28, 28))

    class Decoder(torch.nn.Module):
        def forward(self, z):
            return weight * z[:, :, None, None] + bias

    class Encoder(torch.nn.Module):
        def forward(self, x):
            return torch.full((len(x), 1), 0.2), torch.full((len(x), 1), 0.1)

    vae.decoder, vae.encoder = Decoder(), Encoder()
    z = torch.linspace(-8, 8, 401)
    logits = (weight * z[:, None, None, None] + bias).permute(0, 2, 3, 1).double()
    pixels, exact = D.Categorical(logits=logits), []
    for image in imgs:
        log_joint = pixels.log_prob(image[0]).sum((1, 2)) + D.Normal(0, 1).log_prob(z)
        exact.append(torch.logsumexp(log_joint, 0) + math.log(0.04))
    got = evaluation.log_likelihood(vae, imgs, num_samples=2000, decode_at_once=2)
    assert_close(got.double(), torch.stack(exact), atol=0.1, rtol=0)
    torch.manual_seed(1)
    one = evaluation.log_likelihood(vae, imgs, num_samples=5, decode_at_once=2)
    torch.manual_seed(1)
    assert_close(one, evaluation.log_likelihood(vae, imgs, num_samples=5, decode_at_once=1000))


def test_log_likelihood_of_a_narrow_posterior(monkeypatch):
    """With K = 1 the bound is log p(x|z) + log p(z) - log q(z|x); the oracle computes log q from the noise itself."""
    vae, noise = VAE(num_filters=2, z_dim=20), []
    imgs = torch.randint(0, 16, (8, 1, 28, 28))
    mean, log_std = 1 + torch.rand(8, 20), torch.full((8, 20), -15.0)
    vae.encoder.forward, vae.decoder.forward = lambda x: (mean, log_std), lambda z: torch.zeros(len(z), 16, 28, 28)

    def normal(mean, std):
        noise.append(torch.randn(mean.shape, dtype=mean.dtype))
        return mean + std * noise[-1]

    monkeypatch.setattr(torch, "normal", normal)
    got = evaluation.log_likelihood(vae, imgs, num_samples=1)
    ((eps,), mean, log_std) = noise, mean.double(), log_std.double()
    log_q = (D.Normal(0.0, 1.0).log_prob(eps.double()) - log_std).sum(1)
    log_p = D.Normal(0.0, 1.0).log_prob(mean + log_std.exp() * eps).sum(1) - 784 * math.log(16)
    # float32 represents numbers around 2,000 with a precision of 1.2e-4
    assert_close(got.double(), log_p - log_q, atol=1e-3, rtol=0)


@pytest.mark.usefixtures("without_pictures")
def test_iwae_flag(vae, tmp_path):
    # after this many batches, the correction of the posterior is noticeable: the two values differ by 0.0135
    assert vae("--epochs", "1", "--iwae_samples", "20", "--lr", "0.01", "--limit_batches", "60") == 0
    results = json.loads((vae.run() / "summary.json").read_text())["results"]
    assert 0.004 < results["test/bpd"] - results["test/bpd_iwae"] < 0.1


# --- several processes -----------------------------------------------------------------------------------------------


def test_runs_that_start_at_once_get_folders_of_their_own(tmp_path, monkeypatch):
    assert new_folder(tmp_path).name == "version_0"
    assert new_folder(tmp_path).name == "version_1"
    monkeypatch.setattr(Path, "glob", lambda *_: [])  # as if other runs had created their folders after this check
    assert new_folder(tmp_path).name == "version_2"
    assert new_folder(tmp_path).name == "version_3"


@pytest.mark.slow
def test_two_processes_train_to_the_figures_of_one(vae, tmp_path):
    """With half the batch each, two processes compute the same in expectation, with different noise and data order."""
    common = ["--num_filters", "8", "--z_dim", "8", "--epochs", "2", "--limit_batches", "200"]
    ends = {}
    for name, flags in {"one": ["--batch_size", "32"], "two": ["--batch_size", "16", "--devices", "2"]}.items():
        process = vae.start(*common, *flags, log_dir=tmp_path / name)
        out, err = process.communicate(timeout=500)
        assert process.returncode == 0, err
        assert out.count("epoch 2/2") == 1, "only the first process prints"
        assert [path.name for path in (tmp_path / name / "vae").iterdir()] == ["version_0"]
        ends[name] = json.loads((tmp_path / name / "vae" / "version_0" / "summary.json").read_text())
    assert ends["two"]["machine"]["processes"] == 2
    one, two = (ends[name]["results"]["test/bpd"] for name in ("one", "two"))
    assert one < 1.5 and abs(one - two) < 0.05, (one, two)
    # the run can be resumed
    process = vae.start(
        *common, "--batch_size", "16", "--devices", "2", "--epochs", "3", "--resume", "last", log_dir=tmp_path / "two"
    )
    _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    run = tmp_path / "two" / "vae" / "version_0"
    longer = json.loads((run / "summary.json").read_text())
    assert [row["epoch"] for row in longer["history"]] == [1, 2, 3]
    assert longer["history"][:2] == ends["two"]["history"]
    assert longer["results"]["test/bpd"] < two
