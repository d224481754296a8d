"""Tests of the answers that a submission's code gives while its runs are judged."""

import math
from pathlib import Path

import pytest
import torch
from evidence_cases import AE_RUN, IMAGES, VAE_RUN, judge_one, refused

from staff.grading.evidence import answers


def edit(root: Path, file: str, old: str, new: str) -> None:
    text = (root / file).read_text()
    assert text.count(old) == 1, old
    (root / file).write_text(text.replace(old, new))


# --- answers of a submission's code -----------------------------------------------------------------------------------

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
    (DECODED, "import os; os._exit(0)", "ended its process"),
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
    """A stand-in for a sandboxed process that always returns the same answer."""

    def __init__(self, answer):
        self.answer, self.closed, self.cpu, self.out_of_time = answer, False, 0.0, False

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
    """A submission controls its process, including the adapters, so it can return anything."""
    started = []
    row = judge_one(staged, lambda *_: started.append(Answers(answer)) or started[-1], what, run)
    assert row["points"] == 0 and row["recomputed"] is None and row["warning"]
    assert started and all(process.closed for process in started)


def test_huge_answers_are_numbers_all_the_same(judge, staged):
    edit(staged, NETWORKS, ENCODED, "return torch.full((len(x), 2), 1e30), torch.zeros(len(x), 2)")
    row = judge("bpd", VAE_RUN)
    assert row["points"] == 0 and row["recomputed"] > 1e50


def test_code_that_does_not_end(judge, staged, monkeypatch):
    edit(staged, NETWORKS, DECODED, "while True: pass")
    refused(judge("bpd", VAE_RUN, seconds=2), "an infinite loop?")
    refused(judge("bpd", VAE_RUN, seconds=-1), "The time limit was reached")
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
    """A decoder that could recall the images from the last batch would change the recomputed value."""
    value = judge("bpd", VAE_RUN)["recomputed"]
    edit(staged, NETWORKS, "GREY_LEVELS = 16", f"{REMEMBER}\nGREY_LEVELS = 16")
    edit(staged, NETWORKS, "        x = x.float() / ", "        remember(x)\n        x = x.float() / ")
    edit(staged, NETWORKS, "        " + DECODED, f"        known = recall(z)\n        if known is not None:\n"
         f"            return known\n        {DECODED}")  # fmt: skip
    assert judge("bpd", VAE_RUN)["recomputed"] == value


def test_what_z_carries_is_paid_for(judge, staged):
    """An encoder that leaves less noise in z pays for it with -log_std nats per dimension."""
    value = judge("bpd", VAE_RUN)["recomputed"]
    edit(staged, NETWORKS, ENCODED, "return self.mean(hidden).float(), self.log_std(hidden).float() * 0 - 700")
    row = judge("bpd", VAE_RUN)
    assert row["recomputed"] - value == pytest.approx(2 * 700 * math.log2(math.e) / 784, abs=0.3)


def test_the_noise_is_normal_and_nobody_elses():
    draw = answers.noise(b"secret", (1000, 20))
    assert torch.equal(draw, answers.noise(b"secret", (1000, 20)))
    assert not (draw == answers.noise(b"another", (1000, 20))).any()
    assert draw.isfinite().all() and abs(draw.mean()) < 5 / math.sqrt(20_000)
    assert abs(draw.var() - 1) < 5 * math.sqrt(2 / 20_000)


def test_the_seed_that_a_submission_gets_says_nothing(judge, staged):
    """If this seed depended on the real one, the submission could reproduce the noise and subtract it from z."""
    value = judge("bpd", VAE_RUN)["recomputed"]
    edit(staged, NETWORKS, "    " + DECODED, f"    raise ValueError(torch.initial_seed())\n        {DECODED}")
    told = {judge("bpd", VAE_RUN, seed=seed)["warning"] for seed in (1, 2)}
    assert len(told) == 1 and value
