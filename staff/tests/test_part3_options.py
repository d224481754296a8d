"""Tests of part 3: fine-tuning, flags, several processes and compilation."""

import json
import shutil

import pytest
import torch
from part3_cases import METRICS, RHYME, history, model_of
from test_command_line import refused
from torch.testing import assert_close

from part3_gpt import generate
from part3_gpt.dataset import TextDataset
from part3_gpt.gpt import GPT, GPTConfig
from part3_gpt.options import BUILT_IN
from part3_gpt.texts import read_text
from part3_gpt.train import parse_args


@pytest.fixture
def published(tmp_path):
    """Return a folder with a small GPT-2 in the format that `--pretrained` reads."""
    torch.manual_seed(1)
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 8, "vocab_size": 50257, "block_size": 32}
    GPT(GPTConfig(**sizes, tie_weights=True)).save_pretrained(tmp_path / "published")
    return tmp_path / "published"


@pytest.mark.usefixtures("without_pictures")
def test_fine_tuning(gpt, published, tmp_path, monkeypatch, capsys):
    # the usual flags for a small network would conflict with --pretrained
    monkeypatch.setattr("small_runs.SMALL_NETWORK", {"gpt": ["--block_size", "16"]})
    monkeypatch.setattr("small_runs.SMALL", ["--batch_size", "4", "--limit_batches", "2", "--accelerator", "cpu"])
    (tmp_path / "own.txt").write_text(RHYME * 20)
    flags = ["--pretrained", str(published), "--txt_file", str(tmp_path / "own.txt")]
    assert gpt(*flags, "--epochs", "2", log_dir=tmp_path / "whole") == 0
    assert gpt(*flags, "--epochs", "1", "--lr", "1e-12") == 0
    run = gpt.run()
    summary = json.loads((run / "summary.json").read_text())
    assert json.loads((gpt.run(tmp_path / "whole") / "summary.json").read_text())["flags"]["lr"] == 3e-5
    started, (tuned, _) = GPT.from_pretrained(published), model_of(run)
    assert tuned.config.block_size == 32 and summary["flags"]["tokenizer"] == "gpt2"
    for name, parameter in started.named_parameters():
        assert_close(dict(tuned.named_parameters())[name], parameter, atol=1e-6, rtol=0)
    shutil.rmtree(published)  # a resumed run must not need this folder
    assert gpt("--resume", str(run), "--epochs", "2") == 0
    assert gpt("--pretrained", str(published), log_dir=tmp_path / "none") == 2
    assert f"{published}: neither a folder" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_window_longer_than_the_pretrained_models(gpt, published, monkeypatch, capsys):
    monkeypatch.setattr("small_runs.SMALL_NETWORK", {"gpt": []})
    assert gpt("--pretrained", str(published), "--block_size", "33") == 2
    assert "--block_size 33: the model sees at most 32 tokens" in capsys.readouterr().err
    config = json.loads((published / "config.json").read_text())
    (published / "config.json").write_text(json.dumps({**config, "n_embd": 10}))
    assert gpt("--pretrained", str(published), "--block_size", "16") == 2
    assert "wrong shape: transformer.wte.weight" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model_type", "gpt-5"], "gpt-micro"),
        (["--model_type", "gpt-nano", "--n_layer", "2"], "--model_type gpt-nano and --n_layer 2: each selects"),
        (
            ["--model_type", "gpt-nano", "--pretrained", "gpt2"],
            "--pretrained gpt2 and --model_type gpt-nano: each selects",
        ),
        (["--n_layer", "2", "--n_head", "2"], "--n_layer, --n_head and --n_embd must be given together"),
        (["--n_layer", "2", "--n_head", "3", "--n_embd", "16"], "--n_embd 16: is not a multiple of --n_head 3"),
        (
            ["--pretrained", "gpt2", "--tokenizer", "char"],
            "--tokenizer char: --pretrained gpt2 works only with --tokenizer gpt2",
        ),
        (["--block_size", "0"], "'0' is not a whole number from 1"),
        (["--tokenizer", "word"], "invalid choice: 'word'"),
        (["--weight_decay", "-1"], "'-1' is not a finite number that is at least 0"),
        (["--betas", "0.9", "1"], "'1' is not a finite number that is at least 0 and below 1"),
        (["--betas", "0.9"], "expected 2 arguments"),
        (["--clip_grad_norm", "0"], "'0' is not a finite number above 0"),
        (["--dropout", "1"], "'1' is not a finite number that is at least 0 and below 1"),
        (["--dropout", "nan"], "'nan' is not"),
        (["--generate_every_n_steps", "-1"], "'-1' is not a whole number from 0"),
        (["--warmup_steps", "many"], "'many' is not a whole number from 0"),
        (["--lr", "0"], "'0' is not a finite number above 0"),
    ],
)
def test_wrong_flags(capsys, tmp_path, argv, message):
    error = refused(capsys, *argv, "--log_dir", str(tmp_path / "logs"), parse_args=parse_args)
    assert message in error and any(flag in error for flag in argv if flag.startswith("--"))
    assert not list(tmp_path.iterdir())


def test_defaults():
    args = parse_args([])
    assert (args.model_type, args.tokenizer, args.txt_file, args.pretrained) == ("gpt-micro", "char", BUILT_IN, None)
    assert (args.weight_decay, args.betas, args.clip_grad_norm) == (0.1, [0.9, 0.95], 1.0)
    args = parse_args(["--pretrained", "gpt2"])
    assert (args.model_type, args.tokenizer, args.lr) == (None, "gpt2", 3e-5)
    assert parse_args(["--pretrained", "gpt2", "--lr", "1e-4"]).lr == 1e-4


@pytest.mark.usefixtures("without_pictures")
def test_causal_after_training(gpt):
    assert gpt("--epochs", "1", "--lr", "0.05") == 0
    model, tokenizer = model_of(gpt.run())
    idx = TextDataset(read_text()[:100], 16, tokenizer)[0][0][None]
    for flash in (True, False):
        for block in model.transformer.h:
            block.attn.flash = flash
        logits = model(idx)[0]
        for changed in range(16):
            other = idx.clone()
            other[0, changed] = (other[0, changed] + 7) % model.config.vocab_size
            difference = (model(other)[0] - logits).abs().amax(dim=-1)[0]
            assert difference[:changed].max() < 1e-6 if changed else True
            assert difference[changed] > 1e-3


@pytest.mark.slow
def test_a_text_learned_by_heart(gpt, tmp_path, monkeypatch, capsys):
    """A gpt-nano overfits a rhyme within a minute and recites it."""
    monkeypatch.setattr("small_runs.SMALL", ["--accelerator", "cpu", "--no-progress_bar"])
    monkeypatch.setattr("small_runs.SMALL_NETWORK", {"gpt": ["--model_type", "gpt-nano", "--block_size", "64"]})
    path = tmp_path / "rhyme.txt"
    path.write_text(RHYME * 12)
    assert gpt("--txt_file", str(path), "--epochs", "80", "--lr", "0.01") == 0
    assert history(gpt.run())[-1]["train/accuracy"] > 0.95
    capsys.readouterr()
    monkeypatch.setattr("sys.stdout.reconfigure", lambda **options: None, raising=False)
    assert (
        generate.main(
            ["--checkpoint", str(gpt.run()), "--prompt", RHYME[:30], "--max_new_tokens", str(len(RHYME) - 30)]
        )
        == 0
    )
    # compare only two lines: the order of later lines may depend on rounding, and thus on the processor
    assert capsys.readouterr().out.startswith(RHYME[:90])


@pytest.mark.slow
def test_two_processes_train_as_one(gpt, tmp_path):
    """With half the batch each, two processes learn as well as one, and their run can be resumed."""
    common = ["--epochs", "2", "--lr", "0.01", "--limit_batches", "20"]
    for name, flags in {"one": ["--batch_size", "32"], "two": ["--batch_size", "16", "--devices", "2"]}.items():
        process = gpt.start(*common, *flags, log_dir=tmp_path / name)
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    one, two = (history(gpt.run(tmp_path / name)) for name in ("one", "two"))
    # the same number of examples in a different order
    assert two[-1]["train/cross_entropy"] == pytest.approx(one[-1]["train/cross_entropy"], abs=0.15)
    process = gpt.start(
        *common, "--batch_size", "16", "--devices", "2", "--epochs", "3", "--resume", "last", log_dir=tmp_path / "two"
    )
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert [row["epoch"] for row in history(gpt.run(tmp_path / "two"))] == [1, 2, 3]


@pytest.mark.slow
def test_compiling_without_a_compiler(gpt, monkeypatch, tmp_path):
    """This needs a separate process, because PyTorch remembers that it found no compiler."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("CXX", "g++")
    process = gpt.start("--epochs", "1", "--compile")
    _, message = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "error: --compile: not possible on this machine" in message and "Traceback" not in message


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")
def test_compiled(gpt, tmp_path):
    for name, flags in {"eager": [], "compiled": ["--compile"]}.items():
        process = gpt.start("--epochs", "1", *flags, log_dir=tmp_path / name)
        _, error = process.communicate(timeout=600)
        assert process.returncode == 0, error
    eager, compiled = (history(gpt.run(tmp_path / name))[0] for name in ("eager", "compiled"))
    for metric in METRICS - {"accuracy"}:
        assert compiled[f"val/{metric}"] == pytest.approx(eager[f"val/{metric}"], rel=1e-3)
