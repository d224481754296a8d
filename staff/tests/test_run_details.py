"""Tests of details that a single wrong line would change silently: seeds, modes, weights and learning rates."""

import inspect
import json
import math
import os
import re
import signal
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.testing import assert_close

from course import data, figures
from course.parser import Parser
from course.training import pictures, recipe
from course.training.exact import Reproducible
from part1_vae import options as options1
from part1_vae import train as part1
from part2_aae import options as options2
from part2_aae.models import AdversarialAE
from part2_aae.train import LitAAE
from part3_gpt import build, dataset
from part3_gpt import options as options3
from part3_gpt import train as part3
from part3_gpt.gpt import GPT, GPTConfig
from small_runs import REPOSITORY, with_callback


class Enough(Exception):
    """Raised to end a run that has come far enough."""


# --- seeds ------------------------------------------------------------------------------------------------------------


class Start(pl.Callback):
    """A callback that records the weights, data order and first random number at the first step, then ends the run."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.weights = torch.cat([parameter.detach().flatten() for parameter in pl_module.parameters()])
        self.order, self.noise = list(trainer.train_dataloader.sampler)[:50], torch.rand(())
        raise Enough


@pytest.mark.usefixtures("without_pictures")
def test_the_seed_gives_weights_order_and_noise(program, monkeypatch):
    starts = []
    for state, seed in enumerate(("7", "7", "8")):
        torch.manual_seed(state)  # the global random state must not matter
        starts.append(Start())
        monkeypatch.setattr(pl, "Trainer", with_callback(starts[-1]))
        with pytest.raises(Enough):
            program("--seed", seed, "--epochs", "1")
        monkeypatch.undo()
    for what in ("weights", "order", "noise"):
        first, again, other = (torch.as_tensor(getattr(start, what)) for start in starts)
        assert torch.equal(first, again) and not torch.equal(first, other), what


def test_each_step_has_its_own_noise():
    """The noise depends on the seed, process, epoch and batch; in validation and test, it is the same in each epoch."""
    drawn = {}
    for seed in (1, 2):
        callback = Reproducible(seed)
        for rank in (0, 1):
            for epoch in (0, 1):
                strategy = SimpleNamespace(root_device=torch.device("cpu"))
                trainer = SimpleNamespace(global_rank=rank, current_epoch=epoch, strategy=strategy)
                for batch in (0, 1):
                    callback.on_train_batch_start(trainer, None, None, batch)
                    drawn[seed, rank, epoch, batch] = torch.rand(()).item()
                    for hook in (callback.on_validation_batch_start, callback.on_test_batch_start):
                        torch.manual_seed(1000 + epoch)  # earlier draws must not matter
                        hook(trainer, None, None, batch)
                        value = torch.rand(()).item()
                        assert drawn.setdefault((seed, rank, hook.__name__, batch), value) == value
    assert len(set(drawn.values())) == len(drawn) == 2 * 2 * 2 * (2 + 2)


class Drawing(pictures.Pictures):
    """Random images; drawing them checks that the network is in evaluation mode."""

    def pictures(self, model):
        def draw():
            assert not model.training and not torch.is_grad_enabled()
            return torch.rand(3, 8, 8)

        return {"samples": draw}

    def curves(self, results):
        """Draw no curves."""


def test_pictures_have_the_same_noise_and_leave_the_model_as_it_was(monkeypatch, tmp_path):
    """New noise would hide how a digit improves over the epochs; in eval mode, training would lack dropout."""
    drawn = []
    monkeypatch.setattr(figures, "save_image", lambda picture, *_: drawn.append(picture))
    trainer = SimpleNamespace(is_global_zero=True, logger=None)
    for state, (seed, training) in enumerate([(7, True), (7, False), (8, True)]):
        args, unchanged = SimpleNamespace(seed=seed), {"history": [], "check_folder": lambda: None}
        run = SimpleNamespace(args=args, folder=tmp_path, figure=tmp_path.joinpath, **unchanged)
        torch.manual_seed(state)
        model = nn.Dropout().train(training)
        Drawing(run, ())._draw(trainer, model, epoch=state)
        assert model.training == training
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def a_gpt(**options) -> part3.LitGPT:
    config = GPTConfig(n_layer=1, n_head=2, n_embd=8, vocab_size=3, block_size=4)
    return part3.LitGPT(config, dataset.CharTokenizer("abc"), **options)


def test_texts_have_the_same_noise_and_leave_the_model_as_it_was():
    lit = a_gpt()

    def sample(seed: int, training: bool = True) -> str:
        lit.train(training)
        torch.rand(3)
        text = part3.Figures(SimpleNamespace(args=SimpleNamespace(seed=seed)), ()).sample(lit, "a")
        assert lit.training == lit.model.training == training
        return text

    assert sample(7) == sample(7, training=False) != sample(8)


# --- means ------------------------------------------------------------------------------------------------------------


class Values(pl.Callback):
    """A callback that records the size of each validation batch and the values that the module logs for it."""

    def __init__(self):
        self.sizes, self.logged = [], []

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if not self.sizes:
            log_dict = pl_module.log_dict
            pl_module.log_dict = lambda values, **how: self.logged.append(values) or log_dict(values, **how)
        self.sizes.append(len(batch[0]))


@pytest.mark.usefixtures("without_pictures")
def test_each_example_has_the_same_weight(program, monkeypatch, tmp_path):
    """The last batch of an epoch is smaller than the others."""
    split, values = data._split, Values()
    monkeypatch.setattr(data, "_split", lambda *args: [[rows[:35] for rows in part] for part in split(*args)])
    (tmp_path / "text.txt").write_text("so many letters, of several kinds. " * 170)  # 37 windows in validation
    flags = ["--txt_file", str(tmp_path / "text.txt")] if program.name == "gpt" else []
    monkeypatch.setattr(pl, "Trainer", with_callback(values))
    assert program("--epochs", "1", *flags) == 0
    [row] = json.loads((program.run() / "summary.json").read_text())["history"]
    sizes = values.sizes[:3]
    assert sizes[:2] == [16, 16] and 0 < sizes[2] < 16
    logged = [each for each in values.logged if len(each) > 1 and all(tag.startswith("val/") for tag in each)][:3]
    assert len(logged) == 3 and set(logged[0]) <= set(row)
    for tag in logged[0]:
        mean = sum(size * float(each[tag]) for size, each in zip(sizes, logged, strict=True)) / sum(sizes)
        assert row[tag] == pytest.approx(mean, rel=1e-5), tag


def test_bits_per_character_of_both_texts():
    lit, logged = a_gpt(tokens_per_char=(0.25, 0.5)), {}
    lit.log_dict = lambda values, **_: logged.update(values)
    batch = torch.randint(3, (2, 2, 4)).unbind()
    for stage, ratio in {"train": 0.25, "val": 0.5}.items():
        nats = lit._step(batch, stage).item()
        assert logged[f"{stage}/bits_per_char"].item() == pytest.approx(nats / math.log(2) * ratio)


def test_training_windows_begin_at_each_quarter_of_a_block(monkeypatch):
    text = "abcdefgh " * 100
    train, val = dataset.loaders(text, dataset.CharTokenizer.of(text), block_size=16, batch_size=4)
    assert (train.dataset.stride, val.dataset.stride) == (4, 16)
    args = part3.parse_args(["--block_size", "16", "--n_layer", "1", "--n_head", "1", "--n_embd", "4"])
    train.dataset.tokens_per_char, val.dataset.tokens_per_char = 0.25, 0.5
    monkeypatch.setattr(build, "loaders", lambda *_: (train, val))
    assert build.build(args, text).tokens_per_char == (0.25, 0.5)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_reconstructions_are_below_their_originals(monkeypatch):
    """Use 16 images whose "reconstructions" are their negatives."""
    images = torch.arange(16, dtype=torch.uint8).view(16, 1, 1, 1).expand(-1, 1, 2, 2)
    model = SimpleNamespace(encoder=lambda imgs: (imgs, None), decoder=lambda z: z, device="cpu")
    monkeypatch.setattr(part1, "expected_image", lambda logits: -logits.float())
    monkeypatch.setattr(figures, "grid", lambda imgs, nrow: imgs[:, 0, 0, 0].view(-1, nrow))
    loader = SimpleNamespace(dataset=data.ImageDataset(images, torch.zeros(16), torch.Tensor.long))
    rows = part1.Figures(None, (None, loader, None))._reconstructions(model)
    assert_close(rows[::2], torch.arange(16).view(2, 8) / 15)
    assert_close(rows[1::2], -rows[::2] * 15)


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_pictures")
def test_weights_that_are_not_finite_are_not_saved_in_mid_epoch(vae, monkeypatch, capsys):
    """The last loss was still finite, so only the check before saving can find the non-finite weights."""

    class Break(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 2:
                pl_module.encoder.mean.bias.data[0] = math.nan
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(pl, "Trainer", with_callback(Break()))
    assert vae("--epochs", "1") == 1
    assert "encoder.mean.bias is no longer finite at step 3 (epoch 1)" in capsys.readouterr().err
    assert not (vae.run() / "checkpoints").exists()


# --- times and rates --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_pictures")
def test_the_training_time_is_that_of_all_sessions(vae):
    path = vae.finished(1) / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    [state] = [state for state in checkpoint["callbacks"].values() if "seconds" in state]
    assert 0 < state["seconds"] < 600
    state["seconds"] += 10_000
    torch.save(checkpoint, path)
    assert vae("--resume", "last", "--epochs", "2") == 0
    seconds = json.loads((vae.run() / "summary.json").read_text())["training_seconds"]
    assert state["seconds"] < seconds < state["seconds"] + 600


def test_the_learning_rate_of_kernels_is_the_one_that_was_measured():
    page = (REPOSITORY / "docs" / "results.md").read_text()
    assert float(re.search(r"Muon, 0\.02; the default is now ([\d.]+)\)", page)[1]) == recipe.KERNEL_LR


def test_the_vaes_optimizer_is_the_assignments():
    model = part1.VAE(num_filters=2, z_dim=3, lr=0.25)
    optimizer = model.configure_optimizers()
    assert type(optimizer) is torch.optim.Adam
    [group] = optimizer.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters()}
    assert (group["lr"], group["betas"], group["eps"]) == (0.25, (0.9, 0.999), 1e-8)
    assert group["weight_decay"] == 0 and not group["amsgrad"]


# --- flags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, module", [(options1, part1.VAE), (options2, LitAAE)])
def test_flags_and_modules_have_the_same_defaults(options, module):
    flags = vars(options.parse_args([]))
    defaults = {name: each.default for name, each in inspect.signature(module).parameters.items()}
    assert {name: flags[name] for name in defaults} == defaults


@pytest.mark.parametrize("parse", [options1.parse_args, options2.parse_args, options3.parse_args])
def test_each_flag_is_explained(parse, monkeypatch):
    def stop(parser, *_):
        raise Enough([action.dest for action in parser._actions if not action.help])

    monkeypatch.setattr(Parser, "parse_args", stop)
    with pytest.raises(Enough) as unexplained:
        parse([])
    assert unexplained.value.args == ([],)


@pytest.mark.parametrize("name", sorted(options3.MODEL_SIZES))
def test_each_model_of_the_table_can_be_built(name):
    """Build each model on the meta device, which needs no memory."""
    layers, heads, embedding = options3.MODEL_SIZES[name]
    config = GPTConfig(vocab_size=2, block_size=2, n_layer=layers, n_head=heads, n_embd=embedding)
    with torch.device("meta"):
        assert len(GPT(config).transformer.h) == layers


# --- initial weights --------------------------------------------------------------------------------------------------


def layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]


def fan_in(layer: nn.Module) -> int:
    """Return the fan-in as PyTorch defines it; for transposed convolutions it counts the output channels."""
    return layer.weight[0].numel()


def test_the_vae_begins_with_pytorchs_initialization():
    """Weights and biases are uniform between -1 / sqrt(fan-in) and 1 / sqrt(fan-in)."""
    torch.manual_seed(0)
    checked = layers(part1.VAE())
    assert len(checked) == 5 + 2 + 1 + 5
    for name, layer in checked:
        bound = fan_in(layer) ** -0.5
        assert 0.97 * bound < layer.weight.abs().max() <= bound, name
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1), name
        assert 0 < layer.bias.abs().max() <= bound, name


def test_the_aae_begins_with_hes_initialization():
    """The discriminator keeps PyTorch's initialization."""
    torch.manual_seed(0)
    model = AdversarialAE(z_dim=8)
    checked = layers(model)
    assert len(checked) == 6 + 6 + 3
    for name, layer in checked:
        spread = layer.weight.std().item() * math.sqrt(fan_in(layer))
        discriminates = name.startswith("discriminator")
        assert spread == pytest.approx(math.sqrt(1 / 3 if discriminates else 2), rel=0.15), name
        assert layer.bias.any() if discriminates else not layer.bias.any(), name
