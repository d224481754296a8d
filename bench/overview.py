"""Write bench/README.md from results/*.json: what is measured and how, the goals, all tables and plots."""

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

- Each benchmark compares this project with a lower bound and with what a user would otherwise choose. The lower bound
  is the arithmetic alone: a bare loop over tensors in memory, the matrix products of a model. The alternatives are the
  usual pipeline of PIL images and a DataLoader, transformers' GPT-2, a fresh pytest for each submission.
- The variants take turns: each runs once per round, so that other load on the machine affects all of them. The median
  over the rounds is reported.
- Times on different machines are not comparable, so goals are ratios where that is possible. Ratios are computed within
  a round, from numbers of the same run of the command. The tables show their median over the rounds, which need not be
  the ratio of the medians.
- How a cost grows is measured at sizes that double. The exponent is the slope of the cost against the size, both as
  logarithms, over the upper half of the sizes: 1 is linear, 2 quadratic. An exponent below 1 means that a fixed cost
  still matters.
- "About" a goal is within {ABOUT:.0%} of it.

`make bench` runs all benchmarks except those that take hours (`recipe`, `recipe_80`) or need a GPU. `python -m bench
NAME ...` runs the named ones; the names are the headings below, and `--rounds` sets the number of rounds. `--batches 4`
is a quick check that writes nothing. Leave the machine otherwise idle.

The models run on the CPU, even on a machine with a GPU, unless a benchmark says otherwise. The header line of a
benchmark names the machine. A benchmark that needs a GPU is run by its name on a machine that has one, and its
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
