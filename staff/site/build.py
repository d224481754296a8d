"""Build the site with Sphinx, and print the PDF with Chromium. The same chapters give the same bytes."""

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from course import rubric as rubrics
from course.flags import REPOSITORY
from staff.site import conf, printing, sources

HERE = Path(__file__).parent
PDF, RECORD = "handout.pdf", "sources.json"
NEEDED = ("sphinx", "myst-parser", "furo", "sphinx-mathjax-offline")
PRINTED = ("-D", "html_theme=basic", "-D", "html_css_files=print.css")
INSTALL = "pip install -e '.[handout]' -c constraints.txt"


class SiteError(Exception):
    """The handout cannot be built; the message says why and what to do."""


def folder(edition: str) -> Path:
    """Return where `make handout` writes: build/handout, or build/handout-2022 if 2022 is not the rubric's edition."""
    own = rubrics.read().edition
    return REPOSITORY / "build" / ("handout" if edition == own else f"handout-{edition}")


def build(out: Path, browser: str | None, root: Path = REPOSITORY, edition: str | None = None) -> None:
    """Build site/ and, if there is a browser, handout.pdf in `out`. An earlier build in `out` is replaced.

    Args:
        edition: the edition of the assignment (default: the rubric's).

    Raises:
        SiteError: a package or the browser is missing, or Sphinx issues a warning.
    """
    if missing := missing_packages():
        raise SiteError(f"{', '.join(missing)} missing: {INSTALL} (Python 3.11 or newer)")
    epoch = source_date(root)
    if out.exists() and not (out / RECORD).exists() and any(out.iterdir()):
        raise SiteError(f"{out}: is neither empty nor an earlier build of the handout; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    edition = edition or rubrics.read(root / "course" / "rubric.toml").edition
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        read = _sources(root, work / "sources", edition)
        _sphinx(work / "sources", work / "site", epoch)
        if browser:
            _sphinx(work / "sources", work / "print", epoch, *PRINTED)
            _print(work / "print", work / PDF, browser, epoch)
        _replace(work / "site", out / "site")
        (out / PDF).unlink(missing_ok=True)
        if browser:
            shutil.copyfile(work / PDF, out / PDF)
    (out / RECORD).write_text(json.dumps({"edition": edition, "files": digests(read)}, indent=1) + "\n")


def missing_packages() -> list[str]:
    """Return the packages from the `handout` extra that are not installed."""
    installed = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    return [name for name in NEEDED if name not in installed]


def source_date(root: Path) -> int:
    """Return SOURCE_DATE_EPOCH, or else the time of the last commit to the chapters."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        if not given.isdecimal():
            raise SiteError(f"SOURCE_DATE_EPOCH is {given!r}, not a number of seconds as printed by `date +%s`")
        return int(given)
    log = ["git", "-C", str(root), "log", "-1", "--format=%ct", "--", "handout"]
    return int(subprocess.run(log, capture_output=True, text=True).stdout.strip() or 0)


def digests(read: dict[str, bytes]) -> dict[str, str]:
    return {file: hashlib.sha256(content).hexdigest() for file, content in sorted(read.items())}


def built_pdf(out: Path, edition: str, root: Path = REPOSITORY) -> bytes | None:
    """Return the PDF in `out` if one was built.

    Raises:
        SiteError: the chapters have changed since it was built, or the PDF is for another edition.
    """
    if not (out / PDF).exists():
        return None
    try:
        record = json.loads((out / RECORD).read_text())
        of, recorded = record["edition"], record["files"]
        now = digests({file: (root / file).read_bytes() for file in recorded})
    except (OSError, ValueError, LookupError):
        of, recorded, now = edition, {}, None
    if of != edition:
        raise SiteError(f"{out / PDF} is for the {of} edition: run `make handout EDITION={edition}`, or remove it")
    if not recorded or recorded != now:
        raise SiteError(f"{out / PDF} does not match the chapters: run `make handout` again, or remove it")
    return (out / PDF).read_bytes()


def _sources(root: Path, folder: Path, edition: str) -> dict[str, bytes]:
    """Write the sources and all other files that Sphinx needs; return the chapters and figures."""
    static = folder / "_static"
    static.mkdir(parents=True)
    read = sources.write(root, folder, edition)
    for name in ("site.css", "print.css"):
        shutil.copyfile(HERE / name, static / name)
    shutil.copyfile(HERE / "conf.py", folder / "conf.py")
    for path, file in conf.mathjax_files().items():
        (static / "mathjax" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, static / "mathjax" / path)
    return read


def _sphinx(folder: Path, out: Path, epoch: int, *flags: str) -> None:
    """Build HTML. Warnings are treated as errors."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-b", "html", *flags]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    command += ["-d", str(out.with_suffix(".doctrees")), str(folder), str(out)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ended.returncode:
        raise SiteError(f"Sphinx:\n{ended.stderr[-5000:]}")
    (out / ".buildinfo").unlink(missing_ok=True)


def _print(folder: Path, pdf: Path, browser: str, epoch: int) -> None:
    """Print the pages in a folder."""
    names = ["index", *sorted(path.stem for path in folder.glob("[0-9A-Z]*_*.html"))]
    page = folder / "print.html"
    page.write_text(printing.assemble({name: (folder / f"{name}.html").read_text("utf-8") for name in names}), "utf-8")
    try:
        printing.print_pdf(page, pdf, browser, epoch)
    except printing.PrintError as error:
        raise SiteError(str(error)) from error


def _replace(new: Path, old: Path) -> None:
    if old.exists():
        shutil.rmtree(old)
    shutil.copytree(new, old)
