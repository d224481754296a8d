"""Render a report page that shows several runs of a part side by side."""

import statistics

from course import pages
from course.rubric import Number, Rubric
from course.runs.cells import Cell, Table, chart_title, draw_curves, duration_text, value_text
from course.runs.folder import SAY_NOTHING, Run, RunError, differences
from course.runs.questions import Figure, answered, asked, drawn_at, figure, final, other_figures, part_of


def page_of_several(runs: list[Run], rubric: Rubric) -> str:
    """Render the page for several runs of one part as HTML.

    Raises:
        RunError: the runs belong to different parts, or to none.
    """
    part = part_of(runs[0], rubric)
    for run in runs[1:]:
        if part_of(run, rubric) != part:
            here, first = part_of(run, rubric).number, runs[0].folder
            raise RunError(
                f"{run.folder} belongs to part {here} ({run.program}) and {first} to part {part.number} ({part.logs});"
                " only runs of the same part can be compared"
            )
    titles = differences([run.folder for run in runs], [run.flags for run in runs])
    if len(set(titles)) < len(runs):
        titles = [run.name for run in runs]
    numbers = [number for number in rubric.numbers if number.part == part.number]
    charts = [Figure(f"{chart_title(each)}, validation", "", _compared(runs, titles, each)) for each in numbers]
    names = ", ".join(run.name for run in runs)
    return pages.render(
        "report_several.html",
        title=f"{len(runs)} runs: {names}",
        part=part,
        heading=f"{len(runs)} runs side by side",
        lead=names,
        notes=[],
        about=Table(["", *titles], _about(runs, rubric)),
        numbers=_final_numbers(runs, titles, numbers),
        charts=[chart for chart in charts if chart.png],
        pictures=Table(["", *titles], _rows(runs, rubric)),
    )


def _about(runs: list[Run], rubric: Rubric) -> list[list[Cell]]:
    """Build the rows that describe the runs: folder, questions, epochs, time, and the flags that differ."""
    flags = sorted({name for run in runs for name in run.flags})
    differ = [name for name in flags if len({str(run.flags.get(name)) for run in runs}) > 1]
    answers = [", ".join(f"Q{question.id}" for question, _, _ in answered(run, rubric)) for run in runs]
    rows = [["run", *(run.name for run in runs)], ["answers", *answers]]
    rows.append(["epochs", *(f"{run.done} of {value_text(run.flags.get('epochs'))}" for run in runs)])
    rows.append(["finished", *("yes" if run.summary else "no" for run in runs)])
    rows.append(["training", *(duration_text(run.seconds) for run in runs)])
    rows += [[name, *(value_text(run.flags.get(name)) for run in runs)] for name in differ if name != "epochs"]
    return [[Cell(text) for text in row] for row in rows]


def seeds(runs: list[Run]) -> list[list[Run]]:
    """Group the runs by all flags except the seed; runs that share a seed are not a sample, so they stay separate."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = str(sorted((name, str(value)) for name, value in run.flags.items() if name not in {"seed", *SAY_NOTHING}))
        groups.setdefault(f"{run.done} {key}", []).append(run)
    found = []
    for group in groups.values():
        different = len({run.flags.get("seed") for run in group}) == len(group)
        found += [group] if different else [[run] for run in group]
    return found


def _final_numbers(runs: list[Run], titles: list[str], numbers: list[Number]) -> str:
    """Build a column per run; runs that differ only in their seed share one, with mean and standard deviation."""
    groups = seeds(runs)
    alone = dict(zip((run.folder for run in runs), titles, strict=True))
    header = [""]
    for group in groups:
        names = ", ".join(run.name for run in group)
        header.append(alone[group[0].folder] if len(group) == 1 else _of_seeds(group, names))
    rows = []
    for number in numbers:
        cells = [_final(group, number.name) for group in groups]
        if any(cell.text for cell in cells):
            rows.append([Cell(number.name, number.unit), *cells])
    return Table(header, rows)


def _of_seeds(group: list[Run], names: str) -> str:
    return f"{len(group)} seeds, mean ± standard deviation: {names}"


def _final(group: list[Run], name: str) -> Cell:
    found = [each for run in group if (each := final(run, name))]
    if len(found) < 2:
        return Cell(value_text(found[0][0]), found[0][1]) if found else Cell("")
    values = [value for value, _ in found]
    kinds = {of.split(",")[0] for _, of in found}
    single = f"{'; '.join(sorted(kinds))}: {', '.join(map(value_text, values))}"
    return Cell(f"{value_text(statistics.mean(values))} ± {statistics.stdev(values):.2g}", single)


def _compared(runs: list[Run], titles: list[str], number: Number) -> bytes | None:
    return draw_curves(
        {title: run.curve(f"val/{number.name}") for run, title in zip(runs, titles, strict=True)}, number
    )


def _rows(runs: list[Run], rubric: Rubric) -> list[list[Cell | Figure]]:
    """Build a row for each figure that a question requires, then for the latest version of each remaining figure."""
    wanted = [
        {key: each for _, show, flags in answered(run, rubric) for key, each in asked(run, show, flags).items()}
        for run in runs
    ]
    names = {name for each in wanted for name, _ in each}
    others = [{(each.name, "last"): each for each in other_figures(run, names)} for run in runs]
    rows = []
    for figures in (wanted, others):
        keys = sorted({key for each in figures for key in each}, key=lambda key: (key[0], str(key[1]).zfill(6)))
        for name, epoch in keys:
            pairs = zip(runs, figures, strict=True)
            cells = [each.get((name, epoch)) or _if_there(run, name, epoch) for run, each in pairs]
            rows.append([Cell(Figure(name, epoch, None).caption()), *cells])
    return rows


def _if_there(run: Run, name: str, epoch: int | str) -> Figure:
    """Return a figure that this run's questions do not require, without a PNG if the run lacks it."""
    path = drawn_at(run, name).get(epoch)
    return figure(name, epoch, path) if path else Figure(name, epoch, None)
