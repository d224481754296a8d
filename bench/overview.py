"""Write bench/README.md from results/*.json: what is measured and how, the goals, all tables and plots."""

from collections.abc import Iterable
from pathlib import Path

from bench import record
from bench.plots import goals_png
from bench.record import ABOUT, Record, Row, markdown_table
from course.files import write_whole

HEAD = f"""# Measurements

This page is written by `python -m bench` from the files in [results/](results/); `python -m bench overview` writes it
anew and measures nothing.

## What is measured, and how

- Each measurement puts what this project does beside a floor and beside what a user would pick instead. The floor has
  nothing around the arithmetic: a bare loop over tensors in memory, the matrix products of a model alone. What a user
  would pick is the usual pipeline of PIL images and a DataLoader, transformers' GPT-2, a fresh pytest for each
  submission.
- The ways take turns: a round has each of them once, so that other work on the machine meets them all. What counts is
  the median over the rounds.
- Times of two machines say little about each other, so goals are ratios where that is possible. A ratio is taken
  within each round, of numbers of one and the same run of the command, and its median over the rounds is shown; it
  need not be the ratio of the medians.
- How a cost grows is measured at sizes that double. An exponent is the slope of the cost over the size, both as
  logarithms, over the upper half of the sizes: 1 is linear, 2 quadratic. Below 1, a fixed cost still counts.
- "About" a goal is within {ABOUT:.0%} of it.

`make bench` measures all but what takes hours (`recipe`, `recipe_80`) or needs a GPU, `python -m bench NAME ...` what
is named; the names are the headings below, and `--rounds` says how many rounds. `--batches 4` is a quick look that
writes nothing. Do nothing else on the machine meanwhile.

The models are on the CPU unless a measurement's own words say otherwise, also where there is a GPU. The header line of
a measurement names the machine; one that needs a GPU is run by its name on a machine that has one, and its
`results/NAME.*` are copied here.
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
    """Write README.md next to the folder of results, and results/goals.png -> the path of README.md.

    Args:
        names: of all measurements.

    Raises:
        record.RecordError: a file of results is damaged. OSError: the page cannot be written.
    """
    found = read_all(results, names)
    rows = [(name, row) for name, each in found.items() for row in each.rows if row.relation]
    met = sum(row.met for _, row in rows)
    goals = [f"## Goals\n\n{met} of {len(rows)} goals are met.\n"]
    if rows:
        write_whole(results / "goals.png", goals_png(rows))
        goals += [goal_table(rows) + "\n", "![all numbers against their goals](results/goals.png)\n"]
    sections = [section(name, found.get(name)) for name in names]
    introduction, how = HEAD.split("## What", 1)
    page = "\n".join([introduction.rstrip() + "\n", *goals, "## What" + how, *sections])
    return write_whole(results.parent / "README.md", page.encode())
