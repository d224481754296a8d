"""Helpers for the report tests: create runs and read pages."""

import base64
from html.parser import HTMLParser
from pathlib import Path

from course import __main__ as command_line
from small_runs import make_run


class Page(HTMLParser):
    """A parsed page: its tags, its text, its pictures (description -> bytes) and the rows of its tables."""

    def __init__(self, file: Path):
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.pictures: dict[str, bytes] = {}
        self.lacks: list[str] = []
        self.rows: list[list[str]] = []
        self.text, self._open = "", []
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs.items() if name in ("src", "href", "data", "action")]
        self.handlers = [name for name in attrs if name.startswith("on")]
        assert not self.handlers, self.handlers
        if tag == "img":
            self.pictures[attrs["alt"]] = base64.b64decode(attrs["src"].removeprefix("data:image/png;base64,"))
            return
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")
        if tag not in ("br", "meta"):
            self._open.append((tag, attrs.get("class")))
        if attrs.get("class") == "lack":
            self.lacks.append("")

    def handle_endtag(self, tag):
        assert self._open and self._open[-1][0] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data):
        inside = [tag for tag, _ in self._open]
        if "style" in inside:
            return
        self.text += f"{data}\n"
        if any(kind == "lack" for _, kind in self._open):
            self.lacks[-1] += data
        if "th" in inside or "td" in inside:
            self.rows[-1][-1] += f"{data}\n"

    def row(self, name: str) -> list[str]:
        """Return the first line of each cell in the row with this name."""
        (found,) = [row for row in self.rows if row[0].split("\n")[0] == name]
        return [cell.split("\n")[0] for cell in found[1:]]

    def loads_nothing(self) -> bool:
        return not self.tags & {"script", "link", "iframe", "object", "base", "form"} and all(
            address.startswith("data:image/png;base64,") for address in self.addresses
        )


def run_command(*words: object) -> int:
    """Run `python -m course report`; return the exit status, even if the flags are wrong."""
    try:
        return command_line.main(["report", *map(str, words)])
    except SystemExit as end:
        return end.code


VAE = {"epochs": 80, "z_dim": 20, "lr": 1e-3, "seed": 42, "dataset": "mnist"}


AAE = {"epochs": 95, "z_dim": 2, "lambda_": 0.995, "seed": 42, "dataset": "mnist"}


def vae_run(folder: Path, epochs: int = 12, figures: tuple[str, ...] = (), **flags) -> Path:
    names = figures or ("samples_epoch_000.png", "samples_epoch_010.png", f"samples_epoch_{epochs:03d}.png")
    history = [{"train/bpd": 4 / epoch, "val/bpd": 4.1 / epoch} for epoch in range(1, epochs + 1)]
    results = {"test/bpd": 4.2 / epochs}
    greys = {name: 10 * number for number, name in enumerate(names)}
    return make_run(
        folder, "vae", VAE | flags, history, greys, results=results, best={"epoch": epochs, "value": 4.1 / epochs}
    )
