"""Tests of `python -m course runs`, which starts all runs of the assignment or continues them."""

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch

from course import __main__ as command_line
from course.rubric import read
from course.runs import assigned

# a stand-in for a part's train.py: it records its flags and writes a run; part 2 exits with the status in status.txt
TRAIN = """
import json, sys
from pathlib import Path

flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
here = Path(__file__).resolve().parents[1]
with open(here / "commands.txt", "a") as file:
    file.write(" ".join([Path(__file__).parent.name, *sys.argv[1:]]) + "\\n")
if "aae" == {program!r} and (here / "status.txt").exists():
    sys.exit(int((here / "status.txt").read_text()))
runs = Path(flags.pop("--log_dir")) / {program!r}
folder = Path(flags.pop("--resume", runs / f"version_{{len(list(runs.glob('*')))}}"))
folder.mkdir(parents=True, exist_ok=True)
flags = {{name[2:]: float(value) for name, value in flags.items()}} | {{"epochs": 100}}
if (folder / "flags.json").exists():
    flags = json.loads((folder / "flags.json").read_text())
history = [{{"epoch": epoch}} for epoch in range(1, 101)]
(folder / "summary.json").write_text(json.dumps({{"program": {program!r}, "flags": flags, "history": history}}))
"""
ALL = [
    "part1_vae --z_dim 20", "part1_vae --z_dim 2", "part2_aae --z_dim 8 --lambda_ 1",
    "part2_aae --z_dim 8 --lambda_ 0.995", "part2_aae --z_dim 2 --lambda_ 1", "part2_aae --z_dim 2 --lambda_ 0.995",
    "part3_gpt",
]  # fmt: skip


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Return a function: runs() -> exit status, and the parts' commands that it ran, without --log_dir."""
    monkeypatch.setattr(assigned, "REPOSITORY", tmp_path)
    logs = tmp_path / "my logs"
    for part in read().parts.values():
        (tmp_path / part.folder).mkdir()
        (tmp_path / part.folder / "train.py").write_text(TRAIN.format(program=part.logs))

    def run(*flags: str) -> tuple[int, list[str]]:
        (tmp_path / "commands.txt").write_text("")
        status = command_line.main(["runs", "--log_dir", str(logs), *flags])
        lines = (tmp_path / "commands.txt").read_text().splitlines()
        assert all(f" --log_dir {logs}" in line for line in lines)
        return status, [line.replace(f" --log_dir {logs}", "") for line in lines]

    run.logs = logs
    return run


def test_all_runs_are_made_once(runs, capsys):
    assert runs("--list") == (0, [])
    assert "1/7  Q1.7, Q1.8: python part1_vae/train.py --z_dim 20\n" in capsys.readouterr().out
    assert runs() == (0, ALL)
    assert runs() == (0, [])
    assert f"5/7  Q2.6: complete: {runs.logs / 'aae' / 'version_2'} (100 epochs)" in capsys.readouterr().out


def a_run(folder: Path, flags: dict, epochs: int, finished: bool = False) -> None:
    flags, history = {"epochs": 80, **flags}, [{"epoch": epoch} for epoch in range(1, epochs + 1)]
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "flags.json").write_text(json.dumps(flags))
    head = {"program": "vae", "flags": flags}
    torch.save({"run": head, "callbacks": {"History": {"history": history}}}, folder / "checkpoints" / "last.ckpt")
    if finished:
        (folder / "summary.json").write_text(json.dumps({**head, "history": history}))


def test_a_run_that_was_stopped_is_continued(runs):
    """Runs with other flags are not continued, nor are those started with too few epochs, which lack some figures."""
    a_run(runs.logs / "vae" / "version_0", {"z_dim": 20, "epochs": 5}, epochs=5, finished=True)
    a_run(runs.logs / "vae" / "version_1", {"z_dim": 20, "limit_batches": 6}, epochs=80, finished=True)
    a_run(runs.logs / "vae" / "version_2", {"z_dim": 20, "recipe": "fast"}, epochs=3)
    assert runs("--list")[1] == [] and runs()[1] == ALL
    (runs.logs / "vae" / "version_3" / "summary.json").unlink()
    a_run(runs.logs / "vae" / "version_5", {"z_dim": 20}, epochs=3)
    assert runs() == (0, [f"part1_vae --resume {runs.logs / 'vae' / 'version_5'}"])
    assert runs() == (0, [])


def test_the_data_may_lie_elsewhere(runs, tmp_path):
    """A relative path starts from the user's folder, not from the repository, where the programs are started."""
    _, made = runs("--data_dir", "my data")
    assert made == [f"{command} --data_dir {Path('my data').resolve()}" for command in ALL]


def test_figures_of_early_epochs_need_the_blanks(runs, capsys):
    blank = runs.logs.parent / "part1_vae" / "utils.py"
    blank.write_text('def sample():\n    raise NotImplementedError("Q1.8: draw images")\n')
    assert runs() == (1, ALL[2:])
    printed = capsys.readouterr()
    assert "first: Q1.8: part1_vae/utils.py, line 2 is not filled in: draw images" in printed.out
    assert "2 of 7 runs are missing" in printed.err
    blank.unlink()
    assert runs() == (0, ALL[:2])


@pytest.mark.parametrize(("ends_with", "status", "made"), [(1, 1, ALL), (143, 130, ALL[:3])])
def test_a_failed_run_is_reported_and_a_stopped_one_ends_the_command(runs, capsys, ends_with, status, made):
    (runs.logs.parent / "status.txt").write_text(str(ends_with))
    assert runs() == (status, made)
    assert ("4 of 7 runs are missing" if status == 1 else "run the same command again") in capsys.readouterr().err
    (runs.logs.parent / "status.txt").unlink()
    assert runs()[1] == [command for command in ALL if "part2" in command or command not in made]


def test_the_parts_have_these_flags_and_enough_epochs():
    for run in assigned.assigned(read()):
        args = import_module(f"{run.part.folder}.options").parse_args(run.command()[1:])
        assert run.flags.items() <= vars(args).items()
        assert args.epochs >= run.epochs and args.program == run.part.logs
