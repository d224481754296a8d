"""List the entries of a zip file."""

import stat
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

from staff.grading.archives.entry import PIECE, Entry, Guard, Meter, reading, why_refused
from staff.grading.archives.submission import MB, SubmissionError, show

LONGEST_DIRECTORY = 8 * MB  # the list of entries is read all at once


def of_zip(file: BinaryIO, meter: Meter) -> Iterator[Entry]:
    with reading():
        archive = zipfile.ZipFile(Guard(file, LONGEST_DIRECTORY, meter))
        _refuse_overlaps(archive)
        for info in archive.infolist():
            mode = info.external_attr >> 16
            name = info.orig_filename  # `filename` ends at a null character
            if name.endswith(("/", "\\")) or stat.S_ISDIR(mode):
                yield Entry(name, folder=True)
            elif stat.S_IFMT(mode) and not stat.S_ISREG(mode):
                yield Entry(name, refusal=why_refused(mode))
            else:
                yield Entry(name, pieces=lambda info=info: _pieces_of_zip(archive, info))


def _refuse_overlaps(archive: zipfile.ZipFile) -> None:
    """Refuse zip bombs with overlapping entries; not all Python versions detect them, and some do so late."""
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise SubmissionError("The archive is damaged: files in it overlap.")
        end = info.header_offset + 30 + info.compress_size  # a header has at least 30 bytes
    if end > archive.start_dir:
        raise SubmissionError("The archive is damaged: files in it overlap.")


def _pieces_of_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    if info.flag_bits & 0x41:
        raise SubmissionError(f"{show(info.filename)} is encrypted; hand it in without a password.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # for the other methods, zipfile may decompress 64 KB to any size in a single step
        raise SubmissionError(f"{show(info.filename)} uses an unsupported compression method; create an ordinary zip.")
    size = 0
    with reading(), archive.open(info) as file:
        while piece := file.read(PIECE):
            size += len(piece)
            yield piece
        if size != info.file_size:
            raise zipfile.BadZipFile(f"{info.filename} has {size} bytes, not {info.file_size}")
