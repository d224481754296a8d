"""A page of a run, or of several side by side: `python -m course report RUN ...`.

The page is one HTML file that loads nothing and has no script. What a question asks for, and what the numbers mean, is
in rubric.toml; where a run lacks a figure or an epoch that a question asks for, the page says so in its place.
"""

import argparse
import base64
import html
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from course import pages
from course.files import write_whole
from course.rubric import Number, Part, Question, Rubric, Show
from course.rubric import read as read_rubric
from course.runs.folder import SAY_NOTHING, Run, RunError, differences, figures_of, fits, read, read_png

FILE = "report.html"  # in the folder of a run
LONGEST_TEXT = 20_000  # characters of a text that are shown


@dataclass(frozen=True)
class Figure:
    """A figure on the page, of an epoch or of all (""): the PNG, or why there is none."""

    name: str
    epoch: int | str
    png: bytes | None
    lack: str = ""


# --- what questions ask for -------------------------------------------------------------------------------------------


def part_of(run: Run, rubric: Rubric) -> Part:
    """The part of the assignment that a run belongs to.

    Raises:
        RunError: none has such runs.
    """
    for part in rubric.parts.values():
        if part.logs == run.program:
            return part
    known = ", ".join(part.logs for part in rubric.parts.values())
    raise RunError(f"{run.folder}: is a run of {run.program!r}; the assignment has {known}")


def answered(run: Run, rubric: Rubric) -> list[tuple[Question, Show, dict]]:
    """The questions that a run with these flags answers, what each asks to show, and the flags and epochs it wants."""
    part = part_of(run, rubric)
    found = []
    for show in rubric.shows:
        question = rubric.questions[show.question]
        wanted = [each for each in show.runs(question) if fits(run.flags, each)]
        if question.part == part.number and wanted:
            found.append((question, show, wanted[0]))
    return found


def asked(run: Run, show: Show, wanted: dict) -> dict[tuple[str, int | str], Figure]:
    """(name, epoch) -> the figures that a question asks for, and the last ones, as far as the run has come."""
    return {
        (name, epoch): _asked(run, show, wanted, name, epoch)
        for name in show.figures
        for epoch in _epochs(run, show, wanted, name)
    }


def _epochs(run: Run, show: Show, wanted: dict, name: str) -> list[int | str]:
    last = max(_drawn_at(run, name), default=0)
    if "last" in show.at or last >= wanted.get("epochs", math.inf):
        return show.at
    return sorted({*show.at, last})


def _drawn_at(run: Run, name: str) -> dict[int, Path]:
    """The files of a figure by epoch."""
    return {epoch: path for (other, epoch), path in figures_of(run.folder).items() if other == name}


def _asked(run: Run, show: Show, wanted: dict, name: str, epoch: int | str) -> Figure:
    files = _drawn_at(run, name)
    enough = wanted.get("epochs", math.inf)
    found: int | str | None = epoch if epoch in files else None
    if epoch == "last":
        found = max(files, default=None)
    elif found is None and epoch > enough:  # epoch 95 does for epoch 100
        found = max((drawn for drawn in files if drawn >= enough), default=None)
    if found is not None:
        return figure(name, found, files[found])
    what = f"Q{show.question} wants {name}" + ("" if epoch == "last" else f" at epoch {epoch}")
    if epoch != "last" and epoch > run.done:
        return Figure(name, epoch, None, f"{what}; this run stopped at {run.done}")
    lack = f"{what}; the run has no such file in figures/ (is a blank not filled in?)"
    return Figure(name, epoch, None, lack)


def _caption(name: str, epoch: int | str) -> str:
    when = {0: ", before training", 1: ", after 1 epoch", "last": ", the last", "": ""}
    return name + when.get(epoch, f", after {epoch} epochs")


def figure(name: str, epoch: int | str, path: Path) -> Figure:
    """The figure in a file."""
    try:
        return Figure(name, epoch, read_png(path))
    except RunError:
        return Figure(name, epoch, None, f"figures/{path.name} is damaged: it is no whole PNG")


def final(run: Run, name: str) -> tuple[float, str] | None:
    """The number that a run is known by, and what it is of: test, else validation (of the best epoch, or so far)."""
    for stage, of in {"test": "test", "val": "validation"}.items():
        value = run.results.get(f"{stage}/{name}")
        if value is not None:
            return value, f"{of}, weights of epoch {run.best['epoch']}" if "epoch" in run.best else of
    value = run.last(f"val/{name}")
    return None if value is None else (value, f"validation, epoch {run.done}; the run is not finished")


# --- the page of a run ------------------------------------------------------------------------------------------------


def page_of_run(run: Run, rubric: Rubric) -> str:
    """The page of one run, as HTML.

    Raises:
        RunError: it is of no part.
    """
    part = part_of(run, rubric)
    numbers = {number.name: number for number in rubric.numbers if number.part == part.number}
    shown = answered(run, rubric)
    sections = [_question(run, *each, numbers) for each in shown] or [_no_question(run, rubric, part)]
    curves = [number for number in numbers.values() if number.name not in {show.number for _, show, _ in shown}]
    charts = [Figure(_titled(number), "", _chart(run, number)) for number in curves]
    more = _figures([chart for chart in charts if chart.png], "charts")
    seen = {name for _, show, _ in shown for name in show.figures}
    more += _figures(_others(run, seen))
    sections += [
        _section("All numbers", _numbers(run, numbers)),
        _section("More of the run", more) if more else "",
        _section("Hyperparameters", _pairs({name: _value(value) for name, value in run.flags.items()})),
        _section("Time and machine", _pairs(_circumstances(run))),
    ]
    notes = "".join(f'<p class="lack">{_text(note)}</p>' for note in run.notes)
    head = f'<p class="part">Part {part.number}: {_text(part.title)}</p><h1>{_text(run.name)}</h1>{_lead(run)}{notes}'
    return pages.page(f"{run.name}: {part.title}", STYLE, f"<header>{head}</header>\n" + "\n".join(sections))


def _lead(run: Run) -> str:
    words = [f"{run.done} of {run.flags.get('epochs', '?')} epochs", _duration(run.seconds)]
    words.insert(0, f"finished {run.summary.get('finished', '')}" if run.summary else "not finished")
    return f'<p class="lead">{_text(" · ".join(words))}</p>'


def _question(run: Run, question: Question, show: Show, wanted: dict, numbers: dict[str, Number]) -> str:
    parts = []
    if wanted.get("epochs", 0) > run.done:
        lack = f"Q{question.id} wants {wanted['epochs']} epochs; this run stopped at {run.done}"
        parts.append(f'<p class="lack">{_text(lack)}</p>')
    if show.number:
        number = numbers[show.number]
        parts.append(_headline(run, number, show.expected))
        chart = _chart(run, number)
        parts.append(_figures([Figure(_titled(number), "", chart)], "charts") if chart else "")
    if show.figures:
        parts.append(_figures(list(asked(run, show, wanted).values())))
    parts += [_written(run, show, name) for name in show.texts]
    points = f"{question.points:g} point{'s' if question.points != 1 else ''}"
    title = f'<span class="id">Q{question.id}</span> {_text(question.title)} <small>{points}</small>'
    return f"<section><h2>{title}</h2>\n" + "\n".join(parts) + "\n</section>"


def _headline(run: Run, number: Number, expected: str) -> str:
    """The number that the question asks for, large, with its unit and what the assignment expects."""
    value = final(run, number.name)
    if value is None:
        return f'<p class="lack">{_text(number.name)}: no epoch of this run has it</p>'
    bound = f"<br>assignment: {_text(expected)}" if expected else ""
    unit = f"{_text(number.unit)} ({_text(number.name)}; {_text(value[1])})"
    return f'<p class="headline"><b>{_value(value[0])}</b> <span>{unit}{bound}</span></p>'


def _no_question(run: Run, rubric: Rubric, part: Part) -> str:
    wants = {
        f"Q{question.id} wants {', '.join(f'{name} {_value(value)}' for name, value in each.items())}"
        for question in rubric.questions.values()
        for each in question.runs
        if question.part == part.number
    }
    words = f"No question asks for a run with these hyperparameters. {'; '.join(sorted(wants))}."
    return f'<section><p class="lack">{_text(words)}</p></section>'


def _others(run: Run, seen: set[str]) -> list[Figure]:
    """The last of each figure that no question asked for."""
    last = {name: (epoch, path) for (name, epoch), path in sorted(figures_of(run.folder).items()) if name not in seen}
    return [figure(name, epoch, path) for name, (epoch, path) in last.items()]


def _written(run: Run, show: Show, name: str) -> str:
    path = run.folder / "figures" / name
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        lack = f"Q{show.question} wants figures/{name}; the run has none" + ("" if run.summary else " yet")
        return f'<p class="lack">{_text(lack)}</p>'
    rest = f"\n… ({len(text) - LONGEST_TEXT} more characters)" if len(text) > LONGEST_TEXT else ""
    return f"<pre>{_text(text[:LONGEST_TEXT] + rest)}</pre>"


def _chart(run: Run, number: Number) -> bytes | None:
    """The curve of a number over epochs as PNG, if it is to be drawn and there is something to draw."""
    first = run.first_step.get(f"train/{number.name}_step")
    train, val = run.curve(f"train/{number.name}"), run.curve(f"val/{number.name}")
    label = "training (mean of each epoch)"
    if train[0] and first is not None:
        train, label = ([0, *train[0]], [first, *train[1]]), "training (first step, then the mean of each epoch)"
    return _drawn({label: train, "validation": val}, number)


def _titled(number: Number) -> str:
    return f"{number.name}: {number.unit}"


def _drawn(curves: dict[str, tuple[list[int], list[float]]], number: Number) -> bytes | None:
    from course import figures

    curves = {label: curve for label, curve in curves.items() if curve[0]}
    if not number.curve or not curves:
        return None
    return figures.curves_png(curves, number.unit.split(",")[0], "", log=number.curve == "log")


def _numbers(run: Run, numbers: dict[str, Number]) -> str:
    """All that has a unit: first step, the last epoch, and the test."""
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
            rows.append([f"<b>{_text(number.name)}</b><br><small>{_text(number.unit)}</small>", *map(_value, cells)])
    return _table(["", *map(_text, columns)], rows)


def _circumstances(run: Run) -> dict[str, str]:
    """Time, machine, versions: of the summary, so only of a run that is finished."""
    summary, found = run.summary, {"training": _duration(run.seconds)}
    if run.done:
        found["an epoch"] = _duration(run.seconds / run.done)
    for name, unit in {"finished": "", "parameters": "", "peak_memory_gb": " GB", "git_commit": ""}.items():
        if summary.get(name) is not None:
            found[name.removesuffix("_gb").replace("_", " ")] = f"{_value(summary[name])}{unit}"
    for name in ("machine", "versions"):
        if isinstance(summary.get(name), dict):
            found |= {key: _value(value) for key, value in summary[name].items()}
    return found


# --- several runs -----------------------------------------------------------------------------------------------------


def page_of_several(runs: list[Run], rubric: Rubric) -> str:
    """The page that puts runs of one part side by side, as HTML.

    Raises:
        RunError: they are of several parts, or of none.
    """
    part = part_of(runs[0], rubric)
    for run in runs[1:]:
        if part_of(run, rubric) != part:
            raise RunError(
                f"{run.folder}: is a run of part {part_of(run, rubric).number} ({run.program}), {runs[0].folder} one of"
                f" part {part.number} ({part.logs}); only runs of one part stand side by side"
            )
    titles = differences([run.folder for run in runs], [run.flags for run in runs])
    if len(set(titles)) < len(runs):
        titles = [run.name for run in runs]
    numbers = [number for number in rubric.numbers if number.part == part.number]
    charts = [Figure(f"{_titled(number)}, validation", "", _compared(runs, titles, number)) for number in numbers]
    names = ", ".join(run.name for run in runs)
    head = f'<p class="part">Part {part.number}: {_text(part.title)}</p><h1>{len(runs)} runs side by side</h1>'
    sections = [
        f'<header>{head}<p class="lead">{_text(names)}</p></header>',
        _section("Runs", _table(["", *map(_text, titles)], _about(runs, rubric))),
        _section("Numbers", _final_numbers(runs, titles, numbers)),
        _section("Curves", _figures([chart for chart in charts if chart.png], "charts")),
        _section("Figures", _table(["", *map(_text, titles)], _rows(runs, rubric), "pictures")),
    ]
    return pages.page(f"{len(runs)} runs: {names}", STYLE, "\n".join(sections))


def _about(runs: list[Run], rubric: Rubric) -> list[list[str]]:
    """Rows on what the runs are: folder, questions, epochs, time, and the flags that differ."""
    flags = sorted({name for run in runs for name in run.flags})
    differ = [name for name in flags if len({str(run.flags.get(name)) for run in runs}) > 1]
    answers = [", ".join(f"Q{question.id}" for question, _, _ in answered(run, rubric)) for run in runs]
    rows = [["run", *(_text(run.name) for run in runs)], ["answers", *map(_text, answers)]]
    rows.append(["epochs", *(f"{run.done} of {_value(run.flags.get('epochs'))}" for run in runs)])
    rows.append(["finished", *("yes" if run.summary else "no" for run in runs)])
    rows.append(["training", *(_duration(run.seconds) for run in runs)])
    return rows + [[_text(name), *(_value(run.flags.get(name)) for run in runs)] for name in differ if name != "epochs"]


def seeds(runs: list[Run]) -> list[list[Run]]:
    """The runs in groups of which the flags are the same but for the seed."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = str(sorted((name, str(value)) for name, value in run.flags.items() if name not in {"seed", *SAY_NOTHING}))
        groups.setdefault(f"{run.done} {key}", []).append(run)
    return list(groups.values())


def _final_numbers(runs: list[Run], titles: list[str], numbers: list[Number]) -> str:
    """A column for each run, or for the runs that differ in their seed alone: then mean and standard deviation."""
    groups = seeds(runs)
    alone = dict(zip((run.folder for run in runs), titles, strict=True))
    header = [alone[group[0].folder] if len(group) == 1 else f"{len(group)} seeds, mean ± standard deviation: "
              + ", ".join(run.name for run in group) for group in groups]  # fmt: skip
    rows = []
    for number in numbers:
        cells = [_final(group, number.name) for group in groups]
        if any(cells):
            rows.append([f"<b>{_text(number.name)}</b><br><small>{_text(number.unit)}</small>", *cells])
    return _table(["", *map(_text, header)], rows)


def _final(group: list[Run], name: str) -> str:
    found = [each for run in group if (each := final(run, name))]
    if len(found) < 2:
        return f"{_value(found[0][0])}<br><small>{_text(found[0][1])}</small>" if found else ""
    values = [value for value, _ in found]
    kinds = {of.split(",")[0] for _, of in found}
    single = f"{'; '.join(sorted(kinds))}: {', '.join(map(_value, values))}"
    return f"{_value(statistics.mean(values))} ± {statistics.stdev(values):.2g}<br><small>{_text(single)}</small>"


def _compared(runs: list[Run], titles: list[str], number: Number) -> bytes | None:
    return _drawn({title: run.curve(f"val/{number.name}") for run, title in zip(runs, titles, strict=True)}, number)


def _rows(runs: list[Run], rubric: Rubric) -> list[list[str]]:
    """A row for each figure that a question asks of one of the runs; or else for the last ones of each name."""
    wanted = [
        {key: each for _, show, flags in answered(run, rubric) for key, each in asked(run, show, flags).items()}
        for run in runs
    ]
    if not any(wanted):
        wanted = [{(each.name, "last"): each for each in _others(run, set())} for run in runs]
    rows = []
    for name, epoch in sorted({key for each in wanted for key in each}, key=lambda key: (key[0], str(key[1]).zfill(6))):
        cells = [each.get((name, epoch)) or _if_there(run, name, epoch) for run, each in zip(runs, wanted, strict=True)]
        rows.append([_text(_caption(name, epoch)), *map(_figure, cells)])
    return rows


def _if_there(run: Run, name: str, epoch: int | str) -> Figure:
    """A figure that no question asks of this run."""
    path = _drawn_at(run, name).get(epoch)
    return figure(name, epoch, path) if path else Figure(name, epoch, None)


# --- pieces of HTML ---------------------------------------------------------------------------------------------------


def _text(text: str) -> str:
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"))


def _value(value: object) -> str:
    """A number with four digits, or text, escaped."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None:
        return "–"
    return f"{value:,}" if type(value) is int and value >= 10_000 else _text(str(value)[:200])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{_text(title)}</h2>\n{body}\n</section>"


def _figures(figures: list[Figure], kind: str = "") -> str:
    return f'<div class="figures {kind}">{"".join(map(_figure, figures))}</div>' if figures else ""


def _figure(each: Figure) -> str:
    shown = _text(_caption(each.name, each.epoch))
    caption = f"<figcaption>{shown}</figcaption>"
    if each.png is None:
        lack = f'<div class="lack">{_text(each.lack)}</div>' if each.lack else "–"
        return f"<figure>{lack}{caption}</figure>"
    data = base64.b64encode(each.png).decode()
    return f'<figure><img src="data:image/png;base64,{data}" alt="{shown}">{caption}</figure>'


def _table(header: list[str], rows: list[list[str]], kind: str = "") -> str:
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "\n".join(f"<tr><th>{row[0]}</th>{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>" for row in rows)
    return f'<div class="table {kind}"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _pairs(pairs: dict[str, str]) -> str:
    """Names and values; the values are escaped."""
    cells = "".join(f"<div><dt>{_text(name)}</dt><dd>{value}</dd></div>" for name, value in pairs.items())
    return f"<dl>{cells}</dl>"


STYLE = """
:root { --ink: #1d2129; --soft: #636b78; --line: #e0e3e8; --paper: #fff; --back: #f4f5f7; --accent: #2f6db0;
  --warn: #9a5b00; --warn-back: #fff6e5; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ec; --soft: #9aa3b0; --line: #343a44; --paper: #1d2127; --back: #14171b; --accent: #7db2ea;
    --warn: #f0b95a; --warn-back: #33290f; }
  .charts img { filter: invert(.9) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 72rem;
  margin: 0 auto; padding: 1.5rem 1rem 3rem; overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; line-height: 1.35; margin: 0 0 1rem; }
small, .lead, .part, figcaption, dt { color: var(--soft); }
small { font-weight: normal; font-size: .85em; }
.part { margin: 0; text-transform: uppercase; letter-spacing: .05em; font-size: .8rem; }
.lead { margin: 0 0 1rem; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 1.2rem 1.4rem;
  margin: 0 0 1.1rem; }
.id { color: #fff; background: #2f6db0; border-radius: 5px; padding: .1em .5em; margin-right: .3em; }
.headline { display: flex; gap: 1rem; align-items: center; margin: 0 0 1rem; }
.headline b { font-size: 2.4rem; line-height: 1; color: var(--accent); font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
.headline span { font-size: .95rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; margin: 0 0 1rem; }
.charts { grid-template-columns: repeat(auto-fill, minmax(min(28rem, 100%), 1fr)); }
figure { margin: 0; break-inside: avoid; }
img { width: 100%; height: auto; display: block; border-radius: 6px; }
figcaption { font-size: .85rem; margin-top: .35rem; }
.lack { color: var(--warn); background: var(--warn-back); border: 1px dashed var(--warn); border-radius: 6px;
  padding: .6rem .8rem; margin: 0 0 1rem; }
figure .lack { display: flex; align-items: center; justify-content: center; text-align: center; min-height: 12rem;
  margin: 0; font-size: .9rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; overflow-wrap: normal; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .45em 1em .45em 0; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: normal; font-size: .85rem; }
tbody th { font-weight: normal; min-width: 8rem; }
.pictures td { min-width: 15rem; width: 50%; }
.pictures figcaption { display: none; }
.pictures .lack { min-height: 4rem; }
tr { break-inside: avoid; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: .6rem 1.2rem; margin: 0; }
dt { font-size: .8rem; }
dd { margin: 0; }
pre { font: 13px/1.45 ui-monospace, monospace; background: var(--back); border-radius: 6px; padding: 1rem; margin: 0;
  white-space: pre-wrap; max-height: 30rem; overflow: auto; }
@media print {
  :root { --ink: #000; --soft: #555; --line: #ccc; --paper: #fff; --back: #fff; --accent: #1d4f86; --warn: #7a4800;
    --warn-back: #fff; color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 11pt; }
  section { border: 0; padding: 0; }
  pre { max-height: none; }
  .figures { grid-template-columns: repeat(3, 1fr); }
  .charts { grid-template-columns: repeat(2, 1fr); }
  .charts img { filter: none; }
}
"""


# --- command line -----------------------------------------------------------------------------------------------------


def write(folder: Path) -> Path:
    """Write the page of a run into its folder.

    Raises:
        RunError, course.rubric.RubricError, OSError: with what is wrong.
    """
    return write_whole(folder / FILE, page_of_run(read(folder), read_rubric()).encode())


def command(args: argparse.Namespace) -> None:
    """One run: its page; several: the page that puts them side by side."""
    rubric = read_rubric()
    runs = [read(folder) for folder in args.runs]
    page = page_of_run(runs[0], rubric) if len(runs) == 1 else page_of_several(runs, rubric)
    out = args.output or (args.runs[0] / FILE if len(runs) == 1 else Path(FILE))
    print(write_whole(out, page.encode()))


def _html_file(text: str) -> Path:
    if not text.endswith(".html"):
        raise argparse.ArgumentTypeError(f"{text!r}: the page is HTML, so its name should end in .html")
    return Path(text)


def add(commands) -> None:
    """Add the command to those of `python -m course`."""
    parser = commands.add_parser("report", help="a page (HTML) of a run, or of several side by side")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, e.g. logs/vae/version_0")
    where = f"the page to write (default: {FILE} in the run's folder; of several runs, here)"
    parser.add_argument("-o", "--output", type=_html_file, metavar="FILE", help=where)
    parser.set_defaults(run=command)
