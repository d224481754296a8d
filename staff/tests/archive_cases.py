"""Helpers that build submissions as folders and archives, shared by several test files."""

import io
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from staff.grading import people
from staff.grading.archives import Limits, Staged, Submission, SubmissionError, find, stage
from staff.grading.roster import Roster

CODE = b"x = 1\n"


PARTS = {
    **{f"part1_vae/{module}.py": CODE for module in ("utils", "cnn_encoder_decoder", "train")},
    **{f"part2_aae/{module}.py": CODE for module in ("utils", "models", "train")},
    **{f"part3_gpt/{module}.py": CODE for module in ("utils", "gpt", "cache", "train")},
}


INITS = {f"{part}/__init__.py": b"" for part in ("part1_vae", "part2_aae", "part3_gpt")}


def zipped(path: Path, files: dict[str, bytes] | list[tuple[str, bytes]], packed: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            archive.writestr(zipfile.ZipInfo(name), content, archive.compression)
    return path


def tarred(path: Path, files: dict[str, bytes], *others: tarfile.TarInfo, mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.mtime = len(content), 0o4777, 12345, 1
            archive.addfile(info, io.BytesIO(content))
        for info in others:
            archive.addfile(info)
    return path


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


PACKERS = {
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda path, files: tarred(path, files, mode="w:gz"),
    "tgz": lambda path, files: tarred(path, files, mode="w:gz"),
    "tar.bz2": lambda path, files: tarred(path, files, mode="w:bz2"),
    "tar.xz": lambda path, files: tarred(path, files, mode="w:xz"),
    "folder": folder,
}


def staged(tmp_path: Path, source: Path, limits: Limits | None = None) -> Staged:
    shutil.rmtree(tmp_path / "staged", ignore_errors=True)
    return stage(Submission("a", source), tmp_path / "staged", limits)


def refused(tmp_path: Path, source: Path, limits: Limits | None = None) -> str:
    """Check that staging fails and leaves no copy behind; return the message for the student."""
    with pytest.raises(SubmissionError) as error:
        staged(tmp_path, source, limits)
    assert not (tmp_path / "staged").exists()
    message = str(error.value)
    assert message.endswith(".") and "\n" not in message and len(message) < 500
    return message


def content(root: Path) -> dict[str, bytes]:
    """Return path -> content for all files in a folder; fail on anything that is not a file or a folder."""
    found = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        assert stat.S_ISDIR(mode) or stat.S_ISREG(mode)
        if stat.S_ISREG(mode):
            found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found


# --- finding submissions ----------------------------------------------------------------------------------------------


def found(*paths: Path) -> tuple[dict[str, str], list[str]]:
    """Return student -> name of the submitted file or folder, and the list of skipped paths."""
    submissions, skipped = find(list(paths))
    everybody = people.who(submissions, Roster())
    return {each.student: each.found[0].path.name for each in everybody}, skipped
