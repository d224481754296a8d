"""Find dead relative links in Markdown files, including their anchors."""

import posixpath
import re

from staff.release.handout import FENCE, anchors

LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|<(?:a|img)\b[^>]*\b(?:href|src)=[\"']([^\"']+)")
CODE = re.compile(r"(`+)(?!`).+?\1", re.DOTALL)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def dead(texts: dict[str, str], files: set[str]) -> list[str]:
    """Return the dead links: "file:line: ...".

    Args:
        texts: path -> text; only paths that end in .md are searched.
        files: all existing paths.
    """
    folders = {"."} | {parent for file in files for parent in _parents(file)}
    problems = []
    for file, text in texts.items():
        for line, target in _links(text) if file.endswith(".md") else ():
            path, _, anchor = target.partition("#")
            path = posixpath.normpath(posixpath.join(posixpath.dirname(file), path)) if path else file
            if path not in files and path not in folders:
                problems.append(f"{file}:{line}: dead link: there is no {path}")
            elif anchor and path.endswith(".md") and anchor not in anchors(texts.get(path, "")):
                problems.append(f"{file}:{line}: dead link: {path} has no anchor #{anchor}")
    return problems


def _links(text: str) -> list[tuple[int, str]]:
    """Return the line and target of each link within the repository."""
    shown = CODE.sub(_blank, FENCE.sub(_blank, text))
    found = [(shown.count("\n", 0, match.start()) + 1, match[1] or match[2]) for match in LINK.finditer(shown)]
    return [(line, target) for line, target in found if not ELSEWHERE.match(target)]


def _blank(match: re.Match) -> str:
    """Keep only the line breaks, so that line numbers do not change."""
    return "\n" * match[0].count("\n")


def _parents(file: str) -> list[str]:
    parts = file.split("/")[:-1]
    return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
