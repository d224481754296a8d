"""Helpers that stop a run at a chosen moment, and compare the results of two runs."""

import json
import os
from pathlib import Path
from types import ModuleType

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TIMES = {
    "train/images_per_second",
    "train/tokens_per_second",
}  # only these may differ between an interrupted and an uninterrupted run


def checkpoint(run: Path, name: str = "last.ckpt") -> dict:
    return torch.load(run / "checkpoints" / name, weights_only=True)


def history(run: Path) -> list[dict]:
    rows = json.loads((run / "summary.json").read_text())["history"]
    return [{tag: value for tag, value in row.items() if tag not in TIMES} for row in rows]


def events(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the scalars that TensorBoard shows: tag -> [(step, value)]."""
    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    tags = set(accumulator.Tags()["scalars"]) - TIMES
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


def assert_same_end(run: Path, other: Path, pictures: bool = True) -> None:
    """Check that two runs end with bit-identical weights, optimizers, history, test results, events and pictures."""
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = checkpoint(run, name), checkpoint(other, name)
        assert ours["state_dict"].keys() == theirs["state_dict"].keys()
        for key, value in ours["state_dict"].items():
            assert torch.equal(value, theirs["state_dict"][key]), f"{name}: {key}"
        for one, two in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
            assert one["state"].keys() == two["state"].keys()
            for index, state in one["state"].items():
                for key, value in state.items():
                    assert torch.equal(value, two["state"][index][key]), f"{name}: {key} of parameter {index}"
    assert history(run) == history(other)
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (run, other)]
    for key in ("results", "best", "first_step"):
        assert summaries[0][key] == summaries[1][key]
    assert events(run) == events(other)
    if pictures:
        drawn = [{path.name: path.read_bytes() for path in (folder / "figures").iterdir()} for folder in (run, other)]
        assert drawn[0] == drawn[1]


def strike_at(train: ModuleType, signum: int, epoch: int, batch: int, hook: str = "on_train_batch_end") -> type:
    """Return a `train.Figures` that sends this process one signal, in an epoch and batch counted from 0."""

    class Strike(train.Figures):
        struck = False

    def send(self, trainer, pl_module, outputs, imgs, batch_idx, *dataloader_idx):
        if not Strike.struck and (trainer.current_epoch, batch_idx) == (epoch, batch):
            Strike.struck = True
            trainer.logger.experiment.flush()  # worst case: the events after the checkpoint are on disk
            os.kill(os.getpid(), signum)

    setattr(Strike, hook, send)
    return Strike


class RunsCode:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))
