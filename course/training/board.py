"""TensorBoard's custom charts, which group related curves, and its table of runs."""

from collections.abc import Iterable
from pathlib import Path

from torch.utils.tensorboard import FileWriter, SummaryWriter
from torch.utils.tensorboard.summary import hparams, scalar


def add_charts(writer: SummaryWriter, program: str, tags: Iterable[str]) -> None:
    """Show training and validation of a metric in one chart, if it has both: the tab Custom Scalars.

    The charts of all runs of a program are grouped together.
    """
    tags = set(tags)
    names = sorted(tag.removeprefix("val/") for tag in tags if tag.startswith("val/"))
    both = [name for name in names if f"train/{name}" in tags]
    # tags are regular expressions, and train/loss should not also match train/loss_step
    writer.add_custom_scalars({program: {name: ["Multiline", [f"^train/{name}$", f"^val/{name}$"]] for name in both}})


def add_result(folder: Path, flags: dict, best: dict[str, float], step: int) -> None:
    """Add a completed run to the table of the tab HParams: its flags, and the last value of each metric.

    If there were a description of the columns, TensorBoard would apply it to the runs of all parts. Without one, it
    combines the flags and metrics of all runs, and shows the first five of each in alphabetical order until the user
    selects more; flags that differ come before flags that do not.

    Args:
        best: tag -> value of the monitored metric. A tag such as best/loss is sorted before the others.
        step: the number of completed steps.

    Raises:
        OSError: the event file cannot be written.
    """
    shown = {name: value if type(value) in (int, float, str) else str(value) for name, value in flags.items()}
    _, flags_of_run, is_complete = hparams({name: value for name, value in shown.items() if value != "None"}, {})
    writer = FileWriter(folder)
    for summary in (flags_of_run, is_complete, *(scalar(tag, value) for tag, value in best.items())):
        writer.add_summary(summary, step)
    writer.flush()  # raises errors from writing; close does not
    writer.close()
