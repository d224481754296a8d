"""Tests with damaged or hostile summaries, links and checkpoints."""

import math
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from evidence_cases import VAE_RUN, change_summary, event_file, refused

# --- invalid summaries ------------------------------------------------------------------------------------------------


def test_a_claim_that_is_not_true(judge, staged):
    change_summary(staged, lambda summary: summary["results"].update({"test/bpd": 0.1}))
    row = judge("bpd", VAE_RUN, full=1e-3)
    assert row["claimed"] == 0.1 and row["points"] == 0 and "is 0.1; the recomputed value is" in row["warning"]

    change_summary(staged, lambda summary: summary["history"][-1].update({"val/bpd": 0.1}))
    row = judge("curves", VAE_RUN | {"epochs": 3})
    assert row["points"] == 0 and row["claimed"] == 0.1 and "in 1 of 3 epochs, first in epoch 3" in row["warning"]


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
    assert row["claimed"] is None and row["points"] == 2 and "The summary has no value for this" in row["warning"]
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
    refused(judge("bpd", VAE_RUN), "summary.json is too large: 100 MB; the limit is 2 MB")


def test_numbers_in_odd_places(judge, staged):
    def change(summary: dict) -> None:
        summary["best"] = ["epoch"]
        summary["results"] = 7
        summary["history"] = [None, 3, {"val/bpd": {}}]

    change_summary(staged, change)
    assert judge("bpd", VAE_RUN)["points"] == 2
    refused(judge("curves", VAE_RUN | {"epochs": 3}) | {"recomputed": None}, "differs from the summary in 3 of 3")


# --- links to other places ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["summary.json", "checkpoints/best.ckpt", "checkpoints", "events"])
def test_links_are_not_followed(judge, staged, tmp_path, name):
    run = staged / "logs/vae/version_0"
    path = event_file(staged) if name == "events" else run / name
    other = tmp_path / "another student's"
    path.rename(other)
    path.symlink_to(other)
    row = judge("curves", VAE_RUN | {"epochs": 3}) if name == "events" else judge("bpd", VAE_RUN)
    assert row["points"] == 0 and row["recomputed"] is None
    assert "through a link" in row["warning"] or "cannot be read" in row["warning"]


def test_a_run_or_pictures_that_are_links(judge, staged, tmp_path):
    run = staged / "logs/vae/version_0"
    (run / "figures").rename(tmp_path / "figures")
    (run / "figures").symlink_to(tmp_path / "figures")
    refused(judge("pictures", VAE_RUN, pictures=["samples"], at=[0]), "samples of epoch 0")
    run.rename(tmp_path / "run")
    run.symlink_to(tmp_path / "run")
    refused(judge("bpd", VAE_RUN), "through a link")
    run.unlink()
    run.symlink_to(run)
    refused(judge("bpd", VAE_RUN), "There is no run")


# --- checkpoints ------------------------------------------------------------------------------------------------------


class Bomb:
    """An object that writes a file when it is unpickled."""

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


def test_a_checkpoint_of_layers_that_torch_compile_wrapped(judge, staged):
    path, train = staged / "logs/vae/version_0/checkpoints/best.ckpt", staged / "part1_vae" / "train.py"
    value, text = judge("bpd", VAE_RUN)["recomputed"], train.read_text()
    plain = "CNNEncoder(num_filters=num_filters, z_dim=z_dim)"
    wrapped = text.replace(plain, f"torch.compile({plain})")
    assert wrapped != text
    train.write_text(wrapped)
    checkpoint = torch.load(path, weights_only=True)
    state = checkpoint["state_dict"]
    checkpoint["state_dict"] = {name.replace("encoder.", "encoder._orig_mod."): value for name, value in state.items()}
    torch.save(checkpoint, path)
    assert judge("bpd", VAE_RUN)["recomputed"] == value
