"""Editions of the assignment: a table in rubric.toml belongs to those listed in its `editions` (default: all)."""

import tomllib
from pathlib import Path


def choose(content: dict, edition: str | None = None) -> str:
    """Remove the tables of other editions; return the chosen edition.

    Args:
        content: the content of rubric.toml, modified in place: `edition` and the tables' `editions` are removed too.
        edition: the edition to choose (default: the file's own).

    Raises:
        TypeError: `editions` is not a list of strings, or no table names this edition.
        KeyError: the file does not name an edition.
    """
    tables = _tables(content)
    known = _named(tables)
    own = str(content.pop("edition"))
    edition = own if edition is None else edition
    if edition not in (known or {own}):
        raise TypeError(f"edition = {edition!r}: should be {' or '.join(sorted(known) or [own])}")
    for of_kind in tables:
        of_kind[:] = [table for table in of_kind if edition in table.pop("editions", [edition])]
    return edition


def known(path: Path) -> list[str]:
    """List the editions named in a rubric.toml, starting with the file's own.

    Raises:
        OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError, KeyError: the file is missing or invalid.
    """
    content = tomllib.loads(path.read_text("utf-8"))
    own = str(content["edition"])
    return [own, *sorted(_named(_tables(content)) - {own})]


def _tables(content: dict) -> list[list[dict]]:
    """Return the lists of tables [[part]], [[question]] ..."""
    lists = [value for value in content.values() if isinstance(value, list)]
    return [value for value in lists if all(isinstance(table, dict) for table in value)]


def _named(tables: list[list[dict]]) -> set[str]:
    """Return the editions named in the tables."""
    named = [table["editions"] for of_kind in tables for table in of_kind if "editions" in table]
    for names in named:
        if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
            raise TypeError(f'editions = {names!r}: should be a list of strings, such as ["2022"]')
    return {name for names in named for name in names}
