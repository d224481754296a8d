"""Hostile submissions: attempts to get points, to see what is hidden, to do harm, to speak to the staff's tools.

An attack is code behind part1_vae/utils.py of the template, whose blanks are all empty, so that each point it gets is
one too many; or of the solution, where it aims at something else. It learns more about this machine than a student
could: the capitals in its code are replaced by real paths, ports and names.
"""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Attack:
    """What it tries, the code, and other files it brings, path -> content.

    file: where the code goes, at the end. solved: into the solution, not the template.
    everywhere: into the same file of each part. most: the points that it may get, where the honest score is 0.
    """

    tries: str
    code: str = ""
    file: str = "part1_vae/utils.py"
    files: dict[str, str] = field(default_factory=dict)
    solved: bool = False
    everywhere: bool = False
    most: float = 0


@dataclass(frozen=True)
class Places:
    """What an attack would like to know: CANARY (a folder that it may not touch), REPOSITORY, OTHER (someone's
    submission), PORT, NAME (of a Unix socket without a file), MARKER (a text that no other process has)."""

    canary: Path
    repository: Path
    other: Path
    port: int
    name: str
    marker: str

    def fill_in(self, code: str) -> str:
        words = {"CANARY": self.canary, "REPOSITORY": self.repository, "OTHER": self.other, "MARKER": self.marker}
        words |= {"PORT": self.port, "NAME": self.name}
        for word, value in words.items():
            code = code.replace(f"<{word}>", str(value))
        return code


def put(attack: Attack, folder: Path, tree: dict[str, str], places: Places) -> None:
    """Write a submission with the attack in it.

    Args:
        tree: the template or the solution, path -> text.
    """
    files = dict(tree)
    parts = sorted({file.split("/")[0] for file in tree}) if attack.everywhere else [attack.file.split("/")[0]]
    for part in parts:
        file = "/".join([part, *attack.file.split("/")[1:]])
        files[file] = f"{files.get(file, '')}\n\n{places.fill_in(attack.code)}\n"
    files |= {file: places.fill_in(content) for file, content in attack.files.items()}
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content, "utf-8", errors="surrogatepass")
