"""`python -m bench [NAME ...]`: run benchmarks, print their tables, and write bench/results/ and bench/README.md."""

import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from bench import gpu, grading, growth, part1, part2, part3, recipe, startup, steps
from bench.epochs import RESULTS
from bench.overview import overview
from bench.record import RecordError
from course.flag_types import whole_number
from course.flags import data_dir
from course.parser import Parser

MEASUREMENTS = {
    "steps": steps.steps,
    "part1_speed": part1.speed,
    "part1_memory": part1.memory,
    "part2_speed": part2.speed,
    "part3_generation": part3.generation,
    "part3_training": part3.training,
    "startup": startup.startup,
    "grading": grading.speed,
    "growth_batch": growth.batch,
    "growth_context": growth.context,
    "growth_submissions": growth.submissions,
    "growth_runs": growth.reports,
    "recipe": recipe.recipe,
    "recipe_80": recipe.recipe_80,
    "gpu": gpu.everything,
}
ON_REQUEST = {"recipe", "recipe_80"}  # they take hours
ONCE = {"part1_memory", "grading", "gpu", *ON_REQUEST}  # they ignore --rounds


def processor() -> str:
    """Return the model name of the CPU, or its architecture if the name is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def header(command: str) -> str:
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "torchvision", "pytorch-lightning", "transformers")
    )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"`{command}`, {time.strftime('%Y-%m-%d')}; {os.cpu_count()} CPU cores ({processor()}), {gpu},"
        f" {torch.get_num_threads()} threads; Python {platform.python_version()}, {versions}.\n"
    )


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m bench", description=__doc__)
    names = ", ".join([*MEASUREMENTS, "overview"])
    default = "all except recipe and recipe_80, and gpu only if there is a GPU"
    parser.add_argument("what", nargs="*", help=f"{names} (default: {default})")
    parser.add_argument("--rounds", type=whole_number(1), default=3, help="interleaved rounds; the median is reported")
    parser.add_argument(
        "--batches",
        type=whole_number(1),
        help="run a quick check with this many batches per epoch (part 3: or new tokens; grading: submissions; growth:"
        " the largest size; startup: test files); gpu then needs no GPU",
    )
    parser.add_argument("--data_dir")
    args = parser.parse_args(argv)
    without_gpu = not torch.cuda.is_available()
    if not args.what:
        args.what = [name for name in MEASUREMENTS if name not in ON_REQUEST and not (name == "gpu" and without_gpu)]
        if without_gpu:
            print("gpu: skipped, because this machine has no CUDA GPU")
    elif "gpu" in args.what and without_gpu and args.batches is None:
        print("error: gpu: needs a CUDA GPU, and this machine has none (try --batches)", file=sys.stderr)
        return 1
    for name in args.what:
        if name not in [*MEASUREMENTS, "overview"]:
            parser.error(f"{name!r}: choose from {names}")
    for name in args.what:
        if name == "overview":  # written below
            continue
        record = MEASUREMENTS[name](args, data_dir(args.data_dir))
        record.made = header(f"python -m bench {name}" + ("" if name in ONCE else f" --rounds {args.rounds}"))
        print("\n" + record.markdown())
        if args.batches is None:
            print(f"written to {record.write(RESULTS, name)}")
    if args.batches is None or "overview" in args.what:
        try:
            print(f"written to {overview(RESULTS, MEASUREMENTS)}")
        except RecordError as error:
            parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
