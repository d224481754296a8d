"""Tests with archives that are bombs or damaged, or that contain paths or links to other folders."""

import gzip
import io
import lzma
import os
import random
import struct
import subprocess
import time
import zipfile
import zlib
from pathlib import Path

import pytest
from archive_cases import CODE, INITS, PACKERS, PARTS, content, folder, refused, staged, tarred, zipped

from staff.grading.archives import Limits, SubmissionError, entry, tar_files

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
    assert staged(tmp_path, small).left_out == [], "below 10 MB, any compression ratio is allowed"
    assert time.monotonic() - before < 60


def test_a_bomb_stops_at_the_limit_not_after_it(tmp_path):
    """Unpacking 60 MB of zeros from a 60 KB archive stops after at most 10 MB and one more chunk."""
    with gzip.open(tmp_path / "a.tgz", "wb") as file:
        for _ in range(60):
            file.write(bytes(1_000_000))
    meter = entry.Meter(Limits(), (tmp_path / "a.tgz").stat().st_size // 100, 10**9, time.monotonic() + 60)
    out = io.BytesIO()
    with open(tmp_path / "a.tgz", "rb") as file, pytest.raises(SubmissionError):
        tar_files.unpacked(file, "gz", meter, out)
    assert out.tell() <= 10_000_000 + entry.PIECE


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
    """Overwrite bytes in the headers of an entry; `local` and `central` map an offset in the header to bytes."""
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
    assert "unsupported compression" in refused(tmp_path, tmp_path / "a.zip")


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
    """An archive with random bytes changed is either staged or refused with a message."""
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
    data[1024 * 4] ^= 1  # changes the fifth file's name, which makes the header's checksum wrong
    source.write_bytes(data)
    assert "header is damaged" in refused(tmp_path, source)


def tar_header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """Return a 512-byte header with these 12 bytes in its size field."""
    header = bytearray(512)
    header[: len(name)] = name
    header[100:108], header[124:136], header[156:157] = b"0000644\0", size, kind
    header[257:265], header[148:156] = b"ustar\x0000", b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("kind", [b"0", b"5", b"x", b"L", b"g", b"Z"])
@pytest.mark.parametrize("size", [b"\xff" * 12, b"\xff" * 10 + b"\xfe\x00", b"\x80" + b"\x7f" * 11, b"77777777777\0"])
def test_a_tar_header_with_a_negative_or_enormous_size(kind, size, tmp_path):
    """Older versions of Python read such a header over and over."""
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
        assert kind != b"0", "a file with such a size must be refused"
        assert set(content(result.root)) <= {"part1_vae/utils.py", "part1_vae/__init__.py"}
    assert time.monotonic() - before < 60


def test_a_tar_header_that_is_too_long(tmp_path):
    """tarfile looks for a number in such a header with a regular expression that takes quadratic time."""
    source = tmp_path / "a.tar"
    source.write_bytes(tar_header(b"x", b"%011o\0" % 512_000, b"x") + b"1" * 512_000 + bytes(10240))
    before = time.monotonic()
    assert "header or file list in the archive has more than 16384 bytes" in refused(tmp_path, source)
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
    """The file's size in the header is negative, but its declared real size is not."""
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
