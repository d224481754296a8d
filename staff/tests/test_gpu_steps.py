"""Tests of data and steps on a GPU, with a stand-in for machines without a GPU."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from gpu_cases import CPU, META
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.trainer.connectors.logger_connector.logger_connector import _LoggerConnector
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultCollection
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from course import data
from course.training import finite, network, speed
from course.training.exact import ExactResume, Reproducible
from course.training.extras import extras
from course.training.history import History
from course.training.midepoch import sum_up
from course.training.on_device import BatchesOnDevice, DataOnDevice
from course.training.pictures import Pictures
from part1_vae import utils
from part1_vae.train import VAE
from part3_gpt.dataset import TextDataset
from part3_gpt.gpt import GPT, GPTConfig

# --- the data -------------------------------------------------------------------------------------------------------


def images_loader(**options) -> data.EpochLoader:
    images = torch.arange(50, dtype=torch.uint8)
    dataset = data.ImageDataset(images, images.long() + 100, torch.Tensor.long)
    return data.EpochLoader(dataset, batch_size=4, collate_fn=data.whole_batch, **options)


def text_loader(**options) -> data.EpochLoader:
    dataset = TextDataset("a text of some length, " * 9, block_size=8, stride=3)
    return data.EpochLoader(dataset, batch_size=4, collate_fn=data.whole_batch, **options)


@pytest.mark.parametrize("make", [images_loader, text_loader])
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("shuffled", [True, False])
def test_batches_of_data_on_a_device_are_those_of_the_loader(make, drop_last, shuffled):
    size = len(make().dataset)
    assert size % 4, "the last batch must be smaller"

    def epoch(loader, number: int, first_batch: int = 0) -> list[tuple[list, list]]:
        loader.first_batch = first_batch
        batches = iter(loader)
        if shuffled:
            loader.sampler.set_epoch(number)  # as in Lightning, after the iterator is created
        return [(x.tolist(), y.tolist()) for x, y in batches]

    usual, moved = (
        make(drop_last=drop_last, sampler=data.Shuffle(size, seed=7) if shuffled else None) for _ in range(2)
    )
    moved.source = BatchesOnDevice(moved, CPU)
    moved.dataset.__getitems__ = None  # the batches come from the copy
    for number in (0, 1):
        assert epoch(moved, number) == epoch(usual, number)
        assert len(epoch(moved, number)) == len(moved) == size // 4 + (not drop_last)
        assert epoch(moved, number, first_batch=5) == epoch(usual, number)[5:]


@pytest.mark.parametrize("make", [images_loader, text_loader])
def test_batches_are_made_on_the_device(make):
    loader = make()
    loader.source = BatchesOnDevice(loader, META)
    assert {tensor.device for batch in loader for tensor in batch} == {META}
    x, y = loader.dataset[0]
    assert x.device == y.device == CPU, "the pictures need the original dataset"


def a_trainer(device: str, processes: int = 1) -> SimpleNamespace:
    return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), world_size=processes)


@pytest.mark.parametrize(
    ("device", "processes", "workers", "moved", "pinned"),
    [
        ("cpu", 1, 0, False, False),
        ("meta", 1, 0, True, False),
        ("cuda", 2, 0, False, True),
        ("cuda", 1, 2, False, True),
        ("mps", 1, 2, False, False),
    ],
)
def test_where_the_data_go(device, processes, workers, moved, pinned):
    loader = images_loader(num_workers=workers)
    DataOnDevice((loader, loader)).setup(a_trainer(device, processes), None, "fit")
    assert (loader.source is not None, loader.pin_memory) == (moved, pinned)


# --- steps that must not wait -----------------------------------------------------------------------------------------


class NoCopies(TorchDispatchMode):
    """A mode in which copies between devices and operations on tensors from different devices fail."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        kinds = {tensor.device.type for tensor in tensors if tensor.dim() > 0 or "copy" in function.name()}
        assert len(kinds) < 2, f"{function} between {' and '.join(sorted(kinds))}"
        return result


class Enough(Exception):
    """Raised to end a run that has come far enough."""


class Watch(pl.Callback):
    """A callback that ignores two steps, watches the next three and everything between them, then ends the run."""

    def __init__(self):
        self.mode = NoCopies()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        assert {tensor.device for tensor in batch} == {META}
        if batch_idx == 1:
            self.mode.__enter__()
        if batch_idx == 4:
            self.mode.__exit__(None, None, None)
            raise Enough


class MetaStrategy(SingleDeviceStrategy):
    def __init__(self):
        accelerator = CPUAccelerator()
        accelerator.setup_device = lambda device: None  # the original accepts only a CPU
        super().__init__(META, accelerator)

    def reduce(self, tensor, *args, **kwargs):
        """Return 1: before the first step, Lightning checks whether there is any data."""
        return torch.ones(())

    def teardown(self):
        """Do nothing, since the device holds no values that could be copied back."""


ON_META = ["--epochs", "1", "--accelerator", "auto"]


@pytest.fixture
def on_meta(monkeypatch):
    """Make Trainers train on the device "meta", watched by `Watch` and without pictures; run programs with ON_META."""

    def trainer(*, accelerator, devices, strategy, callbacks, **options):
        return Trainer(strategy=MetaStrategy(), callbacks=[*callbacks, Watch()], **options)

    Trainer = pl.Trainer
    monkeypatch.setattr(pl, "Trainer", trainer)
    with_device = SimpleNamespace(cuda=torch.cuda, accelerator=SimpleNamespace(is_available=lambda: True))
    monkeypatch.setattr("course.training.extras.torch", with_device)
    # the device holds no values that could be copied back
    monkeypatch.setattr(_ResultCollection, "cpu", lambda self: self)
    monkeypatch.setattr(_LoggerConnector, "teardown", lambda self: None)
    monkeypatch.setattr(Pictures, "on_train_start", lambda *args: None)


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        *((name, []) for name in ("vae", "aae", "gpt")),
        ("vae", ["--progress_bar"]),
        *(pytest.param(name, ["--progress_bar"], marks=pytest.mark.slow) for name in ("aae", "gpt")),
    ],
    indirect=["program"],
)
def test_no_step_waits_for_the_device(program, on_meta, monkeypatch, flags):
    """Only the first step, logged steps and, with a progress bar, every tenth step may wait."""
    looks = []
    monkeypatch.setattr(finite, "stop_unless_finite", lambda run, trainer, *_: looks.append(trainer.global_step))
    monkeypatch.setattr(History, "on_train_batch_end", lambda *_: None)
    flags = [*flags, "--generate_every_n_steps", "0"] if program.name == "gpt" else flags
    with pytest.raises(Enough):
        program(*ON_META, *flags)
    assert looks == [0], "only the loss of every fiftieth step is checked"


def test_the_loss_of_each_fiftieth_step_is_looked_at(monkeypatch):
    looks = []
    monkeypatch.setattr(finite, "stop_unless_finite", lambda run, trainer, *_: looks.append(trainer.global_step))
    callback = finite.StopOnNaN(None)
    for step in range(120):
        callback.on_before_backward(SimpleNamespace(global_step=step), None, torch.zeros((), device="meta"))
    assert looks == [0, 50, 100]


def test_the_device_without_values_shows_who_looks(vae, on_meta):
    """Logging the first step reads a value, which fails on "meta"."""
    with pytest.raises(RuntimeError, match="meta tensors"):
        vae(*ON_META)


def test_a_negative_std_is_found_in_validation_at_the_latest():
    mean, std = torch.zeros(2), torch.tensor([1.0, -0.5])
    for context in (torch.enable_grad(), torch.no_grad()):
        with context, pytest.raises(ValueError, match="log_std"):
            utils.sample_reparameterize(mean, std)
    assert utils.sample_reparameterize(mean.to(META), std.to(META)).device == META
    with torch.no_grad(), pytest.raises(RuntimeError, match="meta tensors"):
        utils.sample_reparameterize(mean.to(META), std.to(META))


def test_several_gpus_do_not_wait_for_each_other_at_each_batch(monkeypatch):
    """Processes wait to agree on whether one of them got a signal: at each batch on CPUs, at every tenth on GPUs."""
    resume, decisions = ExactResume(None), []
    for device in ("cpu", "cuda"):
        trainer = a_trainer(device, processes=2)
        trainer.strategy.reduce_boolean_decision = lambda *_, device=device, **__: decisions.append(device)
        trainer.fit_loop = SimpleNamespace(
            epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(is_last_batch=False))
        )
        for batch in range(25):
            resume.on_train_batch_end(trainer, None, None, None, batch)
        resume.on_train_epoch_end(trainer, None)
    assert (decisions.count("cpu"), decisions.count("cuda")) == (26, 4)


def test_a_device_without_float64_can_stop_in_mid_epoch():
    """Like MPS, the device has no float64, so the sums in a checkpoint must not use it."""

    class NoFloat64(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **kwargs or {})
            assert all(leaf.dtype != torch.float64 for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
            return result

    metric = SimpleNamespace(meta=SimpleNamespace(on_epoch=True), value=torch.tensor(3.0))
    metric.cumulated_batch_size = torch.tensor(2)
    trainer = a_trainer("mps")
    trainer._results = SimpleNamespace(valid_items=lambda: [("loss", metric)])
    with NoFloat64():
        assert sum_up(trainer) == {"loss": (3.0, 2)}


# --- other settings for a GPU -----------------------------------------------------------------------------------------


def test_optimizers_are_fused_where_pytorch_can():
    def optimizers():
        kinds = (torch.optim.Adam, torch.optim.SGD, torch.optim.Rprop)
        return [kind([torch.ones(3, requires_grad=True)], lr=0.1) for kind in kinds]

    for device, fused in {"cuda": [True, True, None], "cpu": [True, True, None], "mps": [None, None, None]}.items():
        trainer = a_trainer(device)
        trainer.optimizers = optimizers()
        speed.FusedOptimizers().on_fit_start(trainer, None)
        groups = [optimizer.param_groups[0] for optimizer in trainer.optimizers]
        assert [group.get("fused") for group in groups] == fused
        weights = [group["params"][0] for group in groups]
        for weight, optimizer in zip(weights, trainer.optimizers, strict=True):
            weight.square().sum().backward()
            optimizer.step()
            torch.testing.assert_close(weight, torch.full((3,), 0.8 if "momentum" in optimizer.defaults else 0.9))


def test_noise_is_seeded_on_the_device_in_use_alone(monkeypatch):
    """At each step, torch.manual_seed would store a stack trace for each missing kind of device."""
    seeded = []
    for module in (torch.cuda, torch.mps):
        monkeypatch.setattr(module, "manual_seed", lambda seed, module=module: seeded.append((module, seed)))
    for name in ("cuda", "mtia", "xpu"):
        monkeypatch.setattr(getattr(torch, name), "manual_seed_all", lambda seed, name=name: seeded.append(name))

    def draw(device: str, batch: int) -> float:
        trainer = a_trainer(device)
        trainer.global_rank, trainer.current_epoch = 0, 0
        Reproducible(seed=3).on_train_batch_start(trainer, None, None, batch)
        return torch.rand(()).item()

    assert draw("cpu", 1) == draw("meta", 1) != draw("cpu", 2)
    assert not seeded
    for device in ("cuda", "mps"):
        assert draw(device, 1) == draw("cpu", 1)
    assert [module for module, _ in seeded] == [torch.cuda, torch.mps]
    here = torch.rand(()).item()
    torch.default_generator.manual_seed(seeded[0][1])
    torch.rand(())
    assert here == torch.rand(()).item(), "the CPU and the GPU have the same seed"


@pytest.mark.parametrize(("accelerator", "gpus", "expected"), [("auto", 1, ["high"]), ("cpu", 1, []), ("auto", 0, [])])
def test_products_are_fast_on_a_gpu(monkeypatch, accelerator, gpus, expected):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))
    monkeypatch.setattr(torch, "set_float32_matmul_precision", chosen.append)
    flags = {"accelerator": accelerator, "devices": 1, "num_nodes": 1, "strategy": "auto"}
    extras(SimpleNamespace(**flags, progress_bar=False, compile=False), (), [])
    assert chosen == expected


def test_what_is_compiled(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: compiled.append((type(self), options)))
    gpt = SimpleNamespace(model=GPT(GPTConfig("gpt-nano", vocab_size=5, block_size=4)))
    for model, kind in ((VAE(num_filters=2), VAE), (gpt, GPT)):
        for device, mode in {"cpu": None, "cuda": "reduce-overhead"}.items():
            network.Compile().setup(a_trainer(device), model, "fit")
            assert compiled.pop() == (kind, {"mode": mode})
            network.Compile().setup(a_trainer(device), model, "test")
            assert not compiled, "it was compiled again"


@pytest.mark.usefixtures("without_pictures")
def test_the_network_is_compiled_once(aae, monkeypatch):
    """The network is not recompiled for evaluation without gradients or for the smaller last batch in evaluation."""
    compile_with, split, batches = torch.nn.Module.compile, data._split, []

    def backend(graph, inputs):
        batches.extend(len(each) for each in inputs if each.shape[1:] == (1, 28, 28))
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, mode: compile_with(self, backend=backend))
    monkeypatch.setattr(data, "_split", lambda *args: [[rows[:40] for rows in part] for part in split(*args)])
    assert aae("--epochs", "2", "--compile") == 0
    assert batches == [16]
    unchanged = torch.compile(torch.neg, backend=lambda *_: lambda x: [x])
    assert unchanged(torch.ones(1)) == 1, "after the run, compiled code must be used again"
