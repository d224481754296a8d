"""Runs that are handed in: their figures are recomputed, and no run is worth more than what it shows."""

import dataclasses
import hashlib
import json
import math
import pickle
import shutil
from functools import cache, partial
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from course import rubric as rubrics
from small_runs import PARTS, REPOSITORY, Program
from staff.grading import children, evidence
from staff.grading.inside.sandbox import Limits

RUBRIC = rubrics.read()
IMAGES, MANY = 100, 500  # for the tests; the latter where figures are compared
# of the tests' small runs: two latent dimensions, a few steps of training
VAE_RUN, AE_RUN, AAE_RUN = {"z_dim": 2}, {"z_dim": 2, "lambda_": 1.0}, {"z_dim": 2, "lambda_": 0.995}


@pytest.fixture(scope="module")
def logs(mnist_files, tmp_path_factory) -> Path:
    """Runs of a VAE (3 epochs) and of an autoencoder and an adversarial one (1 epoch each)."""
    folder = tmp_path_factory.mktemp("runs") / "logs"
    longer = ["--batch_size", "128", "--limit_batches", "12"]
    for name, flags, epochs in [
        ("vae", ["--lr", "0.01"], 3),
        ("aae", ["--lambda_", "1"], 1),
        ("aae", ["--lambda_", "0.995"], 1),
    ]:
        program = Program(name, mnist_files, folder)
        program.pictures = False
        assert program(*longer, "--epochs", str(epochs), *flags) == 0
        newest = max((folder / name).iterdir())
        for figure in (f"{what}_epoch_{epoch:03d}" for what in ("samples", "reconstructions") for epoch in (0, epochs)):
            Image.new("L", (8, 8)).save(newest / "figures" / f"{figure}.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def secrets_are_remembered():
    """What makes guessing slow makes the tests slow."""
    with mock.patch.object(hashlib, "pbkdf2_hmac", cache(hashlib.pbkdf2_hmac)):
        yield


@pytest.fixture
def staged(tmp_path, logs) -> Path:
    """The right solution of two parts with these runs."""
    root = tmp_path.resolve() / "submission"
    for part in (PARTS["vae"], PARTS["aae"]):
        shutil.copytree(REPOSITORY / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(logs, root / "logs")
    return root


def judge_one(
    root: Path, open_child, what: str, run: dict, seed: int = 1, seconds: float = 60, images: int = IMAGES, **fields
) -> dict:
    """The row of one rule for a run with these flags, worth 2 points."""
    part = 2 if "lambda_" in run else 1
    question = next(each for each in RUBRIC.questions.values() if each.part == part and each.evidence)
    if what != "pictures":
        fields = {"full": 9.0} | fields
    rule = rubrics.Evidence(question.id, what, 2, **fields)
    changed = RUBRIC.questions | {question.id: dataclasses.replace(question, runs=[run])}
    rubric = dataclasses.replace(RUBRIC, questions=changed, evidence=[rule])
    (row,) = evidence.judge(rubric, root, open_child, seed, seconds, images)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    return row


@pytest.fixture
def open_child(zygote, level, staged):
    return lambda: children.Child(zygote, level, staged, Limits())


@pytest.fixture
def judge(open_child, staged):
    """judge(what, flags of the run, full=...) -> the row of one rule for the staged submission."""
    return partial(judge_one, staged, open_child)


def edit(root: Path, file: str, old: str, new: str) -> None:
    text = (root / file).read_text()
    assert text.count(old) == 1, old
    (root / file).write_text(text.replace(old, new))


def change_summary(root: Path, change, run: str = "logs/vae/version_0") -> None:
    path = root / run / "summary.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(row: dict, warning: str) -> None:
    assert row["points"] == 0 and row["recomputed"] is None, row
    assert warning in row["warning"]


def event_file(root: Path) -> Path:
    """The event file of the VAE's training; the other one has the test metrics."""
    return min((root / "logs/vae/version_0").glob("events*"))


# --- honest runs ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_bits_per_dimension_are_those_of_the_checkpoint(judge, staged, monkeypatch):
    from part1_vae.train import VAE

    four_bits, drawn = evidence.four_bits, []
    monkeypatch.setattr(evidence, "four_bits", lambda imgs: drawn.append(four_bits(imgs)) or drawn[-1])
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
    noise = torch.stack(draws).std(0).mean().item() / math.sqrt(MANY)  # the same images, another z
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
    assert torch.equal(evidence.four_bits(every_grey), four_bits(every_grey).long())
    assert torch.equal(evidence.to_tanh(every_grey), normalize(every_grey))
    loaders = mnist(mnist_files, download=False)
    assert torch.equal(evidence.four_bits(val).to(torch.uint8), loaders[1].dataset.images)
    assert torch.equal(evidence.four_bits(test).to(torch.uint8), loaders[2].dataset.images)


@torch.no_grad()
@pytest.mark.parametrize("run, flags", [("version_0", AE_RUN), ("version_1", AAE_RUN)])
def test_reconstruction_losses_are_those_of_the_checkpoint(judge, staged, run, flags):
    from part2_aae.train import LitAAE

    row = judge("reconstruction", flags, images=MANY, pictures=["reconstructions", "samples"], at=[0, "later"])
    path = staged / "logs/aae" / run / "checkpoints/best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    lit = LitAAE(**checkpoint["hyper_parameters"]).eval()
    lit.load_state_dict(checkpoint["state_dict"])
    imgs = evidence.to_tanh(evidence.load_images()[0])
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
    assert "has 3 epochs of 4" in judge("curves", VAE_RUN | {"epochs": 4})["warning"]
    assert judge("pictures", VAE_RUN, pictures=["samples"], at=[0, 3, "later"])["points"] == 2
    row = judge("pictures", VAE_RUN, pictures=["samples"], at=[0, 10])
    refused(row, "samples of epoch 10.")
    (staged / "logs/vae/version_0/figures/samples_epoch_003.png").write_text("no PNG")
    refused(judge("pictures", VAE_RUN, pictures=["samples"], at=["later"]), "samples of epoch later")


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
    assert not any(row["points"] for row in rows), "small networks, hardly trained"
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
    change_summary(staged, lambda summary: summary["flags"].update(dataset="fashion"))
    assert judge("bpd", VAE_RUN)["run"] == "logs/vae/version_1"
    shutil.copytree(logs / "version_1", logs / "version_10")
    assert judge("bpd", VAE_RUN)["run"] == "logs/vae/version_10"


def test_without_mnist_a_person_judges(judge, staged, tmp_path, monkeypatch):
    evidence.load_images.cache_clear()
    monkeypatch.setenv("DGM_DATA_DIR", str(tmp_path / "nothing"))
    for what, run in (("bpd", VAE_RUN), ("reconstruction", AE_RUN)):
        row = judge(what, run)
        assert row["points"] is None and row["recomputed"] is None
        assert "MNIST is not on this machine" in row["warning"] and "by a person" in row["warning"]
    assert judge("curves", VAE_RUN | {"epochs": 3})["points"] == 2


# --- summaries that are none ------------------------------------------------------------------------------------------


def test_a_claim_that_is_not_true(judge, staged):
    change_summary(staged, lambda summary: summary["results"].update({"test/bpd": 0.1}))
    row = judge("bpd", VAE_RUN, full=1e-3)
    assert row["claimed"] == 0.1 and row["points"] == 0 and "Claimed is 0.1, recomputed " in row["warning"]

    change_summary(staged, lambda summary: summary["history"][-1].update({"val/bpd": 0.1}))
    row = judge("curves", VAE_RUN | {"epochs": 3})
    assert row["points"] == 0 and row["claimed"] == 0.1 and "apart in 1 epochs, first in epoch 3" in row["warning"]


@pytest.mark.parametrize(
    "value",
    [
        "0.1",
        math.nan,
        *(
            pytest.param(value, marks=pytest.mark.slow)
            for value in (None, True, [0.1], {"a": 0.1}, math.inf, int("9" * 400), "x" * 10**5)
        ),
    ],
)
def test_what_is_no_number_claims_nothing(judge, staged, value):
    def change(summary: dict) -> None:
        summary["results"]["test/bpd"] = value
        summary["history"][-1]["val/bpd"] = value

    change_summary(staged, change)
    row = judge("bpd", VAE_RUN)
    assert row["claimed"] is None and row["points"] == 2 and "The summary claims no number" in row["warning"]
    row = judge("curves", VAE_RUN | {"epochs": 3})
    assert row["claimed"] is None and row["points"] == 0


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "null", "{", '"text"', "[" * 100_000, "{}", '{"flags": [], "history": []}', "\udcff",
        '{"flags": {"z_dim": 2, "dataset": "mnist"}, "history": "long"}', '{"flags": null, "history": {}}',
    ],
    ids=range(11),
)  # fmt: skip
def test_a_damaged_summary_is_none(judge, staged, content):
    path = staged / "logs/vae/version_0/summary.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    refused(judge("bpd", VAE_RUN), "summary.json is damaged")


def test_a_summary_may_not_be_large(judge, staged):
    with open(staged / "logs/vae/version_0/summary.json", "ab") as file:
        file.truncate(100_000_000)
    refused(judge("bpd", VAE_RUN), "summary.json is too large: 100 MB, and 2 MB are read")


def test_numbers_in_odd_places(judge, staged):
    def change(summary: dict) -> None:
        summary["best"] = ["epoch"]
        summary["results"] = 7
        summary["history"] = [None, 3, {"val/bpd": {}}]

    change_summary(staged, change)
    assert judge("bpd", VAE_RUN)["points"] == 2
    refused(judge("curves", VAE_RUN | {"epochs": 3}) | {"recomputed": None}, "apart in 3 epochs")


# --- files that lead elsewhere ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["summary.json", "checkpoints/best.ckpt", "checkpoints", "events"])
def test_links_are_not_followed(judge, staged, tmp_path, name):
    run = staged / "logs/vae/version_0"
    path = event_file(staged) if name == "events" else run / name
    other = tmp_path / "another student's"
    path.rename(other)
    path.symlink_to(other)
    row = judge("curves", VAE_RUN | {"epochs": 3}) if name == "events" else judge("bpd", VAE_RUN)
    assert row["points"] == 0 and row["recomputed"] is None
    assert "behind a link" in row["warning"] or "cannot be read" in row["warning"]


def test_a_run_or_pictures_that_are_links(judge, staged, tmp_path):
    run = staged / "logs/vae/version_0"
    (run / "figures").rename(tmp_path / "figures")
    (run / "figures").symlink_to(tmp_path / "figures")
    refused(judge("pictures", VAE_RUN, pictures=["samples"], at=[0]), "samples of epoch 0")
    run.rename(tmp_path / "run")
    run.symlink_to(tmp_path / "run")
    refused(judge("bpd", VAE_RUN), "behind a link")
    run.unlink()
    run.symlink_to(run)
    refused(judge("bpd", VAE_RUN), "There is no run")


# --- checkpoints ------------------------------------------------------------------------------------------------------


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "boom")


def test_code_in_a_checkpoint_does_not_run(judge, staged, tmp_path):
    path = staged / "logs/vae/version_0/checkpoints/best.ckpt"
    mark = tmp_path / "mark"
    torch.save({"state_dict": {}, "hyper_parameters": Bomb(mark)}, path)
    refused(judge("bpd", VAE_RUN), "UnpicklingError")
    path.write_bytes(pickle.dumps(Bomb(mark)))
    refused(judge("bpd", VAE_RUN), "UnpicklingError")
    assert not mark.exists()


def test_nothing_is_loaded_in_this_process(judge, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("a checkpoint is loaded outside the sandbox")

    monkeypatch.setattr(torch, "load", fail)
    monkeypatch.setattr(pickle, "load", fail)
    assert judge("bpd", VAE_RUN)["points"] == 2


def test_checkpoints_that_do_not_fit(judge, staged):
    path = staged / "logs/vae/version_0/checkpoints/best.ckpt"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused(judge("bpd", VAE_RUN), "The code raises")
    path.write_bytes(b"garbage")
    refused(judge("bpd", VAE_RUN), "The code raises")
    shutil.copy(staged / "logs/aae/version_0/checkpoints/best.ckpt", path)
    refused(judge("bpd", VAE_RUN), "The code raises")
    path.unlink()
    refused(judge("bpd", VAE_RUN), "best.ckpt cannot be read: No such file or directory")
    with open(path, "wb") as file:
        file.truncate(300_000_000)
    refused(judge("bpd", VAE_RUN), "best.ckpt is too large")


def test_hyperparameters_may_come_from_the_summary(judge, staged):
    path = staged / "logs/vae/version_0/checkpoints/best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    value = judge("bpd", VAE_RUN)["recomputed"]
    torch.save({"state_dict": checkpoint["state_dict"]}, path)
    assert judge("bpd", VAE_RUN)["recomputed"] == value
    del checkpoint["state_dict"]["decoder.net.0.bias"]
    torch.save(checkpoint, path)
    refused(judge("bpd", VAE_RUN), "decoder.net.0.bias")


# --- what a submission's code answers ---------------------------------------------------------------------------------

NETWORKS = "part1_vae/cnn_encoder_decoder.py"
ENCODED = "return self.mean(hidden).float(), self.log_std(hidden).float()"
DECODED = "return self.net(hidden.view(len(z), -1, 4, 4)).float()"
TOO_FAR_APART = "torch.tensor([1.7e308] + [-1.7e308] * 15, dtype=torch.float64)"


WRONG_ANSWERS = [
    (DECODED, "return torch.full((len(z), 16, 28, 28), float('nan'))", "not finite"),
    (DECODED, "return torch.full((len(z), 16, 28, 28), float('inf'))", "not finite"),
    (DECODED, f"return {TOO_FAR_APART}.view(1, 16, 1, 1).repeat(len(z), 1, 28, 28)", "recomputed bits"),
    (DECODED, "return torch.zeros(len(z), 16, 28)", "shape of the logits"),
    (DECODED, "return torch.zeros(1, 16, 28, 28)", "shape of the logits"),
    (DECODED, "return torch.zeros(len(z), 16, 28, 28).long()", "floats"),
    (DECODED, "return 'many bits'", "floats"),
    (DECODED, "import os; os._exit(0)", "ends the process"),
    (DECODED, "raise ValueError('\\x1b[31m' + 'x' * 5000)", "ValueError"),
    (DECODED, "return torch.zeros(1000, 1000, 1000)", "The code raises"),
    (DECODED, "return torch.zeros(1000, 1000, 100)", "too large"),
    (ENCODED, "return self.mean(hidden)", "The code raises"),
    (ENCODED, "return torch.zeros(len(x), 784), torch.zeros(len(x), 784)", "shape of mean"),
    (ENCODED, "return torch.zeros(len(x), 2), torch.full((len(x), 2), -float('inf'))", "not finite"),
    (ENCODED, "return torch.zeros(len(x), 2), torch.full((len(x), 2), 1e30)", "not finite"),
    (ENCODED, "return torch.full((len(x), 2), 1e300, dtype=torch.float64), torch.zeros(len(x), 2)", "not finite"),
]


@pytest.mark.parametrize(
    "old, new, warning",
    [
        *WRONG_ANSWERS[::4],
        *(pytest.param(*each, marks=pytest.mark.slow) for n, each in enumerate(WRONG_ANSWERS) if n % 4),
    ],
)
def test_wrong_answers_earn_nothing(judge, staged, old, new, warning):
    edit(staged, NETWORKS, old, new)
    row = judge("bpd", VAE_RUN)
    refused(row, warning)
    assert row["warning"].isprintable() and len(row["warning"]) < 400


class Answers:
    """In place of a process: always this answer."""

    def __init__(self, answer):
        self.answer, self.closed = answer, False

    def call(self, *args):
        return self.answer

    def close(self) -> None:
        self.closed = True


STRANGE = [
    None, 3, "text", [], (), {}, {"train/bpd": None, "val/bpd": ()}, (None, None), [torch.zeros(IMAGES)] * 2,
    {"train/bpd": (torch.zeros(3), torch.zeros(3)), "val/bpd": ["a", "b"]}, torch.zeros(()), torch.zeros(0, 2),
    {"train/bpd": (torch.arange(3), torch.zeros(4)), "val/bpd": (torch.zeros(3, 1).long(), torch.zeros(3))},
    {"train/bpd": (torch.zeros(1, 1).long(), torch.zeros(1, 1)), "val/bpd": 1}, torch.zeros(250, 2).bool(),
]  # fmt: skip


@pytest.mark.parametrize("answer", STRANGE, ids=range(len(STRANGE)))
@pytest.mark.parametrize("what, run", [("bpd", VAE_RUN), ("reconstruction", AE_RUN), ("curves", VAE_RUN)])
def test_a_process_that_answers_anything(staged, what, run, answer):
    """A submission has its process in its hands, the adapters too."""
    started = []
    row = judge_one(staged, lambda: started.append(Answers(answer)) or started[-1], what, run)
    assert row["points"] == 0 and row["recomputed"] is None and row["warning"]
    assert started and all(process.closed for process in started)


def test_huge_answers_are_numbers_all_the_same(judge, staged):
    edit(staged, NETWORKS, ENCODED, "return torch.full((len(x), 2), 1e30), torch.zeros(len(x), 2)")
    row = judge("bpd", VAE_RUN)
    assert row["points"] == 0 and row["recomputed"] > 1e50


def test_code_that_does_not_end(judge, staged):
    edit(staged, NETWORKS, DECODED, "while True: pass")
    refused(judge("bpd", VAE_RUN, seconds=0.5), "an endless loop?")
    refused(judge("bpd", VAE_RUN, seconds=-1), "No time is left")
    assert judge("pictures", VAE_RUN, pictures=["samples"], at=[0])["points"] == 2


REMEMBER = """
import pathlib
SEEN = []
FOLDERS = ["/tmp", "/dev/shm", "/var/tmp", "/scratch", ".", pathlib.Path(__file__).parent]
PLACES = [pathlib.Path(folder) / "seen.pt" for folder in FOLDERS]

def remember(x):
    SEEN.append(x)
    for place in PLACES:
        try:
            torch.save(x, place)
        except Exception:
            pass

def recall(z):
    for place in PLACES:
        try:
            SEEN.append(torch.load(place))
        except Exception:
            pass
    if SEEN and len(SEEN[-1]) == len(z):
        return 50.0 * torch.nn.functional.one_hot(SEEN[-1][:, 0].long(), 16).permute(0, 3, 1, 2).float()
"""


def test_a_decoder_cannot_remember_images(judge, staged):
    """What it remembers are the images of the last batch: with them, the figure would be another."""
    value = judge("bpd", VAE_RUN)["recomputed"]
    edit(staged, NETWORKS, "GREY_LEVELS = 16", f"{REMEMBER}\nGREY_LEVELS = 16")
    edit(staged, NETWORKS, "        x = x.float() / ", "        remember(x)\n        x = x.float() / ")
    edit(staged, NETWORKS, "        " + DECODED, f"        known = recall(z)\n        if known is not None:\n"
         f"            return known\n        {DECODED}")  # fmt: skip
    assert judge("bpd", VAE_RUN)["recomputed"] == value


def test_what_z_carries_is_paid_for(judge, staged):
    """The less noise an encoder leaves in z, the more it pays: -log_std nats."""
    value = judge("bpd", VAE_RUN)["recomputed"]
    edit(staged, NETWORKS, ENCODED, "return self.mean(hidden).float(), self.log_std(hidden).float() * 0 - 700")
    row = judge("bpd", VAE_RUN)
    assert row["recomputed"] - value == pytest.approx(2 * 700 * math.log2(math.e) / 784, abs=0.3)


def test_the_noise_is_normal_and_nobody_elses():
    draw = evidence.noise(b"secret", (1000, 20))
    assert torch.equal(draw, evidence.noise(b"secret", (1000, 20)))
    assert not (draw == evidence.noise(b"another", (1000, 20))).any()
    assert draw.isfinite().all() and abs(draw.mean()) < 5 / math.sqrt(20_000)
    assert abs(draw.var() - 1) < 5 * math.sqrt(2 / 20_000)


def test_the_seed_that_a_submission_gets_says_nothing(judge, staged):
    """Else it would know the noise, and take it off z."""
    value = judge("bpd", VAE_RUN)["recomputed"]
    edit(staged, NETWORKS, "    " + DECODED, f"    raise ValueError(torch.initial_seed())\n        {DECODED}")
    told = {judge("bpd", VAE_RUN, seed=seed)["warning"] for seed in (1, 2)}
    assert len(told) == 1 and value


# --- event files ------------------------------------------------------------------------------------------------------


def test_event_files_of_garbage(judge, staged):
    path = event_file(staged)
    path.write_bytes(b"garbage" * 1000)
    refused(judge("curves", VAE_RUN | {"epochs": 3}), "has 0 epochs of 3")
    path.write_bytes(b"")
    refused(judge("curves", VAE_RUN | {"epochs": 3}), "has 0 epochs of 3")
    with open(path, "wb") as file:
        file.truncate(100_000_000)
    refused(judge("curves", VAE_RUN | {"epochs": 3}), "is too large")
    for each in path.parent.glob("events*"):
        each.unlink()
    refused(judge("curves", VAE_RUN | {"epochs": 3}), "There is no event file")


def test_an_event_file_that_is_cut_off(judge, staged):
    path = event_file(staged)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"val/bpd") + 3])
    row = judge("curves", VAE_RUN | {"epochs": 3})
    assert row["points"] == 0 and "The curve val/bpd in the event file has 2 epochs of 3" in row["warning"]


def test_a_curve_with_odd_numbers(judge, staged):
    from torch.utils.tensorboard import SummaryWriter

    run = staged / "logs/vae/version_0"
    for each in run.glob("events*"):
        each.unlink()
    with SummaryWriter(run) as writer:
        for step in range(3):
            writer.add_scalar("train/bpd", math.nan, step)
            writer.add_scalar("val/bpd", math.nan, step)
            writer.add_histogram("val/bpd", torch.ones(3), step)
    refused(judge("curves", VAE_RUN | {"epochs": 3}), "not finite")


def test_so_many_curves_are_read_and_no_more(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    from staff.grading.inside import stored_runs

    with SummaryWriter(tmp_path) as writer:
        for step in range(7):
            for tag in "abc":
                writer.add_scalar(tag, step / 2, step)
    paths = [str(path) for path in tmp_path.glob("events*")]
    curves = stored_runs.event_curves(paths, most_tags=2, most_points=5)
    assert {tag: (steps.tolist(), values.tolist()) for tag, (steps, values) in curves.items()} == {
        tag: ([0, 1, 2, 3, 4], [0, 0.5, 1, 1.5, 2]) for tag in "ab"
    }


# --- the rubric -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('what = "pictures"', 'what = "paintings"', "what is 'paintings'"),
        ('[[evidence]]\nquestion = "2.5"', '[[evidence]]\nquestion = "9.5"', "there is no such question"),
        ("half = 0.60\ndoubt = 0.42", "half = 0.50\ndoubt = 0.42", "should grow"),
        ("run = 2", "run = 3", "run 3 is none of its 2 runs"),
        ('pictures = ["samples"]\nat = [0, 10, 80]', 'pictures = ["samples"]', "which `pictures`"),
        ('what = "curves"\npoints = 1\nfull = 0.55', 'what = "curves"\npoints = 1', "needs `full`"),
        ('what = "curves"\npoints = 1', 'what = "curves"\npoints = 2', "evidence is 2, its [[evidence]] 3"),
        ("runs = [{ z_dim = 20, epochs = 80 }]", "runs = [{ epochs = 80 }]", "its run needs a z_dim"),
    ],
)
def test_rules_that_do_not_add_up(tmp_path, old, new, message):
    text = rubrics.PATH.read_text()
    assert old in text
    (tmp_path / "rubric.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(rubrics.RubricError) as caught:
        rubrics.read(tmp_path / "rubric.toml")
    assert message in str(caught.value)
