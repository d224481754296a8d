"""Tests of bench: the command line and quick checks."""

import argparse
import math
import re
import time
from types import SimpleNamespace

import pytest
import pytorch_lightning
import torch
from bench_cases import some_record
from torch.testing import assert_close

from bench import __main__ as bench
from bench import epochs, grading, growth, part1, part2, recipe, startup, steps
from bench.record import Record, read
from course.training.exact import Reproducible
from part3_gpt.gpt import GPT, GPTConfig
from small_runs import with_callback


def quick(size: int, rounds: int = 1) -> argparse.Namespace:
    return argparse.Namespace(batches=size, rounds=rounds)


# --- command line -----------------------------------------------------------------------------------------------------


def test_a_wrong_name(results, capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(["part1_sped"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "'part1_sped': choose from steps, part1_speed" in said and "overview" in said
    assert not results.exists()


def test_a_measurement_is_written_and_the_page_with_it(results, monkeypatch, capsys):
    monkeypatch.setattr(bench, "MEASUREMENTS", {"first": lambda args, data: some_record(), "second": None})
    assert bench.main(["first", "--rounds", "2"]) == 0
    found = read(results / "first.json")
    assert found.made.startswith(f"`python -m bench first --rounds 2`, {time.strftime('%Y-')}")
    assert f"torch {torch.__version__.split('+')[0]}" in found.made
    assert found.markdown() in capsys.readouterr().out
    assert found.made.strip() in (results.parent / "README.md").read_text()


def test_a_quick_look_writes_nothing(results, monkeypatch, capsys):
    monkeypatch.setattr(bench, "MEASUREMENTS", {"first": lambda args, data: some_record()})
    assert bench.main(["first", "--batches", "1"]) == 0
    assert "| memory | 2.5 GB | below 2 |" in capsys.readouterr().out
    assert not results.exists()


def test_overview_measures_nothing(results, monkeypatch, capsys):
    monkeypatch.setattr(bench, "MEASUREMENTS", {"first": None})
    assert bench.main(["overview"]) == 0
    assert capsys.readouterr().out == f"written to {results.parent / 'README.md'}\n"


# --- quick checks -----------------------------------------------------------------------------------------------------


def looked_at(record: Record, sizes: list[int], costs: int) -> None:
    (table,) = record.tables
    assert [row[0] for row in table.rows] == [str(size) for size in sizes]
    numbers = [float(cell) for row in table.rows for cell in row[1:]]
    assert len(numbers) == 2 * costs * len(sizes) and min(numbers) > 0
    exponents = [row for row in record.rows if "exponent" in row.measure]
    assert len(exponents) == costs and all(math.isfinite(row.value) for row in record.rows)
    assert set(record.pictures) == set(record.plots) and all(record.pictures.values())


def test_the_fast_tests_are_those_of_make_test():
    make = (startup.REPOSITORY / "Makefile").read_text()
    assert re.search(r"^PYTEST_FLAGS := (.*)$", make, re.MULTILINE)[1].split() == startup.ALL[-6:]


@pytest.mark.slow
def test_the_first_test_of_a_file(tmp_path):
    """Check that the benchmark does not wait for the second test."""
    (tmp_path / "test_two.py").write_text(TWO_TESTS)
    assert startup.seconds_to_the_first_test(str(tmp_path / "test_two.py")) > 0
    assert (tmp_path / "one.mark").exists() and not (tmp_path / "two.mark").exists()
    for wrong in ("", "import nothing_of_this_name", "def test_one(): assert 0"):
        (tmp_path / "test_wrong.py").write_text(wrong)
        with pytest.raises(RuntimeError, match="test_wrong.py: the first test did not pass:\n"):
            startup.seconds_to_the_first_test(str(tmp_path / "test_wrong.py"))


TWO_TESTS = """
import pathlib
import time

HERE = pathlib.Path(__file__).parent


def test_one():
    (HERE / "one.mark").touch()


def test_two():
    time.sleep(1000)
    (HERE / "two.mark").touch()
"""


SMALL = {"num_filters": 8, "z_dim": 2}


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    ("size", "count"), [(SMALL, 25), pytest.param({}, 100, marks=pytest.mark.slow)], ids=["small", "default"]
)
@pytest.mark.parametrize("program", ["vae", "aae"], indirect=True)
def test_the_losses_of_train_py_are_those_of_the_plain_loop(program, mnist_files, monkeypatch, size, count):
    """Check that a step's optimizations (layout, fused optimizers, one row per pixel) do not change the losses."""
    part, plain, loss = {"vae": (part1, part1.Plain, "bpd"), "aae": (part2, part2.LitAAE, "ae_loss")}[program.name]
    losses, layouts = [], set()

    class Watch(pytorch_lightning.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            losses.append(trainer.callback_metrics[f"train/{loss}_step"].item())
            kernels = [weight for weight in pl_module.parameters() if weight.dim() == 4]
            layouts.add(all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels))

    model = plain(**size)
    batch = 16 if size else part.BATCH
    sizes = {"batch_size": batch, "limit_batches": count} | {name: model.hparams[name] for name in SMALL}
    with monkeypatch.context() as patch:
        patch.setattr(pytorch_lightning, "Trainer", with_callback(Watch()))
        flags = [f"--{name}={value}" for name, value in sizes.items()]
        assert program("--epochs", "1", "--channels_last", *flags) == 0
    assert layouts == {True} and len(losses) == count
    assert losses[-1] < losses[0] - (0 if size else 0.5), losses[::99]
    pytorch_lightning.seed_everything(42, verbose=False)
    model, loader = plain(**size), part.mnist(mnist_files, batch)[0]
    optimizers = model.configure_optimizers()
    step = part.stepper(model, *(optimizers if isinstance(optimizers, list) else [optimizers]))
    seeds, trainer = Reproducible(42), SimpleNamespace(global_rank=0, current_epoch=0)
    trainer.strategy = SimpleNamespace(root_device=torch.device("cpu"))
    loader.sampler.set_epoch(0)
    expected = []
    for index, (images, _) in zip(range(count), loader, strict=False):
        seeds.on_train_batch_start(trainer, model, None, index)
        expected.append(step(images).item())
    assert_close(torch.tensor(losses), torch.tensor(expected), rtol=0, atol=1e-4)


def test_the_convolutions_of_a_step_are_all_there(mnist_files, monkeypatch):
    """Compare the operations with those of the assignment's networks, counted by hand."""
    monkeypatch.setattr(steps, "FIRST", 1)
    for part in (part1, part2):
        monkeypatch.setattr(part, "BATCH", 3)
    layers = [(1, 32, 14), (32, 32, 14), (32, 64, 7), (64, 64, 7), (64, 64, 4)]  # input, output channels, output size
    layers += [(64, 64, 4), (64, 64, 7), (64, 32, 7), (32, 32, 14)]  # for transposed convolutions, the input size
    for name, last in {"VAE, batch 128": 16, "AAE, batch 64": 1}.items():
        products = [9 * i * o * size**2 for i, o, size in [*layers, (32, last, 14)]]
        batch = steps.PARTS[name].BATCH
        work = steps.convolutions(steps.PARTS[name], mnist_files)
        assert epochs.operations(work) == 2 * batch * (3 * sum(products) - products[0])  # images need no gradient
        assert steps.alone_milliseconds(name, mnist_files, 1) > 0


def test_the_ways_of_a_piece_give_the_same(monkeypatch):
    monkeypatch.setattr(steps.part1, "BATCH", 3)
    for x, ways in steps.pieces().values():
        first, *others = ways.values()
        y = first(x)
        (expected,) = torch.autograd.grad(y, x, gradient := torch.randn_like(y))
        for way in others:
            assert_close(way(x), y)
            assert_close(torch.autograd.grad(way(x), x, gradient)[0], expected)
    assert {row[0] for row in steps.piece_table(1).rows} == {"cross-entropy", "GELU", "Adam"}


def test_growth_with_the_batch(monkeypatch):
    monkeypatch.setattr(growth, "steps_at", lambda size: 4)  # for small batches too
    record = growth.batch(quick(4), None)
    looked_at(record, [1, 2, 4], 3)
    assert [row.unit for row in record.rows] == [""] * 3 + ["ms"] * 6


def test_growth_with_the_context():
    record = growth.context(quick(32), None, "gpt-nano")
    looked_at(record, [2, 4, 8, 16, 32], 4)
    assert [row.wanted for row in record.rows] == ["about 1", "about 2", "", ""]


def test_a_text_is_reached_when_its_last_token_is_there(monkeypatch):
    model = GPT(GPTConfig("gpt-nano", vocab_size=5, block_size=8)).eval()
    clock = iter(range(100))
    monkeypatch.setattr(growth.time, "perf_counter", lambda: next(clock))
    assert growth.seconds_to_reach(model, [2, 4, 8], use_cache=True) == [1, 3, 7]  # the first token is given


@pytest.mark.slow
def test_growth_with_the_runs(mnist_files):
    record = growth.reports(quick(4), mnist_files)
    looked_at(record, [1, 2, 4], 4)
    sizes = [float(row[5]) for row in record.tables[0].rows]
    assert 3.5 < sizes[2] / sizes[0] < 4.5  # MB for one page per run


def test_copies_of_a_run_are_runs_of_their_own(tmp_path):
    from course.runs import folder as runs
    from course.runs import side_by_side
    from small_runs import make_run

    run = make_run(tmp_path / "vae" / "version_0", "vae", {"lr": 0.5, "epochs": 1}, [{"val/bpd": 2.0}], {})
    (run / "checkpoints").mkdir()
    found = [runs.read(folder) for folder in growth.copies(run, 3)]
    assert [each.flags["lr"] for each in found] == [0.001, 0.002, 0.003]
    assert all(each.done == growth.EPOCHS for each in found) and not (found[0].folder / "checkpoints").exists()
    assert len({each.last("val/bpd") for each in found}) == 3
    assert len(side_by_side.seeds(found)) == 3  # one column per run


def test_growth_with_the_submissions(monkeypatch):
    """Replace the grader with a stub; check its arguments, and that each call gets a new output folder."""
    seen = []

    def grade(folder, out):
        seen.append((len(list(folder.iterdir())), out.exists()))
        return float(seen[-1][0]), 0.0

    monkeypatch.setattr(grading, "grade", grade)
    record = growth.submissions(quick(4, rounds=2), None)
    assert seen == [(1, False), (2, False), (4, False)] * 2
    looked_at(record, [1, 2, 4], 1)
    assert record.rows[0].value == 1 and record.rows[0].met


@pytest.mark.slow
def test_growth_with_the_submissions_of_a_class():
    looked_at(growth.submissions(quick(4), None), [1, 2, 4], 1)


def test_the_grader_beside_a_fresh_pytest_and_the_tests_alone(monkeypatch):
    monkeypatch.setattr(grading, "grade", lambda folder, out: (20.0, 1.5))
    monkeypatch.setattr(grading, "fresh_pytest", lambda submissions, folder: 40.0)
    monkeypatch.setattr(grading, "tests_alone", lambda times: 3.0)
    rows = {row.measure.split(" (")[0]: row.value for row in grading.speed(quick(10), None).rows}
    # the grader takes 20 s for 10 submissions, fresh pytest 40 s for 6, and the tests alone 3 s for 2
    assert list(rows.values()) == [30, 9, 3.3, 1.5, 40, 0.75, 4.4], rows


@pytest.mark.slow
def test_the_tests_alone_must_pass(tmp_path):
    for name, line in {"right": "pass", "wrong": "assert False"}.items():
        (tmp_path / f"test_{name}.py").write_text(f"def test_it():\n    {line}\n")
    assert 0 < epochs.alone(grading.seconds_of_tests, [tmp_path / "test_right.py"], 2) < 5
    with pytest.raises(RuntimeError, match="the solution fails"):
        epochs.alone(grading.seconds_of_tests, [tmp_path / "test_wrong.py"], 2)


# --- time to quality --------------------------------------------------------------------------------------------------


def a_summary(losses: list[float], distances: list[float], bpd: float) -> dict:
    """Return the summary of a run with these metrics per epoch and this test bpd."""
    rows = zip(losses, distances, strict=True)
    history = [{"epoch": n, "val/recon_loss": a, "val/mmd": b} for n, (a, b) in enumerate(rows, 1)]
    best = min(history, key=lambda row: row["val/recon_loss"])["epoch"]
    return {"history": history, "best": {"epoch": best}, "results": {"test/bpd": bpd}, "machine": {"threads": 1},
            "finished": "2026-11-24T00:00:00Z"}  # fmt: skip


def test_quality_of_the_seeds_and_their_mean(monkeypatch):
    bpd = {42: 0.5, 43: 0.51, 44: 0.53}
    losses = {"aae_fast": [0.06, 0.049, 0.05], "aae_assignment": [0.07, 0.06, 0.055]}
    distances = {"aae_fast": [0.1, 0.3, 0.002], "aae_assignment": [0.004, 0.2, 0.001]}

    def summary_of(name, seed, data, batches):
        return a_summary(losses.get(name, [1.0] * 18), distances.get(name, [1.0] * 18), bpd[seed])

    monkeypatch.setattr(recipe, "summary_of", summary_of)
    monkeypatch.setattr(recipe, "extra", lambda plan, data: 1.25)
    found = {row.measure: row for row in recipe.recipe(quick(1), None).rows}
    vae = found["vae_fast: test/bpd of the best epoch, 3 seeds, standard deviation 0.015"]
    assert (vae.value, vae.met) == (0.5133, True)
    loss = found["aae_fast: val/recon_loss of the best epoch, 3 seeds, standard deviation 0"]
    assert (loss.value, loss.met) == (0.049, True)
    assert found["aae_assignment: val/mmd of the last epoch"].value == 0.001
    assert found["aae_assignment: val/mmd, median of the last 3 epochs (0.001 to 0.2)"].value == 0.004
    distance = found["val/mmd of the last epochs: aae_fast / aae_assignment"]
    assert (distance.value, distance.met) == (2.0, False)
    assert found["val/mmd: aae_fast / that median"].value == 0.5
    worth = found["vae_fast: operations, in epochs of the assignment's recipe"]
    assert (worth.value, worth.wanted, worth.met) == (22.5, "at most 20", False)
    [best] = recipe.recipe_80(quick(1), None).rows
    assert (best.measure, best.value) == ("vae_fast_80: test/bpd of the best epoch", 0.5)
