"""Tests of `python -m course diagnose` on made-up numbers."""

import math
import re
from pathlib import Path

import pytest
import torch
from diagnose_cases import SYMPTOMS, symptoms

from course import __main__ as command_line
from course.runs import diagnose
from course.runs import folder as runs
from course.runs import symptoms as part_rules
from small_runs import make_run


def printed(folder: Path, capsys) -> str:
    capsys.readouterr()
    assert command_line.main(["diagnose", str(folder)]) == 0
    return capsys.readouterr().out


# --- made-up numbers --------------------------------------------------------------------------------------------------


def vae_row(bpd: float, kl: float, train: float | None = None) -> dict:
    nats = bpd * 784 * math.log(2)
    parts = {"val/reconstruction": nats - kl, "val/regularization": kl}
    return {"train/bpd": bpd if train is None else train, "val/bpd": bpd, **parts}


def aae_row(recon: float, accuracy: float = 0.7, disc: float = 0.6, gen: float = 0.9, mmd: float = 0.05) -> dict:
    both = {"recon_loss": recon, "gen_loss": gen, "disc_loss": disc, "accuracy": accuracy}
    row = {f"{stage}/{name}": value for stage in ("train", "val") for name, value in both.items()}
    return row | {"train/ae_loss": 0.995 * recon + 0.005 * gen, "val/mmd": mmd}


def gpt_row(bits: float, accuracy: float, train: float | None = None) -> dict:
    return {"train/bits_per_char": train or bits, "val/bits_per_char": bits, "val/accuracy": accuracy}


VAE = {"epochs": 80, "lr": 1e-3, "z_dim": 20}


AAE = {"epochs": 100, "ae_lr": 1e-3, "d_lr": 5e-3, "z_dim": 8, "lambda_": 0.995, "reconstruction": "mse"}


GPT = {"epochs": 4, "lr": 3e-3, "tokenizer": "char"}


FLAGS = {"vae": VAE, "aae": AAE, "gpt": GPT}


FIRST = {
    "vae": {"train/bpd_step": 4.02, "train/reconstruction_step": 2183.0, "train/regularization_step": 1.6},
    "aae": {"train/recon_loss_step": 0.93},
    "gpt": {"train/bits_per_char_step": 6.63, "train/cross_entropy_step": 4.6},
}


def said_of(folder: Path, program: str, history: list[dict], first: dict | None = None, **flags) -> set[str]:
    first = FIRST[program] if first is None else first
    return symptoms(
        make_run(folder / program / "version_0", program, FLAGS[program] | flags, history, {}, first_step=first)
    )


HEALTHY = {  # numbers close to those from real runs
    "vae": ("vae", [vae_row(0.52 + 0.3 / epoch, 26, train=0.51 + 0.6 / epoch) for epoch in range(1, 81)], {}),
    "two epochs": ("vae", [vae_row(0.834, 19), vae_row(0.676, 33)], {}),
    "two dimensions": ("vae", [vae_row(0.95, 5), vae_row(0.83, 6.6), vae_row(0.781, 7.2)], {"z_dim": 2}),
    "the first epoch": ("vae", [vae_row(1.1, 3)], {}),
    "adversarial": ("aae", [aae_row(0.045 + 0.1 / epoch, 0.6 + 0.3 / epoch) for epoch in range(1, 101)], {}),
    "at its first epochs": ("aae", [aae_row(0.24, 0.93, 0.3, 1.9, 0.8), aae_row(0.19, 0.964, 0.2, 2.0, 0.5)], {}),
    "matched": ("aae", [aae_row(0.05, 0.5, 0.693, 0.69, 0.001), aae_row(0.045, 0.5001, 0.693, 0.69, 0.001)], {}),
    "plain": ("aae", [{"train/recon_loss": x, "val/recon_loss": x, "train/ae_loss": x} for x in (0.1, 0.06)],
              {"lambda_": 1}),
    "gpt": ("gpt", [gpt_row(2.31, 0.57, 3.3), gpt_row(1.88, 0.64, 2.0), gpt_row(1.69, 0.68, 1.3)], {}),
    "gpt-2": ("gpt", [gpt_row(0.95, 0.4), gpt_row(0.93, 0.41)], {"tokenizer": "gpt2"}),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_of_a_healthy_run_nothing_is_said(tmp_path, capsys, name):
    program, history, flags = HEALTHY[name]
    first = {"train/bits_per_char_step": 1.2} if name == "gpt-2" else None
    assert said_of(tmp_path, program, history, first, **flags) == set()
    assert "nothing unusual" in printed(tmp_path / program / "version_0", capsys)


def test_best_reconstruction_counts_and_not_the_last(tmp_path):
    """The numbers are like those of the assignment's recipe: 0.0499 at epoch 27, 0.052 at epoch 100."""
    validation = [0.0498 + 0.08 / epoch**2 + 0.00003 * max(0, epoch - 27) for epoch in range(1, 101)]
    history = [aae_row(0.04 + 0.07 / epoch, 0.6 + 0.3 / epoch) for epoch in range(1, 101)]
    history = [row | {"val/recon_loss": value} for row, value in zip(history, validation, strict=True)]
    assert said_of(tmp_path, "aae", history) == {"overfitting"}


FROZEN = {"val/loss_real": 0.702448}  # from a real run with --d_lr 1e-30

SICK = {  # expected symptom -> program, history, flags, first step
    "averaged": ("vae", [vae_row(0.001, 0.5)], {}, {"train/bpd_step": 0.005, "train/reconstruction_step": 2.78}),
    "sum": ("vae", [vae_row(0.7, 20) | {"val/regularization": 30}], {}, None),
    "bits": ("vae", [vae_row(0.7, 20)], {}, {"train/bpd_step": 2.77, "train/reconstruction_step": 2180.0}),
    "sign": ("vae", [vae_row(0.7, -3)], {}, None),
    "limited": ("vae", [vae_row(2.6, 9), vae_row(2.13, 11), vae_row(2.12, 11)], {}, None),
    "collapse": ("vae", [vae_row(1.0, 0.02)], {}, None),
    "cheap": ("vae", [vae_row(0.6, 2.5)], {}, None),
    "slow": ("vae", [vae_row(3.1, 5), vae_row(2.9, 5)], {}, None),
    "above": ("vae", [vae_row(1.22, 5), vae_row(1.215, 5)], {}, None),
    "blurred": ("vae", [vae_row(1.01, 5), vae_row(1.0, 5), vae_row(0.995, 5)], {}, None),
    "nothing": ("vae", [vae_row(4.02, 0.01), vae_row(4.01, 0.01)], {}, None),
    "small rate": ("vae", [vae_row(4.02, 0.01)], {"lr": 1e-7}, None),
    "large rate": ("vae", [vae_row(9.0, 900)], {"lr": 1.0}, None),
    "not finite": ("vae", [], {"lr": 1.0}, {}),
    "overfitting": ("vae", [vae_row(0.6, 25, 0.6), vae_row(0.62, 25, 0.5)], {}, None),
    "rising": ("vae", [vae_row(0.6, 25, 0.6), vae_row(0.8, 25, 0.8)], {}, None),
    "summed": ("aae", [aae_row(150.0)], {}, {"train/recon_loss_step": 725.0}),
    "black": ("aae", [aae_row(0.45), aae_row(0.449, 0.6)], {}, None),
    "mean image": ("aae", [aae_row(0.27), aae_row(0.269, 0.6)], {}, None),
    "0.05": ("aae", [aae_row(0.07, 0.6 + epoch / 1000) for epoch in range(60)], {}, None),
    "lambda": ("aae", [aae_row(0.1) | {"train/ae_loss": 0.005 * 0.1 + 0.995 * 0.9}], {}, None),
    "helps": ("aae", [aae_row(0.2, 0.98, 0.1, 0.03)], {}, None),
    "never fooled": ("aae", [aae_row(0.2, 0.999, 0.1, 4.0)], {}, None),
    "not trained": ("aae", [aae_row(0.24, 0.38, 0.8), aae_row(0.2, 0.38, 0.8)], {}, None),
    "disc slow": ("aae", [aae_row(0.24, 0.3, 0.8), aae_row(0.2, 0.28, 0.8)], {}, None),
    "chance": ("aae", [aae_row(0.24, 0.5, 0.69, 0.69, 0.5), aae_row(0.2, 0.501, 0.69, 0.69, 0.5)], {}, None),
    "mask": ("gpt", [gpt_row(0.4, 0.95)], {}, None),
    "shift": ("gpt", [gpt_row(0.02, 0.999)], {}, None),
    "characters": ("gpt", [gpt_row(4.7, 0.25), gpt_row(4.69, 0.25)], {}, None),
}


@pytest.mark.parametrize(
    ("program", "flags", "note"),
    [
        ("vae", {"dataset": "fashion"}, "--dataset fashion; no question asks for this run"),
        ("vae", {"z_dim": 3}, "--z_dim 3; no question asks for this run"),
        ("vae", {"epochs": 1}, "--epochs 1; Q1.7 asks for 80: continue with --resume and --epochs 80"),
        ("aae", {"epochs": 10, "lambda_": 1.0}, "--epochs 10; Q2.4 asks for 95"),
    ],
)
def test_a_run_that_no_question_asks_for(tmp_path, capsys, program, flags, note):
    """The numbers are good, but the flags are not those of an assigned run."""
    row = vae_row(0.8, 25) if program == "vae" else aae_row(0.1) | {"train/ae_loss": flags.get("lambda_", 0.995) * 0.1}
    folder = tmp_path / program / "version_0"
    make_run(folder, program, FLAGS[program] | flags, [row], {}, first_step=FIRST[program])
    said = printed(folder, capsys)
    assert "nothing unusual in the numbers" in said and note in said


def test_a_run_that_the_assignment_asks_for_has_no_such_note(tmp_path, capsys):
    folder = make_run(tmp_path / "vae" / "version_0", "vae", VAE, [vae_row(0.8, 25)], {}, first_step=FIRST["vae"])
    assert "asks for" not in printed(folder, capsys)


def test_a_discriminator_that_stands_still(tmp_path):
    """The accuracy changes with the encoder, but the loss on codes from the prior stays exactly the same."""
    assert said_of(tmp_path, "aae", [aae_row(0.24, 0.26) | FROZEN, aae_row(0.2, 0.29) | FROZEN]) == {"not trained"}


def test_a_gpt_that_is_worse_than_at_the_first_step(tmp_path):
    assert said_of(tmp_path, "gpt", [gpt_row(32.7, 0.1), gpt_row(24, 0.1)], lr=1.0) == {"large rate"}


def test_a_first_epoch_that_is_worse_than_the_first_step(tmp_path):
    assert said_of(tmp_path, "gpt", [gpt_row(5.6, 0.2, train=8.8), gpt_row(4.7, 0.2, train=4.8)]) == {"large rate"}


@pytest.mark.parametrize("name", SICK)
def test_each_symptom_has_its_remark_and_no_other(tmp_path, capsys, name):
    program, history, flags, first = SICK[name]
    assert said_of(tmp_path, program, history, first, **flags) == {name}
    said = printed(tmp_path / program / "version_0", capsys)
    assert SYMPTOMS[name] in said and "nothing unusual" not in said
    for word in ("may", "check", "is ", "does"):
        if word in said:
            break
    else:
        pytest.fail(f"the diagnosis is more certain than it can be: {said}")


def test_every_symptom_is_tried():
    assert set(SICK) == set(SYMPTOMS)


def test_a_rule_names_the_number_that_it_saw(tmp_path, capsys):
    said_of(tmp_path, "aae", [aae_row(0.2, 0.9987, 0.1, 4.0)])
    said = printed(tmp_path / "aae" / "version_0", capsys)
    assert "val/accuracy of the discriminator is 0.999 in epoch 1" in said
    said_of(tmp_path / "2", "vae", [vae_row(0.6, 25, 0.6), vae_row(0.62, 25, 0.5)])
    said = printed(tmp_path / "2" / "vae" / "version_0", capsys)
    assert "val/bpd was 0.6 in epoch 1 and is 0.62 in epoch 2, while train/bpd went from 0.6 to 0.5" in said


def test_what_a_decoder_reaches_that_does_not_look_at_z(mnist_files):
    """Recompute the constants used in the diagnosis from the images."""
    from course import data

    images = data.loaders("mnist", lambda images: images, download=False)[0].dataset.images[:8_000]
    levels = (images.long() * 16 // 255).clamp(max=15).flatten(1)  # [N, 784]
    shares = torch.stack([(levels == level).float().mean(dim=0) for level in range(16)])  # [16, 784]
    assert -torch.xlogy(shares, shares).sum().item() == pytest.approx(part_rules.FIXED_NATS, rel=0.01)
    tanh = images.float() / 127.5 - 1
    assert tanh.var(dim=0).mean().item() == pytest.approx(part_rules.MEAN_IMAGE, rel=0.01)
    assert (tanh + 1).square().mean().item() == pytest.approx(part_rules.BLACK, rel=0.01)


def test_notes_and_several_runs(tmp_path, capsys):
    history = [vae_row(0.834, 19), vae_row(0.676, 33)]
    paths = []
    for number, limit in enumerate([None, 30]):
        flags = VAE | {"limit_batches": limit}
        paths.append(str(make_run(tmp_path / "vae" / f"version_{number}", "vae", flags, history, {})))
    assert command_line.main(["diagnose", *paths]) == 0
    first, second = re.split(r"\n(?=\S)", capsys.readouterr().out.strip())
    assert first.startswith(f"{paths[0]}: vae, 2 of 80 epochs, val/bpd 0.676")
    assert "stopped after epoch 2 of 80; continue with --resume" in first and "fell from 0.834 to 0.676" in first
    assert "--limit_batches 30" in second and "--limit_batches" not in first


def test_what_cannot_be_read(tmp_path, capsys):
    foreign = make_run(tmp_path / "xyz" / "version_0", "xyz", {}, [{}], {})
    half = make_run(tmp_path / "vae" / "version_0", "vae", VAE, [vae_row(1, 1)], {})
    (half / "summary.json").write_text((half / "summary.json").read_text()[:99])
    for folder, expected in {
        tmp_path / "no": "no such folder",
        foreign: "'xyz'",
        half: "summary.json: cannot be",
    }.items():
        assert command_line.main(["diagnose", str(folder)]) == 1
        said = capsys.readouterr()
        assert expected in said.err and str(folder) in said.err and not said.out and "Traceback" not in said.err
    with pytest.raises(SystemExit) as end:
        command_line.main(["diagnose"])
    assert end.value.code == 2


@pytest.mark.parametrize("program", FLAGS)
def test_odd_numbers_stop_no_rule(tmp_path, program):
    odd = [math.nan, math.inf, -math.inf, 0.0, -1.0, 1e30, "text", None, [1.0], True]
    tags = [*vae_row(1, 1), *aae_row(1), *gpt_row(1, 1)]
    for number, value in enumerate(odd):
        first = {f"{tag}_step": value for tag in tags}
        flags = {name: value for name in ("epochs", "lr", "ae_lr", "lambda_", "limit_batches", "z_dim", "tokenizer")}
        for history in ([dict.fromkeys(tags, value)] * 3, [dict.fromkeys(tags, 1.0), dict.fromkeys(tags, value)]):
            folder = tmp_path / f"{number}-{len(history)}"
            diagnose.text(
                runs.read(make_run(folder, program, flags, history, {}, first_step=first, best={"epoch": value}))
            )
