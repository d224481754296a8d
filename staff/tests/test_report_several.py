"""Tests of a page for several runs, of invalid input, and of the files that are handed in."""

import dataclasses
import json
import re
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from report_cases import AAE, VAE, Page, run_command, vae_run

from course import rubric, submission
from course.runs import folder as runs
from small_runs import REPOSITORY, make_run
from staff.release import build as release
from staff.release import suites

# --- several runs -----------------------------------------------------------------------------------------------------


def test_autoencoder_and_adversarial_side_by_side(tmp_path, capsys):
    figures = {"samples_epoch_000.png": 1, "reconstructions_epoch_000.png": 2}
    runs = [
        make_run(tmp_path / "aae" / f"version_{number}", "aae", AAE | {"lambda_": lambda_, "epochs": 3},
                 [{"val/recon_loss": 0.1 + number}] * 3, figures, results={"test/recon_loss": 0.125 + number})
        for number, lambda_ in enumerate([1.0, 0.995])
    ]  # fmt: skip
    out = tmp_path / "both.html"
    assert run_command(*runs, "-o", out) == 0
    assert capsys.readouterr().out == f"{out}\n"
    page = Page(out)
    assert page.loads_nothing()
    assert page.row("answers") == ["Q2.6", "Q2.6"] and page.row("lambda_") == ["1", "0.995"]
    assert page.row("recon_loss") == ["0.125", "1.125"]
    assert page.lacks.count("Q2.6 asks for samples at epoch 20; this run has 3") == 2
    assert "samples, before training" in page.pictures and not list(tmp_path.glob("aae/*/report.html"))


def test_a_figure_that_is_asked_of_one_of_the_runs(tmp_path):
    twenty = vae_run(tmp_path / "vae" / "version_0")
    two = vae_run(tmp_path / "vae" / "version_1", figures=("manifold_epoch_012.png",), z_dim=2)
    assert run_command(twenty, two, "-o", tmp_path / "both.html") == 0
    page = Page(tmp_path / "both.html")
    assert page.row("z_dim") == ["20", "2"] and page.row("answers") == ["Q1.7, Q1.8", "Q1.9"]
    assert page.row("manifold, the last")[0] == "–" and "manifold, after 12 epochs" in page.pictures
    assert not [lack for lack in page.lacks if "Q1.9" in lack]


def test_what_no_question_asks_for_is_beside_each_other_too(tmp_path):
    """For example, the page shows the last codes from each of two runs with two latent dimensions."""
    figures = (
        {"codes_epoch_003.png": 1, "samples_epoch_003.png": 3},
        {"codes_epoch_002.png": 2, "codes_epoch_012.png": 3},
    )
    runs = [
        make_run(
            tmp_path / "aae" / f"version_{number}", "aae", AAE | {"epochs": 3}, [{"val/recon_loss": 0.1}] * 3, each
        )
        for number, each in enumerate(figures)
    ]
    assert run_command(*runs, "-o", tmp_path / "both.html") == 0
    page = Page(tmp_path / "both.html")
    assert {"codes, after 3 epochs", "codes, after 12 epochs"} <= set(page.pictures)
    assert "codes, after 2 epochs" not in page.pictures and "codes, the last" in page.text


def test_seeds_are_a_mean_and_a_spread(tmp_path):
    scores = [0.518, 0.521, 0.527]
    runs = [vae_run(tmp_path / "vae" / f"version_{seed}", seed=seed) for seed in range(3)]
    runs.append(vae_run(tmp_path / "vae" / "version_3", z_dim=2))
    for run, score in zip(runs, [*scores, 0.7], strict=True):
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps({**summary, "results": {"test/bpd": score}}))
    assert run_command(*runs, "-o", tmp_path / "seeds.html") == 0
    mean, spread = statistics.mean(scores), statistics.stdev(scores)
    assert Page(tmp_path / "seeds.html").row("bpd") == [f"{mean:.4g} ± {spread:.2g}", "0.7"]


def test_runs_with_the_same_seed_are_no_sample(tmp_path):
    runs = [vae_run(tmp_path / "vae" / f"version_{number}", seed=7) for number in range(2)]
    for run, score in zip(runs, [0.518, 0.52], strict=True):
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps({**summary, "results": {"test/bpd": score}}))
    assert run_command(*runs, "-o", tmp_path / "page.html") == 0
    page = Page(tmp_path / "page.html")
    assert page.row("bpd") == ["0.518", "0.52"] and "seeds, mean" not in page.text


# --- wrong input ------------------------------------------------------------------------------------------------------


def test_damaged_files(vae, capsys):
    run = vae.finished()
    summary, checkpoint = run / "summary.json", run / "checkpoints" / "last.ckpt"
    whole = summary.read_text()
    summary.write_text(whole[: len(whole) // 2])
    (run / "figures" / "manifold_epoch_003.png").write_bytes(
        (run / "figures" / "manifold_epoch_000.png").read_bytes()[:-40]
    )
    assert run_command(run) == 0
    lacks = Page(run / "report.html").lacks
    assert [lack for lack in lacks if "summary.json: cannot be read" in lack]
    assert "figures/manifold_epoch_003.png is damaged or incomplete" in lacks
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    before = (run / "report.html").read_bytes()
    capsys.readouterr()
    assert run_command(run) == 1
    said = capsys.readouterr().err
    assert "summary.json: cannot be read" in said and "last.ckpt: cannot be read" in said and "Traceback" not in said
    assert (run / "report.html").read_bytes() == before
    summary.write_text(whole)
    assert run_command(run) == 0, "the summary has all that the page needs"


def test_what_is_refused(tmp_path, capsys):
    good = vae_run(tmp_path / "logs" / "vae" / "version_0")
    other = make_run(tmp_path / "logs" / "aae" / "version_0", "aae", AAE, [], {})
    foreign = make_run(tmp_path / "logs" / "xyz" / "version_0", "xyz", {}, [], {})
    pickled = tmp_path / "pickled" / "checkpoints"
    pickled.mkdir(parents=True)
    torch.save({"run": Path("what is code to make")}, pickled / "last.ckpt")
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    cases = [
        ([tmp_path / "nothing"], 1, ["nothing: no such folder"]),
        ([good / "summary.json"], 1, ["summary.json: no such folder"]),
        ([tmp_path / "logs" / "vae"], 1, ["contains several runs", "version_0"]),
        ([good / "figures"], 1, ["not a run's folder"]),
        ([good, other], 1, ["aae/version_0 belongs to part 2", "part 1"]),
        ([foreign], 1, ["xyz/version_0: a run of 'xyz'", "vae, aae, gpt"]),
        ([pickled.parent], 1, ["last.ckpt: cannot be read"]),
        ([good, "-o", "page.pdf"], 2, ["-o/--output", "page.pdf", ".html"]),
        ([good, "-o", good / "summary.json" / "x.html"], 1, ["x.html"]),
        ([], 2, ["RUN"]),
    ]
    for text in ("[]", "3", '{"program": 1}', '{"program": "vae", "flags": {}, "history": [3]}', "[" * 100_000):
        cases.append(([wrong], 1, [f"{wrong / 'summary.json'}: "]))
        (wrong / "summary.json").write_text(text)
        assert run_command(wrong) == 1, text
    for words, status, expected in cases:
        capsys.readouterr()
        assert run_command(*words) == status, words
        message = capsys.readouterr().err
        assert all(text in message for text in expected) and "Traceback" not in message, (words, message)
    assert not list(tmp_path.rglob("report.html"))


def test_odd_numbers_are_shown_or_left_out(tmp_path):
    history = [{"train/bpd": float("nan"), "val/bpd": "much", "val/kl_per_dim": [1.0]}, {"val/bpd": float("inf")}]
    more = {"results": {"test/bpd": None}, "first_step": {"train/bpd_step": "x"}, "best": {"epoch": "one"}}
    run = make_run(tmp_path / "vae" / "version_0", "vae", {"z_dim": 20}, history, {}, **more, machine=7)
    assert run_command(run) == 0 and "Q1.7" in Page(run / "report.html").text
    assert run_command(run, run, "-o", tmp_path / "both.html") == 0


def test_what_a_run_knows_of_its_place_and_of_its_best_epoch(tmp_path):
    folder = make_run(
        tmp_path / "my" / "logs" / "vae" / "version_3", "vae", {}, [{"epoch": 1}], {}, best={"epoch": 1.5}
    )
    run = runs.read(folder)
    assert run.name == "logs/vae/version_3" and run.best == {}, "an epoch is a whole number"


# --- students, and the zip to hand in ---------------------------------------------------------------------------------


@pytest.fixture
def student(tmp_path):
    """Return a function: student("report", RUN) runs `python -m course report RUN` in the students' repository."""
    for file, content in release.contents(release.read_course(REPOSITORY), "2026").items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    vae_run(tmp_path / "logs" / "vae" / "version_0")

    def start(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "course", *words], cwd=tmp_path, capture_output=True, text=True)

    return start


@pytest.mark.slow
def test_students_have_the_same_command(student, tmp_path):
    done = student("report", "logs/vae/version_0")
    assert done.returncode == 0 and done.stdout.strip() == "logs/vae/version_0/report.html", done.stderr
    assert "logs/vae/version_0\n" in Page(tmp_path / "logs" / "vae" / "version_0" / "report.html").text


def test_students_have_these_commands_and_no_others(student, tmp_path):
    diagnosed = student("diagnose", "logs/vae/version_0")
    assert diagnosed.returncode == 0 and "logs/vae/version_0: vae, 12 of 80 epochs" in diagnosed.stdout, (
        diagnosed.stderr
    )
    refused = student("grade")
    assert refused.returncode == 2 and "invalid choice: 'grade' (choose from" in refused.stderr
    offered = refused.stderr.partition("choose from")[2]
    assert "report" in offered and "diagnose" in offered and "check" not in offered
    told = [(tmp_path / file).read_text() for file in ("README.md", "part1_vae/README.md", "part2_aae/README.md")]
    assert all("python -m course report" in text for text in told) and "python -m course diagnose" in told[0]


def test_the_pages_are_handed_in(tmp_path, capsys):
    logs = tmp_path / "logs"
    run = vae_run(logs / "vae" / "version_0")
    (run / "report.html").write_text("from an earlier state of the run")
    submission.build(tmp_path / "x.zip", logs, tmp_path)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert "this run has 12" in archive.read("logs/vae/version_0/report.html").decode()
    (run / "summary.json").write_text(json.dumps({"program": "xyz", "flags": VAE, "history": [{}]}))
    submission.build(tmp_path / "x.zip", logs, tmp_path)
    assert "missing  " in (said := capsys.readouterr().out) and "version_0: report.html could not be written" in said


def test_clothes_answer_no_question(tmp_path):
    vae_run(tmp_path / "vae" / "version_0", epochs=80, dataset="fashion")
    digits = vae_run(tmp_path / "vae" / "version_1", epochs=12)
    assert submission.find_runs(rubric.read(), tmp_path)[0] == [digits]


# --- the rubric -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('[[show]]\nquestion = "1.7"', '[[show]]\nquestion = "9.7"', "show of question 9.7: no such question"),
        ('[[show]]\nquestion = "1.8"', '[[show]]\nquestion = "1.8"\nrun = 2', "run = 2, but the question has no"),
        ('number = "bpd"', 'number = "bbd"', "part 1 has no [[number]] 'bbd'"),
        ('number = "bpd"\n', "", "`expected` needs a `number`"),
        ("at = [0, 10, 80]", "", "`figures` and `at` (epochs) go together"),
        ("at = [0, 10, 80]", 'at = [0, "first", 80]', '"last"'),
        ("at = [0, 10, 80]", "at = [0, 10, 70]", "no [[show]] requires samples at epoch 80"),
        ('curve = "log"', 'curve = "loglog"', "curve is 'loglog'"),
    ],
)
def test_a_rubric_that_asks_for_what_cannot_be(tmp_path, old, new, message):
    text = rubric.PATH.read_text()
    assert old in text
    (tmp_path / "rubric.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(rubric.RubricError, match=re.escape(message)):
        rubric.read(tmp_path / "rubric.toml")


def test_the_rubric_is_held_against_the_programs():
    right = rubric.read()
    assert suites.not_written(right, REPOSITORY) == []
    changes = {
        "question 1.8: part1_vae draws nothing at epoch 70": {"at": [0, 70]},
        "question 1.8: smaples does not occur in part1_vae": {"figures": ["smaples"]},
        "question 1.8: letters.txt does not occur in part1_vae": {"texts": ["letters.txt"]},
    }
    for problem, change in changes.items():
        shows = [dataclasses.replace(show, **change) if show.question == "1.8" else show for show in right.shows]
        assert suites.not_written(dataclasses.replace(right, shows=shows), REPOSITORY) == [
            f"course/rubric.toml: {problem}"
        ]
    numbers = [dataclasses.replace(number, name=f"{number.name}_") for number in right.numbers]
    problems = suites.not_written(dataclasses.replace(right, numbers=numbers), REPOSITORY)
    assert len(problems) == len({(number.part, number.name) for number in numbers})
