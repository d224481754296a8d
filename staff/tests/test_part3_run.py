"""Part 3's training program: what a run writes, its arithmetic, fine-tuning, and a text learned by heart."""

import json
import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_command_line import refused
from torch.testing import assert_close

from course import figures
from part3_gpt import generate
from part3_gpt.dataset import CharTokenizer, TextDataset, loaders, read_text
from part3_gpt.gpt import GPT, GPTConfig
from part3_gpt.train import Figures, LitGPT, parse_args

METRICS = {"cross_entropy", "accuracy", "perplexity", "bits_per_char"}
RHYME = """A student sat down with a model to train,
the loss it went down like a stone in the rain;
it read every letter, it read every line,
and when it was asked, it recited them fine.
"""


def history(run) -> list[dict]:
    return json.loads((run / "summary.json").read_text())["history"]


def model_of(run) -> tuple[GPT, CharTokenizer]:
    return generate.load(generate.parse_args(["--checkpoint", str(run), "--accelerator", "cpu"]))


def test_what_a_run_writes(gpt):
    run = gpt.finished()
    printed = (run / "printed.txt").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    drawn = {path.name for path in (run / "figures").iterdir()}
    attention = {f"attention_epoch_{epoch:03d}.png" for epoch in (0, 2, 3)}
    assert drawn == attention | {"loss_curve.png", "samples.txt"}
    for name in drawn:
        assert f"figures/{name}" in printed
    for epoch, row in enumerate(summary["history"], start=1):
        assert (
            row["epoch"] == epoch
            and f"epoch {epoch}/3  train/cross_entropy {row['train/cross_entropy']:.4f}" in printed
        )
        for stage in ("train", "val"):
            nats = row[f"{stage}/cross_entropy"]
            assert row[f"{stage}/perplexity"] == pytest.approx(math.exp(nats))
            assert row[f"{stage}/bits_per_char"] == pytest.approx(nats / math.log(2)), "a token is a character here"
    best = min(summary["history"], key=lambda row: row["val/cross_entropy"])
    assert summary["best"] == {"epoch": best["epoch"], "value": best["val/cross_entropy"]}
    assert summary["results"] == {f"val/{name}": best[f"val/{name}"] for name in METRICS}
    vocabulary = len(set(read_text()))
    assert summary["first_step"]["train/cross_entropy_step"] == pytest.approx(math.log(vocabulary), abs=0.1)


def test_event_file(gpt):
    run = gpt.finished()
    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    tags = accumulator.Tags()
    expected = {f"{stage}/{name}" for stage in ("train", "val") for name in METRICS}
    expected |= {f"train/{name}_step" for name in METRICS - {"perplexity"}} | {"train/lr", "train/tokens_per_second"}
    assert set(tags["scalars"]) == expected | {"best/cross_entropy"}
    assert set(tags["images"]) == {"val/attention"}
    samples = accumulator.Tensors("val/samples/text_summary")
    assert [event.step for event in samples] == [4, 8, 12, 16]
    texts = [event.tensor_proto.string_val[0].decode() for event in samples]
    assert all(len(text) > 300 and text.startswith("    ") for text in texts) and len(set(texts)) == 4


def test_a_run_of_one_epoch_has_a_curve_too(monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "save_curves", lambda curves, *_, **__: drawn.update(curves))
    args = SimpleNamespace(limit_batches=None, pretrained=None, model_type="gpt-nano", tokenizer="char", block_size=8)
    epochs = [{"epoch": 1, "train/bits_per_char": 3.0, "val/bits_per_char": 2.0}]
    first = {"train/bits_per_char_step": 6.0}
    run = SimpleNamespace(args=args, history=epochs, best={}, first_step=first, figure=Path)
    Figures.curves(SimpleNamespace(run=run, loaders=[range(5)]))
    assert list(drawn.values()) == [([0, 5], [6.0, 3.0]), ([5], [2.0])]


def test_pictures_and_samples(gpt):
    run = gpt.finished()
    attention = Image.open(run / "figures" / "attention_epoch_003.png").convert("L")
    assert attention.size == (2 * (2 * 17 + 1),) * 2, "two layers of two heads, 16 tokens, doubled"
    later = torch.ones(16, 16).triu(1).bool()
    square = torch.from_numpy(np.array(attention))[2:34:2, 2:34:2]  # the first head's
    assert (square[later] == 255).all(), "no token attends to a later one"
    assert (square.min(dim=1).values == 0).all(), "what a row attends to most is black"
    assert Image.open(run / "figures" / "loss_curve.png").convert("L").getextrema()[0] < 100
    written = (run / "figures" / "samples.txt").read_text()
    samples = re.findall(r"--- ([^\n]+) ---\n(.*?)(?=\n\n--- |\n\Z)", written, re.DOTALL)
    model, tokenizer = model_of(run)
    text = read_text()
    prompt = tokenizer.encode(text[len(text) * 9 // 10 :][:32])[None]
    assert samples[0][1] == tokenizer.decode(model.generate(prompt, 300)[0]) and samples[0][0].startswith("greedy")
    drawn = [text for title, text in samples if title.startswith("drawn at temperature 0.8")]
    assert len(set(drawn)) == 3 and {len(text) for text in drawn} == {301}


@pytest.mark.usefixtures("without_pictures")
def test_the_metrics_of_a_checkpoint(gpt):
    """Validation anew, window by window, from best.ckpt."""
    assert gpt("--epochs", "2", "--limit_batches", "20") == 0
    results = json.loads((gpt.run() / "summary.json").read_text())["results"]
    model, tokenizer = model_of(gpt.run())
    text = read_text()
    tokens = tokenizer.encode(text[len(text) * 9 // 10 :])
    nats, right = [], []
    for start in range(0, 20 * 16 * 16, 16):  # 20 batches of 16 windows of 16 tokens
        with torch.no_grad():
            logits = model(tokens[None, start : start + 16])[0][0]
        following = tokens[start + 1 : start + 17]
        nats.append(F.cross_entropy(logits, following))
        right.append((logits.argmax(-1) == following).float().mean())
    assert results["val/cross_entropy"] == pytest.approx(torch.stack(nats).mean().item(), rel=1e-5)
    assert results["val/accuracy"] == pytest.approx(torch.stack(right).mean().item(), abs=1e-6)


@pytest.mark.usefixtures("without_pictures")
def test_the_steps_are_those_of_a_plain_loop(gpt, one_thread):
    """AdamW, warm-up, cosine and clipping written out here, on the batches of the loader."""
    flags = ["--epochs", "2", "--lr", "0.02", "--warmup_steps", "1", "--clip_grad_norm", "0.3", "--dropout", "0.0"]
    assert gpt(*flags, "--weight_decay", "0.5", "--betas", "0.8", "0.9", "--seed", "3") == 0
    text = read_text()
    torch.manual_seed(3)
    tokenizer = CharTokenizer.of(text)
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "vocab_size": tokenizer.vocab_size}
    model = GPT(GPTConfig(**sizes, tie_weights=True, flash=False, embd_pdrop=0, resid_pdrop=0, attn_pdrop=0))
    train = loaders(text, tokenizer, 16, 16, seed=3)[0]
    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.5}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.8, 0.9), foreach=False)
    step, rates = 0, []
    for epoch in range(2):
        train.sampler.set_epoch(epoch)
        for batch, (x, y) in enumerate(train):
            if batch == 6:
                break
            for group in optimizer.param_groups:
                # a warm-up of one step, then eleven along the cosine from 1 to 0.1
                rate = 0.02 * (1 if step == 0 else 0.55 + 0.45 * math.cos(math.pi * (step - 1) / 11))
                group["lr"] = rate
            loss = F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()
            norm = sum(p.grad.square().sum() for p in model.parameters()).sqrt()
            for parameter in model.parameters():
                parameter.grad *= min(1, 0.3 / norm)
            optimizer.step()
            step += 1
        rates.append(0.02 * (0.55 + 0.45 * math.cos(math.pi * (step - 1) / 11)))  # of the next step
    trained = torch.load(gpt.run() / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, parameter in model.named_parameters():
        pairs = [trained[f"model.{name}"], parameter.detach()]
        if name.endswith(
            "c_attn.bias"
        ):  # the keys' moves all scores of a row alike: its gradient is 0 but for rounding
            pairs = [torch.cat([bias[:16], bias[32:]]) for bias in pairs]
        assert_close(*pairs, atol=2e-5, rtol=1e-3)
    assert [row["train/lr"] for row in history(gpt.run())] == pytest.approx(rates)


def test_learning_rates():
    lit = LitGPT(GPTConfig("gpt-nano", vocab_size=5, block_size=8), warmup_steps=100)
    factors = [lit.lr_factor(step, 2000) for step in range(2001)]
    assert factors[:3] == pytest.approx([0.01, 0.02, 0.03]) and factors[99] == factors[100] == 1
    assert factors[1050] == pytest.approx(0.55) and factors[2000] == pytest.approx(0.1)
    assert all(a >= b for a, b in zip(factors[100:], factors[101:], strict=False))
    assert [lit.lr_factor(step, 20) for step in range(3)] == [0.5, 1, 1], (
        "a short run warms up for a tenth of its steps"
    )
    assert lit.lr_factor(0, 1) == 1


@pytest.mark.usefixtures("without_pictures")
def test_dropout_reaches_the_model(gpt):
    assert gpt("--epochs", "1", "--dropout", "0.3") == 0
    model, _ = model_of(gpt.run())
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.3}


@pytest.mark.usefixtures("without_pictures")
def test_a_longer_run_stretches_the_cosine(gpt):
    gpt.finished()
    assert gpt("--epochs", "4", "--resume", "last") == 0
    rows = history(gpt.run())
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4] and rows[3]["train/lr"] == pytest.approx(3e-4, rel=1e-4)


@pytest.mark.usefixtures("without_pictures")
def test_a_text_of_ones_own(gpt, tmp_path, capsys):
    path = tmp_path / "own.txt"
    path.write_text(RHYME * 20)
    assert gpt("--txt_file", str(path), "--epochs", "1") == 0
    path.write_text(RHYME.upper() * 20)
    capsys.readouterr()
    assert gpt("--resume", "last", "--epochs", "2") == 2
    assert f"--txt_file {path}: is not the text that the run being resumed" in capsys.readouterr().err
    path.write_text(RHYME * 20)
    assert gpt("--resume", "last", "--epochs", "2") == 0
    (tmp_path / "short.txt").write_text("too short")
    assert gpt("--txt_file", str(tmp_path / "short.txt"), log_dir=tmp_path / "other") == 2
    message = capsys.readouterr().err
    assert "short.txt --block_size 16: a text of 8 tokens is shorter than block_size + 1 = 17" in message
    assert not (tmp_path / "other").exists() and "Traceback" not in message


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
def test_gpt2s_tokens(gpt):
    assert gpt("--tokenizer", "gpt2", "--epochs", "1", "--limit_batches", "2") == 0
    run = gpt.run()
    row = history(run)[0]
    text = read_text()
    model, tokenizer = model_of(run)
    assert model.config.vocab_size == tokenizer.vocab_size == 50257
    for stage, part in {"train": text[: len(text) * 9 // 10], "val": text[len(text) * 9 // 10 :]}.items():
        ratio = len(tokenizer.encode(part)) / len(part)
        assert row[f"{stage}/bits_per_char"] == pytest.approx(row[f"{stage}/cross_entropy"] / math.log(2) * ratio)


@pytest.fixture
def published(tmp_path):
    """A folder with a small GPT-2, as `--pretrained` takes it."""
    torch.manual_seed(1)
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 8, "vocab_size": 50257, "block_size": 32}
    GPT(GPTConfig(**sizes, tie_weights=True)).save_pretrained(tmp_path / "published")
    return tmp_path / "published"


@pytest.mark.usefixtures("without_pictures")
def test_fine_tuning(gpt, published, tmp_path, monkeypatch, capsys):
    # the flags of a small network say what the model is, and so does --pretrained
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
    shutil.rmtree(published)  # to go on, the run needs itself alone
    assert gpt("--resume", str(run), "--epochs", "2") == 0
    assert gpt("--pretrained", str(published), log_dir=tmp_path / "none") == 2
    assert f"{published}: neither a folder" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_window_longer_than_the_pretrained_models(gpt, published, monkeypatch, capsys):
    monkeypatch.setattr("small_runs.SMALL_NETWORK", {"gpt": []})
    assert gpt("--pretrained", str(published), "--block_size", "33") == 2
    assert "--block_size 33: the model sees 32 tokens at most" in capsys.readouterr().err
    config = json.loads((published / "config.json").read_text())
    (published / "config.json").write_text(json.dumps({**config, "n_embd": 10}))
    assert gpt("--pretrained", str(published), "--block_size", "16") == 2
    assert "misshapen: transformer.wte.weight" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model_type", "gpt-5"], "gpt-micro"),
        (["--model_type", "gpt-nano", "--n_layer", "2"], "--model_type gpt-nano and --n_layer 2: each says"),
        (
            ["--model_type", "gpt-nano", "--pretrained", "gpt2"],
            "--pretrained gpt2 and --model_type gpt-nano: each says",
        ),
        (["--n_layer", "2", "--n_head", "2"], "--n_layer, --n_head and --n_embd belong together"),
        (["--n_layer", "2", "--n_head", "3", "--n_embd", "16"], "--n_embd 16: is not a multiple of --n_head 3"),
        (["--pretrained", "gpt2", "--tokenizer", "char"], "--tokenizer char: --pretrained gpt2 knows"),
        (["--block_size", "0"], "'0' is not a whole number from 1"),
        (["--tokenizer", "word"], "invalid choice: 'word'"),
        (["--weight_decay", "-1"], "'-1' is not a finite number from 0 on"),
        (["--betas", "0.9", "1"], "'1' is not a finite number from 0 on and below 1"),
        (["--betas", "0.9"], "expected 2 arguments"),
        (["--clip_grad_norm", "0"], "'0' is not a finite number above 0"),
        (["--dropout", "1"], "'1' is not a finite number from 0 on and below 1"),
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
    assert (args.model_type, args.tokenizer, args.txt_file, args.pretrained) == ("gpt-micro", "char", None, None)
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
    """A gpt-nano overfits a rhyme in a minute, and recites it."""
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
    assert capsys.readouterr().out == RHYME + "\n"


@pytest.mark.slow
def test_two_processes_train_as_one(gpt, tmp_path):
    """Two processes with half the batch each go on together, and their run can be resumed."""
    common = ["--epochs", "2", "--lr", "0.01", "--limit_batches", "20"]
    for name, flags in {"one": ["--batch_size", "32"], "two": ["--batch_size", "16", "--devices", "2"]}.items():
        process = gpt.start(*common, *flags, log_dir=tmp_path / name)
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    one, two = (history(gpt.run(tmp_path / name)) for name in ("one", "two"))
    # the same number of examples in another order
    assert two[-1]["train/cross_entropy"] == pytest.approx(one[-1]["train/cross_entropy"], abs=0.15)
    process = gpt.start(
        *common, "--batch_size", "16", "--devices", "2", "--epochs", "3", "--resume", "last", log_dir=tmp_path / "two"
    )
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert [row["epoch"] for row in history(gpt.run(tmp_path / "two"))] == [1, 2, 3]


@pytest.mark.slow
def test_compiling_without_a_compiler(gpt, monkeypatch, tmp_path, capsys):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "g++"))
    assert gpt("--epochs", "1", "--compile") == 1
    message = capsys.readouterr().err
    assert "error: --compile: cannot be done here" in message and "Traceback" not in message


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
