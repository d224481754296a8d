"""`python -m staff handout OUT`."""

import argparse
from pathlib import Path

from staff.site import build, printing

PROBLEMS = (build.SiteError,)


def make_handout(args: argparse.Namespace) -> None:
    """Build the site and the PDF."""
    browser = None if args.no_pdf else args.browser or printing.find_browser()
    if not (browser or args.no_pdf):
        raise build.SiteError(
            "no Chromium or Chrome was found to print the PDF: apt install chromium, name one with --browser, "
            "or leave the PDF out with --no_pdf"
        )
    build.build(args.out, browser)
    print(f"{args.out / 'site' / 'index.html'}: the site, which needs no network")
    if browser:
        print(f"{args.out / build.PDF}: the same as a PDF; `make release` adds it to the students' repository")


def add(commands) -> None:
    """Add `handout` to the commands."""
    command = commands.add_parser("handout", help="build the handout as a site and a PDF")
    command.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder, or one with an earlier build")
    command.add_argument("--browser", metavar="PROGRAM", help="a Chromium or Chrome (default: the one installed)")
    command.add_argument("--no_pdf", action="store_true", help="the site alone, which needs no browser")
    command.set_defaults(run=make_handout)
