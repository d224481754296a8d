"""Tests of bench: exponents, stored results, and the overview page."""

import json
import math
import re

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from bench_cases import some_record
from PIL import Image

from bench import __main__ as bench
from bench import epochs, growth
from bench.overview import overview
from bench.plots import readable_ticks
from bench.record import RecordError, Row, read

REAL = bench.RESULTS


# --- exponents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor, power", [(3.0, 1.0), (0.002, 2.0), (7.0, 0.4)])
def test_a_power_is_found(factor, power):
    sizes = [5, 10, 20, 40]
    found = growth.power_law(sizes, [factor * size**power for size in sizes])
    assert found == pytest.approx((factor, power), rel=1e-9)


def test_a_power_in_noise_is_that_of_scipy(rng):
    sizes = growth.doubling(512, 10)
    costs = [0.01 * size * math.exp(0.2 * torch.randn((), generator=rng).item()) for size in sizes]
    line = scipy.stats.linregress(np.log(sizes), np.log(costs))
    assert growth.power_law(sizes, costs) == pytest.approx((math.exp(line.intercept), line.slope), rel=1e-9)


def test_a_fixed_cost_and_one_for_each():
    sizes = growth.doubling(512, 10)
    assert growth.fixed_and_each(sizes, [4 + 0.5 * n for n in sizes]) == pytest.approx((4, 0.5), rel=1e-9)


def test_errors_count_in_proportion_to_the_cost(rng):
    sizes = np.array(growth.doubling(512, 10))
    costs = (4 + 0.5 * sizes) * torch.empty(10).uniform_(0.7, 1.4, generator=rng).numpy()
    found = growth.fixed_and_each(sizes.tolist(), costs.tolist())
    best = scipy.optimize.least_squares(lambda line: (line[0] + line[1] * sizes - costs) / costs, x0=(1, 1))
    assert found == pytest.approx(best.x, rel=1e-4)  # scipy stops at relative changes of 1e-8


def test_sizes_double_and_the_upper_half_is_fitted():
    assert growth.doubling(40, 4) == [5, 10, 20, 40]
    assert growth.doubling(4, 7) == [1, 2, 4]
    assert growth.upper([64, 128, 256, 512, 1024]) == [256, 512, 1024]
    assert growth.upper([5, 10, 20, 40]) == [10, 20, 40]


def test_rounds_take_turns_and_the_median_counts():
    order, values = [], {"one": iter([[1.0, 5.0], [9.0, 6.0], [2.0, 70.0]]), "other": iter([[0.0]] * 3)}

    def way(name):
        order.append(name)
        return next(values[name])

    found = growth.measured("", {name: lambda name=name: way(name) for name in values}, 3)
    assert order == ["one", "other"] * 3
    assert found == {"one": [2.0, 6.0], "other": [0.0]}


def test_the_exponent_of_a_record_is_that_of_the_upper_sizes():
    """At smaller sizes, a fixed cost hides the growth."""
    sizes = [1, 2, 4, 8, 16]
    cost = growth.Cost([1.0, 1.0, 1.0, 4.0, 16.0], 1.1, "at most")
    size = growth.Cost([2.0] * 5, unit="MB")
    record = growth.growth_record("growth_pages", "pages", "runs", sizes, {"time": cost, "size": size}, "")
    slow, flat = record.rows
    assert slow == Row("time: exponent, sizes 4 and up", 2.0, "", 1.1, "at most") and not slow.met
    assert flat.value == 0 and flat.met is None
    (table,) = record.tables
    assert table.head == ["runs", "time: s", "ms each", "size: MB", "kB each"]
    assert table.rows[-1] == ["16", "16", "1000", "2", "125"]


def test_the_plot_shows_points_fits_and_exponents(monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: drawn.append(figure))
    sizes = [1, 2, 4, 8, 16]
    cost = growth.Cost([3.0, 3.0, 4.0, 8.0, 16.0])
    growth.growth_record("growth_pages", "pages", "runs", sizes, {"time": cost}, "")
    (axes,) = drawn[0].axes
    points, line = axes.lines
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert points.get_ydata().tolist() == cost.values
    assert line.get_xdata().tolist() == [4, 16] and line.get_ydata() == pytest.approx([4, 16])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["time: exponent 1.00"]


@pytest.mark.parametrize("low, high", [(1e-3, 1e3), (0.01, 2), (21, 95), (2.1, 4.9), (30, 70)])
def test_an_axis_has_a_few_numbers(low, high):
    ticks = readable_ticks(low, high)
    assert ticks == sorted(ticks) and 2 <= len(ticks) <= 8 and low <= ticks[0] and ticks[-1] <= high


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "relation, goal, good, bad",
    [("at most", 2, 2.0, 2.01), ("at least", 2, 2.0, 1.99), ("below", 2, 1.99, 2.0), ("about", 2, 1.75, 2.4)],
)
def test_goals(relation, goal, good, bad):
    assert Row("a", good, "", goal, relation).met is True
    assert Row("a", bad, "", goal, relation).met is False
    assert Row("a", bad).met is None


@pytest.mark.parametrize("goal, relation", [(2, None), (None, "below"), (2, "nearly")])
def test_a_goal_needs_a_relation_that_is_known(goal, relation):
    with pytest.raises(ValueError, match="^speed: .*at most, at least, below, about"):
        Row("speed", 1.0, "", goal, relation)


def test_a_record_is_read_as_it_was_written(tmp_path):
    written = some_record()
    path = written.write(tmp_path, "a")
    assert (tmp_path / "a.png").read_bytes() == b"bytes"
    found = read(tmp_path / "a.json")
    written.pictures = {}
    assert found == written
    assert path.read_text() == found.markdown()
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert rows[1] == {"measure": "memory", "value": 2.5, "unit": "GB", "goal": 2, "relation": "below"}


def test_the_markdown_has_header_tables_goals_words_and_plots_in_this_order():
    assert some_record().markdown("results/").splitlines() == [
        "`command`, date", "",
        "| way | seconds |", "| --- | --- |", "| ours | 1.0 |", "| theirs | 2.0 |", "",
        "| a title | obtained | goal |", "| --- | --- | --- |",
        "| ours / theirs | 0.5 | at most 0.75 |", "| memory | 2.5 GB | below 2 |", "| floor | 7 |  |", "",
        "Words.", "", "![a plot](results/a.png)",
    ]  # fmt: skip


def test_ratios_are_those_of_each_round():
    values = {"ours": [1.0, 3.0, 10.0], "theirs": [2.0, 2.0, 4.0]}
    first, second = epochs.ratio_rows(values, {("ours", "theirs"): 2, ("theirs", "ours"): None}, "at least")
    assert first == Row("ours / theirs", 1.5, "", 2, "at least") and first.met is False
    assert second.value == pytest.approx(0.667) and second.met is None
    assert epochs.value_table("a", "s", values).rows == [
        ["ours", "3.0", "1.0, 3.0, 10.0"],
        ["theirs", "2.0", "2.0, 2.0, 4.0"],
    ]


# --- the overview page ------------------------------------------------------------------------------------------------


def test_overview(results):
    some_record().write(results, "first")
    page = overview(results, ["first", "second"]).read_text()
    assert "1 of 2 goals are met." in page
    assert "| [first](#first) | ours / theirs | 0.5 | at most 0.75 | yes |" in page
    assert "| [first](#first) | memory | 2.5 GB | below 2 | **no** |" in page
    assert "| [first](#first) | floor" not in page  # this row has no goal
    assert page.count("| floor | 7 |  |") == 1
    assert "## second\n\nNot measured yet: `python -m bench second`." in page
    assert read(results / "first.json").markdown("results/") in page
    names = re.findall(r"\]\((results/[^)]+\.png)\)", page)
    assert names == ["results/goals.png", "results/a.png"]
    with Image.open(results / "goals.png", formats=["PNG"]) as picture:
        picture.load()


def test_the_plot_of_goals_has_a_bar_for_each(results, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr("bench.plots._png", lambda figure: drawn.append(figure) or b"")
    some_record().write(results, "first")
    overview(results, ["first"])
    assert isinstance(drawn[0], Figure)
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["first: ours / theirs", "first: memory"]
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    assert ends == pytest.approx([0.5 / 0.75, 2.5 / 2])
    met, not_met = (bar.get_facecolor() for bar in axes.patches)
    assert met != not_met
    assert [text.get_text() for text in axes.texts] == ["0.5, at most 0.75", "2.5 GB, below 2: not met"]


def test_overview_of_nothing(results):
    page = overview(results, ["first"]).read_text()
    assert "0 of 0 goals are met." in page and "Not measured yet" in page and "goals.png" not in page


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"rows": [{}], "tables": []}', '{"rows": [], "tables": [], "more": 1}']
)
def test_a_damaged_result(content, results, capsys):
    results.mkdir(parents=True)
    (results / "grading.json").write_text(content)
    with pytest.raises(RecordError, match="grading.json"):
        read(results / "grading.json")
    with pytest.raises(SystemExit) as end:
        bench.main(["overview"])
    said = capsys.readouterr().err
    assert end.value.code == 2 and f"{results / 'grading.json'}: not a result" in said and "Traceback" not in said


def test_the_page_in_the_repository_is_that_of_the_results(results):
    """If this fails after an edit to a result or to the code that writes the page, run `python -m bench overview`."""
    results.mkdir(parents=True)
    for path in REAL.glob("*.json"):
        (results / path.name).write_bytes(path.read_bytes())
        found = read(path)
        assert found.markdown() == path.with_suffix(".md").read_text(), path.name
        assert all((REAL / file).is_file() for file in found.plots), path.name
    page = overview(results, bench.MEASUREMENTS).read_text()
    assert page == (REAL.parent / "README.md").read_text()
