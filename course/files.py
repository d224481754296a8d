"""Files that are whole or not there."""

import os
import tempfile
from pathlib import Path


def write_whole(path: str | Path, content: bytes | memoryview) -> Path:
    """Write under a temporary name beside `path`, then move into place; make the folder where it is missing.

    Raises:
        OSError: with `path` as its file name. What was at `path` before is still there.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)  # or a power failure could leave the new name with no content
        os.chmod(temporary, 0o644)  # mkstemp's are for the owner alone
        os.replace(temporary, path)
        return path
    except BaseException as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
