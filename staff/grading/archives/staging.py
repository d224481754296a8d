"""Submissions: which there are, and a clean copy of what counts in each.

`find` names the submissions, `stage` copies one. An archive or a folder is a list of entries (`Entry`). Each has a
place in the copy, or a reason why it has none. The copy has the folders of the parts, logs/ and answers.md, and in
them files that are made here; no path of a submission is ever written to.
"""

import ast
import bz2
import errno
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import time
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import BinaryIO

from course.flags import REPOSITORY
from course.rubric import read as read_rubric
from staff.grading.rules import PARSING

PACKED = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".txz", ".tar", ".zip")
GRADESCOPE = "submission_metadata.yml"  # lies beside the submissions of an export
PART = re.compile(r"part[ _.-]*([0-9])(?![0-9])", re.IGNORECASE)
PARTS_DEPTH = 3  # so many folders may lie around those of the parts
CODE = (".py", ".ipynb")

NEVER = {"__pycache__", "__macosx", "venv", "env", "node_modules", "tests", "data"}  # folders; hidden ones too
NEVER_IN_A_PART = {
    "course", "conftest.py", "pytest.ini", "tox.ini", "pyproject.toml", "setup.cfg", "setup.py", "sitecustomize.py",
    "usercustomize.py",
}  # fmt: skip
NEVER_ENDINGS = (".pyc", ".pyo", ".so", ".pyd", ".dll", ".dylib", ".pth", ".egg-link")
ANSWERS, LOGS = "answers.md", "logs"
OF_A_RUN = (
    "summary.json", "report.html", "hparams.yaml", "events.out.tfevents.*", "checkpoints/*.ckpt", "figures/*",
)  # fmt: skip

MB = 1_000_000
PIECE = 1 << 16  # bytes that are read at once
LONGEST_DIRECTORY = 8 * MB  # of a zip: the list of its entries is read whole
LONGEST_HEADER = 1 << 14  # of an entry of a tar file: tarfile's patterns take quadratic time on some
MEMORY = 128 << 20  # for unpacking xz; xz -9 needs half of it

Names = tuple[str, ...]  # a path as the names in it


@cache
def part_folders() -> dict[int, str]:
    """Number of a part -> its folder, as the rubric has them."""
    return {number: part.folder for number, part in read_rubric().parts.items()}


class SubmissionError(Exception):
    """The submission cannot be graded; the message is a sentence for the student."""


@dataclass(frozen=True)
class Submission:
    """One student's: a name that is safe as a file name and nobody else's, and the folder or archive."""

    student: str
    source: Path


@dataclass(frozen=True)
class Limits:
    """What a submission may have.

    files, depth, name: files that count; folders in a path; bytes of one name (UTF-8).
    total: bytes of the parts and the answers together. runs, logs: runs in logs/, and bytes of them.
    ratio: unpacked bytes to those of the archive, above `small` bytes.
    entries, seconds: entries of an archive, whether they count or not; time for one submission.
    """

    files: int = 2000
    total: int = 300 * MB
    ratio: float = 200
    small: int = 10 * MB
    depth: int = 12
    name: int = 200
    runs: int = 12
    logs: int = 300 * MB
    entries: int = 100_000
    seconds: float = 120


@dataclass(frozen=True)
class Staged:
    """The copy of a submission.

    Attributes:
        root: the folder.
        left_out: "name: reason" of what is not in it; the last may say how many more there are.
        parts: number of a part -> its folder in the submission, as the student named it.
        problems: sentences for the student: a missing part, a notebook in place of a module.
    """

    root: Path
    left_out: list[str]
    parts: dict[int, str]
    problems: list[str]


# --- which submissions there are --------------------------------------------------------------------------------------


def find(paths: Iterable[Path]) -> tuple[list[Submission], list[str]]:
    """The submissions that these folders and archives are or hold.

    A folder is one submission if the folders of the parts lie in it, or in the only folder in it; else each folder and
    archive in it is one.

    Returns:
        the submissions, in the order of their names, and the names of files that are neither folder nor archive.

    Raises:
        ValueError: a path does not exist, or holds no submission.
    """
    sources: list[Path] = []
    skipped: list[str] = []
    for path in map(Path, paths):
        if _is_archive(path) or (path.is_dir() and _is_one(path)):
            sources.append(path)
            continue
        found, others = _each_in(path)
        sources += found
        skipped += others
    unique = {source.resolve(): source for source in sources}
    return _named(list(unique.values())), skipped


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(PACKED) and path.is_file()


def _each_in(path: Path) -> tuple[list[Path], list[str]]:
    if not path.exists():
        raise ValueError(f"{path}: does not exist")
    if not path.is_dir():
        raise ValueError(f"{path}: is neither a folder nor an archive ({', '.join(PACKED)})")
    found, others = [], []
    for child in sorted(path.iterdir()):
        if _may_be_one(child):
            found.append(child)
        else:
            others.append(show(child.name))
    if not found:
        raise ValueError(f"{path}: holds no submission, neither a folder nor an archive ({', '.join(PACKED)})")
    return found, others


def _may_be_one(path: Path) -> bool:
    """Whether an entry of a folder of submissions is one. A link could lead into somebody else's."""
    if path.is_symlink() or path.name.startswith(".") or path.name.lower() in NEVER | {LOGS, "course"}:
        return False
    return path.is_dir() or _is_archive(path)


def _is_one(folder: Path, depth: int = PARTS_DEPTH) -> bool:
    """Whether a folder is one submission, not a folder of them."""
    children = _children(folder)
    if any(_is_part(child) for child in children):
        return True
    inside = [child for child in children if _may_be_one(child)]
    holders = [child for child in inside if depth and child.is_dir() and _is_one(child, depth - 1)]
    names = {child.name for child in children}
    if GRADESCOPE in names:
        return False
    if ".git" in names and len(holders) == 1:
        return True  # a repository with the parts in one of its folders
    flat = any(child.suffix.lower() in CODE for child in children) and not any(map(_is_archive, inside))
    return len(holders) == len(inside) == 1 or (flat and not holders)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []  # `stage` says what is wrong with it


def _is_part(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir() or not PART.match(path.name):
        return False
    return any(child.suffix.lower() in CODE for child in _children(path))


def _named(sources: list[Path]) -> list[Submission]:
    """Each with a name of its own: where two would have the same, the later ones get -2, -3 ..."""
    ordered = sorted((safe_name(_stem(source)), str(source), source) for source in sources)
    taken: set[str] = set()
    first, later = [], []
    for name, _, source in ordered:
        (later if _key(name) in taken else first).append((name, source))
        taken.add(_key(name))
    for name, source in later:
        number = 2
        while _key(numbered := _cut(name, 80 - len(f"-{number}")) + f"-{number}") in taken:
            number += 1
        taken.add(_key(numbered))
        first.append((numbered, source))
    return [Submission(name, source) for name, source in sorted(first)]


def _stem(source: Path) -> str:
    name = source.resolve().name if source.name in ("", "..") else source.name
    ending = next((ending for ending in PACKED if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)] if source.is_file() else name


def safe_name(text: str) -> str:
    """A text as a file name: letters, digits and . _ -, at most 80 characters (200 bytes), never hidden or empty."""
    text = unicodedata.normalize("NFC", text)
    kept = "".join(char if char in "._-" or unicodedata.category(char)[0] in "LMN" else "_" for char in text)
    return _cut(kept.lstrip(".-"), 80) or "student"


def _cut(name: str, longest: int) -> str:
    """At most so many characters, and 200 bytes, as file systems count bytes."""
    return name[:longest].encode()[:200].decode(errors="ignore")


def _key(name: str) -> str:
    """The same for names that are the same on some file system: they differ in case or Unicode form alone."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def show(text: str) -> str:
    """A foreign text on one line of at most 200 characters, with what cannot be printed written as \\x1b."""
    printable = (char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:300])
    text = "".join(printable)
    return text if len(text) <= 200 else text[:197] + "..."


# --- what is in one ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A file or folder of a submission, as it names it. `refusal`: why it can never count, e.g. a link."""

    name: str
    folder: bool = False
    refusal: str = ""
    pieces: Callable[[], Iterator[bytes]] = field(default=lambda: iter(()), repr=False)


class _Meter:
    """Counts what is unpacked, and ends it where it is too much.

    Args:
        packed: bytes of the archive; None where nothing is packed.
        most: bytes unpacked.
    """

    def __init__(self, limits: Limits, packed: int | None, most: int, deadline: float):
        self.limits, self.packed, self.most, self.deadline = limits, packed, most, deadline
        self.unpacked = 0

    def count(self, size: int) -> None:
        self.unpacked += size
        if self.unpacked > self.most:
            raise SubmissionError(f"It unpacks to more than {_mb(self.most)}; hand in the code and the runs only.")
        packed = None if self.packed is None else self.packed * self.limits.ratio
        if packed is not None and self.unpacked > max(packed, self.limits.small):
            raise SubmissionError(f"It unpacks to more than {self.limits.ratio:g} times the size of the archive.")
        self.check_time()

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise SubmissionError(f"Unpacking it takes longer than {self.limits.seconds:g} seconds.")


class _Guard:
    """A file for zipfile and tarfile that reads no more at once than it should, and only while there is time."""

    def __init__(self, file: BinaryIO, longest: int, meter: _Meter):
        self.file, self.longest, self.meter = file, longest, meter
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        self.meter.check_time()
        if size is None or not 0 <= size <= self.longest:
            content = self.file.read(self.longest + 1)
            if size is not None and size > self.longest or len(content) > self.longest:
                raise SubmissionError(f"The archive has a list of files, or a header, of over {self.longest} bytes.")
            return content
        return self.file.read(size)


@contextmanager
def _reading() -> Iterator[None]:
    """Whatever goes wrong in reading an archive is the archive's fault, unless the system says otherwise.

    Raises:
        SubmissionError: in place of the many kinds of exceptions that zipfile and tarfile raise for foreign bytes.
    """
    try:
        yield
    except SubmissionError:
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # gzip and bz2 raise OSError without a number
            raise
        raise SubmissionError(_damaged(error)) from error
    except Exception as error:
        raise SubmissionError(_damaged(error)) from error


def _damaged(error: Exception) -> str:
    return f"The archive is damaged or incomplete ({show(str(error) or type(error).__name__)}); pack it again."


def _entries(source: Path, limits: Limits, folder: Path, opened: ExitStack) -> tuple[list[Entry], _Meter]:
    """The entries of a folder or archive, sorted by name, and the meter for reading them.

    Args:
        folder: where a packed tar file may be unpacked to, in a file without a name.
        opened: closes what stays open for the entries to be read.
    """
    deadline = time.monotonic() + limits.seconds
    most = limits.total + limits.logs
    if source.is_dir():
        root = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, root)
        meter = _Meter(limits, None, most, deadline)
        entries = _of_folder(source, root, limits)
    else:
        file = opened.enter_context(open(source, "rb"))
        packed = _Meter(limits, os.fstat(file.fileno()).st_size, most, deadline)
        kind = _kind(source, file)
        if kind == "zip":
            meter = packed
            entries = _of_zip(file, meter)
        else:
            meter = _Meter(limits, None, most, deadline)
            if kind != "tar":
                file = _unpacked(file, kind, packed, opened.enter_context(tempfile.TemporaryFile(dir=folder)))
            entries = _of_tar(file, meter)
    found = []
    for entry in entries:
        found.append(entry)
        if len(found) > limits.entries:
            raise SubmissionError(f"It has more than {limits.entries} files; hand in the code and the runs only.")
    return sorted(found, key=lambda entry: entry.name), meter


def _kind(source: Path, file: BinaryIO) -> str:
    """By the first bytes, as many a .tar.gz is none; else by the name."""
    start = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    if start[257:262] == b"ustar":
        return "tar"
    for magic, kind in ((b"PK", "zip"), (b"\x1f\x8b", "gz"), (b"BZh", "bz2"), (b"\xfd7zXZ", "xz")):
        if start.startswith(magic):
            return kind
    return "zip" if source.name.lower().endswith(".zip") else "tar"


def _of_folder(source: Path, root: int, limits: Limits) -> Iterator[Entry]:
    """The entries below a folder. No link is followed, what never counts is not looked into."""
    folders: list[Names] = [()]
    while folders:
        names = folders.pop()
        try:
            children = [
                (child.name, child.stat(follow_symlinks=False)) for child in os.scandir(source.joinpath(*names))
            ]
        except OSError as error:
            yield Entry("/".join(names), refusal=f"cannot be read: {error.strerror}")
            continue
        for child, state in children:
            path = (*names, child)
            name = "/".join(path)
            if stat.S_ISDIR(state.st_mode):
                yield Entry(name, folder=True)
                if not _never(path) and len(path) <= PARTS_DEPTH + limits.depth + 1:
                    folders.append(path)
            elif refusal := _refusal(state.st_mode, state.st_nlink):
                yield Entry(name, refusal=refusal)
            else:
                yield Entry(name, pieces=lambda path=path: _pieces_below(root, path))


def _refusal(mode: int, links: int = 1) -> str:
    if stat.S_ISLNK(mode):
        return "is a link"
    if not stat.S_ISREG(mode):
        return "is neither a file nor a folder"
    return "is a hard link" if links > 1 else ""


def _pieces_below(root: int, names: Names) -> Iterator[bytes]:
    """What is in a file below an open folder: each name is opened in turn, none of them may be a link by now.

    Raises:
        SubmissionError: it is no file any more, or cannot be read.
    """
    with ExitStack() as opened:
        try:
            for name in names[:-1]:
                root = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
                opened.callback(os.close, root)
            handle = os.open(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=root)
            file = opened.enter_context(open(handle, "rb"))
            state = os.fstat(handle)
            if refusal := _refusal(state.st_mode, state.st_nlink):
                raise SubmissionError(f"{show('/'.join(names))} {refusal}.")
            yield from iter(lambda: file.read(PIECE), b"")
        except OSError as error:
            raise SubmissionError(f"{show('/'.join(names))} cannot be read: {error.strerror}.") from error


def _of_zip(file: BinaryIO, meter: _Meter) -> Iterator[Entry]:
    with _reading():
        archive = zipfile.ZipFile(_Guard(file, LONGEST_DIRECTORY, meter))
        _refuse_overlaps(archive)
        for info in archive.infolist():
            mode = info.external_attr >> 16
            name = info.orig_filename  # `filename` ends at a null character
            if name.endswith(("/", "\\")) or stat.S_ISDIR(mode):
                yield Entry(name, folder=True)
            elif stat.S_IFMT(mode) and not stat.S_ISREG(mode):
                yield Entry(name, refusal=_refusal(mode))
            else:
                yield Entry(name, pieces=lambda info=info: _pieces_of_zip(archive, info))


def _refuse_overlaps(archive: zipfile.ZipFile) -> None:
    """Two entries that share bytes are how a small zip becomes endless; newer Pythons see it, some only on reading."""
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise SubmissionError("The archive is damaged: files in it overlap.")
        end = info.header_offset + 30 + info.compress_size  # 30 bytes of header at least
    if end > archive.start_dir:
        raise SubmissionError("The archive is damaged: files in it overlap.")


def _pieces_of_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    if info.flag_bits & 0x41:
        raise SubmissionError(f"{show(info.filename)} is encrypted; hand it in without a password.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile unpacks 64 KB of the others to any size at once
        raise SubmissionError(f"{show(info.filename)} is compressed in an unusual way; pack it as a usual zip.")
    size = 0
    with _reading(), archive.open(info) as file:
        while piece := file.read(PIECE):
            size += len(piece)
            yield piece
        if size != info.file_size:
            raise zipfile.BadZipFile(f"{info.filename} has {size} bytes, not {info.file_size}")


def _unpacked(file: BinaryIO, kind: str, meter: _Meter, out: BinaryIO) -> BinaryIO:
    """Unpack a compressed tar file into another file, counting."""
    pieces = _xz(file) if kind == "xz" else _gz_or_bz2(file, kind)
    for piece in pieces:
        meter.count(len(piece))
        out.write(piece)
    out.seek(0)
    return out


def _gz_or_bz2(file: BinaryIO, kind: str) -> Iterator[bytes]:
    with _reading(), gzip.GzipFile(fileobj=file) if kind == "gz" else bz2.BZ2File(file) as unpacked:
        while piece := unpacked.read(PIECE):
            yield piece


def _xz(file: BinaryIO) -> Iterator[bytes]:
    """lzma.LZMAFile has no limit for its memory, and a header can ask for gigabytes."""
    with _reading():
        while start := file.peek(1):
            if not start.strip(b"\0"):
                return  # padding after the last stream
            stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
            while not stream.eof:
                packed = file.read(PIECE) if stream.needs_input else b""
                if stream.needs_input and not packed:
                    raise EOFError("it ends too early")
                yield stream.decompress(packed, PIECE)
            file.seek(-len(stream.unused_data), os.SEEK_CUR)


def _of_tar(file: BinaryIO, meter: _Meter) -> Iterator[Entry]:
    with _reading():
        archive = tarfile.open(fileobj=_Guard(file, LONGEST_HEADER, meter), mode="r:")
        while member := archive.next():
            # archive.offset is that of the next: older Pythons can be led back
            if member.size < 0 or not member.offset < member.offset_data <= archive.offset:
                raise tarfile.ReadError("a size is negative")
            yield _of_member(member, file)
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes a damaged header for the end
            raise tarfile.ReadError("a header is damaged")


def _of_member(member: tarfile.TarInfo, file: BinaryIO) -> Entry:
    if member.isdir():
        return Entry(member.name, folder=True)
    if member.issym() or member.islnk():
        return Entry(member.name, refusal="is a link" if member.issym() else "is a hard link")
    if not member.isreg() or member.issparse():
        return Entry(member.name, refusal="is neither a file nor a folder")
    return Entry(member.name, pieces=lambda: _pieces_between(file, member.offset_data, member.size))


def _pieces_between(file: BinaryIO, start: int, size: int) -> Iterator[bytes]:
    with _reading():
        file.seek(start)
        while size:
            piece = file.read(min(PIECE, size))
            if not piece:
                raise tarfile.ReadError("it ends too early")
            size -= len(piece)
            yield piece


# --- what of it counts ------------------------------------------------------------------------------------------------


def _names(name: str) -> Names:
    """The names in a path.

    Raises:
        ValueError: it is not one inside the submission; the message is the reason.
    """
    name = name.replace("\\", "/")  # some packers on Windows write it so
    names = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        raise ValueError("is an absolute path")
    if ".." in names:
        raise ValueError("leads out of its folder")
    if not name.isprintable():
        raise ValueError("has a character in its name that cannot be printed")
    return names


def _never(names: Names) -> tuple[int, str] | None:
    """The first name that keeps a path from counting wherever it is, as its place and the reason."""
    for place, name in enumerate(names):
        if name.lower() in NEVER:
            return place, "does not count in a submission"
        if name.startswith("."):
            return place, "is hidden"
    return (len(names) - 1, "is never loaded") if names[-1].lower().endswith(NEVER_ENDINGS) else None


@dataclass
class _Plan:
    """Where each entry goes, or why it goes nowhere."""

    files: dict[Names, Entry] = field(default_factory=dict)  # place in the copy -> file
    left_out: dict[str, str] = field(default_factory=dict)  # name in the submission -> reason
    parts: dict[int, Names] = field(default_factory=dict)  # number -> folder in the submission
    problems: list[str] = field(default_factory=list)

    def leave_out(self, names: Names | str, reason: str) -> None:
        self.left_out.setdefault(names if isinstance(names, str) else "/".join(names), reason)


def _plan(entries: list[Entry], limits: Limits) -> _Plan:
    """What of the entries counts.

    Raises:
        SubmissionError: something that counts is beyond a limit.
    """
    plan = _Plan()
    possible = list(_possible(entries, plan))
    _choose_parts([names for names, entry in possible if not entry.folder], plan)
    root = _root(plan)
    claimed: dict[Names, Names] = {}
    for names, entry in possible:
        place = _place(names, root, plan)
        if not isinstance(place, tuple):
            _leave_out_of_root(names, root, place, entry, plan)
            continue
        _check_limits(names, place, limits)
        if not entry.folder:
            _claim(names, place, entry, claimed, plan)
    _leave_out_runs(limits, plan)
    if len(plan.files) > limits.files:
        raise SubmissionError(f"It has {len(plan.files)} files in its parts and logs; at most {limits.files} may be.")
    return plan


def _possible(entries: list[Entry], plan: _Plan) -> Iterator[tuple[Names, Entry]]:
    """The entries whose names are paths inside the submission and which are not refused for what they are."""
    for entry in entries:
        try:
            names = _names(entry.name)
        except ValueError as error:
            plan.leave_out(entry.name, str(error))
            continue
        if not names:
            continue  # the folder itself
        if never := _never(names):
            plan.leave_out(names[: never[0] + 1], never[1])
        elif entry.refusal:
            plan.leave_out(names, entry.refusal)
        else:
            yield names, entry


def _choose_parts(files: list[Names], plan: _Plan) -> None:
    """Find the folder of each part: one with code in it. Best is where most parts lie together, then highest up."""
    found: dict[int, set[Names]] = {}
    for names in files:
        if 2 <= len(names) <= PARTS_DEPTH + 2 and names[-1].lower().endswith(CODE) and PART.match(names[-2]):
            found.setdefault(int(PART.match(names[-2])[1]), set()).add(names[:-1])
    together = Counter(parent for folders in found.values() for parent in {folder[:-1] for folder in folders})
    for number, right in part_folders().items():

        def rank(folder: Names, right: str = right) -> tuple[int, int, bool]:
            return -together[folder[:-1]], len(folder), folder[-1] != right

        folders = sorted(sorted(found.get(number, ())), key=rank)
        if not folders:
            plan.problems.append(f"There is no folder {right} with Python files in it.")
        elif len(folders) > 1 and rank(folders[0]) == rank(folders[1]):
            listed = ", ".join(show("/".join(folder)) for folder in folders[:5])
            plan.problems.append(f"Several folders could be {right} ({listed}); hand in one, named {right}.")
        else:
            plan.parts[number] = folders[0]
    if not plan.parts:
        plan.problems += _lies_flat(files)


def _lies_flat(files: list[Names]) -> Iterator[str]:
    """What a student may have done who handed in no folder of a part."""
    code = sorted({show(names[-1]) for names in files if names[-1].lower().endswith(CODE)})
    folders = ", ".join(part_folders().values())
    if code:
        some = ", ".join(code[:5]) + (", ..." if len(code) > 5 else "")
        yield f"The files {some} do not lie in folders of the parts; they belong into {folders}."
    for names in files:
        if names[-1].lower().endswith(PACKED):
            yield f"{show('/'.join(names))} is an archive within the submission; hand in what is in it."
            return


def _root(plan: _Plan) -> Names:
    """The folder around the parts: where most of them lie."""
    parents = Counter(folder[:-1] for folder in plan.parts.values())
    return min(parents, key=lambda parent: (-parents[parent], len(parent), parent), default=())


def _place(names: Names, root: Names, plan: _Plan) -> Names | str:
    """Where in the copy an entry goes, or the reason why nowhere."""
    for number, folder in plan.parts.items():
        if names[: len(folder)] == folder and len(names) > len(folder):
            inside = names[len(folder) :]
            if any(name.lower() in NEVER_IN_A_PART for name in inside):
                return "does not count in a submission"
            return (part_folders()[number], *inside)
    inside = names[len(root) :] if names[: len(root)] == root else ()
    if len(inside) == 1 and inside[0].lower() == ANSWERS:
        return (ANSWERS,)
    if inside and inside[0] == LOGS:
        return inside if _of_a_run(inside) else "is none of the files of a run that are looked at"
    return "is not looked at"


def _of_a_run(names: Names) -> bool:
    """Whether logs/PROGRAM/RUN/... is a file that is looked at."""
    patterns = [pattern.split("/") for pattern in OF_A_RUN]
    return any(len(pattern) == len(names[3:]) and all(map(fnmatchcase, names[3:], pattern)) for pattern in patterns)


def _leave_out_of_root(names: Names, root: Names, reason: str, entry: Entry, plan: _Plan) -> None:
    """Say so once for a folder of which nothing counts; for a file of a part or a run, of it alone."""
    ways = [root, *plan.parts.values(), (*root, LOGS)]
    same = max(len(os.path.commonprefix([names, way])) for way in ways)
    inside = any(names[: len(way)] == way for way in ways[1:])
    if inside and not entry.folder:
        plan.leave_out(names, reason)
    elif not inside and same < len(names):
        plan.leave_out(names[: same + 1], reason)


def _check_limits(names: Names, place: Names, limits: Limits) -> None:
    if len(place) - 1 > limits.depth:
        raise SubmissionError(f"{show('/'.join(names))} lies in more than {limits.depth} folders.")
    for name in place:
        if len(name.encode("utf-8", "surrogateescape")) > limits.name:
            raise SubmissionError(f"The name {show(name[:60])}... is longer than {limits.name} bytes.")


def _claim(names: Names, place: Names, entry: Entry, claimed: dict[Names, Names], plan: _Plan) -> None:
    """Give the place to the entry, unless the first of the same name, or a folder of it, has it already."""
    keys = [tuple(map(_key, place[:end])) for end in range(1, len(place) + 1)]
    folders = list(zip(keys[:-1], (place[:end] for end in range(1, len(place))), strict=True))
    taken = keys[-1] in claimed or any(claimed.get(key, folder) != folder for key, folder in folders)
    if taken or any(folder in plan.files for _, folder in folders):
        plan.leave_out(names, "has the name of another file, or one that differs in case or Unicode form alone")
        return
    claimed.update(folders)
    claimed[keys[-1]] = place
    plan.files[place] = entry


def _leave_out_runs(limits: Limits, plan: _Plan) -> None:
    """Keep so many runs: the newest of each program, then the next of each."""
    runs = sorted({place[:3] for place in plan.files if place[0] == LOGS}, key=_natural, reverse=True)
    nth: Counter[str] = Counter()
    order = []
    for run in runs:
        nth[run[1]] += 1
        order.append((nth[run[1]], run))
    for _, run in sorted(order)[limits.runs :]:
        for place in [place for place in plan.files if place[:3] == run]:
            del plan.files[place]
        plan.leave_out(run, f"is one run too many; {limits.runs} are looked at")


def _natural(names: Names) -> list[tuple[str, int]]:
    """version_10 comes after version_9."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d{0,18})", "/".join(names))]


# --- the copy ---------------------------------------------------------------------------------------------------------


def stage(submission: Submission, folder: Path, limits: Limits | None = None) -> Staged:
    """Copy what counts of a submission: the folders of its parts, named as they should be, logs/ and answers.md.

    Args:
        folder: new or empty. It is taken away again where this raises.

    Raises:
        SubmissionError: it cannot be read, or is beyond a limit; a sentence for the student.
        FileExistsError: the folder is not empty.
        OSError: the source cannot be opened, the copy cannot be written.
    """
    limits = limits or Limits()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(errno.EEXIST, "is not empty", str(folder))
    try:
        os.chmod(folder, 0o755)
        with ExitStack() as opened:
            entries, meter = _entries(submission.source, limits, folder, opened)
            plan = _plan(entries, limits)
            _copy(plan, folder, limits, meter)
        return _staged(plan, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _copy(plan: _Plan, folder: Path, limits: Limits, meter: _Meter) -> None:
    size = {LOGS: 0, "": 0}
    for place, entry in sorted(plan.files.items()):
        kind = LOGS if place[0] == LOGS else ""
        path = folder
        for name in place[:-1]:
            path = path / name
            if not path.exists():
                path.mkdir()
                os.chmod(path, 0o755)  # mkdir's mode goes through the umask
        fits = _write(path / place[-1], entry, size, kind, limits, meter)
        if not fits:
            (path / place[-1]).unlink()
            plan.leave_out(place, f"the runs take more than {_mb(limits.logs)}")


def _write(path: Path, entry: Entry, size: dict[str, int], kind: str, limits: Limits, meter: _Meter) -> bool:
    """Write one file. Returns whether there was room, if it belongs to a run.

    Raises:
        SubmissionError: there was none, and it does not.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with open(handle, "wb") as file:
        os.fchmod(handle, 0o644)
        for piece in entry.pieces():
            meter.count(len(piece))
            size[kind] += len(piece)
            if kind == LOGS and size[kind] > limits.logs:
                size[kind] -= file.tell() + len(piece)
                return False
            if kind != LOGS and size[kind] > limits.total:
                raise SubmissionError(f"Its parts take more than {_mb(limits.total)}; hand in the code only.")
            file.write(piece)
    return True


def _mb(size: int) -> str:
    return f"{size / MB:g} MB"


def _staged(plan: _Plan, folder: Path) -> Staged:
    """Add what a part needs to be imported, and look for modules that are missing."""
    problems = list(plan.problems)
    for number, source in sorted(plan.parts.items()):
        part = folder / part_folders()[number]
        problems += _missing(part, show(source[-1]))
        if not (part / "__init__.py").exists():
            (part / "__init__.py").touch()
            os.chmod(part / "__init__.py", 0o644)
    parts = {number: show("/".join(source)) for number, source in sorted(plan.parts.items())}
    return Staged(folder, _listed(plan.left_out), parts, problems)


def _missing(part: Path, named: str) -> Iterator[str]:
    """Sentences about the modules that a part lacks, and notebooks that may be meant for them."""
    needed = needed_modules().get(part.name, set())
    notebooks = {path.stem for path in part.glob("*.ipynb") if not path.with_suffix(".py").exists()}
    for module in sorted(needed | notebooks):
        if module not in notebooks and not (part / f"{module}.py").is_file():
            yield f"There is no file {named}/{module}.py."
        elif module in notebooks:
            what = f"{module}.py is needed" if module in needed else "only Python files are run"
            yield f"{named}/{show(module)}.ipynb is a notebook; {show(what)}."


def _listed(left_out: dict[str, str], most: int = 50) -> list[str]:
    lines = [f"{show(name)}: {reason}" for name, reason in sorted(left_out.items())]
    return lines if len(lines) <= most else [*lines[:most], f"and {len(lines) - most} more"]


@cache
def needed_modules(adapters: Path = REPOSITORY / "tests" / "adapters") -> dict[str, set[str]]:
    """The modules of each part that the tests load: {"part1_vae": {"utils", ...}, ...}."""
    needed: dict[str, set[str]] = {folder: set() for folder in part_folders().values()}
    with PARSING:
        trees = [ast.parse(path.read_text("utf-8")) for path in sorted(adapters.glob("*.py"))]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and node.module:
            part, _, module = node.module.partition(".")
            if part in needed:
                needed[part] |= {module} if module else {alias.name for alias in node.names}
    return needed
