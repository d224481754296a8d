"""Print the PDF with Chromium: the pages of the site, one after another."""

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BODY = re.compile(r'<div class="body" role="main">(.*?)<div class="clearer">', re.DOTALL)
HEADERLINK = re.compile(r'<a class="headerlink".*?</a>')
FOLDED = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)
HEADING = re.compile(r"<h[1-6]>(.*?)</h[1-6]>", re.DOTALL)
DATE = re.compile(rb"/(CreationDate|ModDate) \(D:\d{14}\+00'00'\)")
MINUTES = 10


class PrintError(Exception):
    """The PDF cannot be printed; the message says why."""


def find_browser() -> str | None:
    """Return Chromium or Chrome if one is installed."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def assemble(pages: dict[str, str]) -> str:
    """Combine several pages into one.

    Args:
        pages: name -> HTML from Sphinx's "basic" theme, in the PDF's order. The head of the first page is used.
    """
    first = next(iter(pages.values()))
    head, _, _ = first.partition("</head>")
    bodies = (_body(name, text, set(pages)) for name, text in pages.items())
    return f"{head}</head><body>{''.join(bodies)}</body></html>\n"


def _body(name: str, text: str, names: set[str]) -> str:
    """Return a page's content, with anchors prefixed by the page's name and folded answers moved to the end."""
    content = HEADERLINK.sub("", BODY.search(text)[1])
    content = content[: content.rindex("</section>") + len("</section>")]
    content = re.sub(r'(<[^>]* id=")', rf"\g<1>{name}.", content)

    def link(match: re.Match) -> str:
        page, anchor = match[1].removesuffix(".html") or name, match[2]
        return f'href="#{page}.{anchor}"' if anchor else f'href="#{page}"'

    targets = "|".join(map(re.escape, sorted(names)))
    content = re.sub(rf'href="((?:{targets})\.html|)(?:#([^"]*))?"', link, content)
    return f'<section class="chapter" id="{name}">{_with_answers_at_the_end(content, name)}</section>'


def _with_answers_at_the_end(content: str, name: str) -> str:
    """Move the folded answers of a chapter to its end: on paper, nothing can be unfolded."""
    answers: list[str] = []

    def moved(match: re.Match) -> str:
        title, heading = match[1].partition(" (")[0], HEADING.findall(content, 0, match.start())[-1]
        if not title.startswith("The figure"):
            title = heading if heading.startswith("Exercise") else "Food for thought"
        number = len(answers) + 1
        back = f'<h3 id="{name}.answer-{number}">{number}. <a href="#{name}.try-{number}">{title}</a></h3>'
        answers.append(f"{back}{match[2]}")
        words = f"answer {number}, at the end of the chapter"
        return (
            f'<p class="answer" id="{name}.try-{number}">{match[1]}: <a href="#{name}.answer-{number}">{words}</a></p>'
        )

    content = FOLDED.sub(moved, content)
    return f"{content}<h2>Answers</h2>{''.join(answers)}" if answers else content


def print_pdf(page: Path, pdf: Path, browser: str, epoch: int) -> None:
    """Print an HTML page to a PDF dated `epoch`.

    Raises:
        PrintError: the browser does not run, does not write a PDF, or takes more than MINUTES.
    """
    command = [browser, "--headless", "--disable-gpu", "--no-pdf-header-footer", f"--virtual-time-budget={600_000}"]
    command += ["--generate-pdf-document-outline", f"--user-data-dir={pdf.parent / 'profile'}"]
    command += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # the sandbox fails for root
    try:
        command += [f"--print-to-pdf={pdf}", page.as_uri()]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60 * MINUTES)
    except OSError as error:
        raise PrintError(f"{browser}: {error.strerror}; choose another with --browser") from error
    except subprocess.TimeoutExpired as error:
        raise PrintError(f"{browser} did not finish printing within {MINUTES} minutes") from error
    if not pdf.exists():
        raise PrintError(f"{browser} wrote no PDF:\n{ended.stderr[-2000:]}")
    pdf.write_bytes(dated(pdf.read_bytes(), epoch))


def dated(pdf: bytes, epoch: int) -> bytes:
    """Replace the date in a PDF that Chromium printed. Nothing else in the PDF depends on when it was printed."""
    date = datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%d%H%M%S").encode()
    return DATE.sub(rb"/\1 (D:" + date + rb"+00'00')", pdf)
