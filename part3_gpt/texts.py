"""Sources of the training text, and the copy of it that a run keeps."""

import hashlib
from pathlib import Path

from course.datasets import DataError
from course.files import write_whole
from course.flags import data_dir
from course.training.problems import is_first_process
from course.training.run import Run
from part3_gpt.options import BUILT_IN

BUILT_IN_FILE = Path(__file__).parent / "text" / "python_reference.txt"
KEPT = "text.txt"  # in a run's folder
UTF_32_AND_16 = {  # byte order marks, longer ones first: that of UTF-32-LE begins with that of UTF-16-LE
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def read_text(source: str | None = None, root: str | Path | None = None, checkpoint: Path | None = None) -> str:
    """Read the training text.

    Args:
        source: a file, or a URL (http://, https://), whose text is kept in the data folder; None or `BUILT_IN`: the
            text in part3_gpt/text.
        root: the data folder.
        checkpoint: the checkpoint of a run being resumed; the text kept by that run takes precedence.

    Raises:
        course.datasets.DataError: the text is missing, empty or not UTF-8.
    """
    if checkpoint and (text := _kept(checkpoint)) is not None:
        return text
    if source in (None, BUILT_IN):
        source = str(BUILT_IN_FILE)
    try:
        content = _at_url(source, root) if _is_url(source) else Path(source).expanduser().read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"--txt_file {source}: {getattr(error, 'strerror', None) or error}", status=2) from error
    text = _decode(content, source).replace("\r\n", "\n")
    if not text:
        raise DataError(f"--txt_file {source}: is empty", status=2)
    return text


def keep_text(text: str, source: str | None, run: Run) -> None:
    """Print the source and length of the text, and keep a copy in the run's folder for resuming."""
    if not is_first_process():
        return
    print(f"text: {source or BUILT_IN}, {len(text):,} characters", flush=True)
    if run.folder and not (run.folder / KEPT).exists():
        write_whole(run.folder / KEPT, text.encode())


def _kept(checkpoint: Path) -> str | None:
    """Read the text kept by the checkpoint's run; return None if no text is found, e.g. for a copied checkpoint."""
    if checkpoint.parent.name != "checkpoints":
        return None
    try:
        return (checkpoint.parent.parent / KEPT).read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _at_url(url: str, root: str | Path | None) -> bytes:
    name = url.rstrip("/").rsplit("/", 1)[-1][-60:]
    name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
    kept = data_dir(root) / "text" / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}_{name}"
    if not kept.exists():
        from course.download import download  # imported here: most runs download nothing

        write_whole(kept, download(url))
    return kept.read_bytes()


def _decode(content: bytes, source: str) -> str:
    """Decode UTF-8 bytes, without their byte order mark.

    Raises:
        DataError: the bytes are not UTF-8, or contain zero bytes, as UTF-16 and UTF-32 do; the message names the likely
            encoding.
    """
    encoding = next((name for mark, name in UTF_32_AND_16.items() if content.startswith(mark)), None)
    if encoding:
        raise DataError(f"--txt_file {source}: is {encoding}, not UTF-8; {_convert(encoding, source)}", status=2)
    if 0 in content:
        at = content.index(0)
        likely = "UTF-16LE" if at % 2 else "UTF-16BE"  # the high byte of letters below U+0100 is 0
        reason = f"byte {at} (counted from 0) is 0x00, which does not occur in text"
        raise DataError(
            f"--txt_file {source}: is not UTF-8: {reason}; if it is {likely}, {_convert(likely, source)}", status=2
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + len(content) - len(error.object)  # the codec does not count the byte order mark
        reason = f"byte {at} (counted from 0) is 0x{content[at]:02x}"
        advice = f"if it is Western European, {_convert('WINDOWS-1252', source)}"
        raise DataError(f"--txt_file {source}: is not UTF-8: {reason}; {advice}", status=2) from error


def _convert(encoding: str, source: str) -> str:
    return f"convert it with `iconv -f {encoding} -t UTF-8 {source} > text.txt`"
