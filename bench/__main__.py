"""`python -m bench`: measure, print a table and write it to bench/results/ with how it was made."""

import argparse
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from bench import part1
from course.flags import data_dir, whole_number

RESULTS = Path(__file__).parent / "results"


def header(command: str) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "pytorch-lightning"))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"`{command}`, {time.strftime('%Y-%m-%d')}; {os.cpu_count()} CPU cores ({platform.machine()}), {gpu},"
        f" {torch.get_num_threads()} threads; Python {platform.python_version()}, {versions}.\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=whole_number(1), default=3, help="interleaved rounds; the median counts")
    parser.add_argument("--batches", type=whole_number(1), help="of each epoch (default: all), for a quick look")
    parser.add_argument("--data_dir")
    args = parser.parse_args()
    report = header(f"python -m bench {' '.join(sys.argv[1:])}".strip()) + part1.measure(args, data_dir(args.data_dir))
    print("\n" + report)
    if args.batches is None:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "part1_vae.md").write_text(report)
        print(f"written to {RESULTS / 'part1_vae.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
