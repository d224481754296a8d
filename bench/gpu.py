"""`python -m bench gpu`: measure all three parts on a CUDA GPU, in less than ten minutes.

It times epochs of train.py and of bare loops, and compares GPT-2 training (tokens per second, model FLOP utilisation)
and generation with transformers. With --batches, it runs a quick check with tiny models, which does not need a GPU.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bench import part1, part2
from bench.epochs import run_train, seconds_of
from bench.gpu_scale import VAE_EPOCHS, Attempts, Scale, Timed, is_number, quick, ratio, table, whole
from bench.part3 import our_loss, their_loss, their_model, twins
from bench.record import Record, Table
from course.flags import REPOSITORY
from course.training.network import channels_last
from course.training.speed import fuse
from part1_vae.mnist import mnist as four_bit_mnist
from part1_vae.train import VAE
from part2_aae.mnist import mnist
from part2_aae.train import LitAAE
from part3_gpt.build import adamw
from part3_gpt.gpt import GPT, GPTConfig

LIMIT = 480  # no new measurement starts after this many seconds
# pattern that matches the GPU's name -> dense bf16 operations; a MIG slice of a GPU is slower
PEAK_TFLOPS = {r"\bH200(?!.* (NVL|MIG))": 989, r"\bH100 80GB HBM3(?!.* MIG)": 989, r"\bA100\b(?!.* MIG)": 312}


# --- parts 1 and 2 ----------------------------------------------------------------------------------------------------


def train_run(part: str, data: Path, epochs: int, most: float, *flags: str) -> Timed:
    """Run train.py as a user would, and record the time whenever it prints that an epoch is done.

    The time of an epoch is the time between two such lines. It includes training, validation, TensorBoard, checkpoints
    and figures. After `most` seconds the run is stopped and counts as a run of the epochs completed so far.

    Raises:
        RuntimeError: the run failed, or was stopped before it had completed two epochs.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as logs:
        command = [sys.executable, str(REPOSITORY / part / "train.py"), "--epochs", str(epochs), *flags]
        command += ["--data_dir", str(data), "--log_dir", logs, "--no-progress_bar"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            watch = threading.Timer(most, process.kill)
            watch.start()
            ends = [time.perf_counter() for line in process.stdout if line.startswith("epoch ")]
        late = not watch.is_alive()
        watch.cancel()
    if late and len(ends) < 2:
        raise RuntimeError(f"{len(ends)} of {epochs} epochs in {most:.0f} s, then stopped")
    if process.returncode and not late:
        raise RuntimeError(f"train.py exited with status {process.returncode}")
    seconds = [after - before for before, after in zip(ends, ends[1:], strict=False)]
    return Timed(statistics.median(seconds), time.perf_counter() - began, len(ends))


def endless(dataset, batch: int, device: torch.device) -> Iterator[Tensor]:
    """Yield batches of images that are already on the device, epoch after epoch."""
    dataset = dataset.to(device)
    while True:
        for index in torch.randperm(len(dataset), device=device).split(batch)[: len(dataset) // batch]:
            yield dataset.__getitems__(index)[0]


def graphs(device: torch.device) -> str | None:
    """Return the mode that --compile passes to torch.compile on this device."""
    return "reduce-overhead" if device.type == "cuda" else None


def bare_vae(scale: Scale, data: Path, compiled: bool = False) -> float:
    """Return the seconds that an epoch's training steps take, without validation and checkpoints."""
    torch.manual_seed(0)
    dataset, batch = four_bit_mnist(data, part1.BATCH)[0].dataset, part1.BATCH
    vae = channels_last(VAE()).to(scale.device)
    if compiled:
        vae.compile(mode=graphs(scale.device))
    step = part1.stepper(vae, fuse(vae.configure_optimizers()))
    images = endless(dataset, batch, scale.device)
    return seconds_of(lambda: step(next(images)), scale.batches or len(dataset) // batch, scale.device, warm_up=20)


def bare_aae(scale: Scale, data: Path) -> float:
    torch.manual_seed(0)
    dataset, batch = mnist(data, part2.BATCH)[0].dataset, part2.BATCH
    lit = channels_last(LitAAE()).to(scale.device)
    step = part2.stepper(lit, *map(fuse, lit.configure_optimizers()))
    images = endless(dataset, batch, scale.device)
    return seconds_of(lambda: step(next(images)), scale.batches or len(dataset) // batch, scale.device, warm_up=20)


def vae(scale: Scale, data: Path, attempt: Attempts) -> Table:
    ways = {"": (scale.epochs, ()), " --precision bf16-mixed": (scale.few, ("--precision=bf16-mixed",))}
    ways[" --compile"] = (scale.few, ("--compile",))
    ways[" --compile --precision bf16-mixed"] = (scale.few, ("--compile", "--precision=bf16-mixed"))
    runs = {
        flags: attempt(
            f"VAE, train.py{flags}", train_run, "part1_vae", data, epochs, attempt.left(), *scale.flags, *more
        )
        for flags, (epochs, more) in ways.items()
    }
    floor = attempt("VAE, bare loop", bare_vae, scale, data)
    compiled = attempt("VAE, bare loop, compiled", bare_vae, scale, data, True)
    rows = [(f"seconds per epoch: train.py{flags}", epoch_of(run), "below 1.5") for flags, run in runs.items()]
    rows += [("bare loop, without validation and checkpoints", floor, ""), ("bare loop, compiled", compiled, "")]
    rows += [("train.py / bare loop", ratio(epoch_of(runs[""]), floor), "")]
    for flags, run in runs.items():
        how = f" (from a run of {run.epochs})" if isinstance(run, Timed) and run.epochs < VAE_EPOCHS else ""
        total = run.of(VAE_EPOCHS) if isinstance(run, Timed) else run
        rows.append(
            (f"seconds for {VAE_EPOCHS} epochs, with startup and report: train.py{flags}{how}", total, "below 120")
        )
    return table(f"VAE, batch {part1.BATCH}, train.py with --channels_last", rows)


def aae(scale: Scale, data: Path, attempt: Attempts) -> Table:
    run = epoch_of(attempt("AAE, train.py", train_run, "part2_aae", data, scale.few, attempt.left(), *scale.flags))
    floor = attempt("AAE, bare loop", bare_aae, scale, data)
    rows = [
        ("seconds per epoch: train.py", run, ""),
        ("bare loop, without validation and checkpoints", floor, ""),
        ("train.py / bare loop", ratio(run, floor), ""),
    ]
    return table(f"AAE, batch {part2.BATCH}, train.py with --channels_last", rows)


def epoch_of(run: Timed | str) -> float | str:
    return run.epoch if isinstance(run, Timed) else run


# --- part 3 -----------------------------------------------------------------------------------------------------------


def flops_per_token(model: nn.Module, config: GPTConfig, block_size: int) -> int:
    """Return 6 N + 12 L H Q T for forward and backward (PaLM, appendix B); as in nanoGPT, N omits position weights."""
    config = config.with_sizes()
    parameters = sum(parameter.numel() for parameter in model.parameters()) - config.block_size * config.n_embd
    return 6 * parameters + 12 * config.n_layer * config.n_embd * block_size


def peak_flops(name: str) -> float | None:
    """Return the peak bf16 operations per second of the GPU with this name, or None if it is not known."""
    return next((peak * 1e12 for pattern, peak in PEAK_TFLOPS.items() if re.search(pattern, name)), None)


def train_rate(scale: Scale, make_model: Callable, loss_of: Callable, compiled: bool) -> float:
    """Return the tokens per second of a bare training loop in bf16, on random tokens that are already on the device."""
    torch.manual_seed(0)
    model = make_model(scale.config).to(scale.device).train()
    optimizer = adamw(model, lr=3e-4)
    if compiled:
        model.compile()
    shape = (scale.batch, scale.config.block_size + 1)
    tokens = torch.randint(scale.config.vocab_size, shape, device=scale.device)

    def step() -> None:
        with torch.autocast(scale.device.type, torch.bfloat16):
            loss = loss_of(model, tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return scale.batch * scale.config.block_size * scale.steps / seconds_of(step, scale.steps, scale.device, warm_up=5)


def own_rate(scale: Scale, data: Path, most: float) -> float:
    """Return the tokens per second of train.py's second epoch on characters, with Lightning, metrics and TensorBoard.

    Raises:
        RuntimeError: train.py is still running after `most` seconds.
    """
    flags = ["--epochs=2", "--precision=bf16-mixed", "--generate_every_n_steps=0", "--accelerator=auto"]
    summary = run_train("part3_gpt", data, *scale.gpt_flags, *flags, most=most)
    return summary["history"][-1]["train/tokens_per_second"]


def gpt_training(scale: Scale, data: Path, attempt: Attempts) -> Table:
    models = {"ours": (GPT, our_loss), "transformers": (their_model, their_loss)}
    rates = {
        name + how: attempt(f"GPT training, {name}{how}", train_rate, scale, *of, how != "")
        for how in ("", ", compiled")
        for name, of in models.items()
    }
    own = attempt("GPT training, train.py on characters", own_rate, scale, data, attempt.left())
    peak = peak_flops(torch.cuda.get_device_name()) if scale.device.type == "cuda" else None
    with torch.device("meta"):
        flops = flops_per_token(GPT(scale.config), scale.config, scale.config.block_size)
    rows = [(f"tokens/s: {name}", rate, "") for name, rate in rates.items()]
    if peak:
        rows += [
            (f"model FLOP utilisation: {name}", f"{rate * flops / peak:.1%}" if is_number(rate) else rate, "")
            for name, rate in rates.items()
        ]
    for how in ("", ", compiled"):
        rows.append(
            (f"ours{how} / transformers{how}", ratio(rates[f"ours{how}"], rates[f"transformers{how}"]), "above 1")
        )
    rows.append(("tokens/s: train.py with the same sizes, on characters (a small vocabulary)", own, ""))
    config = scale.config
    title = f"GPT training, {config.model_type}, block {config.block_size}, batch {scale.batch}, bf16-mixed"
    note = f"{flops / 1e9:.3f} GFLOP per token" + (
        f", peak {peak / 1e12:.0f} TFLOPS" if peak else "; no MFU, because the peak of this device is not known"
    )
    return table(f"{title}: {note}", rows)


def generation_rates(scale: Scale, models: dict[str, nn.Module], rows: int) -> tuple[dict[str, float], float]:
    """Return each model's new tokens per second with greedy decoding, and the fraction of tokens that agree."""
    torch.manual_seed(0)
    prompts = torch.randint(scale.config.vocab_size, (rows, scale.prompt), device=scale.device)
    rates, tokens = {}, {}

    def generate(name: str) -> None:
        tokens[name] = models[name].generate(prompts, max_new_tokens=scale.new)

    for name, model in models.items():
        model.generate(prompts, max_new_tokens=2)
        rates[name] = rows * scale.new / seconds_of(partial(generate, name), 1, scale.device, warm_up=0)
    ours, theirs = (tokens[name][:, scale.prompt :] for name in models)
    return rates, (ours == theirs).float().mean().item()


def generation(scale: Scale, data: Path, attempt: Attempts) -> Table:
    lines = []
    models = attempt(
        "generation, models", lambda: dict(zip(("ours", "transformers"), twins(scale.config), strict=True))
    )
    for precision in (torch.float32, torch.bfloat16):
        for count in scale.rows:
            what = f"{str(precision).removeprefix('torch.')}, batch {count}"

            def measure(count=count, precision=precision):
                at = {name: model.to(scale.device, precision) for name, model in models.items()}
                return generation_rates(scale, at, count)

            result = attempt(f"generation, {what}", measure)
            if isinstance(result, str):
                lines.append((f"tokens/s, {what}", result, ""))
                continue
            rates, same = result
            lines += [(f"tokens/s, {what}: {name}", rate, "") for name, rate in rates.items()]
            goal = "above 1; the same tokens" if precision == torch.float32 else "above 1"
            agree = "all tokens are the same" if same == 1 else f"{same:.1%} of the tokens are the same"
            lines.append((f"{what}: ours / transformers", f"{ratio(*rates.values()):.2f}; {agree}", goal))
    title = f"Generation with the cache, {scale.config.model_type}, {scale.prompt} tokens in, {scale.new} out, greedy"
    return table(title, lines)


# --- the table --------------------------------------------------------------------------------------------------------


def everything(args, data: Path) -> Record:
    """Run all sections; measurements that would start after LIMIT seconds are skipped."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    scale = whole() if args.batches is None else quick(args.batches)
    attempt = Attempts(LIMIT)
    # the longest section is last, but its longest run comes first, so that it starts before the time is up
    tables = [section(scale, data, attempt) for section in (generation, gpt_training, aae, vae)]
    note = (
        "Each value is from one run after a warm-up; timing stops when the GPU has finished its work. train.py's time"
        " per epoch is the median of all epochs but the first, with validation, TensorBoard, checkpoints and figures."
        " In float32, convolutions use TF32 if the GPU supports it, and matrix products do not (PyTorch's defaults)."
        " The GPTs have random weights and read random tokens."
    )
    return Record(tables=tables[::-1], notes=note)
