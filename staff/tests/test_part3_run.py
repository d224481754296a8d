"""Tests of part 3's training program: the files of a run, its steps and schedule, and its generated text."""

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from part3_cases import METRICS, RHYME, history, model_of
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.testing import assert_close

from course import figures
from part3_gpt import attention_figure
from part3_gpt.dataset import CharTokenizer, loaders
from part3_gpt.gpt import GPT, GPTConfig
from part3_gpt.texts import read_text
from part3_gpt.train import Figures, LitGPT


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
    assert set(tags["scalars"]) == expected
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
    Figures.curves(SimpleNamespace(run=run, loaders=[range(5)]), {})
    assert list(drawn.values()) == [([0, 5], [6.0, 3.0]), ([5], [2.0])]


@pytest.mark.usefixtures("without_pictures")
def test_the_final_curve_names_the_best_epoch(gpt, monkeypatch):
    """Checkpoint callbacks run after figures are drawn, so an epoch's curve cannot yet show whether it is the best."""
    best = []
    monkeypatch.setattr(Figures, "curves", lambda self, results: best.append(dict(self.run.best)))
    assert gpt("--epochs", "2") == 0
    rows = history(gpt.run())
    lowest = min(rows, key=lambda row: row["val/cross_entropy"])
    assert (best[-1]["epoch"], best[-1]["value"]) == (lowest["epoch"], lowest["val/cross_entropy"])


def test_pictures_and_samples(gpt):
    run = gpt.finished()
    assert Image.open(run / "figures" / "attention_epoch_003.png").convert("L").getextrema() == (0, 255)
    assert Image.open(run / "figures" / "loss_curve.png").convert("L").getextrema()[0] < 100
    written = (run / "figures" / "samples.txt").read_text()
    samples = re.findall(r"--- ([^\n]+) ---\n(.*?)(?=\n\n--- |\n\Z)", written, re.DOTALL)
    model, tokenizer = model_of(run)
    text = read_text()
    prompt = tokenizer.encode(text[len(text) * 9 // 10 :][:32])[None]
    assert samples[0][1] == tokenizer.decode(model.generate(prompt, 300)[0]) and samples[0][0].startswith("greedy")
    drawn = [text for title, text in samples if title.startswith("drawn at temperature 0.8")]
    assert len(set(drawn)) == 3 and {len(text) for text in drawn} == {301}


def test_the_attention_that_is_drawn(monkeypatch):
    drawn = {}

    def draw(weights, tokens):
        drawn.update(weights=weights, tokens=tokens)

    monkeypatch.setattr(attention_figure, "attention_figure", draw)
    text = read_text()[:2000]
    tokenizer = CharTokenizer.of(text)
    sizes = {"n_layer": 3, "n_head": 2, "n_embd": 16, "vocab_size": tokenizer.vocab_size, "block_size": 16}
    with torch.no_grad():
        attention_figure.draw_attention(GPT(GPTConfig(**sizes)).eval(), tokenizer.encode(text)[:16], tokenizer)
    weights = drawn["weights"]
    assert weights.shape == (3, 2, 16, 16) and not weights.triu(1).any(), "no token attends to a later one"
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 16))
    assert drawn["tokens"] == list(text[:16])


@pytest.mark.usefixtures("without_pictures")
def test_the_metrics_of_a_checkpoint(gpt):
    """Validate best.ckpt again, one window at a time."""
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


def clipped_step(model: GPT, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    """Run one step on a batch, with the gradient norm clipped to 0.3."""
    loss = F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten())
    optimizer.zero_grad()
    loss.backward()
    norm = sum(p.grad.square().sum() for p in model.parameters()).sqrt()
    for parameter in model.parameters():
        parameter.grad *= min(1, 0.3 / norm)
    optimizer.step()


@pytest.mark.usefixtures("without_pictures")
def test_the_steps_are_those_of_a_plain_loop(gpt, one_thread):
    """The plain loop has its own AdamW, warm-up, cosine schedule and clipping, and uses the loader's batches."""
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
                # one warm-up step, then eleven steps along a cosine from 1 to 0.1
                rate = 0.02 * (1 if step == 0 else 0.55 + 0.45 * math.cos(math.pi * (step - 1) / 11))
                group["lr"] = rate
            clipped_step(model, optimizer, x, y)
            step += 1
        rates.append(0.02 * (0.55 + 0.45 * math.cos(math.pi * (step - 1) / 11)))  # for the next step
    trained = torch.load(gpt.run() / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, parameter in model.named_parameters():
        pairs = [trained[f"model.{name}"], parameter.detach()]
        if name.endswith("c_attn.bias"):  # the gradient of the keys' bias is only rounding error
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
def test_a_run_keeps_its_text(gpt, tmp_path, capsys):
    path = tmp_path / "own.txt"
    path.write_text(RHYME * 20)
    assert gpt("--txt_file", str(path), "--epochs", "1") == 0
    assert f"text: {path}, {20 * len(RHYME):,} characters\n" in capsys.readouterr().out
    kept = gpt.run() / "text.txt"
    assert kept.read_text() == RHYME * 20
    path.unlink()
    assert gpt("--resume", "last", "--epochs", "2") == 0
    kept.unlink()
    path.write_text(RHYME.upper() * 20)
    capsys.readouterr()
    assert gpt("--resume", "last", "--epochs", "3") == 2
    message = capsys.readouterr().err
    assert f"--txt_file {path} (or text.txt in the run's folder): is not the text that the run being" in message
    path.write_text(RHYME * 20)
    assert gpt("--resume", "last", "--epochs", "3") == 0
    assert kept.read_text() == RHYME * 20


@pytest.mark.usefixtures("without_pictures")
def test_a_run_names_the_built_in_text(gpt, capsys):
    assert gpt("--epochs", "1") == 0
    assert "text: python-3.11-reference, 465,126 characters\n" in capsys.readouterr().out
    summary = json.loads((gpt.run() / "summary.json").read_text())
    assert summary["flags"]["txt_file"] == "python-3.11-reference"
    (gpt.run() / "text.txt").unlink()
    assert gpt("--resume", "last", "--epochs", "2") == 0


def test_a_text_that_is_too_short(gpt, tmp_path, capsys):
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
