"""The files of the datasets, and a check that these files are present.

All parts share one folder: `--data_dir`, else the environment variable DGM_DATA_DIR, else `data/` in the repository.
It contains the four unpacked files of each dataset, in torchvision's layout (`MNIST/raw/`).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from course.flags import data_dir


class DataError(Exception):
    """The data is not available; the message says why and what to do. Status 2: a flag or path is unusable."""

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Files:
    """The unpacked files of a dataset: name -> MD5."""

    folder: str
    md5: dict[str, str]


FILES = {
    "mnist": Files(
        "MNIST",
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    "fashion": Files(
        "FashionMNIST",
        {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    ),
}


def find(name: str, root: str | Path | None = None) -> tuple[Path, list[str]]:
    """Return the folder of a dataset's files, and the names of missing or damaged files."""
    files = FILES[name]
    raw = data_dir(root) / files.folder / "raw"
    return raw, [file for file, md5 in files.md5.items() if not is_whole(raw / file, md5)]


def is_whole(path: Path, md5: str) -> bool:
    try:
        return hashlib.md5(path.read_bytes()).hexdigest() == md5
    except OSError:
        return False
