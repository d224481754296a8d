"""Tests of the evidence from honest runs."""

import json
import math
import shutil

import pytest
import torch
import torch.nn.functional as F
from evidence_cases import AAE_RUN, AE_RUN, IMAGES, MANY, RUBRIC, VAE_RUN, change_summary, refused

from staff.grading import evidence
from staff.grading.evidence import images, recompute

# --- honest runs ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_bits_per_dimension_are_those_of_the_checkpoint(judge, staged, monkeypatch):
    from part1_vae.train import VAE

    four_bits, drawn = images.four_bits, []
    monkeypatch.setattr(recompute, "four_bits", lambda imgs: drawn.append(four_bits(imgs)) or drawn[-1])
    row = judge("bpd", VAE_RUN, images=MANY)
    checkpoint = torch.load(staged / "logs/vae/version_0/checkpoints/best.ckpt", weights_only=True)
    vae = VAE(**checkpoint["hyper_parameters"]).eval()
    vae.load_state_dict(checkpoint["state_dict"])
    assert judge("bpd", VAE_RUN, images=MANY) == row and torch.equal(drawn[0], drawn[1]), (
        "the same seed gives the same row"
    )
    imgs = drawn[0]
    mean, log_std = vae.encoder(imgs)
    posterior = torch.distributions.Normal(mean, log_std.exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    kl = torch.distributions.kl_divergence(posterior, prior).sum(-1)
    draws = []
    for _ in range(4):
        pixels = torch.distributions.Categorical(logits=vae.decoder(posterior.sample()).permute(0, 2, 3, 1))
        nats = kl - pixels.log_prob(imgs[:, 0]).sum(dim=(1, 2))
        draws.append(nats / math.log(2) / 784)
    bits = torch.stack(draws).mean(0)  # [N]
    noise = torch.stack(draws).std(0).mean().item() / math.sqrt(MANY)  # for the same images with different draws of z
    assert row["recomputed"] == pytest.approx(bits.mean().item(), abs=6 * noise)
    assert f"({MANY} images, standard error {bits.std().item() / math.sqrt(MANY):.1g})" in row["what"]
    error = 5 * bits.std().item() * math.sqrt(1 / MANY + 1 / 2560)  # the run was tested on 2,560 images
    assert row["claimed"] == pytest.approx(row["recomputed"], abs=error)
    assert row["points"] == 2 and row["run"] == "logs/vae/version_0"


def test_images_are_those_that_the_parts_see(mnist_files):
    from part1_vae.mnist import four_bits, mnist
    from part2_aae.mnist import normalize

    val, test = evidence.load_images()
    every_grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(images.four_bits(every_grey), four_bits(every_grey).long())
    assert torch.equal(images.to_tanh(every_grey), normalize(every_grey))
    loaders = mnist(mnist_files, download=False)
    assert torch.equal(images.four_bits(val).to(torch.uint8), loaders[1].dataset.images)
    assert torch.equal(images.four_bits(test).to(torch.uint8), loaders[2].dataset.images)


@torch.no_grad()
@pytest.mark.parametrize("run, flags", [("version_0", AE_RUN), ("version_1", AAE_RUN)])
def test_reconstruction_losses_are_those_of_the_checkpoint(judge, staged, run, flags):
    from part2_aae.train import LitAAE

    row = judge("reconstruction", flags, images=MANY, pictures=["reconstructions", "samples"], at=[0, "later"])
    path = staged / "logs/aae" / run / "checkpoints/best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    lit = LitAAE(**checkpoint["hyper_parameters"]).eval()
    lit.load_state_dict(checkpoint["state_dict"])
    imgs = images.to_tanh(evidence.load_images()[0])
    errors = F.mse_loss(lit(imgs)[0], imgs, reduction="none").mean(dim=(1, 2, 3))
    error = 5 * errors.std().item() / math.sqrt(MANY)
    assert row["recomputed"] == pytest.approx(errors.mean().item(), abs=error)
    assert row["claimed"] == pytest.approx(row["recomputed"], abs=2 * error)
    assert (row["points"], row["run"], row["warning"]) == (2, f"logs/aae/{run}", None)


def test_curves_and_pictures(judge, staged):
    row = judge("curves", VAE_RUN | {"epochs": 3})
    assert (row["points"], row["warning"]) == (2, None)
    history = json.loads((staged / "logs/vae/version_0/summary.json").read_text())["history"]
    assert row["claimed"] == history[-1]["val/bpd"] == pytest.approx(row["recomputed"], abs=1e-5)
    assert "has 3 of 4 epochs" in judge("curves", VAE_RUN | {"epochs": 4})["warning"]
    assert judge("pictures", VAE_RUN, pictures=["samples"], at=[0, 3, "later"])["points"] == 2
    row = judge("pictures", VAE_RUN, pictures=["samples"], at=[0, 10])
    refused(row, "samples of epoch 10.")
    (staged / "logs/vae/version_0/figures/samples_epoch_003.png").write_text("no PNG")
    refused(judge("pictures", VAE_RUN, pictures=["samples"], at=["later"]), "samples of a later epoch")


def test_all_points_half_of_them_or_none(judge):
    value = judge("bpd", VAE_RUN)["recomputed"]
    for full, half, points in [(value + 0.1, None, 2), (value - 0.1, value + 0.1, 1), (value - 0.2, value - 0.1, 0)]:
        assert judge("bpd", VAE_RUN, full=full, half=half)["points"] == points
    row = judge("bpd", VAE_RUN, doubt=value + 0.1)
    assert row["points"] is None and row["recomputed"] == value and "better than" in row["warning"]


def test_the_rubric_as_it_is(open_child, staged):
    rows = evidence.judge(RUBRIC, staged, open_child, 1, images=IMAGES)
    assert [(row["question"], row["of"]) for row in rows] == [
        ("1.7", 1), ("1.7", 1), ("1.8", 1), ("2.5", 1), ("2.6", 1), ("2.6", 1)
    ]  # fmt: skip
    assert not any(row["points"] for row in rows), "the networks are small and barely trained"
    for row in rows[:4]:
        refused(row, "There is no run with z_dim")
    assert all(row["recomputed"] > 0.2 for row in rows[4:])
    shutil.rmtree(staged / "logs")
    for row in evidence.judge(RUBRIC, staged, open_child, 1):
        refused(row, "There is no run with z_dim")


def test_the_longest_run_is_taken_and_no_other_data(judge, staged):
    logs = staged / "logs/vae"
    shutil.copytree(logs / "version_0", logs / "version_1")
    change_summary(staged, lambda summary: summary["history"].pop(), "logs/vae/version_1")
    assert judge("bpd", VAE_RUN)["run"] == "logs/vae/version_0"
    for other in ({"dataset": "fashion", "recipe": "assignment"}, {"dataset": "mnist", "recipe": "fast"}):
        change_summary(staged, lambda summary, other=other: summary["flags"].update(other))
        assert judge("bpd", VAE_RUN)["run"] == "logs/vae/version_1", "`make submission` also leaves these out"
    shutil.copytree(logs / "version_1", logs / "version_10")
    assert judge("bpd", VAE_RUN)["run"] == "logs/vae/version_10"


def test_without_mnist_a_run_is_not_judged(judge, staged, tmp_path, monkeypatch):
    evidence.load_images.cache_clear()
    monkeypatch.setenv("DGM_DATA_DIR", str(tmp_path / "nothing"))
    for what, run in (("bpd", VAE_RUN), ("reconstruction", AE_RUN)):
        row = judge(what, run)
        assert row["points"] is None and row["recomputed"] is None
        assert "the grader does not have MNIST" in row["warning"] and row["waits_for"] == "data"
    assert judge("curves", VAE_RUN | {"epochs": 3})["points"] == 2
