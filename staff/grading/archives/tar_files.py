"""List the entries of a tar file, compressed or not."""

import bz2
import gzip
import lzma
import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from staff.grading.archives.entry import PIECE, Entry, Guard, Meter, reading

LONGEST_HEADER = 1 << 14  # maximum bytes of a header: tarfile's regexes take quadratic time on some headers
MEMORY = 128 << 20  # for unpacking xz; xz -9 needs half of this


def unpacked(file: BinaryIO, kind: str, meter: Meter, out: BinaryIO) -> BinaryIO:
    """Decompress a tar file into another file, counting the bytes, and return the new file."""
    pieces = _xz(file) if kind == "xz" else _gz_or_bz2(file, kind)
    for piece in pieces:
        meter.count(len(piece))
        out.write(piece)
    out.seek(0)
    return out


def _gz_or_bz2(file: BinaryIO, kind: str) -> Iterator[bytes]:
    with reading(), gzip.GzipFile(fileobj=file) if kind == "gz" else bz2.BZ2File(file) as unpacked:
        while piece := unpacked.read(PIECE):
            yield piece


def _xz(file: BinaryIO) -> Iterator[bytes]:
    """Decompress xz with limited memory: lzma.LZMAFile has no limit, and a header can request gigabytes."""
    with reading():
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


def of_tar(file: BinaryIO, meter: Meter) -> Iterator[Entry]:
    with reading():
        archive = tarfile.open(fileobj=Guard(file, LONGEST_HEADER, meter), mode="r:")
        while member := archive.next():
            # archive.offset, where the next member starts, can go backwards in older Python versions
            if member.size < 0 or not member.offset < member.offset_data <= archive.offset:
                raise tarfile.ReadError("a size is negative")
            yield _of_member(member, file)
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile treats a damaged header as the end
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
    with reading():
        file.seek(start)
        while size:
            piece = file.read(min(PIECE, size))
            if not piece:
                raise tarfile.ReadError("it ends too early")
            size -= len(piece)
            yield piece
