"""Tests of the page that a run writes."""

import json
import shutil

import pytest
from report_cases import AAE, Page, run_command, vae_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from course.runs import report
from small_runs import make_run

ASKED = {  # program -> the questions that a run's page refers to
    "vae": ["Q1.9"],
    "aae": ["Q2.6"],
    "gpt": ["Q3.2", "Q3.3"],
}


KNOWN_BY = {"vae": "bpd", "aae": "recon_loss", "gpt": "bits_per_char"}


DRAWN = {  # program -> the figures on the page for a run of three epochs
    "vae": ["manifold_epoch_003", "samples_epoch_003", "reconstructions_epoch_003"],
    "aae": ["samples_epoch_000", "samples_epoch_003", "reconstructions_epoch_000", "codes_epoch_003"],
    "gpt": ["attention_epoch_000", "attention_epoch_003"],
}


def shown(value: float) -> str:
    return f"{value:.4g}"


# --- the page that a run writes ---------------------------------------------------------------------------------------


def test_a_run_writes_its_page(program):
    run = program.finished()
    page, summary = Page(run / "report.html"), json.loads((run / "summary.json").read_text())
    assert page.loads_nothing()
    assert [question for question in ASKED[program.name] if f"{question}\n" in page.text] == ASKED[program.name]
    assert "Part " in page.text and f"{summary['versions']['torch']}\n" in page.text
    for name, value in summary["flags"].items():
        assert f"{name}\n" in page.text, name
        assert type(value) is not float or shown(value) in page.text, name
    for name in DRAWN[program.name]:
        assert (run / "figures" / f"{name}.png").read_bytes() in page.pictures.values(), f"{name}, byte for byte"
    assert any(name.startswith(KNOWN_BY[program.name]) for name in page.pictures), "the curve"
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    for stage, column in (("train", 1), ("val", 2)):
        logged = events.Scalars(f"{stage}/{KNOWN_BY[program.name]}")[-1].value
        assert float(page.row(KNOWN_BY[program.name])[column]) == pytest.approx(logged, rel=1e-3)
    if program.name == "gpt":
        assert (run / "figures" / "samples.txt").read_text()[:60].strip() in page.text
    else:
        assert shown(summary["results"][f"test/{KNOWN_BY[program.name]}"]) in page.row(KNOWN_BY[program.name])


def test_a_run_that_is_not_finished(vae):
    run = vae.finished()
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").unlink()
    assert run_command(run) == 0
    page = Page(run / "report.html")
    assert "not finished · 3 of 3 epochs" in page.text
    assert page.row("bpd")[1:3] == [shown(summary["history"][-1][f"{stage}/bpd"]) for stage in ("train", "val")]
    first = {**summary, "history": summary["history"][:1], "flags": {**summary["flags"], "epochs": 1}}
    (run / "summary.json").write_text(json.dumps(first))
    assert run_command(run) == 0
    assert "not finished · 3 of 3 epochs" in Page(run / "report.html").text, "it was resumed after its summary"


def test_a_run_in_its_first_epoch(tmp_path):
    run = tmp_path / "logs" / "vae" / "version_0"
    run.mkdir(parents=True)
    (run / "hparams.yaml").write_text("epochs: 80\nz_dim: 20\nlr: 1.0\ndataset: mnist\n")
    assert run_command(run) == 0
    page = Page(run / "report.html")
    assert "not finished · 0 of 80 epochs" in page.text
    assert "Q1.8 asks for samples at epoch 10; this run has 0" in page.lacks


def test_an_error_in_the_page_fails_no_run(vae, monkeypatch, capsys):
    def broken(run, rubric):
        raise ZeroDivisionError("no such luck")

    monkeypatch.setattr(report, "page_of_run", broken)
    assert vae("--epochs", "1") == 0
    said = capsys.readouterr()
    assert "the report could not be written: no such luck" in said.err and "Traceback" not in said.err
    assert (vae.run() / "summary.json").exists() and not (vae.run() / "report.html").exists()


# --- figures that a question asks for ---------------------------------------------------------------------------------


def test_what_the_run_lacks_is_said(tmp_path):
    run = vae_run(tmp_path / "vae" / "version_0", epochs=12)
    assert run_command(run) == 0
    page = Page(run / "report.html")
    assert "Q1.8 asks for samples at epoch 80; this run has 12" in page.lacks
    assert "Q1.7 asks for 80 epochs; this run has 12" in page.lacks
    files = [run / "figures" / f"samples_epoch_{epoch:03d}.png" for epoch in (0, 10, 12)]
    captions = ["samples, before training", "samples, after 10 epochs", "samples, after 12 epochs"]
    assert [page.pictures[caption] for caption in captions] == [file.read_bytes() for file in files]
    assert "0.35\n" in page.text and "near 0.52 after 80" in page.text, "the test score, unit and bound"
    assert "bits per dimension, an upper bound (bpd; test, weights of epoch 12)" in page.text


def test_a_run_with_all_that_is_asked_lacks_nothing(tmp_path):
    names = tuple(f"samples_epoch_{epoch:03d}.png" for epoch in (0, 10, 80))
    run = vae_run(tmp_path / "vae" / "version_0", epochs=80, figures=names)
    assert run_command(run) == 0 and Page(run / "report.html").lacks == []
    (run / "figures" / names[1]).unlink()
    assert run_command(run) == 0
    (lack,) = Page(run / "report.html").lacks
    assert lack.startswith("Q1.8 asks for samples at epoch 10, but figures/ has no such file") and "blank" in lack


def test_epoch_95_does_for_epoch_100(tmp_path):
    names = [f"{name}_epoch_{epoch:03d}.png" for name in ("reconstructions", "samples") for epoch in (0, 20, 50, 95)]
    run = make_run(tmp_path / "aae" / "version_0", "aae", AAE, [{"val/recon_loss": 0.1}] * 95, dict.fromkeys(names, 9))
    assert run_command(run) == 0
    page = Page(run / "report.html")
    assert page.lacks == [] and "samples, after 95 epochs" in page.pictures
    for name in names[3::4]:
        (run / "figures" / name).rename(run / "figures" / name.replace("095", "094"))
    assert run_command(run) == 0
    assert [lack for lack in Page(run / "report.html").lacks if "epoch 100; this run has 95" in lack]


@pytest.mark.parametrize("flags", [{"z_dim": 16}, {"dataset": "fashion"}])
def test_a_run_that_no_question_asks_for(tmp_path, flags):
    run = vae_run(tmp_path / "vae" / "version_0", **flags)
    assert run_command(run) == 0
    page = Page(run / "report.html")
    assert "No question asks for a run with these hyperparameters" in page.lacks[0]
    assert "Q1.9 asks for z_dim 2" in page.text
    assert "samples, after 12 epochs" in page.pictures


def test_what_comes_from_a_run_is_escaped(tmp_path):
    evil = '"><script>alert(1)</script><img src=http://x onerror=y>'
    run = vae_run(tmp_path / "vae" / "version_0", precision=evil)
    shutil.copy(run / "figures" / "samples_epoch_000.png", run / "figures" / '"><b onload=x>_epoch_003.png')
    gpt = {"epochs": 1, evil: evil}
    other = make_run(tmp_path / "gpt" / "version_0", "gpt", gpt, [{"val/bits_per_char": 2.0}], {}, git_commit=evil)
    (other / "figures" / "samples.txt").write_bytes(b"\xff</pre>" + evil.encode())
    for folder in (run, other):
        assert run_command(folder) == 0
        page = Page(folder / "report.html")
        assert page.loads_nothing() and "b" not in page.tags - {"b"} and evil in page.text
