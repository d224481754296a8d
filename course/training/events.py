"""TensorBoard's event files of a run, and cutting them back when it is resumed."""

import os
import time
from pathlib import Path


def event_files(trainer, folder: Path) -> dict[str, int]:
    """The event files of a run and how long each is, with everything written so far."""
    if not trainer.is_global_zero:
        return {}
    trainer.logger.experiment.flush()
    return {path.name: path.stat().st_size for path in sorted(folder.glob("events.out.tfevents.*"))}


def cut_event_files(folder: Path, sizes: dict[str, int]) -> None:
    """Take from the event files what was written after the checkpoint that is resumed."""
    second = int(time.time())
    for path in folder.glob("events.out.tfevents.*"):
        if path.name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[path.name]:
            os.truncate(path, sizes[path.name])
        # TensorBoard reads the files of a run in the order of their names, and these begin with the second of their
        # making: the next one must not be made in the same
        if path.name.split(".")[3] == str(second):
            time.sleep(max(0, second + 1 - time.time()))
