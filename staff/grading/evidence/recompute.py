"""Judge the submitted runs: recompute their figures with the submission's code."""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from course.rubric import Evidence, Rubric
from staff.grading.archives import show
from staff.grading.evidence.answers import APART, curve, noise, numbers, to_send, unlike
from staff.grading.evidence.images import NoData, draw, four_bits, load_images, to_tanh
from staff.grading.evidence.runs import (
    MOST_CHECKPOINT,
    MOST_EVENTS,
    Doubt,
    Run,
    children,
    find_run,
    named,
    need_file,
    pictures,
)
from staff.grading.sandbox import Allowance, Child, Raised, Undecided, Unfinished

IMAGES = 2000  # images on which a figure is recomputed
BATCH = 250  # images per message
PIXELS = 28 * 28
WHAT = {
    "bpd": "test bits per dimension",
    "reconstruction": "validation reconstruction loss",
    "curves": "training and validation curves",
    "pictures": "pictures",
}
CURVES = ("train/bpd", "val/bpd")
BY_HAND = "To be judged by a person."
OpenChild = Callable[[int], Child]  # the argument: the CPU time limit in seconds


def judge(
    rubric: Rubric, root: Path, open_child: OpenChild, seed: int, seconds: float = 120, images: int = IMAGES
) -> list[dict]:
    """Judge the runs in a staged submission by the rubric's rules for evidence.

    Args:
        root: the staged submission; it must not change during the call.
        open_child: starts a new sandboxed process with this submission; this function closes it.
        seed: determines the images and the noise; the same seed gives the same rows.
        seconds: the total CPU time for all rules; a figure that takes longer earns no points.
        images: the number of images on which a figure is recomputed.

    Returns:
        A row for each rule: question, what, run, claimed, recomputed (numbers or None), points, of, waits_for, and
        warning, a sentence or None. `points` is None if only a person can judge, or if waits_for is "data" (MNIST is
        not available) or "time" (the machine is too busy).

    Raises:
        sandbox.SandboxError: the sandbox does not work.
    """
    allowance = Allowance.of(seconds)
    secret = hashlib.pbkdf2_hmac("sha256", str(seed).encode(), b"evidence", 50_000)  # slow: see `noise`
    return [_Judging(rubric, rule, root, open_child, secret, allowance, images).row() for rule in rubric.evidence]


class _Judging:
    """Judge one rule; see `judge`."""

    def __init__(self, rubric: Rubric, rule: Evidence, root: Path, open_child: OpenChild, secret, allowance, images):
        self.rule, self.root, self.open_child = rule, root, open_child
        self.secret, self.allowance, self.images = secret, allowance, images
        question = rubric.questions[rule.question]
        self.part, self.wanted = rubric.parts[question.part], question.runs[rule.run - 1]
        self.what, self.name = f"{WHAT[rule.what]}, {named(self.wanted)}", f"logs/{self.part.logs}"
        self.warnings: list[str] = []
        self.claimed: float | None = None
        self.recomputed: float | None = None

    def row(self) -> dict:
        points: float | None = 0.0
        waits_for = None
        try:
            run = find_run(self.root, self.part, self.wanted)
            self.name = run.name
            points = {
                "bpd": self._bpd, "reconstruction": self._reconstruction, "curves": self._curves,
                "pictures": self._pictures,
            }[self.rule.what](run)  # fmt: skip
        except Doubt as doubt:
            self.warnings.append(str(doubt))
        except NoData as lack:
            points, waits_for = None, "data"
            self.warnings.append(str(lack))
        except Undecided:
            points, waits_for = None, "time"
            self.warnings.append("Not judged yet: the grader's machine was too busy.")
        warning = " ".join(self.warnings)[:1000] or None
        return {
            "question": self.rule.question, "what": self.what, "run": self.name, "claimed": self.claimed,
            "recomputed": self.recomputed, "points": points, "of": self.rule.points, "warning": warning,
            "waits_for": waits_for,
        }  # fmt: skip

    # each of these methods returns the points, or raises Doubt

    def _bpd(self, run: Run) -> float | None:
        self._claim(run.results.get("test/bpd"), "results, test/bpd")
        imgs = four_bits(draw(load_images()[1], self.images, self.secret))
        bits = self._through_the_checkpoint(run, imgs, self._vae_codes, self._vae_bits)
        return self._value(bits, "bits per dimension", run)

    def _reconstruction(self, run: Run) -> float | None:
        row = next((row for row in run.history if "epoch" in row and row["epoch"] == run.best_epoch), {})
        self._claim(row.get("val/mse", row.get("val/recon_loss")), "history, val/recon_loss of the best epoch")
        imgs = to_tanh(draw(load_images()[0], self.images, self.secret))
        errors = self._through_the_checkpoint(run, imgs, self._aae_codes, self._aae_errors)
        return self._value(errors, "squared error per pixel", run)

    def _curves(self, run: Run) -> float:
        epochs = self.wanted.get("epochs", 1)
        self.what += f": {epochs} epochs, and the bits per dimension at the end"
        self._claim(run.history[-1].get("val/bpd") if run.history else None, "history, val/bpd")
        curves = self._read_curves(run)
        if "val/bpd" in curves:
            self.recomputed = round(curves["val/bpd"][-1], 6)
        for tag in CURVES:
            problem = unlike(curves.get(tag, []), [row.get(tag) for row in run.history], epochs)
            if problem:
                raise Doubt(f"The curve {tag} in the event file {problem}.")
        return self._points(max(curves[tag][-1] for tag in CURVES), "final curve values")

    def _pictures(self, run: Run) -> float:
        self._need_pictures(run)
        return float(self.rule.points)

    def _value(self, values: Tensor, of: str, run: Run) -> float | None:
        """Return the points for the mean of `values` [N], one value per image."""
        value, error = values.mean().item(), values.std().item() / math.sqrt(len(values))
        if not math.isfinite(value):
            raise Doubt(f"The recomputed {of} is not finite.")
        self.recomputed = round(value, 6)
        self.what += f" ({len(values):,} images, standard error {error:.1g})"
        if self.claimed is not None and abs(self.claimed - value) > APART:
            self.warnings.append(f"The claimed value is {self.claimed:.4g}; the recomputed value is {value:.4g}.")
        if self.rule.pictures:
            self._need_pictures(run)
        if self.rule.doubt is not None and value < self.rule.doubt:
            self.warnings.append(f"{value:.4g} is better than this network can achieve. {BY_HAND}")
            return None
        return self._points(value, of)

    def _points(self, value: float, of: str) -> float:
        if value <= self.rule.full:
            return float(self.rule.points)
        self.warnings.append(f"Full points require {of} of at most {self.rule.full:g}; the value is {value:.4g}.")
        return self.rule.points / 2 if self.rule.half is not None and value <= self.rule.half else 0.0

    def _claim(self, value: float | None, where: str) -> None:
        self.claimed = value
        if value is None:
            self.warnings.append(f"The summary has no value for this ({where}).")

    def _need_pictures(self, run: Run) -> None:
        lacking = [f"{name} of {which}" for name in self.rule.pictures for which in self._lacking(run, name)]
        if lacking:
            raise Doubt(f"PNG files are missing from figures/: {', '.join(lacking)}.")

    def _lacking(self, run: Run, name: str) -> list[str]:
        """Return the epochs whose picture is missing: "epoch 20", or "a later epoch" if only epoch 0 has one."""
        drawn = pictures(run.folder, self.root, name)
        missing = [epoch for epoch in self.rule.at if not (drawn - {0} if epoch == "later" else epoch in drawn)]
        return ["a later epoch" if epoch == "later" else f"epoch {epoch}" for epoch in missing]

    # images, noise, and the submission's processes

    def _through_the_checkpoint(self, run: Run, imgs: Tensor, encode: Callable, judge: Callable) -> Tensor:
        """Return a value per image [N]: encode(ask, batch, index) -> code; judge(ask, batch, code) -> values [B]."""
        path = run.folder / "checkpoints" / "best.ckpt"
        need_file(path, self.root, MOST_CHECKPOINT)
        flags = {name: run.flags[name] for name in ("z_dim", "num_filters") if name in run.flags}
        batches = imgs.split(BATCH)
        with self._child(str(path), flags) as ask:
            codes = [encode(ask, batch, number) for number, batch in enumerate(batches)]
        with self._child(str(path), flags) as ask:
            return torch.cat([judge(ask, batch, code) for batch, code in zip(batches, codes, strict=True)])

    def _vae_codes(self, ask: Callable, imgs: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Sample z [B, D] from the encoder's distribution and return it with the KL divergence in nats [B]."""
        shape = (len(imgs), self.wanted["z_dim"])
        answer = ask("stored_runs.vae_encode", imgs)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise Doubt("The encoder should return mean and log_std.")
        mean, log_std = (numbers(each, shape, what) for each, what in zip(answer, ("mean", "log_std"), strict=True))
        z = mean + log_std.exp() * noise(self.secret + number.to_bytes(4, "big"), shape)
        kl = 0.5 * (torch.expm1(2 * log_std) + mean**2) - log_std
        return to_send(z), kl.sum(dim=1)

    def _vae_bits(self, ask: Callable, imgs: Tensor, code: tuple[Tensor, Tensor]) -> Tensor:
        """Return the bound in bits per dimension [B]."""
        z, kl = code
        logits = numbers(ask("stored_runs.vae_decode", z), (len(z), 16, 28, 28), "the logits")
        nats = F.cross_entropy(logits, imgs[:, 0], reduction="none").sum(dim=(1, 2))
        return (nats + kl) * math.log2(math.e) / PIXELS

    def _aae_codes(self, ask: Callable, imgs: Tensor, number: int) -> Tensor:
        z = numbers(ask("stored_runs.aae_encode", imgs), (len(imgs), self.wanted["z_dim"]), "the code")
        return to_send(z)

    def _aae_errors(self, ask: Callable, imgs: Tensor, z: Tensor) -> Tensor:
        """Return the squared error per pixel [B]."""
        decoded = numbers(ask("stored_runs.aae_decode", z), imgs.shape, "the decoded image")
        return (decoded - imgs).square().mean(dim=(1, 2, 3))

    def _read_curves(self, run: Run) -> dict[str, list[float]]:
        """Return the values of each tag in CURVES, ordered by step; the last value of a step counts."""
        files = sorted(path for path in children(run.folder) if path.name.startswith("events.out.tfevents."))
        if not files:
            raise Doubt("There is no event file.")
        left = MOST_EVENTS
        for path in files:
            left -= need_file(path, self.root, left)
        with self._child([str(path) for path in files]) as ask:
            answer = ask("stored_runs.event_curves")
        return {tag: curve(answer[tag], tag) for tag in CURVES if isinstance(answer, dict) and tag in answer}

    @contextmanager
    def _child(self, *first) -> Iterator[Callable]:
        """Start a new process and yield ask(adapter, *args) -> answer, which calls the adapter with (*first, *args).

        Raises:
            Doubt: the process raises an exception or does not answer, or no time is left.
        """
        if min(self.allowance.cpu, self.allowance.idle) <= 0:
            raise Doubt("The time limit was reached.")
        child = self.open_child(self.allowance.cpu_seconds)

        def ask(name: str, *args):
            # the seed is fixed, so that it reveals nothing about the images and the noise drawn here
            return child.call(name, (*first, *args), {}, 0, self.allowance.until, self.allowance)

        try:
            yield ask
        except Raised as error:
            where = f" ({error.places[-1]})" if error.places else ""
            raise Doubt(show(f"The code raises {error.kind}{where}: {error}")) from None
        except Unfinished as error:
            raise Doubt(f"No answer: {show(str(error))}.") from None
        finally:
            child.close()
            self.allowance.cpu = 0 if child.out_of_time else self.allowance.cpu - child.cpu
