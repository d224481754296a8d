"""Hostile submissions, which try to get points, read hidden files, do harm or mislead the staff's tools.

The code of an attack is usually appended to part1_vae/utils.py of the template. All blanks of the template are empty,
so the attack must not earn a point. Attacks with other goals may be appended to the solution instead. An attack knows
more about this machine than a student could: placeholders in its code are replaced by real paths, ports and names.
"""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Attack:
    """An attack: its goal (`tries`), its code, and the other files that it adds (path -> content).

    file: the file to which the code is appended. solved: attack the solution instead of the template.
    everywhere: append the code to the same file in each part. most: the most points that it may get (it deserves 0).
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
    """Values of the placeholders in an attack: CANARY (a folder that it must not touch), REPOSITORY, OTHER (another
    submission), PORT, NAME (of an abstract Unix socket), MARKER (a string that no other process contains)."""

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
    """Write a submission that contains the attack.

    Args:
        tree: the files of the template or the solution, path -> text.
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
