"""`python -m staff handout OUT`."""

import argparse
from pathlib import Path

from course import editions
from course import rubric as rubrics
from staff.site import build, printing

PROBLEMS = (build.SiteError,)


def make_handout(args: argparse.Namespace) -> None:
    """Build the site and the PDF."""
    browser = None if args.no_pdf else args.browser or printing.find_browser()
    if not (browser or args.no_pdf):
        raise build.SiteError(
            "no Chromium or Chrome was found to print the PDF: install one (apt install chromium), "
            "name one with --browser, or use --no_pdf"
        )
    edition = args.edition or rubrics.read().edition
    if edition not in (known := editions.known(rubrics.PATH)):
        raise build.SiteError(f"--edition {edition}: there is no such edition; the editions are {', '.join(known)}")
    args.out = args.out or build.folder(edition)
    build.build(args.out, browser, edition=edition)
    print(f"{args.out / 'site' / 'index.html'}: the site, which needs no network")
    if browser:
        print(f"{args.out / build.PDF}: the handout as a PDF; `make release` adds it to the students' repository")


def add(commands) -> None:
    """Add `handout` to the commands."""
    command = commands.add_parser("handout", help="build the handout as a site and a PDF")
    command.add_argument(
        "out", type=Path, nargs="?", metavar="OUT",
        help="a new or empty folder, or one with an earlier build (default: where `make release` looks for the PDF)",
    )  # fmt: skip
    command.add_argument("--edition", help="which edition's chapters: 2023 or 2022 (default: the rubric's)")
    command.add_argument("--browser", metavar="PROGRAM", help="Chromium or Chrome (default: the installed one)")
    command.add_argument("--no_pdf", action="store_true", help="build only the site; no browser is needed")
    command.set_defaults(run=make_handout)
