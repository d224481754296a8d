"""The flags of a run of seconds: the real program on real MNIST with a small network and few batches."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = [
    "--batch_size", "16", "--num_filters", "2", "--z_dim", "2", "--limit_batches", "6", "--accelerator", "cpu",
    "--no-progress_bar",
]  # fmt: skip
