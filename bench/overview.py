"""Write bench/README.md from results/*.json: the goals, how everything is measured, and all tables and plots."""

from collections.abc import Iterable
from pathlib import Path

from bench import record
from bench.plots import goals_png
from bench.record import ABOUT, Record, Row, markdown_table
from course.files import write_whole

HEAD = f"""# Measurements

This page is written by `python -m bench` from the files in [results/](results/); `python -m bench overview` rewrites it
without measuring.

## What is measured, and how

- Each benchmark compares this project with a lower bound and with the alternatives that a user would otherwise choose.
  The lower bound is the arithmetic alone, such as a bare loop over tensors in memory or the matrix products of a model.
  The alternatives are the usual pipeline of PIL images and a DataLoader, transformers' GPT-2, and a fresh pytest
  process for each submission.
- The variants take turns: each runs once per round, so that other load on the machine affects all of them. The median
  over the rounds is reported.
- Times on different machines are not comparable, so goals are ratios where possible. Ratios are computed within each
  round. The tables show the median of the ratios, which can differ from the ratio of the medians.
- The growth of a cost is measured by doubling the size. The exponent is the slope of the logarithm of the cost against
  the logarithm of the size, over the upper half of the sizes: 1 means linear growth, 2 quadratic growth. An exponent
  below 1 means that a fixed cost still matters.
- "About" means within {ABOUT:.0%} of the goal.

`make bench` runs all benchmarks except those that take hours (`recipe`, `recipe_80`). It skips `gpu` on a machine
without a GPU. `python -m bench NAME ...` runs the named benchmarks; the headings below are their names. `--rounds` sets
the number of rounds. `--batches 4` runs a quick check that writes no files. Run nothing else at the same time.

The models run on the CPU, even on a machine with a GPU, unless a benchmark says otherwise. The first line below each
heading names the machine. Run `python -m bench gpu` on a machine with a GPU, and copy its `results/gpu.*` files here.
"""


def read_all(results: Path, names: Iterable[str]) -> dict[str, Record]:
    """Return the records of the measurements that have results, in the order of `names`.

    Raises:
        record.RecordError: a file is damaged.
    """
    return {name: record.read(results / f"{name}.json") for name in names if (results / f"{name}.json").exists()}


def goal_table(rows: list[tuple[str, Row]]) -> str:
    cells = [
        [f"[{name}](#{name})", row.measure, row.shown, row.wanted, "yes" if row.met else "**no**"] for name, row in rows
    ]
    return markdown_table(["measurement", "", "measured", "goal", "met?"], cells)


def section(name: str, found: Record | None) -> str:
    text = found.markdown("results/") if found else f"Not measured yet: `python -m bench {name}`.\n"
    return f"## {name}\n\n{text}"


def overview(results: Path, names: Iterable[str]) -> Path:
    """Write README.md next to the results folder, and results/goals.png; return the path of README.md.

    Args:
        names: the names of all measurements.

    Raises:
        record.RecordError: a results file is damaged. OSError: the page cannot be written.
    """
    found = read_all(results, names)
    rows = [(name, row) for name, each in found.items() for row in each.rows if row.relation]
    met = sum(row.met for _, row in rows)
    goals = [f"## Goals\n\n{met} of {len(rows)} goals are met.\n"]
    if rows:
        write_whole(results / "goals.png", goals_png(rows))
        goals += [goal_table(rows) + "\n", "![all numbers relative to their goals](results/goals.png)\n"]
    sections = [section(name, found.get(name)) for name in names]
    introduction, how = HEAD.split("## What", 1)
    page = "\n".join([introduction.rstrip() + "\n", *goals, "## What" + how, *sections])
    return write_whole(results.parent / "README.md", page.encode())
