"""What TensorBoard shows beside curves, pictures and texts: charts that belong together, and a table of the runs."""

from collections.abc import Iterable
from pathlib import Path

from torch.utils.tensorboard import FileWriter, SummaryWriter
from torch.utils.tensorboard.summary import hparams, scalar


def add_charts(writer: SummaryWriter, program: str, tags: Iterable[str]) -> None:
    """Training and validation of a metric in one chart, for each that has both: the tab Custom Scalars.

    The charts of all runs of a program stand together.
    """
    tags = set(tags)
    names = sorted(tag.removeprefix("val/") for tag in tags if tag.startswith("val/"))
    both = [name for name in names if f"train/{name}" in tags]
    # the tags are regular expressions, and train/loss should not be train/loss_step too
    writer.add_custom_scalars({program: {name: ["Multiline", [f"^train/{name}$", f"^val/{name}$"]] for name in both}})


def add_result(folder: Path, flags: dict, best: dict[str, float], step: int) -> None:
    """Put a run that is complete into the table of the tab HParams: its flags, and the last value of each metric.

    TensorBoard would take one description of the columns and apply it to the runs of all parts. There is none, so it
    puts the flags and metrics of all runs together, and shows the first five of each, by the alphabet, until one asks
    for more; flags that differ come before those that do not.

    Args:
        best: tag -> value, of what the run was to make small. A tag such as best/loss comes before the others.
        step: the number of steps done.

    Raises:
        OSError: it cannot be written.
    """
    shown = {name: value if type(value) in (int, float, str) else str(value) for name, value in flags.items()}
    _, flags_of_run, is_complete = hparams({name: value for name, value in shown.items() if value != "None"}, {})
    writer = FileWriter(folder)
    for summary in (flags_of_run, is_complete, *(scalar(tag, value) for tag, value in best.items())):
        writer.add_summary(summary, step)
    writer.flush()  # raises what failed; close does not
    writer.close()
