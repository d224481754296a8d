"""Tests of the program part3_gpt/generate.py."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gpt_cases import small
from resuming_cases import RunsCode

from part3_gpt import generate, pretrained
from part3_gpt.dataset import gpt2_tokenizer
from part3_gpt.gpt import GPT
from small_runs import REPOSITORY, Program

# --- generate.py -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_of_all(tmp_path_factory):
    gpt = Program("gpt", tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("logs"))
    gpt.pictures = False
    assert gpt("--epochs", "1", "--dropout", "0.3") == 0
    return gpt.run()


@pytest.fixture
def run(run_of_all, tmp_path):
    """Return the folder of a short run on the built-in text, with dropout, which generation must turn off."""
    return shutil.copytree(run_of_all, tmp_path / "logs" / "gpt" / "version_0")


def written(capsys, *argv: str, status: int = 0) -> str:
    """Call generate.py; return its standard output, or its standard error if the expected status is not 0."""
    capsys.readouterr()
    try:
        assert generate.main(list(argv)) == status
    except SystemExit as exit:
        assert exit.code == status
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return output.err if status else output.out


@pytest.fixture(autouse=True)
def plain_output(monkeypatch):
    """Make `reconfigure` do nothing, because pytest's replacement for standard output lacks it."""
    monkeypatch.setattr(io.TextIOBase, "reconfigure", lambda self, **options: None, raising=False)


def test_a_prompt_is_continued(run, capsys):
    flags = ["--checkpoint", str(run), "--prompt", "The assert"]
    text = written(capsys, *flags, "--max_new_tokens", "30")
    assert text.startswith("The assert") and len(text) == len("The assert") + 30 + 1 and text.endswith("\n")
    assert written(capsys, *flags, "--max_new_tokens", "30") == text
    assert written(capsys, *flags, "--max_new_tokens", "0") == "The assert\n"
    draw = ["--do_sample", "--temperature", "0.9", "--top_k", "40", "--top_p", "0.95", "--max_new_tokens", "30"]
    samples = written(capsys, *flags, *draw, "--num_samples", "3")
    assert samples == written(capsys, *flags, *draw, "--num_samples", "3")
    assert samples != written(capsys, *flags, *draw, "--num_samples", "3", "--seed", "7")
    first, second, third = (part.split(" ---\n")[1] for part in samples.split("--- sample ")[1:])
    assert len({first, second, third}) == 3
    assert len(written(capsys, *flags[:2], "--max_new_tokens", "20")) == 21, "without a prompt, it starts a new text"


def test_the_best_checkpoint_the_file_and_the_newest_run(run, capsys):
    logs = str(run.parents[1])
    (run / "checkpoints" / "last.ckpt").write_bytes(b"not this one")
    expected = written(capsys, "--checkpoint", str(run))
    assert written(capsys, "--checkpoint", str(run / "checkpoints" / "best.ckpt")) == expected
    assert written(capsys, "--checkpoint", "last", "--log_dir", logs) == expected


def test_a_pretrained_folder(tmp_path, capsys):
    GPT(small(vocab_size=50257, block_size=64)).save_pretrained(tmp_path)
    assert written(capsys, "--pretrained", str(tmp_path), "--prompt", "naïve 😀").startswith("naïve 😀")
    GPT(small()).save_pretrained(tmp_path)
    message = written(capsys, "--pretrained", str(tmp_path), status=2)
    assert f"--pretrained {tmp_path}" in message and "50257 tokens, the model 29" in message


def test_a_tokenizer_that_would_cut_or_fill_up_the_prompt(tmp_path, capsys):
    GPT(small(vocab_size=50257, block_size=64)).save_pretrained(tmp_path)
    tokenizer = gpt2_tokenizer().tokenizer
    flags = ["--pretrained", str(tmp_path), "--prompt", "Hello there", "--max_new_tokens", "5"]
    expected = written(capsys, *flags)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert written(capsys, *flags) == expected


def test_the_lowest_temperature_draws(run, capsys):
    draw = ["--checkpoint", str(run), "--do_sample", "--temperature", "1e-6", "--max_new_tokens", "30"]
    assert len(written(capsys, *draw)) == 31


def test_weights_that_may_not_be_read(tmp_path, capsys, monkeypatch):
    """root ignores permissions, so `open` is replaced by a function that refuses."""
    GPT(small(vocab_size=50257)).save_pretrained(tmp_path)
    for name in ("config.json", "model.safetensors"):

        def refuse(path, *args, name=name, **kwargs):
            if Path(path).name == name:
                raise PermissionError(13, "Permission denied", str(path))
            return open(path, *args, **kwargs)

        monkeypatch.setattr(pretrained, "open", refuse, raising=False)
        message = written(capsys, "--pretrained", str(tmp_path), status=2)
        assert message == f"error: --pretrained {tmp_path / name}: cannot be read: Permission denied\n"


def test_what_generate_refuses(run, tmp_path, capsys):
    here = ["--checkpoint", str(run)]
    missing = str(tmp_path / "nothing")
    cases = {
        "one of the arguments --checkpoint --pretrained is required": [],
        "not allowed with": [*here, "--pretrained", "gpt2"],
        f"--checkpoint {missing}: there is no file": ["--checkpoint", missing],
        f"--pretrained {missing}: neither a folder": ["--pretrained", missing],
        "the character '日' (U+65E5, CJK UNIFIED IDEOGRAPH-65E5; character 2": [*here, "--prompt", "a日"],
        "--prompt '': is empty": [*here, "--prompt", ""],
        "--temperature: has no effect without --do_sample": [*here, "--temperature", "0.5"],
        "--top_k: has no effect": [*here, "--top_k", "5"],
        "--top_p: has no effect": [*here, "--top_p", "0.5"],
        "--num_samples 2: without --do_sample": [*here, "--num_samples", "2"],
        r"--prompt 'caf\\udce9': character 4 is not valid UTF-8": [*here, "--prompt", "caf\udce9"],
        "--temperature: '1e-40' is not a finite number that is at least": [
            *here,
            "--do_sample",
            "--temperature",
            "1e-40",
        ],
        "--temperature: '0' is not": [*here, "--do_sample", "--temperature", "0"],
        "--top_k: '0' is not": [*here, "--do_sample", "--top_k", "0"],
        "--top_p: '1.5' is not": [*here, "--do_sample", "--top_p", "1.5"],
        "--top_p 0.0: leaves no token": [*here, "--do_sample", "--top_p", "0"],
        "--max_new_tokens: '-1' is not": [*here, "--max_new_tokens", "-1"],
        "--num_samples: '0' is not": [*here, "--num_samples", "0"],
        "last: no run in": ["--checkpoint", "last", "--log_dir", missing],
    }
    for message, argv in cases.items():
        assert message in written(capsys, *argv, status=2), argv


def test_checkpoints_that_generate_refuses(run, tmp_path, capsys):
    good = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    layers = {**good["gpt"]["config"], "n_layer": 1}
    bad = {
        "can be read safely": {**good, "gpt": RunsCode(tmp_path / "touched")},
        "belongs to a run of 'vae'": {**good, "run": {**good["run"], "program": "vae"}},
        "it contains no GPT configuration": {**good, "gpt": None},
        "contains no GPT configuration": {**good, "gpt": {**good["gpt"], "config": {"depth": 3}}},
        "it contains no tokenizer": {**good, "gpt": {**good["gpt"], "tokenizer": 3}},
        "Unexpected key(s)": {**good, "gpt": {**good["gpt"], "config": layers}},
        "not written by": {"state_dict": {}},
    }
    for number, (message, content) in enumerate(bad.items()):
        path = tmp_path / f"{number}.ckpt"
        torch.save(content, path)
        error = written(capsys, "--checkpoint", str(path), status=2)
        assert message in error and f"--checkpoint {path}" in error
    assert not (tmp_path / "touched").exists(), "loading ran code"


def test_nothing_that_a_terminal_obeys_is_printed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    assert generate.printable("a\x1b[2Jb\r\x9b\u202ec\x7f\ud800") == "a\ufffd[2Jb\ufffd\ufffd\ufffdc\ufffd\ufffd"
    joined = "naïve\n\t日本 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 👩\u200d🔬 \u200f!"
    assert generate.printable(joined) == joined, "joiners and combining marks are part of the text"


def test_a_pipe_gets_the_text_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: False))
    assert generate.printable("a\x1b\u202e\u200c") == "a\x1b\u202e\u200c"


@pytest.fixture
def started(run):
    """Start generate.py in a separate process; yield it once it has begun to write a long text to a pipe."""
    command = [sys.executable, str(REPOSITORY / "part3_gpt" / "generate.py"), "--checkpoint", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "ascii", "PYTHONUNBUFFERED": ""}
    process = subprocess.Popen(
        [*command, "--prompt", "some text", "--max_new_tokens", "100000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    begun = b""
    while len(begun) < 20 and process.poll() is None:  # output is streamed
        begun += os.read(process.stdout.fileno(), 20)
    assert begun.startswith(b"some text")
    yield process
    process.kill()
    process.communicate()


def test_each_token_is_shown_at_once_until_ctrl_c(started):
    pieces = [len(os.read(started.stdout.fileno(), 8192)) for _ in range(30)]
    assert 0 < sorted(pieces)[15] < 100, "the text arrives one buffer at a time"
    started.send_signal(signal.SIGINT)
    _, error = started.communicate(timeout=60)
    assert started.returncode == 130 and b"Traceback" not in error


def test_a_reader_that_has_enough(started):
    """The reader closes the pipe early, as in `generate.py ... | head`."""
    started.stdout.close()
    deadline = time.monotonic() + 60
    while started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert started.returncode == 0 and b"Traceback" not in started.stderr.read()
