"""Submissions found, unpacked and staged; the hostile ones are real archives, made here."""

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import socket
import stat
import struct
import subprocess
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import pytest

from small_runs import REPOSITORY
from staff.grading import archives
from staff.grading.archives import Limits, Staged, Submission, SubmissionError, find, safe_name, stage

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
    """The sentence for the student; nothing of the copy is left."""
    with pytest.raises(SubmissionError) as error:
        staged(tmp_path, source, limits)
    assert not (tmp_path / "staged").exists()
    message = str(error.value)
    assert message.endswith(".") and "\n" not in message and len(message) < 500
    return message


def content(root: Path) -> dict[str, bytes]:
    """Everything below a folder; what is no file or folder fails."""
    found = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        assert stat.S_ISDIR(mode) or stat.S_ISREG(mode)
        if stat.S_ISREG(mode):
            found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found


# --- which submissions there are --------------------------------------------------------------------------------------


def found(*paths: Path) -> tuple[dict[str, str], list[str]]:
    submissions, skipped = find(list(paths))
    return {each.student: each.source.name for each in submissions}, skipped


def test_archives_and_folders_that_are_named(tmp_path):
    paths = [zipped(tmp_path / "Ann.ZIP", PARTS), tarred(tmp_path / "bob.tar.gz", PARTS, mode="w:gz")]
    paths += [folder(tmp_path / "eve.v1", PARTS), paths[0]]
    assert found(*paths) == ({"Ann": "Ann.ZIP", "bob": "bob.tar.gz", "eve.v1": "eve.v1"}, [])


def test_a_folder_of_zips_as_canvas_hands_them_out(tmp_path):
    for name in ("doejane_123_456_submission.zip", "poeed_LATE_123_457_my work-2.zip"):
        zipped(tmp_path / "all" / name, PARTS)
    (tmp_path / "all" / "grades.csv").write_text("")
    (tmp_path / "all" / "late.rar").write_text("")
    assert found(tmp_path / "all") == (
        {
            "doejane_123_456_submission": "doejane_123_456_submission.zip",
            "poeed_LATE_123_457_my_work-2": "poeed_LATE_123_457_my work-2.zip",
        },
        ["grades.csv", "late.rar"],
    )


def test_gradescopes_export(tmp_path):
    folder(tmp_path / "all" / "submission_1", PARTS)
    (tmp_path / "all" / "submission_metadata.yml").write_text("")
    assert found(tmp_path / "all") == ({"submission_1": "submission_1"}, ["submission_metadata.yml"]), "a class of one"
    folder(tmp_path / "all" / "submission_2" / "repository", PARTS)
    folder(tmp_path / "all" / "submission_3", {"notes.pdf": b""})
    assert sorted(found(tmp_path / "all")[0]) == ["submission_1", "submission_2", "submission_3"]


@pytest.mark.parametrize("where", ["", "a", "a/b/c"])
def test_a_folder_that_is_one_submission(where, tmp_path):
    folder(tmp_path / "ann" / where, PARTS)
    assert found(tmp_path / "ann") == ({"ann": "ann"}, [])
    folder(tmp_path / "bob" / where, PARTS)
    assert sorted(found(tmp_path / "ann", tmp_path / "bob")[0]) == ["ann", "bob"]
    shutil.rmtree(tmp_path / "staged", ignore_errors=True)
    assert sorted(found(tmp_path)[0]) == ["ann", "bob"], "the class"


def test_a_repository_and_flat_files_are_one_submission(tmp_path):
    folder(tmp_path / "ann", {".git/HEAD": b"", "docs/a.md": b"", **{f"src/{name}": CODE for name in PARTS}})
    folder(tmp_path / "bob", {"utils.py": CODE, "figures/a.png": b""})
    assert sorted(found(tmp_path / "ann", tmp_path / "bob")[0]) == ["ann", "bob"]


def test_a_link_in_a_class_is_no_submission(tmp_path):
    folder(tmp_path / "all" / "ann", PARTS)
    folder(tmp_path / "all" / "bob", PARTS)
    (tmp_path / "all" / "eve").symlink_to(tmp_path / "all" / "ann")
    assert found(tmp_path / "all") == ({"ann": "ann", "bob": "bob"}, ["eve"])


@pytest.mark.parametrize("name", ["missing", "empty", "file.txt"])
def test_what_holds_no_submission_is_named(name, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(ValueError, match=name):
        find([tmp_path / name])


def test_names_that_are_the_same_on_some_system_are_numbered(tmp_path):
    names = ["Ann", "ann", "e\u0301va", "\u00e9va", "ann-2"]
    for number, name in enumerate(names):
        zipped(tmp_path / str(number) / f"{name}.zip", PARTS)
    paths = [tmp_path / str(number) / f"{name}.zip" for number, name in enumerate(names)]
    assert found(*paths)[0] == {
        "Ann": "Ann.zip",
        "ann-2": "ann-2.zip",
        "ann-3": "ann.zip",
        "\u00e9va": "e\u0301va.zip",
        "\u00e9va-2": "\u00e9va.zip",
    }
    assert found(*reversed(paths)) == found(*paths)


@pytest.mark.parametrize(
    "text, name",
    [
        ("Jane Doe", "Jane_Doe"),
        ("..", "student"),
        (".", "student"),
        ("", "student"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        ("a/b\\c\n=d\x1b[0m\u202e", "a_b_c__d__0m_"),
        ("\udcff", "_"),
        ("e\u0301", "\u00e9"),
        ("x" * 300, "x" * 80),
        ("\U00020000" * 300, "\U00020000" * 50),
    ],
)
def test_a_students_name_is_safe_as_a_file_name(text, name):
    assert safe_name(text) == name


def test_long_names_that_are_cut_stay_apart_and_short(tmp_path):
    for end in "abc":
        zipped(tmp_path / "all" / ("x" * 100 + f"{end}.zip"), PARTS)
    assert [len(student) for student in found(tmp_path / "all")[0]] == [80, 80, 80]


# --- honest ones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(PACKERS))
@pytest.mark.parametrize("where", ["", "./", "submission/", "a/b/c/"])
def test_parts_are_found_in_every_kind_of_archive(kind, where, tmp_path):
    source = PACKERS[kind](tmp_path / f"ann.{kind}", {f"{where}{name}": code for name, code in PARTS.items()})
    result = staged(tmp_path, source)
    assert content(result.root) == {**PARTS, **INITS}
    assert (result.left_out, result.problems, sorted(result.parts)) == ([], [], [1, 2, 3])


def test_the_zip_of_course_submission_is_staged_whole(tmp_path):
    files = {path.relative_to(REPOSITORY).as_posix(): path.read_bytes() for path in REPOSITORY.glob("part*/*.py")}
    files |= {"answers.md": b"# Answers", "logs/vae/version_0/summary.json": b"{}"}
    files |= {f"logs/vae/version_0/{name}": b"1" for name in ("hparams.yaml", "events.out.tfevents.1.host.2.0")}
    files |= {f"logs/vae/version_0/{name}": b"1" for name in ("checkpoints/best.ckpt", "figures/a.png")}
    result = staged(tmp_path, zipped(tmp_path / "submission.zip", files))
    assert content(result.root) == files
    assert (result.left_out, result.problems) == ([], [])


@pytest.mark.parametrize("names", [("part1", "part2", "part3"), ("Part1-VAE", "PART 2", "part_3_gpt_final")])
def test_folders_named_otherwise_are_renamed(names, tmp_path):
    new = dict(zip(("part1_vae", "part2_aae", "part3_gpt"), names, strict=True))
    files = {f"{new[name[:9]]}{name[9:]}": code for name, code in PARTS.items()}
    result = staged(tmp_path, zipped(tmp_path / "a.zip", files))
    assert content(result.root) == {**PARTS, **INITS}
    assert list(result.parts.values()) == list(names)
    assert result.problems == []


def test_the_right_name_counts_and_two_wrong_ones_are_a_problem(tmp_path):
    files = {**PARTS, "part1/utils.py": b"old"}
    result = staged(tmp_path, zipped(tmp_path / "a.zip", files))
    assert content(result.root)["part1_vae/utils.py"] == CODE
    assert result.left_out == ["part1: is not looked at"]
    files = {"part1/utils.py": CODE, "Part1-VAE/utils.py": CODE, "part10/utils.py": CODE}
    result = staged(tmp_path, zipped(tmp_path / "b.zip", files))
    assert result.parts == {}
    assert result.problems[0] == (
        "Several folders could be part1_vae (Part1-VAE, part1); hand in one, named part1_vae."
    )


def test_where_most_parts_lie_together_counts(tmp_path):
    files = {"part1_vae/utils.py": b"template", **{f"work/{name}": code for name, code in PARTS.items()}}
    files |= {f"work/backup/{name}": b"old" for name in PARTS}
    result = staged(tmp_path, zipped(tmp_path / "a.zip", files))
    assert result.parts == {1: "work/part1_vae", 2: "work/part2_aae", 3: "work/part3_gpt"}
    assert content(result.root) == {**PARTS, **INITS}
    assert result.left_out == ["part1_vae: is not looked at", "work/backup: is not looked at"]


def test_a_missing_part_a_missing_file_and_a_notebook_are_problems(tmp_path):
    files = {name: code for name, code in PARTS.items() if not name.startswith("part2")}
    del files["part1_vae/utils.py"], files["part3_gpt/gpt.py"], files["part3_gpt/utils.py"]
    files |= {"part1_vae/utils.ipynb": b"{}", "part3_gpt/plots.ipynb": b"{}", "part3_gpt/train.ipynb": b"{}"}
    result = staged(tmp_path, zipped(tmp_path / "a.zip", files))
    assert sorted(result.parts) == [1, 3]
    assert result.problems == [
        "There is no folder part2_aae with Python files in it.",
        "part1_vae/utils.ipynb is a notebook; utils.py is needed.",
        "There is no file part3_gpt/gpt.py.",
        "part3_gpt/plots.ipynb is a notebook; only Python files are run.",
    ]


def test_flat_files_and_an_archive_in_the_archive_are_problems(tmp_path):
    inner = zipped(tmp_path / "inner.zip", PARTS).read_bytes()
    files = {"utils.py": CODE, "gpt.py": CODE, "work/final.zip": inner}
    result = staged(tmp_path, zipped(tmp_path / "a.zip", files))
    assert (content(result.root), result.parts) == ({}, {})
    assert result.problems[3:] == [
        "The files gpt.py, utils.py do not lie in folders of the parts; they belong into part1_vae, part2_aae, "
        "part3_gpt.",
        "work/final.zip is an archive within the submission; hand in what is in it.",
    ]


def test_bytes_are_kept_as_they_are(tmp_path):
    files = {
        "part1_vae/utils.py": b"\xef\xbb\xbfx = 1\r\n",
        "part1_vae/train.py": b"x = '\xff'\n",
        "part1_vae/__init__.py": b"y = 2\n",
        "part1_vae/cnn_encoder_decoder.py": b"",
    }
    assert content(staged(tmp_path, zipped(tmp_path / "a.zip", files)).root) == files


def test_names_with_backslashes_are_folders(tmp_path):
    files = {name.replace("/", "\\"): code for name, code in PARTS.items()}
    assert content(staged(tmp_path, zipped(tmp_path / "a.zip", files)).root) == {**PARTS, **INITS}


def test_modes_times_and_owners_are_not_kept(tmp_path):
    before = os.umask(0o077)
    try:
        result = staged(tmp_path, tarred(tmp_path / "a.tar", PARTS))
    finally:
        os.umask(before)
    for path in [result.root, *result.root.rglob("*")]:
        state = path.stat()
        assert stat.S_IMODE(state.st_mode) == (0o755 if path.is_dir() else 0o644)
        assert (state.st_uid, state.st_nlink > 1) == (os.getuid(), path.is_dir())
        assert state.st_mtime > time.time() - 100


@pytest.mark.parametrize("name", ["a.zip", "a.tgz", "a.tar"])
def test_the_first_bytes_say_what_an_archive_is(name, tmp_path):
    for kind in ("zip", "tar", "tar.gz", "tar.xz"):
        PACKERS[kind](tmp_path / name, PARTS)
        assert content(staged(tmp_path, tmp_path / name).root) == {**PARTS, **INITS}


def test_several_streams_in_one_file(tmp_path):
    data = tarred(tmp_path / "a.tar", PARTS).read_bytes()
    half = len(data) // 2
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        (tmp_path / "b.tar.x").write_bytes(pack(data[:half]) + pack(data[half:]))
        assert content(staged(tmp_path, tmp_path / "b.tar.x").root) == {**PARTS, **INITS}


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_each_style_of_tar_with_long_names(style, tmp_path):
    name = f"{'a' * 90}/part1_vae/{'b' * 90}.py"
    with tarfile.open(tmp_path / "a.tar", "w", format=style) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(CODE)
        archive.addfile(info, io.BytesIO(CODE))
    assert f"part1_vae/{'b' * 90}.py" in content(staged(tmp_path, tmp_path / "a.tar").root)


# --- what is left out -------------------------------------------------------------------------------------------------


JUNK = {
    "part1_vae/__pycache__/utils.cpython-311.pyc": "part1_vae/__pycache__",
    **{
        f"part1_vae/{name}": f"part1_vae/{name}"
        for name in (
            "utils.pyc", "utils.pyo", "fast.cpython-311-x86_64-linux-gnu.so", "fast.PYD", "conftest.py", "pytest.ini",
            "tox.ini", "pyproject.toml", "setup.cfg", "setup.py", "sitecustomize.py", "usercustomize.py", "x.pth",
            "x.egg-link", "course/data.py", "deep/conftest.py",
        )
    },
    "part1_vae/tests/test_a.py": "part1_vae/tests",
    "part1_vae/data/MNIST/raw/x": "part1_vae/data",
    "part1_vae/.venv/bin/python": "part1_vae/.venv",
    ".git/config": ".git",
    ".venv/pyvenv.cfg": ".venv",
    "venv/bin/x": "venv",
    "node_modules/x/y.js": "node_modules",
    "__MACOSX/part1_vae/._utils.py": "__MACOSX",
    ".DS_Store": ".DS_Store",
    "data/MNIST/raw/x": "data",
    "tests/judge.py": "tests",
    "tests/part1_vae/utils.py": "tests",
    "course/__init__.py": "course",
    **{name: name for name in ("torch.py", "random.py", "adapters.py", "judge.py", "README.md", "conftest.py")},
    "numpy/__init__.py": "numpy",
    "logs/vae/version_0/evil.py": "logs/vae/version_0/evil.py",
    "logs/vae/version_0/checkpoints/x.py": "logs/vae/version_0/checkpoints/x.py",
    "logs/summary.json": "logs/summary.json",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "folder"])
@pytest.mark.parametrize("where", ["", "repository/"])
def test_what_does_not_count_is_left_out_and_reported_once(kind, where, tmp_path):
    files = {f"{where}{name}": code for name, code in {**PARTS, **dict.fromkeys(JUNK, b"evil")}.items()}
    result = staged(tmp_path, PACKERS[kind](tmp_path / "a", files))
    assert content(result.root) == {**PARTS, **INITS}
    assert [line.rpartition(":")[0] for line in result.left_out] == sorted(
        f"{where}{name}" for name in set(JUNK.values())
    )


def test_at_most_fifty_are_listed(tmp_path):
    files = {**PARTS, **{f"junk{number:03}.txt": b"" for number in range(120)}}
    left_out = staged(tmp_path, zipped(tmp_path / "a.zip", files)).left_out
    assert len(left_out) == 51
    assert left_out[-1] == "and 70 more"


PATHS = ["/etc/evil.py", "/part1_vae/evil.py", "C:\\evil.py", "//x/evil.py", "../evil.py", "part1_vae/../../evil.py"]
PATHS += ["part1_vae/../part1_vae/evil.py", "part1_vae\\..\\..\\evil.py"]


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("path", PATHS)
def test_paths_that_lead_outside_are_left_out(pack, path, tmp_path):
    result = staged(tmp_path, pack(tmp_path / "a", {**PARTS, path: b"evil"}))
    assert content(result.root) == {**PARTS, **INITS}
    (line,) = result.left_out
    assert line.endswith("leads out of its folder" if ".." in path else "is an absolute path")
    assert not [path for path in tmp_path.rglob("*") if path.name == "evil.py"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_of_a_tar_file_are_left_out(kind, tmp_path):
    secret = folder(tmp_path / "other", {"secret.py": b"secret"}) / "secret.py"
    special = tarfile.TarInfo("part1_vae/special.py")
    special.type, special.linkname = kind, str(secret)
    result = staged(tmp_path, tarred(tmp_path / "a.tar", PARTS, special))
    assert content(result.root) == {**PARTS, **INITS}
    reasons = {tarfile.SYMTYPE: "is a link", tarfile.LNKTYPE: "is a hard link"}
    assert result.left_out == [f"part1_vae/special.py: {reasons.get(kind, 'is neither a file nor a folder')}"]


def test_a_link_to_write_through_leads_nowhere(tmp_path):
    target = folder(tmp_path / "other", {"kept.py": b"kept"})
    link = tarfile.TarInfo("part1_vae")
    link.type, link.linkname = tarfile.SYMTYPE, str(target)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(link)
        for name in ("utils.py", "kept.py"):
            info = tarfile.TarInfo(f"part1_vae/{name}")
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
    result = staged(tmp_path, tmp_path / "a.tar")
    assert content(target) == {"kept.py": b"kept"}
    assert content(result.root)["part1_vae/kept.py"] == b"evil", "in the copy's own folder"


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_of_a_zip_are_left_out(mode, tmp_path):
    with zipfile.ZipFile(zipped(tmp_path / "a.zip", PARTS), "a") as archive:
        info = zipfile.ZipInfo("part1_vae/special.py")
        info.external_attr = (mode | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    result = staged(tmp_path, tmp_path / "a.zip")
    assert content(result.root) == {**PARTS, **INITS}
    assert result.left_out[0].startswith("part1_vae/special.py: is ")


def test_links_pipes_and_sockets_of_a_folder_are_left_out(tmp_path, monkeypatch):
    source = folder(tmp_path / "ann", PARTS) / "part1_vae"
    other = folder(tmp_path / "other", {"secret.py": b"secret"})
    (source / "link.py").symlink_to(other / "secret.py")
    (source / "folder").symlink_to(other)
    os.link(other / "secret.py", source / "hard.py")
    os.mkfifo(source / "pipe.py")
    monkeypatch.chdir(source)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.py")
        result = staged(tmp_path, tmp_path / "ann")
    assert content(result.root) == {**PARTS, **INITS}
    assert result.left_out == [
        "part1_vae/folder: is a link",
        "part1_vae/hard.py: is a hard link",
        "part1_vae/link.py: is a link",
        "part1_vae/pipe.py: is neither a file nor a folder",
        "part1_vae/socket.py: is neither a file nor a folder",
    ]


@pytest.mark.parametrize("swapped", ["part1_vae", "part1_vae/utils.py"])
def test_a_link_that_is_put_there_after_listing_is_not_followed(swapped, tmp_path, monkeypatch):
    source = folder(tmp_path / "ann", PARTS)
    names = [Path(name).name for name in PARTS if name.startswith("part1")]
    other = folder(tmp_path / "other", dict.fromkeys(names, b"secret"))

    def plan_then_swap(entries, limits, plan=archives._plan):
        result = plan(entries, limits)
        (source / swapped).rename(tmp_path / "away")
        (source / swapped).symlink_to(other / "utils.py" if swapped.endswith(".py") else other)
        return result

    monkeypatch.setattr(archives, "_plan", plan_then_swap)
    assert "cannot be read" in refused(tmp_path, source)


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_names_that_collide(pack, tmp_path):
    files = [
        ("part1_vae/Model.py", b"first"), ("part1_vae/model.py", b"second"),
        ("part1_vae/e\u0301.py", b"first"), ("part1_vae/\u00e9.py", b"second"),
        ("part1_vae/Lib/a.py", b"first"), ("part1_vae/lib/b.py", b"second"),
        ("part1_vae/x.py", b"first"), ("part1_vae/x.py/y.py", b"second"),
        ("part1_vae/\ufb01x.py", b"second"), ("part1_vae/fix.py", b"first"),
        ("PART1_VAE/utils.py", b"second"),
    ]  # fmt: skip
    result = staged(tmp_path, pack(tmp_path / "a", {**PARTS, **dict(files)}))
    others = {name: code for name, code in files if code == b"first"}
    assert content(result.root) == {**PARTS, **INITS, **others}
    assert [line.rpartition(":")[0] for line in result.left_out] == sorted(
        "PART1_VAE" if name.startswith("PART") else name for name, code in files if code == b"second"
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_files_with_one_name_the_first_counts(tmp_path):
    source = zipped(tmp_path / "a.zip", [*PARTS.items(), ("part1_vae/a.py", b"1"), ("part1_vae/a.py", b"2")])
    result = staged(tmp_path, source)
    assert content(result.root)["part1_vae/a.py"] == b"1"
    assert len(result.left_out) == 1


def test_names_that_cannot_be_printed_are_left_out_and_shown_in_ascii(tmp_path):
    names = ["part1_vae/\x1b[31m.py", "part1_vae/a\nb.py", "part1_vae/\u202egnp.py"]
    result = staged(tmp_path, tarred(tmp_path / "a.tar", {**PARTS, **dict.fromkeys(names, b"")}))
    assert content(result.root) == {**PARTS, **INITS}
    assert len(result.left_out) == 3
    assert all(line.isprintable() for line in result.left_out)
    assert any("\\x1b[31m" in line for line in result.left_out)


def test_runs_beyond_the_limit_are_left_out_the_newest_of_each_program_stay(tmp_path):
    files = {f"logs/{program}/version_{n}/summary.json": b"{}" for program in ("vae", "aae") for n in range(12)}
    result = staged(tmp_path, zipped(tmp_path / "a.zip", {**PARTS, **files}), Limits(runs=5))
    kept = sorted(str(path.relative_to(result.root)) for path in result.root.glob("logs/*/*"))
    assert kept == [*(f"logs/aae/version_{n}" for n in (10, 11, 9)), *(f"logs/vae/version_{n}" for n in (10, 11))]
    assert "logs/vae/version_9: is one run too many; 5 are looked at" in result.left_out
    assert len(result.left_out) == 19


def test_runs_that_are_too_large_are_left_out(tmp_path):
    noise = random.Random(0).randbytes(400_000)
    files = {f"logs/vae/version_0/checkpoints/{name}.ckpt": noise for name in "ab"}
    files |= {"logs/vae/version_0/summary.json": b"{}"}
    result = staged(tmp_path, zipped(tmp_path / "a.zip", {**PARTS, **files}), Limits(logs=500_000))
    del files["logs/vae/version_0/checkpoints/b.ckpt"]
    assert content(result.root) == {**PARTS, **INITS, **files}
    assert result.left_out == ["logs/vae/version_0/checkpoints/b.ckpt: the runs take more than 0.5 MB"]


# --- bombs and damage -------------------------------------------------------------------------------------------------


ALL = pytest.mark.parametrize("kind", list(PACKERS))


@ALL
def test_a_bomb_by_total(kind, tmp_path):
    noise = random.Random(0).randbytes(400_000)
    files = {**PARTS, "part1_vae/a.bin": noise, "part2_aae/b.bin": noise}
    assert "0.5 MB" in refused(tmp_path, PACKERS[kind](tmp_path / "a", files), Limits(total=500_000, logs=0))
    assert "Its parts" in refused(tmp_path, tmp_path / "a", Limits(total=500_000))
    assert staged(tmp_path, tmp_path / "a", Limits(total=900_000)).left_out == []


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
def test_what_does_not_count_is_unpacked_only_where_it_must_be(kind, tmp_path):
    source = PACKERS[kind](tmp_path / "a", {**PARTS, "junk": random.Random(0).randbytes(800_000)})
    limits = Limits(total=200_000, logs=300_000)
    if kind == "zip":
        assert content(staged(tmp_path, source, limits).root) == {**PARTS, **INITS}
    else:
        assert "It unpacks to more than 0.5 MB" in refused(tmp_path, source, limits)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_bomb_by_ratio(kind, tmp_path):
    source = PACKERS[kind](tmp_path / "a", {**PARTS, "part1_vae/zeros": bytes(12_000_000)})
    assert "200 times" in refused(tmp_path, source)
    before = time.monotonic()
    small = PACKERS[kind](tmp_path / "b", {**PARTS, "part1_vae/zeros": bytes(5_000_000)})
    assert staged(tmp_path, small).left_out == [], "below 10 MB no ratio is too much"
    assert time.monotonic() - before < 60


def test_a_bomb_stops_at_the_limit_not_after_it(tmp_path):
    """60 MB of zeros in 60 KB: no more than a piece beyond 10 MB is ever unpacked."""
    with gzip.open(tmp_path / "a.tgz", "wb") as file:
        for _ in range(60):
            file.write(bytes(1_000_000))
    meter = archives._Meter(Limits(), (tmp_path / "a.tgz").stat().st_size // 100, 10**9, time.monotonic() + 60)
    out = io.BytesIO()
    with open(tmp_path / "a.tgz", "rb") as file, pytest.raises(SubmissionError):
        archives._unpacked(file, "gz", meter, out)
    assert out.tell() <= 10_000_000 + archives.PIECE


@ALL
def test_a_bomb_by_count(kind, tmp_path):
    files = {**PARTS, **{f"part1_vae/{number}.txt": b"" for number in range(50)}}
    source = PACKERS[kind](tmp_path / "a", files)
    assert "60 files" in refused(tmp_path, source, Limits(files=58))
    assert "58 files" in refused(tmp_path, source, Limits(entries=58))
    staged(tmp_path, source, Limits(files=60, entries=70))


@ALL
def test_a_bomb_by_depth_and_by_name(kind, tmp_path):
    deep = "part1_vae/" + "d/" * 12 + "a.py"
    assert "12 folders" in refused(tmp_path, PACKERS[kind](tmp_path / "a", {**PARTS, deep: CODE}))
    long = f"part1_vae/{'n' * 201}"
    assert "200 bytes" in refused(tmp_path, PACKERS[kind](tmp_path / "b", {**PARTS, long: CODE}))
    fits = {**PARTS, "part1_vae/" + "d/" * 11 + "n" * 200: CODE}
    assert staged(tmp_path, PACKERS[kind](tmp_path / "c", fits)).left_out == []


@pytest.mark.slow
def test_a_very_deep_folder(tmp_path):
    path = folder(tmp_path / "ann", PARTS) / "part1_vae"
    handle = os.open(path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    try:
        assert "12 folders" in refused(tmp_path, tmp_path / "ann")
    finally:
        subprocess.run(["rm", "-rf", str(path)], check=True)


@pytest.mark.slow
def test_a_large_bomb_of_entries_ends_soon(tmp_path):
    source = zipped(tmp_path / "a.zip", {f"part1_vae/{number}": b"" for number in range(120_000)}, packed=False)
    before = time.monotonic()
    refused(tmp_path, source)
    assert time.monotonic() - before < 60


def patch_zip(path: Path, name: bytes, local: dict[int, bytes], central: dict[int, bytes]) -> None:
    """Write over the headers of an entry: offset in the header -> bytes."""
    data = bytearray(path.read_bytes())
    for magic, fixed, changes in ((b"PK\x03\x04", 30, local), (b"PK\x01\x02", 46, central)):
        start = data.index(name, data.index(magic)) - fixed
        while data[start : start + 4] != magic:
            start = data.index(name, start + fixed + 1) - fixed
        for offset, value in changes.items():
            data[start + offset : start + offset + len(value)] = value
    path.write_bytes(data)


@pytest.mark.parametrize("size", [1, 100_000, 2**32 - 2])
@pytest.mark.parametrize("packed", [True, False])
def test_a_size_that_lies(size, packed, tmp_path):
    source = zipped(tmp_path / "a.zip", {**PARTS, "part1_vae/lie": b"word" * 1000}, packed)
    lie = struct.pack("<I", size)
    patch_zip(source, b"part1_vae/lie", {22: lie}, {24: lie})
    assert "damaged" in refused(tmp_path, source)


def test_a_size_that_lies_to_hide_a_bomb_unpacks_no_more_than_it_says(tmp_path):
    source = zipped(tmp_path / "a.zip", {**PARTS, "part1_vae/lie": bytes(50_000_000)})
    lie, crc = struct.pack("<I", 10), struct.pack("<I", zlib.crc32(bytes(10)))
    patch_zip(source, b"part1_vae/lie", {14: crc, 22: lie}, {16: crc, 24: lie})
    assert content(staged(tmp_path, source).root)["part1_vae/lie"] == bytes(10)


def test_zip64_that_lies(tmp_path):
    source = tmp_path / "a.zip"
    with zipfile.ZipFile(source, "w") as archive, archive.open("part1_vae/lie.py", "w", force_zip64=True) as file:
        file.write(CODE)
    data = source.read_bytes()
    start = data.index(b"PK\x01\x02")
    name = data[start + 46 :][:16]
    huge = struct.pack("<HHQQ", 1, 16, 2**62, 2**62)
    central = bytearray(data[start : start + 46])
    central[20:28], central[30:32] = b"\xff" * 8, struct.pack("<H", len(huge))
    directory = bytes(central) + name + huge
    ends = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), start, 0)
    source.write_bytes(data[:start] + directory + ends)
    assert "damaged" in refused(tmp_path, source)


def test_entries_that_overlap(tmp_path):
    source = zipped(tmp_path / "a.zip", {**PARTS, "part1_vae/a": b"a" * 1000, "part1_vae/b": b"a" * 1000}, False)
    data = source.read_bytes()
    first = data.index(b"part1_vae/a") - 30
    patch_zip(source, b"part1_vae/b", {}, {42: struct.pack("<I", first)})
    assert "overlap" in refused(tmp_path, source)


def test_a_list_of_entries_that_is_too_long_is_not_read(tmp_path):
    source = zipped(tmp_path / "a.zip", PARTS)
    data = bytearray(source.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    filler = bytes(9_000_000)
    data[end + 12 : end + 16] = struct.pack("<I", end + len(filler) - struct.unpack_from("<I", data, end + 16)[0])
    source.write_bytes(data[:end] + filler + data[end:])
    assert "8000000 bytes" in refused(tmp_path, source)


@pytest.mark.parametrize("flag", [0x01, 0x41])
def test_an_encrypted_zip(flag, tmp_path):
    source = zipped(tmp_path / "a.zip", PARTS)
    patch_zip(source, b"part1_vae/utils.py", {6: bytes([flag, 0])}, {8: bytes([flag, 0])})
    assert "part1_vae/utils.py is encrypted" in refused(tmp_path, source)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_zipfile_unpacks_without_a_limit(method, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("part1_vae/utils.py", bytes(1_000_000))
    assert "unusual" in refused(tmp_path, tmp_path / "a.zip")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_truncated_or_damaged_archive(kind, tmp_path):
    noise = random.Random(0).randbytes(100_000)
    source = PACKERS[kind](tmp_path / f"a.{kind}", {**PARTS, "part3_gpt/z.bin": noise})
    data = source.read_bytes()
    for size in (0, 1, 10, len(data) // 2, 90_000):
        source.write_bytes(data[:size])
        assert "damaged or incomplete" in refused(tmp_path, source)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "tgz"])
def test_no_damage_is_a_traceback(kind, tmp_path):
    """Bytes changed at random: staged, or refused with a sentence."""
    source = PACKERS[kind](tmp_path / f"a.{kind}", PARTS)
    data, draw = source.read_bytes(), random.Random(1)
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(draw.choice([1, 3, 30])):
            damaged[draw.randrange(len(data))] = draw.choice([0, 1, 0x80, 0xFF, draw.randrange(256)])
        source.write_bytes(damaged)
        try:
            root = staged(tmp_path, source).root
            assert all(name.startswith(("part1_vae/", "part2_aae/", "part3_gpt/")) for name in content(root))
        except SubmissionError:
            assert not (tmp_path / "staged").exists()


def test_a_damaged_header_is_not_the_end(tmp_path):
    source = tarred(tmp_path / "a.tar", PARTS)
    data = bytearray(source.read_bytes())
    data[1024 * 4] ^= 1  # the fifth file's name: the sum of the header is wrong
    source.write_bytes(data)
    assert "header is damaged" in refused(tmp_path, source)


def tar_header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A header of 512 bytes with a size as it is given, 12 bytes."""
    header = bytearray(512)
    header[: len(name)] = name
    header[100:108], header[124:136], header[156:157] = b"0000644\0", size, kind
    header[257:265], header[148:156] = b"ustar\x0000", b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("kind", [b"0", b"5", b"x", b"L", b"g", b"Z"])
@pytest.mark.parametrize("size", [b"\xff" * 12, b"\xff" * 10 + b"\xfe\x00", b"\x80" + b"\x7f" * 11, b"77777777777\0"])
def test_a_tar_header_with_a_negative_or_enormous_size(kind, size, tmp_path):
    """Older Pythons read such a header again and again."""
    good = tar_header(b"part1_vae/utils.py", b"00000000000\0")
    bad = tar_header(b"part1_vae/x", size, kind)
    source = tmp_path / "a.tar"
    before = time.monotonic()
    for headers in ([good, bad], [bad, good], [bad]):
        source.write_bytes(b"".join(headers) + bytes(10240))
        try:
            result = staged(tmp_path, source)
        except SubmissionError:
            continue
        assert kind != b"0", "a file has a size"
        assert set(content(result.root)) <= {"part1_vae/utils.py", "part1_vae/__init__.py"}
    assert time.monotonic() - before < 60


def test_a_tar_header_that_is_too_long(tmp_path):
    """tarfile looks for a number in it with a pattern that takes quadratic time."""
    source = tmp_path / "a.tar"
    source.write_bytes(tar_header(b"x", b"%011o\0" % 512_000, b"x") + b"1" * 512_000 + bytes(10240))
    before = time.monotonic()
    assert "header, of over 16384 bytes" in refused(tmp_path, source)
    assert time.monotonic() - before < 60


def test_a_chain_of_headers(tmp_path):
    link = tar_header(b"x", b"%011o\0" % 512, b"x") + b"11 path=abc\n".ljust(512, b"\0")
    source = tmp_path / "a.tar"
    source.write_bytes(link * 5000 + bytes(10240))
    refused(tmp_path, source)


def test_a_sparse_file_is_left_out(tmp_path):
    source = tarred(tmp_path / "a.tar", PARTS)
    data = source.read_bytes()[: 1024 * len(PARTS)]
    sparse = bytearray(tar_header(b"part1_vae/sparse", b"00000000000\0", b"S"))
    sparse[386:410] = b"77777777777\x0000000000000\0"  # a hole of 8 GB
    sparse[483:495] = b"77777777777\0"
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    source.write_bytes(data + sparse + bytes(10240))
    result = staged(tmp_path, source)
    assert content(result.root) == {**PARTS, **INITS}
    assert result.left_out == ["part1_vae/sparse: is neither a file nor a folder"]


def test_a_sparse_file_that_leads_back(tmp_path):
    """Its size in the header is negative, the one that it is said to have is not."""
    sparse = bytearray(tar_header(b"part1_vae/sparse", b"\xff" * 10 + b"\xf8\x00", b"S"))
    sparse[483:495] = b"00000000001\0"
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    (tmp_path / "a.tar").write_bytes(tar_header(b"part1_vae/a", b"00000000000\0") * 8 + sparse + bytes(10240))
    before = time.monotonic()
    assert "negative" in refused(tmp_path, tmp_path / "a.tar", Limits(seconds=5))
    assert time.monotonic() - before < 60


def test_an_xz_that_asks_for_gigabytes(tmp_path):
    data = tarred(tmp_path / "a.tar", PARTS).read_bytes()
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 28}]
    (tmp_path / "a.tar.xz").write_bytes(lzma.compress(data, filters=filters))
    assert "Memory usage limit" in refused(tmp_path, tmp_path / "a.tar.xz")


def test_it_does_not_take_for_ever(tmp_path):
    source = zipped(tmp_path / "a.zip", PARTS)
    assert "longer than 0 seconds" in refused(tmp_path, source, Limits(seconds=0))


# --- the copy ---------------------------------------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_not_touched(tmp_path):
    target = folder(tmp_path / "staged", {"kept": b"1"})
    with pytest.raises(FileExistsError):
        stage(Submission("a", zipped(tmp_path / "a.zip", PARTS)), target)
    assert content(target) == {"kept": b"1"}


def test_what_the_system_refuses_is_not_the_students_fault(tmp_path, monkeypatch):
    source = zipped(tmp_path / "a.zip", PARTS)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_write", full)
    with pytest.raises(OSError, match="No space"):
        staged(tmp_path, source)
    assert not (tmp_path / "staged").exists()
    with pytest.raises(FileNotFoundError):
        staged(tmp_path, tmp_path / "gone.zip")


def test_no_file_stays_open(tmp_path):
    sources = [PACKERS[kind](tmp_path / f"a.{kind}", PARTS) for kind in PACKERS]
    before = len(os.listdir("/proc/self/fd"))
    for source in sources:
        staged(tmp_path, source)
        refused(tmp_path, source, Limits(files=1))
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_modules_that_the_tests_load():
    needed = archives.needed_modules()
    assert needed["part1_vae"] >= {"utils", "cnn_encoder_decoder", "train"}
    assert needed["part2_aae"] >= {"models"}
    assert needed["part3_gpt"] >= {"gpt"}
