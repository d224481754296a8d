"""Tests of the files in a release that affect what students hand in."""

import re
import subprocess

from small_runs import REPOSITORY
from staff.release import build as release


def test_runs_can_be_handed_in_with_git(tmp_path, files):
    """git includes the files that earn points for runs, but not the data or files needed only to resume a run."""
    (tmp_path / ".gitignore").write_bytes(files[".gitignore"])
    run = tmp_path / "logs" / "vae" / "version_0"
    wanted = ["summary.json", "report.html", "hparams.yaml", "events.out.tfevents.1", "checkpoints/best.ckpt"]
    wanted.append("figures/samples_epoch_080.png")
    unwanted = [run / "checkpoints" / "last.ckpt", tmp_path / "data" / "x", tmp_path / "report.html"]
    for path in [*(run / name for name in wanted), tmp_path / "submission.zip", *unwanted]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    listed = subprocess.run(
        ["git", "-C", tmp_path, "ls-files", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert set(listed) == {".gitignore", "submission.zip", *(f"logs/vae/version_0/{name}" for name in wanted)}


def test_students_do_not_get_the_pictures_that_questions_ask_for(files):
    """Students could hand in released pictures from runs of the assigned length as their own."""
    of_parts_1_and_2 = re.compile(r"docs/(vae|a+e)_.*\.png")
    after_five_epochs = "docs/ae_reconstructions.png"  # the questions ask for 20, 50 and 100
    assert len([file for file in release.tracked(REPOSITORY) if of_parts_1_and_2.fullmatch(file)]) > 10
    assert [file for file in files if of_parts_1_and_2.fullmatch(file)] == [after_five_epochs]
