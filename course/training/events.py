"""TensorBoard's event files of a run, and truncating them when it is resumed."""

import os
import time
from pathlib import Path


def event_files(trainer, folder: Path) -> dict[str, int]:
    """The event files of a run and the length of each, after flushing."""
    if not trainer.is_global_zero:
        return {}
    trainer.logger.experiment.flush()
    return {path.name: path.stat().st_size for path in sorted(folder.glob("events.out.tfevents.*"))}


def cut_event_files(folder: Path, sizes: dict[str, int]) -> None:
    """Remove everything that was written to the event files after the checkpoint being resumed."""
    second = int(time.time())
    for path in folder.glob("events.out.tfevents.*"):
        if path.name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[path.name]:
            os.truncate(path, sizes[path.name])
        # TensorBoard reads the files of a run in the order of their names, which begin with their creation time in
        # seconds: the next file must not be created in the same second
        if path.name.split(".")[3] == str(second):
            time.sleep(max(0, second + 1 - time.time()))
