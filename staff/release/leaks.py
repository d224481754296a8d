"""Find solution lines and staff-only lines that would reach students."""

import io
import zipfile
from collections.abc import Iterator

from staff.release.build import ANSWERS, Course, Files
from staff.release.markers import solution_lines, staff_lines

LONG = 25  # characters; a solution line of at least this length must not be part of another line either


def find_leaks(files: Files, course: Course) -> list[str]:
    """Return the lines of the solution that are in these files: "file:line: ..."."""
    solution = {line: file for file, text in course.sources.items() for line in solution_lines(text, file)}
    found = []
    for file, content in files.items():
        if file.endswith((".png", ".pdf")):
            continue
        if file.endswith(ANSWERS):
            content = _text_of_answers(content)
        if file.endswith((".pyc", ".pyo", ".so")) or b"\0" in content:
            found.append(f"{file}: is not text, so it cannot be searched for the solution")
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
            for leak in _leaks_in(line, solution):
                found.append(f"{file}:{number}: a line of the solution ({solution[leak]}): {leak}")
    return found


def _text_of_answers(content: bytes) -> bytes:
    """Extract the text from recorded answers; return any other content unchanged."""
    import numpy as np  # imported here: `make check` does not need it

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, zipfile.BadZipFile):
        return content
    known = arrays.keys() == {"index", "numbers"} and arrays["numbers"].dtype == np.float32
    return arrays["index"].tobytes() if known else content


def _leaks_in(line: str, solution: dict[str, str]) -> list[str]:
    if line.strip() in solution:
        return [line.strip()]
    return [each for each in solution if len(each) >= LONG and each in line]


def find_staff_lines(files: Files, texts: dict[str, str]) -> list[str]:
    """Return the lines between BEGIN STAFF and END STAFF that are in these files: "file:line: ...".

    Args:
        texts: path -> text, for the whole tree.
    """
    hidden = {line: file for file, text in texts.items() for line in staff_lines(text) if len(line) >= LONG}
    return [
        f"{file}:{number}: a staff-only line ({hidden[line.strip()]}): {line.strip()}"
        for file, text in _texts(files)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() in hidden
    ]


def find_answers(files: Files, sentences: dict[str, str]) -> list[str]:
    """Return the sentences of model answers that are in these files, wrapped or not: "file: ...".

    Args:
        sentences: sentence -> question.
    """
    return [
        f"{file}: a sentence of the model answer to question {question}: {sentence}"
        for file, text in _texts(files)
        for words in [" ".join(text.split())]
        for sentence, question in sentences.items()
        if sentence in words
    ]


def _texts(files: Files) -> Iterator[tuple[str, str]]:
    for file, content in files.items():
        if b"\0" not in content and not file.endswith((".png", ".pdf")):
            yield file, content.decode("utf-8", "replace")
