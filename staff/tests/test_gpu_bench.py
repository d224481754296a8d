"""Tests of the measurements on a GPU: their requirements, their tables, and their arithmetic."""

from types import SimpleNamespace

import pytest
import torch

from bench import __main__ as bench
from bench import gpu
from bench.record import Record
from part3_gpt.gpt import GPT, GPTConfig

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="tests the message on a machine without a GPU")


@without_gpu
def test_it_needs_a_gpu(capsys):
    assert bench.main(["gpu"]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "needs a CUDA GPU" in said.err and not said.out


@pytest.mark.parametrize("there_is_one", [True, False])
def test_all_measurements_are_those_that_can_be_made_here(capsys, monkeypatch, tmp_path, there_is_one):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there_is_one)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    done = []
    for name in bench.MEASUREMENTS:
        monkeypatch.setitem(bench.MEASUREMENTS, name, lambda args, folder, name=name: done.append(name) or Record())
    results = tmp_path / "bench" / "results"
    monkeypatch.setattr(bench, "RESULTS", results)
    assert bench.main([]) == 0
    of_hours = {"recipe", "recipe_80"}
    assert done == [name for name in bench.MEASUREMENTS if name not in of_hours and (there_is_one or name != "gpu")]
    assert ("gpu: skipped" in capsys.readouterr().out) != there_is_one
    assert (results / "gpu.md").exists() == there_is_one


def cells(report: str) -> dict[str, tuple[str, str]]:
    """Return quantity -> (value obtained, goal), from the first row with this quantity."""
    rows = [line.strip("| ").split(" | ") for line in report.splitlines() if line.startswith("| ")]
    return {row[0]: (row[1], row[2].strip(" |") if len(row) > 2 else "") for row in reversed(rows)}


def check_rows(found: dict[str, tuple[str, str]], rows: tuple[int, ...]) -> None:
    """Check that the tables contain every row with its goal."""
    for flags in ("", " --precision bf16-mixed", " --compile", " --compile --precision bf16-mixed"):
        assert found[f"seconds per epoch: train.py{flags}"][1] == "below 1.5"
        total = [
            what
            for what in found
            if what.startswith(f"seconds for 80 epochs, with startup and report: train.py{flags}")
        ]
        assert total and all(found[what][1] == "below 120" for what in total)
    for name in ("ours", "transformers", "ours, compiled", "transformers, compiled"):
        assert f"tokens/s: {name}" in found
    for count in rows:
        assert "same" in found[f"float32, batch {count}: ours / transformers"][0]
        assert found[f"float32, batch {count}: ours / transformers"][1] == "above 1; the same tokens"
        assert found[f"bfloat16, batch {count}: ours / transformers"][1] == "above 1"


@pytest.mark.slow
def test_a_quick_look_on_any_machine(mnist_files, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "LIMIT", 3600)  # a busy machine may take longer than the usual eight minutes
    assert bench.main(["gpu", "--batches", "2", "--data_dir", str(mnist_files)]) == 0
    report = capsys.readouterr().out
    assert "failed" not in report and "skipped" not in report and "not known;" not in report
    check_rows(cells(report), gpu.quick(2).rows)


def stubbed(monkeypatch, **stubs) -> None:
    for name, stub in stubs.items():
        monkeypatch.setattr(gpu, name, stub)


@pytest.fixture
def made_up(monkeypatch):
    """Replace the measurements with stubs that return known numbers immediately."""
    stubbed(
        monkeypatch,
        train_run=lambda part, data, epochs, most, *flags: gpu.Timed(2.0, 10 + 2.0 * epochs, epochs),
        bare_vae=lambda scale, data, compiled=False: 1.6 if compiled else 0.8,
        bare_aae=lambda scale, data: 4.0,
        train_rate=lambda scale, make_model, loss_of, compiled: (
            (300e3 if make_model is GPT else 200e3) * (1 + compiled)
        ),
        own_rate=lambda scale, data, most: 250e3,
    )


def test_the_tables(made_up, mnist_files, capsys):
    report = gpu.everything(SimpleNamespace(batches=2), mnist_files).markdown()
    found = cells(report)
    check_rows(found, (1, 2))
    assert found["bare loop, compiled"][0] == "1.6"
    assert found["seconds for 80 epochs, with startup and report: train.py (from a run of 3)"][0] == "170"
    assert [line for line in report.splitlines() if line.startswith("| train.py / bare loop")] == [
        "| train.py / bare loop | 2.5 |  |", "| train.py / bare loop | 0.5 |  |",
    ]  # fmt: skip
    assert found["tokens/s: ours, compiled"][0] == "600,000"
    assert found["ours / transformers"] == ("1.5", "above 1")
    assert found["float32, batch 2: ours / transformers"][0].endswith("all tokens are the same")


def test_what_fails_and_what_there_is_no_time_for(made_up, monkeypatch, mnist_files):
    def fail(scale, data):
        raise RuntimeError("no | luck\nat all")

    monkeypatch.setattr(gpu, "bare_aae", fail)
    report = gpu.everything(SimpleNamespace(batches=2), mnist_files).markdown()
    assert "| failed: no / luck |" in report and "| train.py / bare loop | not known |" in report
    check_rows(cells(report), (1, 2))
    monkeypatch.setattr(gpu, "LIMIT", 0)
    values = [value for value, _ in cells(gpu.everything(SimpleNamespace(batches=2), mnist_files).markdown()).values()]
    assert set(values) - {"obtained", "---", "not known"} == {"skipped: the time was up"}


def test_a_run_that_takes_too_long_is_ended(mnist_files):
    attempt = gpu.Attempts(100)
    said = attempt("train.py", gpu.own_rate, gpu.quick(2), mnist_files, 0.05)
    assert said == "failed: part3_gpt/train.py was still running after 0.05 s"


def test_gpt2s_flops():
    config = GPTConfig("gpt2", vocab_size=50257, block_size=1024, tie_weights=True)
    with torch.device("meta"):
        model = GPT(config)
    matrices = 12 * 12 * 768**2 + 50257 * 768  # blocks, and the embedding, which is also the last layer
    vectors = 12 * (4 * 768 + 9 * 768) + 2 * 768  # LayerNorms and biases
    assert gpu.flops_per_token(model, config, 1024) == 6 * (matrices + vectors) + 12 * 12 * 768 * 1024


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA H200 MIG 1g.18gb", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", None),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_peaks_that_are_known(name, peak):
    assert gpu.peak_flops(name) == peak


def test_a_gpu_whose_peak_is_known_has_a_utilisation(made_up, monkeypatch):
    scale = gpu.quick(2)
    monkeypatch.setattr(gpu, "peak_flops", lambda name: 1e12)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    scale = gpu.Scale(**{**vars(scale), "device": torch.device("cuda")})
    report = Record(tables=[gpu.gpt_training(scale, None, gpu.Attempts(100))]).markdown()
    with torch.device("meta"):
        flops = gpu.flops_per_token(GPT(scale.config), scale.config, 32)
    assert cells(report)["model FLOP utilisation: ours"][0] == f"{300e3 * flops / 1e12:.1%}"
    assert "TFLOPS" in report and "not known" not in report


@pytest.mark.slow
def test_an_epoch_is_from_one_line_to_the_next(tmp_path, monkeypatch):
    """Time a program that prints the same lines as train.py, but only waits between them."""
    (tmp_path / "part1_vae").mkdir()
    program = "import sys, time\nprint('run folder: x', flush=True)\nfor epoch in range(4):\n"
    program += "    time.sleep(0.5 if epoch == 0 else 0.05)\n    print(f'epoch {epoch}/4', flush=True)\n"
    (tmp_path / "part1_vae" / "train.py").write_text(program + "time.sleep(0.3)\nsys.exit('fail' in sys.argv)\n")
    monkeypatch.setattr(gpu, "REPOSITORY", tmp_path)
    run = gpu.train_run("part1_vae", tmp_path, 4, 100)
    assert run.epochs == 4 and 0.05 <= run.epoch < run.whole - 0.9
    assert run.of(6) == run.whole + 2 * run.epoch
    with pytest.raises(RuntimeError, match="status 1"):
        gpu.train_run("part1_vae", tmp_path, 4, 100, "fail")
    with pytest.raises(RuntimeError, match="0 of 4 epochs in 0 s, then stopped"):
        gpu.train_run("part1_vae", tmp_path, 4, 0.2)
    (tmp_path / "part1_vae" / "train.py").write_text(program + "time.sleep(100)\n")
    run = gpu.train_run("part1_vae", tmp_path, 5, 5)
    assert run.epochs == 4 and run.epoch < 5 <= run.whole, "epochs completed before the stop are counted"
