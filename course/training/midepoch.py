"""Stop in the middle of an epoch, and continue from the same batch.

Lightning's checkpoints lack the sums of an unfinished epoch's metrics. These functions read and modify
`trainer._results`, Lightning's private collection of logged values: each entry has a `value` and a
`cumulated_batch_size`. `staff/tests/test_lightning.py` fails if a new version changes these.
"""

from torch import Tensor


def sum_up(trainer) -> dict[str, tuple[float, float]]:
    """Return the sums of the epoch so far, over all processes: key -> sum, number of examples."""

    def total(value: Tensor) -> float:
        if trainer.world_size == 1:
            return value.item()
        return trainer.strategy.reduce(value.double(), reduce_op="sum").item()  # MPS has no float64

    averaged = {key: metric for key, metric in trainer._results.valid_items() if metric.meta.on_epoch}
    return {key: (total(metric.value), total(metric.cumulated_batch_size)) for key, metric in averaged.items()}


def add_sums(trainer, sums: dict[str, tuple[float, float]]) -> None:
    """Add the sums from before a stop to those of the resumed epoch."""
    for key, (value, count) in sums.items():
        metric = trainer._results[key]
        metric.value, metric.cumulated_batch_size = metric.value + value, metric.cumulated_batch_size + int(count)


def log_step(trainer) -> None:
    """Write the step's values if they are due: Lightning would write them only after the hook that stops the run."""
    step = trainer.fit_loop.epoch_loop.total_batch_idx
    if trainer.logger and (step + 1) % trainer.log_every_n_steps == 0:
        values = trainer.callback_metrics.items()
        trainer.logger.log_metrics({tag: float(value) for tag, value in values if tag.endswith("_step")}, step)
