"""Tests of which files of honest submissions are copied and which are left out."""

import bz2
import gzip
import io
import lzma
import os
import random
import socket
import stat
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from archive_cases import CODE, INITS, PACKERS, PARTS, content, folder, refused, staged, tarred, zipped

from small_runs import REPOSITORY
from staff.grading.archives import Limits, staging

# --- honest submissions -----------------------------------------------------------------------------------------------


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
    assert result.left_out == ["part1: is ignored"]
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
    assert result.left_out == ["part1_vae: is ignored", "work/backup: is ignored"]


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


def test_flat_files_are_a_problem(tmp_path):
    files = {"utils.py": CODE, "gpt.py": CODE, "work/notes.zip": zipped(tmp_path / "b.zip", {"a": b""}).read_bytes()}
    result = staged(tmp_path, zipped(tmp_path / "a.zip", files))
    assert (content(result.root), result.parts, len(result.missing)) == ({}, {}, 3)
    assert result.problems == [
        "It contains none of the folders part1_vae, part2_aae, part3_gpt.",
        "The files gpt.py, utils.py are not in the folders of the parts; they belong in part1_vae, part2_aae, "
        "part3_gpt.",
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


# --- files that are left out ------------------------------------------------------------------------------------------


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
    monkeypatch.chdir(source)  # the path of a socket must be short
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

    def plan_then_swap(entries, limits, plan=staging.make_plan):
        result = plan(entries, limits)
        (source / swapped).rename(tmp_path / "away")
        (source / swapped).symlink_to(other / "utils.py" if swapped.endswith(".py") else other)
        return result

    monkeypatch.setattr(staging, "make_plan", plan_then_swap)
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
    assert "logs/vae/version_9: exceeds the limit of 5 runs" in result.left_out
    assert len(result.left_out) == 19


def test_runs_that_are_too_large_are_left_out(tmp_path):
    noise = random.Random(0).randbytes(400_000)
    files = {f"logs/vae/version_0/checkpoints/{name}.ckpt": noise for name in "ab"}
    files |= {"logs/vae/version_0/summary.json": b"{}"}
    result = staged(tmp_path, zipped(tmp_path / "a.zip", {**PARTS, **files}), Limits(logs=500_000))
    del files["logs/vae/version_0/checkpoints/b.ckpt"]
    assert content(result.root) == {**PARTS, **INITS, **files}
    assert result.left_out == ["logs/vae/version_0/checkpoints/b.ckpt: the runs exceed 0.5 MB"]
