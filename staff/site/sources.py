"""Convert the chapters from GitHub's Markdown to MyST Markdown, which Sphinx reads."""

import posixpath
import re
from pathlib import Path

from staff.release import editions
from staff.release.handout import FOLDER
from staff.release.markers import without_staff

INDEX = "index.md"
ORDER = ("00_*", "01_*", "02_*", "03_*", "A_*", "B_*", "C_*")
ANCHOR = re.compile(r'^<a id="([\w-]+)"></a>$', re.MULTILINE)
NAVIGATION = re.compile(r"\[Contents\]\(README\.md\).*?(?=\n\n)", re.DOTALL)  # the site has its own navigation
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```$|^\$\$$.*?^\$\$$)", re.MULTILINE | re.DOTALL)  # code, and displayed mathematics
INLINE = re.compile(r"(`[^`]*`)|(\$[^$`]+\$)(?=[,.;:?!)])")  # code, and mathematics before punctuation
WORD_JOINER = "\u2060"  # prevents a line break before the next character
TOCTREE = "\n```{toctree}\n:hidden:\n\n%s\n```\n"


def write(root: Path, out: Path, edition: str) -> dict[str, bytes]:
    """Write the sources of an edition's site. Return the chapters and figures that were read: path -> bytes."""
    read = {}
    chapters = [path for pattern in ORDER for path in sorted((root / FOLDER).glob(f"{pattern}.md"))]
    chapters = [path for path in chapters if editions.belongs(path.relative_to(root).as_posix(), edition)]
    for path in [root / FOLDER / "README.md", *chapters]:
        file = path.relative_to(root).as_posix()
        read[file] = path.read_bytes()
        text, pictures = convert(editions.passages_of(read[file].decode("utf-8"), file, edition), file)
        if path.name == "README.md":
            text += TOCTREE % "\n".join(chapter.stem for chapter in chapters)
        (out / (INDEX if path.name == "README.md" else path.name)).write_text(text, "utf-8")
        for picture, copy in pictures.items():
            read[picture] = (root / picture).read_bytes()
            (out / copy).parent.mkdir(parents=True, exist_ok=True)
            (out / copy).write_bytes(read[picture])
    return read


def convert(text: str, file: str) -> tuple[str, dict[str, str]]:
    """Convert a chapter for MyST. Return the result and its images: path in the repository -> path in the site.

    Args:
        file: the chapter's path in the repository.
    """
    pictures: dict[str, str] = {}
    text = NAVIGATION.sub("", without_staff(text, file)).replace("\n \n", "\n\n")
    parts = FENCE.split(ANCHOR.sub(r"(\1)=", text))
    parts[::2] = [LINK.sub(lambda match: _link(match, file, pictures), part) for part in parts[::2]]
    parts[::2] = [INLINE.sub(lambda match: match[1] or match[2] + WORD_JOINER, part) for part in parts[::2]]
    return "".join(parts), pictures


def _link(match: re.Match, file: str, pictures: dict[str, str]) -> str:
    """Convert a link or an image."""
    picture, words, target = match.groups()
    path, _, anchor = target.partition("#")
    if re.match(r"[a-z]+:", target):
        return match[0]
    whole = posixpath.normpath(posixpath.join(posixpath.dirname(file), path)) if path else file
    if picture:
        copy = f"figures/{whole.removeprefix(FOLDER).removeprefix('figures/').replace('/', '_')}"
        pictures[whole] = copy
        return f"![{words}]({copy})"
    if re.fullmatch(r"q\d-\d+(-\d+)?|eq-\w+", anchor):
        return f"[{words}](#{anchor})"  # a MyST target, which every chapter can refer to
    if not whole.startswith(FOLDER) or not whole.endswith(".md"):
        return _outside(words, whole)
    name = INDEX if whole.endswith("README.md") else posixpath.basename(whole)
    return f"[{words}]({name if path else ''}{'#' + anchor if anchor else ''})"


def _outside(words: str, path: str) -> str:
    """Replace a link to a file outside the site: return the path if the link shows the file's name, else its text."""
    name = words.strip("`")
    is_its_name = words == posixpath.basename(path) or (words.startswith("`") and path.endswith(name))
    return f"`{path}`" if is_its_name else words
