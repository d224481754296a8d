"""Write a report page for one run, or for several side by side: `python -m course report RUN ...`.

The page is a single HTML file without scripts or external resources. rubric.toml defines the outputs that each question
requires and the meaning of the numbers. If a required figure or epoch is missing, the page says so in its place.
"""

import argparse
from pathlib import Path

from course import pages
from course.files import write_whole
from course.rubric import Number, Part, Question, Rubric, Show
from course.rubric import read as read_rubric
from course.runs.cells import Cell, Table, chart_of_run, chart_title, duration_text, value_text
from course.runs.folder import Run, read
from course.runs.questions import Figure, answered, asked, final, other_figures, part_of
from course.runs.side_by_side import page_of_several

FILE = "report.html"  # in the folder of a run
LONGEST_TEXT = 20_000  # maximum number of characters shown from a text file


def page_of_run(run: Run, rubric: Rubric) -> str:
    """Render the page of one run as HTML.

    Raises:
        RunError: the run does not belong to any part.
    """
    part = part_of(run, rubric)
    numbers = {number.name: number for number in rubric.numbers if number.part == part.number}
    shown = answered(run, rubric)
    asked_for = {show.number for _, show, _ in shown}
    charts = [Figure(chart_title(each), "", chart_of_run(run, each)) for each in numbers.values()]
    names = {name for _, show, _ in shown for name in show.figures}
    return pages.render(
        "report_run.html",
        title=f"{run.name}: {part.title}",
        part=part,
        heading=run.name,
        lead=_lead(run),
        notes=run.notes,
        questions=[_question(run, *each, numbers) for each in shown],
        no_question=_no_question(rubric, part),
        numbers=_all_numbers(run, numbers),
        charts=[chart for chart, name in zip(charts, numbers, strict=True) if chart.png and name not in asked_for],
        others=other_figures(run, names),
        hyperparameters={name: value_text(value) for name, value in run.flags.items()},
        circumstances=_circumstances(run),
    )


def _lead(run: Run) -> str:
    words = [f"{run.done} of {run.flags.get('epochs', '?')} epochs", duration_text(run.seconds)]
    words.insert(0, f"finished {run.summary.get('finished', '')}" if run.summary else "not finished")
    return " · ".join(words)


def _question(run: Run, question: Question, show: Show, wanted: dict, numbers: dict[str, Number]) -> dict:
    """Collect the content of a question's section."""
    found = {
        "question": question,
        "points": f"{question.points:g} point{'s' if question.points != 1 else ''}",
        "figures": list(asked(run, show, wanted).values()) if show.figures else [],
        "texts": [_written(run, show, name) for name in show.texts],
    }
    if wanted.get("epochs", 0) > run.done:
        found["too_short"] = f"Q{question.id} asks for {wanted['epochs']} epochs; this run has {run.done}"
    if show.number:
        found |= _headline(run, numbers[show.number], show.expected)
    return {"too_short": "", "headline": None, "no_number": "", "charts": []} | found


def _headline(run: Run, number: Number, expected: str) -> dict:
    """Collect the number that the question requires, with its unit, its curve, and the expected value."""
    chart = chart_of_run(run, number)
    found = {"charts": [Figure(chart_title(number), "", chart)] if chart else []}
    if (value := final(run, number.name)) is None:
        return found | {"no_number": f"{number.name}: not recorded in this run"}
    unit = f"{number.unit} ({number.name}; {value[1]})"
    return found | {"headline": {"value": value_text(value[0]), "unit": unit, "expected": expected}}


def _no_question(rubric: Rubric, part: Part) -> str:
    """Write the note for a run that answers no question, with the hyperparameters that the questions require."""
    wants = {
        f"Q{question.id} asks for {', '.join(f'{name} {value_text(value)}' for name, value in each.items())}"
        for question in rubric.questions.values()
        for each in question.runs
        if question.part == part.number
    }
    return f"No question asks for a run with these hyperparameters. {'; '.join(sorted(wants))}."


def _written(run: Run, show: Show, name: str) -> dict[str, str]:
    """Read a text file that the run wrote, or report that it is missing."""
    try:
        text = (run.folder / "figures" / name).read_text("utf-8", errors="replace")
    except OSError:
        return {
            "lack": f"Q{show.question} asks for figures/{name}, which is missing" + ("" if run.summary else " so far")
        }
    rest = f"\n… ({len(text) - LONGEST_TEXT} more characters)" if len(text) > LONGEST_TEXT else ""
    return {"text": text[:LONGEST_TEXT] + rest, "lack": ""}


def _all_numbers(run: Run, numbers: dict[str, Number]) -> Table:
    """Build the table of all numbers: the first step, the last epoch, the best epoch, and the test."""
    columns = {
        "first step": lambda name: run.first_step.get(f"train/{name}_step"),
        f"training, epoch {run.done}": lambda name: run.last(f"train/{name}"),
        f"validation, epoch {run.done}": lambda name: run.last(f"val/{name}"),
    }
    if "epoch" in run.best and run.best["epoch"] != run.done:
        epoch = run.best["epoch"]
        columns[f"validation, epoch {epoch} (the best)"] = lambda name: run.last(f"val/{name}", epoch - 1)
    if any(tag.startswith("test/") for tag in run.results):
        columns["test (weights of the best epoch)"] = lambda name: run.results.get(f"test/{name}")
    rows = []
    for number in numbers.values():
        cells = [value_of(number.name) for value_of in columns.values()]
        if any(cell is not None for cell in cells):
            rows.append([Cell(number.name, number.unit), *(Cell(value_text(cell)) for cell in cells)])
    return Table(["", *columns], rows)


def _circumstances(run: Run) -> dict[str, str]:
    """Collect time, machine and versions; all but the time are in the summary, which only a finished run has."""
    summary, found = run.summary, {"training": duration_text(run.seconds)}
    if run.done:
        found["an epoch"] = duration_text(run.seconds / run.done)
    for name, unit in {"finished": "", "parameters": "", "peak_memory_gb": " GB", "git_commit": ""}.items():
        if summary.get(name) is not None:
            found[name.removesuffix("_gb").replace("_", " ")] = f"{value_text(summary[name])}{unit}"
    for name in ("machine", "versions"):
        if isinstance(summary.get(name), dict):
            found |= {key: value_text(value) for key, value in summary[name].items()}
    return found


def write(folder: Path) -> Path:
    """Write the page of a run into its folder.

    Raises:
        RunError, course.rubric.RubricError, OSError: the page cannot be written; the message says why.
    """
    return write_whole(folder / FILE, page_of_run(read(folder), read_rubric()).encode("utf-8", "replace"))


def command(args: argparse.Namespace) -> None:
    """Write the page of one run, or one page that shows several runs side by side."""
    rubric = read_rubric()
    runs = [read(folder) for folder in args.runs]
    page = page_of_run(runs[0], rubric) if len(runs) == 1 else page_of_several(runs, rubric)
    out = args.output or (args.runs[0] / FILE if len(runs) == 1 else Path(FILE))
    print(write_whole(out, page.encode("utf-8", "replace")))


def _html_file(text: str) -> Path:
    if not text.endswith(".html"):
        raise argparse.ArgumentTypeError(f"{text!r}: the page is HTML, so its name must end in .html")
    return Path(text)


def add(commands) -> None:
    """Add `report` to the commands."""
    parser = commands.add_parser("report", help="write an HTML page about one run, or about several side by side")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, e.g. logs/vae/version_0")
    where = f"the page to write (default: {FILE} in the run's folder; for several runs, in the current folder)"
    parser.add_argument("-o", "--output", type=_html_file, metavar="FILE", help=where)
    parser.set_defaults(run=command)
