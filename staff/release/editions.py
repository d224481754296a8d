"""Editions of the assignment in one tree: determine which files and passages belong to only one edition.

`ONLY` lists the files. Tables in rubric.toml have a field `editions`. Passages in other text files are marked:

    <!-- BEGIN EDITION 2023 -->        lines of one edition, up to this mark:
    <!-- END EDITION -->
    | 3 | attention | <!-- EDITION 2023 -->        a single line of one edition
    <!-- EDITION 2022: | 3 | radiance fields | -->        a line that is hidden on the pages of this tree; it may also
                                                          be at the end of the line that it follows or replaces
    <!-- BEGIN EDITION 2022        several hidden lines, up to this mark:
    END EDITION -->

In files with # comments: # BEGIN EDITION 2023 and # END EDITION, or # EDITION 2023 at the end of a line.
"""

import json
import re
import tomllib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from staff.release.markers import MarkerError

ONLY = {  # edition -> files that no other edition has
    "2022": (
        "handout/B_neural_radiance_fields.md",
        "handout/figures/draw_appendix_b.py",
        "handout/figures/figure_B1.svg",
        "theory/nerf.py",
        "theory/figures/nerf.png",
    ),
    "2023": (
        "part3_gpt/*",
        "tests/test_part3_*.py",
        "tests/adapters/part3.py",
        "tests/generating.py",
        "tests/gpt_inputs.py",
        "staff/hidden/test_part3_*.py",
        "handout/03_attention_and_language_models.md",
        "handout/figures/draw_part3.py",
        "handout/figures/figure_6.svg",
        "theory/alignment.py",
        "theory/figures/alignment.png",
        "theory/long_sequences.py",
        "theory/figures/long_sequences.png",
    ),
}
TABLE = re.compile(r"^\[\[(\w+)\]\]$", re.MULTILINE)
EDITION, YEAR = (re.compile(rf'^{name} = ".*?".*\n', re.MULTILINE) for name in ("edition", "year"))
EDITIONS = re.compile(r"^(?:# )?editions\b.*\n", re.MULTILINE)  # a table's field, and the comment that explains it
PROGRAM = "${workspaceFolder}/"
BEGIN = re.compile(r"(?:#|<!--) BEGIN EDITION (\S+)(?: -->)?")
END = re.compile(r"(?:(?:#|<!--) )?END EDITION(?: -->)?")
LINE = re.compile(r" *(?:<!-- EDITION ([^\s:]+) -->|# EDITION (\S+)$)")
HIDDEN = re.compile(r" *<!-- EDITION ([^\s:]+): (.*?) -->")


def belongs(file: str, edition: str) -> bool:
    """Return whether an edition includes a file, given its path in the repository."""
    return not any(
        fnmatchcase(file, pattern) for other, patterns in ONLY.items() if other != edition for pattern in patterns
    )


def without_files(files: Iterable[str]) -> list[str]:
    """Return the patterns in `ONLY` that match none of these files."""
    files = list(files)
    patterns = [pattern for each in ONLY.values() for pattern in each]
    return [pattern for pattern in patterns if not any(fnmatchcase(file, pattern) for file in files)]


def passages_of(text: str, file: str, edition: str, same_lines: bool = False) -> str:
    """Return a text file without the marks and without the passages of other editions.

    Args:
        file: its name, for error messages.
        same_lines: replace each removed line with an empty one, so that line numbers do not change.

    Raises:
        MarkerError: a mark is nested, unclosed or stray, or names an unknown edition.
    """
    kept: list[str] = []
    begun: tuple[int, str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        begin, end = BEGIN.fullmatch(line.strip()), END.fullmatch(line.strip())
        if begin and begun or end and not begun:
            why = f"the block at line {begun[0]} is still open" if begun else "no edition begins before this mark"
            raise MarkerError(f"{file}:{number}: {why}")
        lines = [] if begin or end else _of_line(line)
        for named in [begin[1]] if begin else [named for named, _ in lines]:
            if named not in (None, *ONLY):
                raise MarkerError(f"{file}:{number}: there is no edition {named}; the editions are {', '.join(ONLY)}")
        has_it = begun is None or begun[1] == edition
        its = [line for named, line in lines if has_it and named in (None, edition)]
        kept += [" ".join(its)] if same_lines else its
        begun = (number, begin[1]) if begin else None if end else begun
    if begun:
        raise MarkerError(f"{file}:{begun[0]}: is not closed")
    return "".join(f"{line}\n" for line in kept)


def _of_line(line: str) -> list[tuple[str | None, str]]:
    """Return the lines that a marked line represents, without marks, each with its edition (None: all editions)."""
    hidden = HIDDEN.search(line)
    line = line[: hidden.start()] + line[hidden.end() :] if hidden else line
    mark = LINE.search(line)
    shown = (mark[1] or mark[2], line[: mark.start()] + line[mark.end() :]) if mark else (None, line)
    return [shown] * (not hidden or bool(line.strip())) + ([(hidden[1], hidden[2])] if hidden else [])


def rubric_of(text: str, edition: str, year: str) -> str:
    """Return the text of rubric.toml for one edition, without other editions' tables and without `editions`."""
    kept = [each for each in re.split(r"\n(?=\n)", text) if _has(each, edition)]
    text = EDITIONS.sub("", "\n".join(kept))
    for pattern, name, value in ((EDITION, "edition", edition), (YEAR, "year", year)):
        text = pattern.sub(f'{name} = "{value}"\n', text)
    return text


def _has(paragraph: str, edition: str) -> bool:
    """Return whether a paragraph of rubric.toml belongs to an edition."""
    table = TABLE.search(paragraph)
    (fields,) = tomllib.loads(paragraph)[table[1]] if table else ({},)
    return edition in fields.get("editions", [edition])


def launch_of(text: str, edition: str) -> str:
    """Return VS Code's launch.json without the programs that an edition does not have."""
    content = json.loads(text)
    kept = [each for each in content["configurations"] if belongs(each["program"].removeprefix(PROGRAM), edition)]
    if len(kept) == len(content["configurations"]):
        return text
    return json.dumps({**content, "configurations": kept}, indent=4) + "\n"
