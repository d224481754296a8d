"""`python -m bench [part1_speed ...]`: print tables and write them to bench/results/ with how they were made."""

import argparse
import os
import platform
import sys
import time
from importlib.metadata import version

import torch

from bench import gpu, grading, part1, part2, part3
from bench.epochs import RESULTS
from course.files import write_whole
from course.flags import data_dir, whole_number

MEASUREMENTS = {
    "part1_speed": part1.speed,
    "part1_memory": part1.memory,
    "part2_speed": part2.speed,
    "part3_generation": part3.generation,
    "part3_training": part3.training,
    "part3_growth": part3.growth,
    "grading": grading.speed,
    "gpu": gpu.everything,
}


def header(command: str) -> str:
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "torchvision", "pytorch-lightning", "transformers")
    )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"`{command}`, {time.strftime('%Y-%m-%d')}; {os.cpu_count()} CPU cores ({platform.machine()}), {gpu},"
        f" {torch.get_num_threads()} threads; Python {platform.python_version()}, {versions}.\n"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help=f"{', '.join(MEASUREMENTS)} (default: all; gpu where there is one)")
    parser.add_argument("--rounds", type=whole_number(1), default=3, help="interleaved rounds; the median counts")
    parser.add_argument(
        "--batches",
        type=whole_number(1),
        help="of each epoch (part 3: or new tokens; grading: submissions), for a quick look; gpu: needs none then",
    )
    parser.add_argument("--data_dir")
    args = parser.parse_args(argv)
    for name in args.what:
        if name not in MEASUREMENTS:
            parser.error(f"{name!r}: there are {', '.join(MEASUREMENTS)}")
    without_gpu = not torch.cuda.is_available()
    if "gpu" in args.what and without_gpu and args.batches is None:
        print("error: gpu: needs a CUDA GPU, and there is none here (with --batches it needs none)", file=sys.stderr)
        return 1
    if not args.what and without_gpu:
        print("gpu: left out, as there is no CUDA GPU here")
    for name in args.what or [name for name in MEASUREMENTS if name != "gpu" or not without_gpu]:
        report = header(f"python -m bench {name} --rounds {args.rounds}") + MEASUREMENTS[name](
            args, data_dir(args.data_dir)
        )
        print("\n" + report)
        if args.batches is None:
            path = write_whole(RESULTS / f"{name}.md", report.encode())
            print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
