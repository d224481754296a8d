"""Tests of TensorBoard, started as `make tensorboard` does and queried over HTTP as its web pages do."""

import html
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from small_runs import REPOSITORY, Program

TEXT = "\n** bold, *or* not? <b>tags</b> &amp; # no title\n    indented\n\n1. no list\n<script>alert()</script>"
PARTS = {"vae": "bpd", "aae": "recon_loss", "gpt": "cross_entropy"}  # program -> the metric that it minimizes


class Board:
    """A running TensorBoard."""

    def __init__(self, address: str):
        self.address = address

    def get(self, path: str, **arguments) -> bytes:
        query = f"?{urllib.parse.urlencode(arguments)}" if arguments else ""
        with urllib.request.urlopen(f"{self.address}data/plugin/{path}{query}", timeout=30) as response:
            return response.read()

    def ask(self, path: str, **arguments):
        return json.loads(self.get(path, **arguments))

    def post(self, path: str, content: dict):
        json_type = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.address}data/plugin/{path}", json.dumps(content).encode(), json_type)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def curve(self, run: str, tag: str) -> dict[int, float]:
        """Return step -> value; check that no step occurs twice."""
        points = self.ask("scalars/scalars", run=run, tag=tag)
        curve = {step: value for _, step, value in points}
        assert len(curve) == len(points), f"{run} {tag}: a step occurs twice"
        return curve


@contextmanager
def tensorboard(logs: Path) -> Iterator[Board]:
    """Run `make tensorboard` on these logs and a free local port; always end it and the processes that it started."""
    where = ["--logdir", str(logs), "--host", "127.0.0.1", "--port", "0"]
    command = [sys.executable, "-m", "course", "tensorboard", *where]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        printed = []
        for line in process.stderr:
            printed.append(line)
            if found := re.search(r"http://127\.0\.0\.1:[0-9]+/", line):
                yield Board(found[0])
                break
        else:
            pytest.fail(f"TensorBoard did not start: {''.join(printed)}")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def logs(mnist_files, tmp_path_factory) -> Path:
    """Return a folder with a run of each part; the VAE's run was continued, and drew images in all twelve epochs."""
    logs = tmp_path_factory.mktemp("logs")
    vae, aae, gpt = (Program(name, mnist_files, logs) for name in PARTS)
    # more than ten epochs: by default, TensorBoard keeps only ten images per tag
    assert vae("--epochs", "6", "--sample_every", "1") == 0
    assert vae("--epochs", "12", "--resume", "last") == 0
    assert aae("--epochs", "2") == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpt.train.Figures, "sample", lambda *args, **kwargs: TEXT)
        assert gpt("--epochs", "2", "--betas", "0.8", "0.9") == 0
    return logs


@pytest.fixture(scope="module")
def board(logs) -> Iterator[Board]:
    with tensorboard(logs) as board:
        until = time.monotonic() + 60
        while set(board.ask("scalars/tags")) != {f"{name}/version_0" for name in PARTS}:
            assert time.monotonic() < until, "some runs are missing, or there are extra ones"
            time.sleep(0.5)
        yield board


@pytest.fixture(params=list(PARTS))
def run(request) -> str:
    return f"{request.param}/version_0"


def summary(logs: Path, run: str) -> dict:
    return json.loads((logs / run / "summary.json").read_text())


@pytest.mark.slow
def test_the_curves_are_those_of_the_summary(board, logs, run):
    content = summary(logs, run)
    history = content["history"]
    batches = content["flags"]["limit_batches"]
    scalars = {tag for tag, value in history[0].items() if isinstance(value, float)}
    assert {tag.split("/")[0] for tag in scalars} == {"train", "val"} and len(scalars) > 5
    tested = {tag: value for tag, value in content["results"].items() if isinstance(value, float)}
    one_step = {tag for tag in board.ask("scalars/tags")[run] if tag.endswith("_step")}
    assert set(board.ask("scalars/tags")[run]) == scalars | set(tested) | one_step
    for tag in scalars:
        # Lightning counts steps from 0
        expected = {row["epoch"] * batches - 1: pytest.approx(row[tag], rel=1e-6) for row in history}
        assert board.curve(run, tag) == expected, tag
    last = len(history) * batches
    for tag in {tag for tag in tested if tag.startswith("test/")}:
        assert board.curve(run, tag) == {last: pytest.approx(tested[tag], rel=1e-6)}, tag


@pytest.mark.slow
def test_training_and_validation_of_a_metric_are_in_one_chart(board, logs, run):
    name = run.split("/")[0]
    categories = {category["title"]: category["chart"] for category in board.ask("custom_scalars/layout")["category"]}
    assert set(categories) == set(PARTS)
    row = summary(logs, run)["history"][0]
    both = {tag[6:] for tag in row if tag.startswith("train/") and f"val/{tag[6:]}" in row} - {"accuracy"}
    assert {chart["title"] for chart in categories[name]} == both and PARTS[name] in both
    for chart in categories[name]:
        shown = [
            tag
            for expression in chart["multiline"]["tag"]
            for tag in board.ask("custom_scalars/scalars", run=run, tag=expression)["tag_to_events"]
        ]
        assert shown == [f"train/{chart['title']}", f"val/{chart['title']}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "tag", "description"),
    [
        (
            "vae/version_0",
            "val/regularization",
            "nats per image, the KL divergence; the second sum of Eq. 13",
        ),
        (
            "aae/version_0",
            "train/recon_loss_step",
            "images in -1..1; Eq. 18; training, single steps",
        ),
        (
            "gpt/version_0",
            "train/accuracy",
            "predicted correctly; training, the mean of each",
        ),
    ],
)
def test_a_tag_says_what_it_is(board, run, tag, description):
    """A chart's info button shows the tag's unit, its equation, and the data that it is measured on."""
    assert description in html.unescape(board.ask("scalars/tags")[run][tag]["description"])


@pytest.mark.slow
def test_the_table_of_runs_has_their_flags_and_results(board, logs, run):
    columns = board.post("hparams/experiment", {"includeMetrics": True})
    # the web pages request only the values of the columns that they show
    asked = [{"hparam": info["name"]} for info in columns["hparamInfos"]]
    asked += [{"metric": info["name"]} for info in columns["metricInfos"]]
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    request = {"startIndex": 0, "sliceSize": 100, "allowedStatuses": statuses, "colParams": asked}
    groups = {group["name"]: group for group in board.post("hparams/session_groups", request)["sessionGroups"]}
    assert set(groups) == {f"{name}/version_0" for name in PARTS}
    assert groups[run]["sessions"][0]["status"] == "STATUS_SUCCESS"
    content = summary(logs, run)
    flags = {name: value for name, value in content["flags"].items() if value is not None}
    expected = {name: value if type(value) in (int, float, str) else str(value) for name, value in flags.items()}
    expected[f"Best {PARTS[run.split('/')[0]]}"] = pytest.approx(content["best"]["value"], rel=1e-6)
    assert {name: value for name, value in groups[run]["hparams"].items() if value is not None} == expected
    assert run != "vae/version_0" or expected["epochs"] == 12, "the flags are those of the resumed run"
    metrics = {metric["name"]["tag"]: metric["value"] for metric in groups[run]["metricValues"]}
    for tag, value in content["results"].items():
        if tag.startswith("test/") and isinstance(value, float):
            assert metrics[tag] == pytest.approx(value, rel=1e-6)
    first = [info["name"] for info in columns["hparamInfos"][:5]]
    assert [name for name in first if name.startswith("Best ")], "these columns are visible initially"


@pytest.mark.slow
def test_each_epochs_picture_can_be_looked_at(board, logs):
    run, name = "vae/version_0", "samples"
    pictures = board.ask("images/images", run=run, tag=f"val/{name}", sample=0)
    assert [picture["step"] for picture in pictures] == list(range(13))
    for picture in (pictures[0], pictures[6], pictures[12]):
        pixels = np.asarray(Image.open(io.BytesIO(board.get(f"images/individualImage?{picture['query']}"))))
        file = Image.open(logs / run / "figures" / f"{name}_epoch_{picture['step']:03d}.png")
        drawn = np.asarray(file.convert("RGB"))[::2, ::2]
        assert pixels.shape == drawn.shape and abs(pixels.astype(int) - drawn).max() <= 1  # rounding differs


@pytest.mark.slow
def test_texts_are_shown_as_they_are(board):
    texts = board.ask("text/text", run="gpt/version_0", tag="val/samples/text_summary", markdown="true")
    assert [text["step"] for text in texts] == [4, 8, 12]
    for text in texts:
        body = re.search(r"<pre><code>(.*)</code></pre>", text["text"], re.DOTALL)
        assert body and "<" not in body[1], text["text"]
        assert html.unescape(body[1]).rstrip("\n") == TEXT


@pytest.mark.slow
def test_it_is_ended_in_any_case(logs):
    with pytest.raises(RuntimeError), tensorboard(logs) as board:
        address = board.address
        raise RuntimeError
    with pytest.raises(OSError):
        urllib.request.urlopen(address, timeout=5)
