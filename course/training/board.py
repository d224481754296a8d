"""TensorBoard: descriptions of tags, custom charts that group related curves, and the table of runs."""

from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_SCALAR
from torch.utils.tensorboard import FileWriter, SummaryWriter
from torch.utils.tensorboard.summary import hparams, scalar

from course.rubric import Number, read

STAGES = {
    "train": "training, the mean of each epoch", "val": "validation, after each epoch",
    "test": "test, with the weights of the best epoch", "step": "training, single steps",
}  # fmt: skip


@cache
def _numbers() -> dict[tuple[str, str], Number]:
    """Read the numbers in rubric.toml: (program, name) -> number."""
    rubric = read()
    return {(rubric.parts[number.part].logs, number.name): number for number in rubric.numbers}


def describe(program: str, tag: str) -> str:
    """Return a tag's unit, its equation and the data it is measured on; "" for a tag that is not in rubric.toml."""
    stage, _, name = tag.partition("/")
    if name.endswith("_step"):
        stage, name = "step", name.removesuffix("_step")
    number = _numbers().get((program, name))
    if number is None or stage not in STAGES:
        return ""
    return "; ".join(text for text in (number.unit, number.source, STAGES[stage]) if text)


class RunLogger(TensorBoardLogger):
    """Lightning's logger, with descriptions of tags and without the tag `epoch`, which Lightning adds to all values."""

    described: frozenset[str] = frozenset()

    def log_metrics(self, metrics, step=None):
        metrics = {tag: float(value) for tag, value in metrics.items() if tag != "epoch"}
        if new := [tag for tag in metrics if tag not in self.described]:
            self.described |= set(new)
            for tag in new:
                add_described(self.experiment, self.name, tag, metrics.pop(tag), step)
        super().log_metrics(metrics, step)


def add_described(writer: SummaryWriter, program: str, tag: str, value: float, step: int | None) -> None:
    """Like `writer.add_scalar`, but also add the tag's description; TensorBoard shows a tag's first description."""
    summary = scalar(tag, value)
    metadata = summary.value[0].metadata
    # without data_class, TensorBoard replaces the metadata with that of a plain value
    metadata.plugin_data.plugin_name, metadata.data_class = "scalars", DATA_CLASS_SCALAR
    metadata.summary_description = describe(program, tag)
    writer._get_file_writer().add_summary(summary, step)  # as in add_scalar; reopens a closed file


def add_charts(writer: SummaryWriter, program: str, tags: Iterable[str]) -> None:
    """Add a chart to the Custom Scalars tab for each metric that has both training and validation values.

    The charts of all runs of a program are in one group. A chart shows a tag from all runs, so metrics that several
    parts share, such as the accuracy, do not get a chart.
    """
    tags = set(tags)
    shared = {name for name, count in Counter(name for _, name in _numbers()).items() if count > 1}
    names = sorted({tag.removeprefix("val/") for tag in tags if tag.startswith("val/")} - shared)
    both = [name for name in names if f"train/{name}" in tags]
    # tags are regular expressions, and train/loss should not also match train/loss_step
    writer.add_custom_scalars({program: {name: ["Multiline", [f"^train/{name}$", f"^val/{name}$"]] for name in both}})


def add_result(folder: Path, flags: dict, best: dict[str, float], step: int) -> None:
    """Add a completed run to the table in the HParams tab: its flags, and the last value of each metric.

    TensorBoard would apply a description of the columns to the runs of all parts. Without a description, it combines
    the flags and metrics of all runs, and shows the first five of each in alphabetical order until the user selects
    more; flags that differ come before flags that do not.

    Args:
        best: the best value of the monitored metric, such as "Best bpd" -> 0.52. It is listed with the flags, where
            capitals come first; as a metric, it would also get a card with one point in Time Series.
        step: the number of completed steps.

    Raises:
        OSError: the event file cannot be written.
    """
    shown = best | {name: value if type(value) in (int, float, str) else str(value) for name, value in flags.items()}
    _, flags_of_run, is_complete = hparams({name: value for name, value in shown.items() if value != "None"}, {})
    writer = FileWriter(folder)
    for summary in (flags_of_run, is_complete):
        writer.add_summary(summary, step)
    writer.flush()  # raises errors from writing; close does not
    writer.close()
