"""What a run that is handed in is worth: its figures recomputed, beside those that its summary claims.

Everything in logs/ comes from the submission. Here, its summary is read as JSON of a limited size, of which only finite
numbers are used, and of its pictures the first bytes. Checkpoints and event files are opened by a submission's shut-in
process alone (`inside.stored_runs`), and what it answers is numbers.

A recomputed figure is that of the images, whatever the submission's code does:
- what encodes and what decodes are two processes, one after the other, so the decoder has seen z and nothing else;
- z is drawn here, by noise that cannot be foretold, so the bits that z carries about an image cost what they must.
"""

import hashlib
import json
import math
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from course import data
from course.rubric import Evidence, Part, Rubric
from staff.grading.archives.staging import show
from staff.grading.children import Child, Raised, Unfinished

IMAGES = 2000  # that a figure is recomputed on
BATCH = 250  # of them in a message
PIXELS = 28 * 28
APART = 0.02  # a claimed figure that is farther off gets a warning
MOST_SUMMARY, MOST_EVENTS, MOST_CHECKPOINT = 2_000_000, 30_000_000, 200_000_000  # bytes
MOST_RUNS = 50  # that are looked through for one
PNG = b"\x89PNG\r\n\x1a\n"
WHAT = {
    "bpd": "test bits per dimension",
    "reconstruction": "validation reconstruction loss",
    "curves": "curves of training and validation",
    "pictures": "pictures",
}
CURVES = ("train/bpd", "val/bpd")
BY_HAND = "To be judged by a person."

OpenChild = Callable[[], Child]


class Doubt(Exception):
    """A run shows nothing, or not what it should; the text is a sentence for the student."""


class NoData(Exception):
    """MNIST is not on this machine; the text is a sentence for the grader."""


@dataclass(frozen=True)
class Run:
    """What the summary of a run claims, the finite numbers of it alone.

    `name`: its folder, for people. `history`: for each epoch its numbers.
    """

    folder: Path
    name: str
    flags: dict[str, float | str]
    results: dict[str, float]
    best_epoch: float | None
    history: list[dict[str, float]]


# --- the rows -------------------------------------------------------------------------------------------------------


def judge(
    rubric: Rubric, root: Path, open_child: OpenChild, seed: int, seconds: float = 120, images: int = IMAGES
) -> list[dict]:
    """Judge the runs of a staged submission by the rubric's rules of evidence.

    Args:
        root: the staged submission; nothing in it may change meanwhile.
        open_child: starts a fresh shut-in process with this submission; it is closed here.
        seed: which images, and what noise, are drawn; the same seed gives the same rows.
        seconds: for all of it together; what is not done by then earns nothing.
        images: that a figure is recomputed on.

    Returns:
        a row for each rule: question, what, run, claimed, recomputed (numbers or None), points, of, and warning, a
        sentence or None. `points` is None where only a person can judge.

    Raises:
        children.SandboxError: no process can be shut in.
    """
    until = time.monotonic() + seconds
    secret = hashlib.pbkdf2_hmac("sha256", str(seed).encode(), b"evidence", 50_000)  # slow: see `noise`
    return [_Judging(rubric, rule, root, open_child, secret, until, images).row() for rule in rubric.evidence]


class _Judging:
    """One rule at work; see `judge`."""

    def __init__(self, rubric: Rubric, rule: Evidence, root: Path, open_child: OpenChild, secret, until, images):
        self.rule, self.root, self.open_child = rule, root, open_child
        self.secret, self.until, self.images = secret, until, images
        question = rubric.questions[rule.question]
        self.part, self.wanted = rubric.parts[question.part], question.runs[rule.run - 1]
        self.what, self.name = f"{WHAT[rule.what]}, {_named(self.wanted)}", f"logs/{self.part.logs}"
        self.warnings: list[str] = []
        self.claimed: float | None = None
        self.recomputed: float | None = None

    def row(self) -> dict:
        points: float | None = 0.0
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
            points = None
            self.warnings.append(f"{lack} {BY_HAND}")
        warning = " ".join(self.warnings)[:1000] or None
        return {
            "question": self.rule.question, "what": self.what, "run": self.name, "claimed": self.claimed,
            "recomputed": self.recomputed, "points": points, "of": self.rule.points, "warning": warning,
        }  # fmt: skip

    # each of these gives the points, and may raise Doubt

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
            problem = _unlike(curves.get(tag, []), [row.get(tag) for row in run.history], epochs)
            if problem:
                raise Doubt(f"The curve {tag} in the event file {problem}.")
        return self._points(max(curves[tag][-1] for tag in CURVES), "the end of the curves")

    def _pictures(self, run: Run) -> float:
        self._need_pictures(run)
        return float(self.rule.points)

    def _value(self, values: Tensor, of: str, run: Run) -> float | None:
        """Points for the mean of values [N], one for each image."""
        value, error = values.mean().item(), values.std().item() / math.sqrt(len(values))
        if not math.isfinite(value):
            raise Doubt(f"The recomputed {of} is not finite.")
        self.recomputed = round(value, 6)
        self.what += f" ({len(values):,} images, standard error {error:.1g})"
        if self.claimed is not None and abs(self.claimed - value) > APART:
            self.warnings.append(f"Claimed is {self.claimed:.4g}, recomputed {value:.4g}.")
        if self.rule.pictures:
            self._need_pictures(run)
        if self.rule.doubt is not None and value < self.rule.doubt:
            self.warnings.append(f"{value:.4g} is better than such a network can be. {BY_HAND}")
            return None
        return self._points(value, of)

    def _points(self, value: float, of: str) -> float:
        if value <= self.rule.full:
            return float(self.rule.points)
        self.warnings.append(f"All points are given for {of} of at most {self.rule.full:g}; it is {value:.4g}.")
        return self.rule.points / 2 if self.rule.half is not None and value <= self.rule.half else 0.0

    def _claim(self, value: float | None, where: str) -> None:
        self.claimed = value
        if value is None:
            self.warnings.append(f"The summary claims no number ({where}).")

    def _need_pictures(self, run: Run) -> None:
        lacking = [f"{name} of epoch {epoch}" for name in self.rule.pictures for epoch in self._lacking(run, name)]
        if lacking:
            raise Doubt(f"Pictures (PNG) are missing in figures/: {', '.join(lacking)}.")

    def _lacking(self, run: Run, name: str) -> list[int | str]:
        there = pictures(run.folder, self.root, name)
        return [epoch for epoch in self.rule.at if not (there - {0} if epoch == "later" else epoch in there)]

    # images, noise, and the submission's processes

    def _through_the_checkpoint(self, run: Run, imgs: Tensor, encode: Callable, judge: Callable) -> Tensor:
        """A value for each image [N]: encode(ask, batch, its number) -> code; judge(ask, batch, code) -> values [B]."""
        path = run.folder / "checkpoints" / "best.ckpt"
        _need_file(path, self.root, MOST_CHECKPOINT)
        flags = {name: run.flags[name] for name in ("z_dim", "num_filters") if name in run.flags}
        batches = imgs.split(BATCH)
        with self._child(str(path), flags) as ask:
            codes = [encode(ask, batch, number) for number, batch in enumerate(batches)]
        with self._child(str(path), flags) as ask:
            return torch.cat([judge(ask, batch, code) for batch, code in zip(batches, codes, strict=True)])

    def _vae_codes(self, ask: Callable, imgs: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """z [B, D], drawn here, and the divergence of what it is drawn from, in nats [B]."""
        shape = (len(imgs), self.wanted["z_dim"])
        answer = ask("stored_runs.vae_encode", imgs)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise Doubt("The encoder should give mean and log_std.")
        mean, log_std = (_numbers(each, shape, what) for each, what in zip(answer, ("mean", "log_std"), strict=True))
        z = mean + log_std.exp() * noise(self.secret + number.to_bytes(4, "big"), shape)
        kl = 0.5 * (torch.expm1(2 * log_std) + mean**2) - log_std
        return _to_send(z), kl.sum(dim=1)

    def _vae_bits(self, ask: Callable, imgs: Tensor, code: tuple[Tensor, Tensor]) -> Tensor:
        """The bound in bits per dimension [B]."""
        z, kl = code
        logits = _numbers(ask("stored_runs.vae_decode", z), (len(z), 16, 28, 28), "the logits")
        nats = F.cross_entropy(logits, imgs[:, 0], reduction="none").sum(dim=(1, 2))
        return (nats + kl) * math.log2(math.e) / PIXELS

    def _aae_codes(self, ask: Callable, imgs: Tensor, number: int) -> Tensor:
        z = _numbers(ask("stored_runs.aae_encode", imgs), (len(imgs), self.wanted["z_dim"]), "the code")
        return _to_send(z)

    def _aae_errors(self, ask: Callable, imgs: Tensor, z: Tensor) -> Tensor:
        """The squared error per pixel [B]."""
        decoded = _numbers(ask("stored_runs.aae_decode", z), imgs.shape, "the decoded image")
        return (decoded - imgs).square().mean(dim=(1, 2, 3))

    def _read_curves(self, run: Run) -> dict[str, list[float]]:
        """Of the tags that count: the values in the order of their steps, the last one of each step."""
        files = sorted(path for path in _children(run.folder) if path.name.startswith("events.out.tfevents."))
        if not files:
            raise Doubt("There is no event file.")
        left = MOST_EVENTS
        for path in files:
            left -= _need_file(path, self.root, left)
        with self._child([str(path) for path in files]) as ask:
            answer = ask("stored_runs.event_curves")
        return {tag: _curve(answer[tag], tag) for tag in CURVES if isinstance(answer, dict) and tag in answer}

    @contextmanager
    def _child(self, *first) -> Iterator[Callable]:
        """A fresh process: ask(name of an adapter, arguments after these first ones) -> its answer.

        Raises:
            Doubt: whatever it does but answer.
        """
        if time.monotonic() > self.until:
            raise Doubt("No time is left for it.")
        child = self.open_child()

        def ask(name: str, *args):
            # the seed says nothing about the images and the noise that are drawn here
            return child.call(name, (*first, *args), {}, 0, self.until)

        try:
            yield ask
        except Raised as error:
            where = f" ({error.places[-1]})" if error.places else ""
            raise Doubt(show(f"The code raises {error.kind}{where}: {error}")) from None
        except Unfinished as error:
            raise Doubt(f"No answer: {show(str(error))}.") from None
        finally:
            child.close()


# --- numbers that a submission's process answers ----------------------------------------------------------------------


def _numbers(value, shape: tuple[int, ...], what: str) -> Tensor:
    """A tensor of floats of this shape, all finite, as float64.

    Raises:
        Doubt: it is something else.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise Doubt(f"There should be floats for {what}.")
    if value.shape != tuple(shape):
        raise Doubt(f"The shape of {what} is {list(value.shape)[:8]}; it should be {list(shape)}.")
    if not value.isfinite().all():
        raise Doubt(f"There are numbers in {what} that are not finite.")
    return value.double()


def _to_send(z: Tensor) -> Tensor:
    """Codes as float32; what float32 does not hold is refused."""
    _numbers(z.float(), z.shape, "z")
    return z.float()


def _curve(answer, tag: str) -> list[float]:
    fits = isinstance(answer, tuple | list) and len(answer) == 2 and all(isinstance(each, Tensor) for each in answer)
    if not fits or answer[0].dtype != torch.int64 or answer[0].dim() != 1:
        raise Doubt(f"The curve {tag} is none.")
    values = _numbers(answer[1], answer[0].shape, f"the curve {tag}")
    last = dict(zip(answer[0].tolist(), values.tolist(), strict=True))
    return [last[step] for step in sorted(last)]


def _unlike(curve: list[float], history: list[float | None], epochs: int) -> str | None:
    """What is wrong with a curve, a value for each epoch, beside the history of the summary."""
    if len(curve) < epochs:
        return f"has {len(curve)} epochs of {epochs}"
    if len(curve) != len(history):
        return f"has {len(curve)} epochs, the summary {len(history)}"
    pairs = enumerate(zip(curve, history, strict=True), start=1)
    off = [epoch for epoch, (one, other) in pairs if other is None or abs(one - other) > APART]
    return f"is not the summary's: they are apart in {len(off)} epochs, first in epoch {off[0]}" if off else None


def noise(secret: bytes, shape: tuple[int, int]) -> Tensor:
    """Standard normal float64, a function of the secret and of nothing that a submission could find out.

    Whoever knows the noise can take it off z, and so send more by it than the divergence says. So the secret is slow to
    try out, and what is seen of the noise tells nothing about the rest.
    """
    count = math.prod(shape)
    words = torch.frombuffer(bytearray(hashlib.shake_256(secret).digest(4 * count)), dtype=torch.int32)
    uniform = (words.double() + 2**31 + 0.5) / 2**32  # inside 0..1
    return (math.sqrt(2) * torch.erfinv(2 * uniform - 1)).view(shape)


# --- images ---------------------------------------------------------------------------------------------------------


@cache
def load_images() -> tuple[Tensor, Tensor]:
    """The validation images (6,000) and the test images (10,000) of MNIST, uint8 in 0..255 [N, 1, 28, 28].

    They are kept: a process that calls this before it forks has the forks have them.

    Raises:
        NoData: they are not in the data folder. Nothing is downloaded.
    """
    try:
        _, val, test = data.loaders("mnist", lambda images: images, download=False)
    except (data.DataError, OSError) as error:
        raise NoData("MNIST is not on this machine (python -m course.data mnist fetches it).") from error
    return val.dataset.images, test.dataset.images


def draw(images: Tensor, count: int, secret: bytes) -> Tensor:
    """So many of the images [N, ...], in a random order: the place of an image tells nothing about it."""
    generator = torch.Generator().manual_seed(int.from_bytes(secret[:7], "big"))
    return images[torch.randperm(len(images), generator=generator)[:count]]


def four_bits(images: Tensor) -> Tensor:
    """0..255 -> 16 equal bins, 0..15, int64."""
    return (images.long() * 16 // 255).clamp(max=15)


def to_tanh(images: Tensor) -> Tensor:
    """0..255 -> -1..1, float32."""
    return images.float() / 127.5 - 1


# --- what is read of a run here ---------------------------------------------------------------------------------------


def find_run(root: Path, part: Part, wanted: dict) -> Run:
    """The run on MNIST with these flags (epochs apart) that has the most epochs; of equals, the latest version.

    Raises:
        Doubt: there is none.
    """
    logs = root / "logs" / part.logs
    folders = sorted((path for path in _children(logs) if path.is_dir()), key=_version)[-MOST_RUNS:]
    flags = {"dataset": "mnist"} | {name: value for name, value in wanted.items() if name != "epochs"}
    best, problems = None, []
    for folder in folders:
        try:
            run = read_run(folder, root)
        except Doubt as doubt:
            problems.append(str(doubt))
            continue
        fits = all(run.flags.get(name) == value for name, value in flags.items())
        if fits and (best is None or len(run.history) >= len(best.history)):
            best = run
    if best is None:
        lack = f"There is no run with {_named(wanted)} in logs/{part.logs}."
        raise Doubt(" ".join([lack, *problems[:2]]))
    return best


def _named(wanted: dict) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in wanted.items() if name != "epochs")


def _version(folder: Path) -> tuple[int, str]:
    number = re.search(r"[0-9]{1,9}$", folder.name)
    return int(number[0]) if number else -1, folder.name


def read_run(folder: Path, root: Path) -> Run:
    """What its summary.json claims.

    Raises:
        Doubt: there is none, or it is unfit.
    """
    name = show(folder.relative_to(root).as_posix())
    try:
        content = json.loads(_read(folder / "summary.json", root, MOST_SUMMARY), parse_int=float)
        flags, history = content["flags"], content["history"]
        if not isinstance(flags, dict) or not isinstance(history, list):
            raise TypeError("flags or history")
    except Doubt as doubt:
        raise Doubt(f"{name}: {doubt}") from None
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError):
        raise Doubt(f"{name}: summary.json is damaged.") from None
    texts = {key: value for key, value in flags.items() if isinstance(value, str) and len(value) < 100}
    best = _finite(content.get("best")).get("epoch")
    return Run(
        folder, name, texts | _whole(_finite(flags)), _finite(content.get("results")), best, list(map(_finite, history))
    )


def _finite(fields) -> dict[str, float]:
    """The finite numbers in what should be a dictionary of them."""
    if not isinstance(fields, dict):
        return {}
    return {name: value for name, value in fields.items() if type(value) is float and math.isfinite(value)}


def _whole(fields: dict[str, float]) -> dict[str, float]:
    return {name: int(value) if value.is_integer() else value for name, value in fields.items()}


def pictures(run: Path, root: Path, name: str) -> set[int]:
    """The epochs of which there is a picture of this name; that it is a PNG is seen by its first bytes alone."""
    epochs = set()
    for path in _children(run / "figures"):
        found = re.fullmatch(re.escape(name) + r"_epoch_([0-9]{3,6})\.png", path.name)
        if found and _starts_with(path, root, PNG):
            epochs.add(int(found[1]))
    return epochs


def _starts_with(path: Path, root: Path, start: bytes) -> bool:
    try:
        with _opened(path, root) as (handle, _):
            return os.read(handle, len(start)) == start
    except Doubt:
        return False


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _need_file(path: Path, root: Path, most: int) -> int:
    """The size of a file that is there and has at most so many bytes.

    Raises:
        Doubt: not so.
    """
    with _opened(path, root, most) as (_, size):
        return size


def _read(path: Path, root: Path, most: int) -> bytes:
    with _opened(path, root, most) as (handle, _), open(handle, "rb", closefd=False) as file:
        return file.read(most)


@contextmanager
def _opened(path: Path, root: Path, most: int | None = None) -> Iterator[tuple[int, int]]:
    """A file of the submission, open for reading, and its size; no link on the way to it is followed.

    Raises:
        Doubt: it is not there, is no plain file, or has more than so many bytes.
    """
    handle = None
    try:
        if path.parent.resolve() != root.resolve() / path.parent.relative_to(root):
            raise Doubt(f"{show(path.name)} lies behind a link.")
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise Doubt(f"{show(path.name)} is no file.")
        if most is not None and state.st_size > most:
            sizes = f"{state.st_size / 1e6:.0f} MB, and {most / 1e6:.0f} MB are read"
            raise Doubt(f"{show(path.name)} is too large: {sizes}.")
        yield handle, state.st_size
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        reason = getattr(error, "strerror", None) or "links lead in a circle"
        raise Doubt(f"{show(path.name)} cannot be read: {reason}.") from None
    finally:
        if handle is not None:
            os.close(handle)
