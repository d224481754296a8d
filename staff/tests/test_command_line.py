"""Tests of the command lines: wrong flags are refused with a message, and nothing is written."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
import torch

from course import __main__ as course_command
from part1_vae.options import parse_args
from part2_aae.options import parse_args as parse_args_of_part2
from part3_gpt.options import parse_generate_args
from small_runs import PARTS, REPOSITORY


def refused(capsys, *argv: str, parse_args=parse_args) -> str:
    """Check that the flags are refused with exit status 2; return the message."""
    with pytest.raises(SystemExit) as caught:
        parse_args(list(argv))
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("flag", "value", "allowed"),
    [
        ("--z_dim", "0", "from 1 to"),
        ("--z_dim", "2.5", "from 1 to"),
        ("--z_dim", "٣", "from 1 to"),
        ("--num_filters", "-3", "from 1 to"),
        ("--num_filters", "many", "from 1 to"),
        ("--epochs", "0", "from 1 to"),
        ("--batch_size", "0", "from 1 to"),
        ("--lr", "-0.001", "finite number above 0"),
        ("--lr", "0", "finite number above 0"),
        ("--lr", "nan", "finite number above 0"),
        ("--lr", "inf", "finite number above 0"),
        ("--lr", "fast", "finite number above 0"),
        ("--seed", "-1", "from 0 to"),
        ("--seed", "4294967296", "from 0 to"),
        ("--num_workers", "-1", "from 0 to"),
        ("--devices", "0", "number of devices"),
        ("--devices", "two", "number of devices"),
        ("--num_nodes", "0", "from 1 to"),
        ("--dataset", "cifar", "mnist"),
        ("--precision", "8", "32-true"),
        ("--limit_batches", "0", "from 1 to"),
        ("--iwae_samples", "-1", "from 0 to"),
        ("--sample_every", "-1", "from 0 to"),
    ],
)
def test_a_wrong_value_is_named_with_its_flag_and_what_is_allowed(capsys, tmp_path, flag, value, allowed):
    message = refused(capsys, flag, value, "--log_dir", str(tmp_path / "logs"), "--data_dir", str(tmp_path / "data"))
    assert flag in message and value in message and allowed in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flag", "value", "allowed"),
    [
        ("--lambda_", "-0.1", "from 0 to 1"),
        ("--lambda_", "1.01", "from 0 to 1"),
        ("--lambda_", "nan", "from 0 to 1"),
        ("--lambda_", "half", "from 0 to 1"),
        ("--ae_lr", "0", "finite number above 0"),
        ("--d_lr", "-1", "finite number above 0"),
        ("--z_dim", "0", "from 1 to"),
        ("--num_filters", "0", "from 1 to"),
        ("--sample_every", "-1", "from 0 to"),
        ("--reconstruction", "mae", "msge"),
        ("--dataset", "cifar", "mnist"),
        ("--epochs", "0", "from 1 to"),
    ],
)
def test_a_wrong_value_of_part_2(capsys, tmp_path, flag, value, allowed):
    places = ["--log_dir", str(tmp_path / "logs"), "--data_dir", str(tmp_path / "data")]
    message = refused(capsys, flag, value, *places, parse_args=parse_args_of_part2)
    assert flag in message and value in message and allowed in message
    assert not list(tmp_path.iterdir())


def test_unknown_and_shortened_flags(capsys):
    assert "--epoch 3; did you mean --epochs?" in refused(capsys, "--epoch", "3")
    assert "--batch-size=3; did you mean --batch_size?" in refused(capsys, "--batch-size=3")
    assert "--lamda 1; did you mean --lambda_?" in refused(capsys, "--lamda", "1", parse_args=parse_args_of_part2)
    assert "did you mean" not in refused(capsys, "--teapot", "1")
    assert "--top-k 3; did you mean --top_k?" in refused(
        capsys, "--checkpoint", "last", "--top-k", "3", parse_args=parse_generate_args
    )


@pytest.mark.parametrize(
    ("words", "flag"), [("submission --log-dir x", "--log_dir"), ("submission --ouput x", "--output")]
)
def test_unknown_flags_of_a_command(capsys, words, flag):
    with pytest.raises(SystemExit):
        course_command.main(words.split())
    assert f"did you mean {flag}?" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests the message on a machine without a GPU")
def test_devices_that_are_not_there(capsys):
    message = refused(capsys, "--devices", "4000")
    assert "--devices 4000" in message and "CPU cores" in message
    assert "--accelerator gpu" in refused(capsys, "--accelerator", "gpu")
    assert "--devices 0,1" in refused(capsys, "--devices", "0,1")
    assert parse_args(["--devices", "1"]).devices == 1
    assert "--precision 16-mixed" in refused(capsys, "--precision", "16-mixed")
    assert parse_args(["--precision", "bf16-mixed"]).precision == "bf16-mixed"


def test_folders_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    for flag in ("--log_dir", "--data_dir"):
        message = refused(capsys, flag, str(tmp_path / "file" / "below"))
        assert flag in message and "file/below" in message and "Not a directory" in message
    assert "is not a folder" in refused(capsys, "--data_dir", str(tmp_path / "file"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare to mount a disk")
@pytest.mark.parametrize(("options", "reason"), [("size=64k", "No space left"), ("size=9m,ro", "Read-only")])
def test_full_and_read_only_disks(tmp_path, options, reason):
    disk = tmp_path / "disk"
    disk.mkdir()
    # the disk is visible only inside the namespace, so it is listed there too
    script = f'mount -t tmpfs -o {options} tmpfs "$0" || exit 99; "$@"; status=$?; ls -A "$0"; exit $status'
    command = [sys.executable, str(REPOSITORY / "part1_vae" / "train.py"), "--log_dir", str(disk / "logs")]
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script, str(disk), *command], capture_output=True, text=True)
    if done.returncode in (1, 99) and "train.py" not in done.stderr:
        pytest.skip(f"this machine does not allow mounting: {done.stderr.strip()}")
    assert done.returncode == 2
    assert "--log_dir" in done.stderr and reason in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "", "something was written"


def test_a_read_only_data_folder_without_the_data(vae, capsys, tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # root ignores permissions
    assert vae("--data_dir", str(data)) == 2
    message = capsys.readouterr().err
    assert f"--data_dir: {data}" in message and "cannot be written" in message
    assert not list(data.iterdir())


def test_a_batch_larger_than_the_data(vae, capsys, tmp_path):
    assert vae("--batch_size", "54001") == 2
    assert "--batch_size 54001: the training set has 54000" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_flags_that_lightning_refuses(vae, capsys, tmp_path, monkeypatch):
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    def refuse(**flags):
        raise MisconfigurationException("no such thing here")

    monkeypatch.setattr(vae.train.pl, "Trainer", refuse)
    assert vae() == 2
    assert "Lightning's Trainer does not accept these flags: no such thing here" in capsys.readouterr().err
    assert not list((tmp_path / "logs" / "vae").iterdir())


@pytest.mark.usefixtures("without_pictures")
def test_fast_dev_run_writes_nothing(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert program("--fast_dev_run") == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("without_pictures")
def test_bfloat16(program):
    assert program("--precision", "bf16-mixed", "--epochs", "1") == 0
    results = json.loads((program.run() / "summary.json").read_text())["results"]
    assert all(math.isfinite(value) for value in results.values() if isinstance(value, float)), results


def test_defaults_are_the_assignments():
    args = parse_args([])
    assert (args.epochs, args.batch_size, args.lr, args.z_dim, args.num_filters) == (80, 128, 1e-3, 20, 32)
    args = parse_args_of_part2([])
    assert (args.epochs, args.batch_size, args.ae_lr, args.d_lr) == (100, 64, 1e-3, 5e-3)
    assert (args.z_dim, args.lambda_, args.reconstruction) == (8, 0.995, "mse")
    assert parse_args_of_part2(["--lr", "0.01"]).ae_lr == 0.01, "another name for --ae_lr"


# Runs each command as Python would, but makes imports of slow packages fail; prints the outcome of each command.
AT_ONCE = """
import contextlib, io, json, runpy, sys
for module in ("torch", "pytorch_lightning", "torchvision", "matplotlib", "numpy", "transformers", "tensorboard"):
    sys.modules[module] = None
for line in sys.stdin:
    words, out, err, status = json.loads(line), io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if words[0] == "-m":
                sys.argv = words[1:]
                runpy.run_module(words[1], run_name="__main__", alter_sys=True)
            else:
                sys.argv = words
                runpy.run_path(words[0], run_name="__main__")
        except BaseException as error:
            status = error.code if isinstance(error, SystemExit) else repr(error)
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
"""
WRONG = [
    ("part3_gpt/generate.py", "--checkpoint last --top_k 3", "--top_k: has no effect without --do_sample"),
    ("part3_gpt/generate.py", "--checkpoint nowhere", "--checkpoint nowhere: there is no file"),
    ("-m part3_gpt.generate", "", "one of the arguments --checkpoint --pretrained is required"),
    ("-m course", "celebrate", "invalid choice: 'celebrate'"),
    ("-m course report", "", "the following arguments are required: RUN"),
    ("-m course diagnose", "", "the following arguments are required: RUN"),
    ("-m staff check", "--hard", "unrecognized arguments: --hard"),
    ("-m staff release", "out --year a/b", "--year: 'a/b': may contain only letters, digits"),
    ("-m staff release", "out --edition 2021", "--edition: '2021': should be 2022 or 2023"),
    ("-m staff grade", "class -j 0", "-j/--jobs: '0' is not a whole number from 1 to 256"),
    ("-m staff merge", "", "the following arguments are required: GRADES"),
    ("-m course compare", "run -o picture.gif", "--output picture.gif: the name must end in .png"),
    ("-m course runs", "--lsit", "unrecognized arguments: --lsit; did you mean --list?"),
    ("-m course submission", "-o work.tar", "--output work.tar: the name must end in .zip"),
    ("-m staff.grading.gradescope", "", "one of the arguments --root --build is required"),
]


def test_help_and_wrong_flags_are_answered_before_pytorch_is_imported(tmp_path):
    lines = []
    for command, wrong, _ in WRONG:
        words = [str(REPOSITORY / word) if word.endswith(".py") else word for word in command.split()]
        lines += [json.dumps([*words, "--help"]), json.dumps([*words, *wrong.split()])]
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE], input="\n".join(lines), cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 2 * len(WRONG), done.stderr
    for (command, _, message), help, refusal in zip(WRONG, answers[::2], answers[1::2], strict=True):
        assert (help[0], help[2]) == (0, "") and help[1].startswith("usage:"), (command, help)
        assert refusal[0] == 2 and message in refusal[2], (command, refusal)
    assert not list(tmp_path.iterdir())


def test_the_names_on_the_command_line_are_those_that_the_model_knows(capsys):
    from part2_aae import models

    for flag, known in {"--reconstruction": models.RECONSTRUCTIONS}.items():
        for name in known:
            assert vars(parse_args_of_part2([flag, name]))[flag.strip("-")] == name
        message = refused(capsys, flag, "none", parse_args=parse_args_of_part2)
        assert re.findall(r"[\w-]+", message.partition("choose from")[2]) == list(known)


@pytest.mark.parametrize("part", PARTS.values())
@pytest.mark.parametrize("as_module", [True, False])
def test_both_ways_to_start_from_another_folder(tmp_path, part, as_module):
    if as_module and not list(distributions(name="deep-generative-practical")):
        pytest.skip("python -m from another folder needs an installed package")
    command = ["-m", f"{part}.train"] if as_module else [str(REPOSITORY / part / "train.py")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    own = {"part1_vae": "--iwae_samples", "part2_aae": "--lambda_", "part3_gpt": "--txt_file"}[part]
    for flag in ("--epochs", "--resume", "--no-progress_bar", "--strategy", "--precision", own):
        assert flag in done.stdout
