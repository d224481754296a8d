"""Record the oracles' answers for the students' repository: `python -m staff.oracles.record FILE [EDITION]`.

This runs the students' graded suites on the solution, once for each seed, and records the answers that they request.
"""

import contextlib
import io
import json
import multiprocessing
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np

SEEDS = 20
WHOLE, WHOLE_MISTAKE = 64, 8  # tensors with more elements than this are recorded as sums
IMPORTS = ["torch", "torchvision", "pytorch_lightning", "scipy.stats", "pytest"]  # imported once for all processes
Piece = tuple[list[dict], list[float]]  # the forms of a test's answers, and the numbers in them


class RecordError(Exception):
    """The answers cannot be recorded: the solution fails a graded test."""


def record(edition: str | None = None, processes: int | None = None) -> bytes:
    """Return the content of answers.npz for the tests of one or all editions. The same tree gives the same bytes.

    Raises:
        RecordError: the solution fails a graded test.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTS)
    with context.Pool(processes or os.cpu_count()) as pool:
        return packed(pool.map(partial(asked, edition=edition), range(SEEDS), chunksize=1))


def packed(by_seed: list[dict[str, Piece]]) -> bytes:
    """Pack the requests of each test, for each seed, into the content of answers.npz."""
    sentences = sorted({s for tests in by_seed for forms, _ in tests.values() for s in _sentences(forms)})
    number = {sentence: at for at, sentence in enumerate(sentences)}
    forms: dict[str, int] = {}  # JSON -> index
    index, numbers, length = {"seeds": len(by_seed), "sentences": sentences, "tests": {}}, [], 0
    for tests in by_seed:
        for test, (calls, piece) in sorted(tests.items()):
            form = forms.setdefault(json.dumps(_numbered(calls, number)), len(forms))
            index["tests"].setdefault(test, []).append([form, length])
            numbers += piece
            length += len(piece)
    index["forms"] = [json.loads(form) for form in forms]
    content = io.BytesIO()
    text = np.frombuffer(json.dumps(index).encode(), np.uint8)
    np.savez_compressed(content, index=text, numbers=np.array(numbers, np.float32))
    return content.getvalue()


def asked(seed: int, edition: str | None = None) -> dict[str, Piece]:
    """Return each test's requests for this seed, with the answers. Call this in a separate process."""
    import pytest
    import torch

    from staff import oracles
    from staff.release.suites import suites

    torch.set_num_threads(1)
    found: dict[str, Piece] = {}

    def listen(test, oracle, inputs, answer):
        calls, numbers = found.setdefault(test, ([], []))
        form, its = described(oracle, inputs, answer)
        calls.append(form)
        numbers.extend(its)

    oracles.listener = listen
    files = [str(path) for path in suites(Path.cwd(), edition=edition) if path.parent.name == "tests"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        status = pytest.main(["-q", "-p", "no:cacheprovider", "--seed", str(seed), *files])
    if status != 0:
        raise RecordError(f"the solution fails with --seed {seed}:\n{out.getvalue()[-3000:]}")
    return found


def described(oracle: str, inputs: dict, answer: dict) -> Piece:
    """Convert an answer to the format that `answers.Recorded` reads: the form and the numbers."""
    from answers import checksum

    numbers: list[float] = checksum(inputs)[0].tolist()
    values = {}
    for name, value in answer.items():
        right = _tensor(value.right, value.whole, WHOLE, numbers, shown=True)
        mistakes = [
            (sentence, _tensor(wrong, value.whole, WHOLE_MISTAKE, numbers, shown=False))
            for sentence, wrong in value.mistakes
        ]
        values[name] = {"right": right, "mistakes": mistakes}
    return {"oracle": oracle, "length": len(numbers), "values": values}, numbers


def _tensor(known, whole: bool, most: int, numbers: list[float], shown: bool) -> dict:
    """Return the form of a tensor, and append its elements or their sums to `numbers`."""
    from answers import places, signs, summed

    flat, n = known.tensor.flatten(), known.tensor.numel()
    if whole or n <= most:
        numbers += flat.tolist()
        return {"shape": list(known.shape), "whole": True}
    of_sums = summed(flat)
    numbers += [*(signs(n) @ of_sums).tolist(), of_sums.abs().sum().item(), of_sums.square().sum().item()]
    numbers += flat[places(n)].tolist() if shown else []
    return {"shape": list(known.shape), "whole": False, "shown": shown}


def _sentences(calls: list[dict]) -> set[str]:
    return {s for call in calls for value in call["values"].values() for s, _ in value["mistakes"]}


def _numbered(calls: list[dict], number: dict[str, int]) -> list[dict]:
    """Return the forms with each sentence replaced by its index."""

    def value(form: dict) -> dict:
        return {**form, "mistakes": [(number[sentence], wrong) for sentence, wrong in form["mistakes"]]}

    return [{**call, "values": {name: value(form) for name, form in call["values"].items()}} for call in calls]


if __name__ == "__main__":
    try:
        Path(sys.argv[1]).write_bytes(record(*sys.argv[2:]))
    except RecordError as error:
        sys.exit(str(error))
