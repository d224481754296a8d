"""Tests for Windows that run on other systems: they run the students' files without Unix-only modules and calls.

The folder names contain a space and an umlaut, and text files cannot be opened without an encoding.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import unix_only

from course import files
from course.training import record, speed
from small_runs import PARTS, REPOSITORY, SMALL, SMALL_NETWORK
from staff.release.build import contents, read_course

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def students() -> dict[str, bytes]:
    """Return the files of the students' repository, with all blanks filled in."""
    course = read_course()
    return contents(course, "2027", filled=course.questions())


@pytest.fixture(scope="module")
def checkout(students, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "Übung 1"
    for file, content in students.items():
        files.write_whole(folder / file, content)
    return folder


def on_windows(root: Path, *words: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess:
    """Run Python with the stand-in for Windows, and with cp1252 instead of UTF-8 as the encoding of its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
    environment |= {"PYTHONPATH": os.pathsep.join([str(HERE), str(root)]), "STUDENTS_ROOT": str(root)}
    environment |= {"PYTHONWARNDEFAULTENCODING": "1", "PYTHONIOENCODING": "cp1252", "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-B", *map(str, words)]
    return subprocess.run(command, cwd=cwd or root, env=environment, capture_output=True, encoding="cp1252")


def assert_ran(done: subprocess.CompletedProcess, *said: str) -> str:
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    assert not [text for text in said if text not in output], output[-3000:]
    return output


def modules(students: dict[str, bytes]) -> list[str]:
    """Return the names under which the modules of the students' repository are imported."""
    names = [file.removesuffix(".py") for file in students if file.endswith(".py")]
    names = [name.removesuffix("/__init__").removeprefix("tests/") for name in names]
    names = [name.removeprefix("handout/figures/").replace("/", ".") for name in names]
    return [name for name in names if not name.startswith("theory") and not name.endswith("__main__")]


def test_nothing_that_is_unix_only_is_imported_or_called(students):
    sources = {file: content.decode() for file, content in students.items() if file.endswith(".py")}
    assert len(sources) > 80
    assert [f"{file}:{line}: {name}" for file, text in sources.items() for line, name in unix_only.uses(text)] == []


def test_what_is_unix_only_is_found():
    guarded = "if sys.platform == 'win32':\n    import msvcrt\nelse:\n    import fcntl\n"
    source = (
        f"import os, resource\nfrom signal import SIGKILL\n{guarded}def f():\n    os.fork(); os.open('', os.O_RDONLY)\n"
    )
    found = [(1, "resource"), (2, "signal.SIGKILL"), (8, "os.fork")]
    assert list(unix_only.uses(source)) == found


PROBE = """
import os, warnings
assert "getuid" not in dir() and not hasattr(os, "getuid") and hasattr(os, "getpid")
for name in ("fcntl", "resource", "pwd"):
    try: __import__(name)
    except ImportError: continue
    raise SystemExit(f"{name} is here")
try: open(__file__)
except EncodingWarning: raise SystemExit("no Windows in sight")
"""


def test_the_stand_in_has_none_of_it(tmp_path):
    """Test the stand-in itself: the probe prints its last line only if no Unix-only module or call was visible."""
    (tmp_path / "course.py").write_text(PROBE)
    done = on_windows(tmp_path, "-c", "import course")
    assert done.stderr.strip() == "no Windows in sight"


def test_every_module_is_imported(students, checkout):
    names = modules(students)
    assert {"conftest", "course.submission", "part3_gpt.generate", "adapters.part1", "test_part2_aae"} <= set(names)
    code = "\n".join(
        ["import sys; sys.path[1:1] = ['tests', 'handout/figures']", *(f"import {name}" for name in names)]
    )
    assert_ran(on_windows(checkout, "-c", code))


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_a_run_is_trained_resumed_reported_and_handed_in(name, checkout, mnist_files, tmp_path):
    logs = tmp_path / "Läufe von mir"
    train = [f"{PARTS[name]}/train.py", *SMALL, *SMALL_NETWORK[name], "--data_dir", mnist_files, "--log_dir", logs]
    assert_ran(on_windows(checkout, *train, "--epochs", "1"), "report.html")
    assert_ran(on_windows(checkout, *train, "--epochs", "2", "--resume", "last"), "epoch 2/2")
    run = logs / name / "version_0"
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert [row["epoch"] for row in summary["history"]] == [1, 2]
    (run / "report.html").unlink()
    assert_ran(on_windows(checkout, "-m", "course", "report", run))
    assert "<html" in (run / "report.html").read_text("utf-8")
    on_windows(checkout, "-m", "course", "diagnose", run)
    zipped = tmp_path / "Abgabe für Q1.zip"
    assert_ran(on_windows(checkout, "-m", "course", "submission", "-o", zipped, "--log_dir", logs))
    names = zipfile.ZipFile(zipped).namelist()
    assert f"{PARTS[name]}/train.py" in names and not [each for each in names if "\\" in each]


@pytest.mark.slow
def test_the_next_blank_is_named(tmp_path):
    for file, content in contents(read_course(), "2027").items():
        files.write_whole(tmp_path / "Übung 2" / file, content)
    assert_ran(on_windows(tmp_path / "Übung 2", "-m", "course", "next"), "next: Q1.7, part1_vae/utils.py")


@pytest.mark.slow
def test_a_gpt_writes(checkout, tmp_path):
    train = ["part3_gpt/train.py", *SMALL, *SMALL_NETWORK["gpt"], "--log_dir", tmp_path, "--epochs", "1"]
    assert_ran(on_windows(checkout, *train))
    last = tmp_path / "gpt" / "version_0"
    written = on_windows(checkout, "part3_gpt/generate.py", "--checkpoint", last, "--prompt", "The", "--do_sample")
    assert assert_ran(written, "tokens/s").startswith("The")


@pytest.mark.slow
def test_the_graded_tests_run(tmp_path):
    """Run the tests in this repository, where the staff's files compute expected values and may use Unix features."""
    points = tmp_path / "Punkte für mich.json"
    suites = ["tests/test_part1_formulas.py", "tests/test_part3_gpt.py"]
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--points-json", points, *suites]
    assert_ran(on_windows(REPOSITORY, *words), "points for the automatic part")
    assert json.loads(points.read_text("utf-8"))["questions"]


# --- single functions ------------------------------------------------------------------------------------------------


@pytest.fixture
def windows(monkeypatch):
    """Pretend that the platform is Windows, but only for code that reads sys.platform."""
    monkeypatch.setattr(sys, "platform", "win32")
    yield
    monkeypatch.undo()


def test_peak_memory_is_that_of_the_working_set(windows, monkeypatch):
    """psutil has `peak_wset` only on Windows."""
    memory = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=3e9))
    monkeypatch.setitem(sys.modules, "psutil", SimpleNamespace(Process=lambda: memory))
    monkeypatch.setattr(record.Path, "exists", lambda path: False)  # hides /proc
    assert record._peak_memory_gb() == 3


def test_no_library_without_a_name_is_opened(windows, monkeypatch):
    def refuse(name):
        raise TypeError("LoadLibrary() argument 1 must be str, not None")

    monkeypatch.setattr(speed.ctypes, "CDLL", refuse)
    speed.keep_memory()


@pytest.mark.parametrize("refusals, seconds", [(3, 5.0), (10**9, 0.2)])
def test_a_file_that_another_program_has_open_is_replaced_later(refusals, seconds, tmp_path, monkeypatch):
    """Windows refuses to replace an open file; if it is not closed in time, the error names the file."""
    (tmp_path / "summary.json").write_bytes(b"old")
    replace, calls = os.replace, []

    def refuse(source, target):
        calls.append(source)
        if len(calls) <= refusals:
            raise PermissionError(13, "Access is denied", source)
        replace(source, target)

    # do not change os.name itself: pathlib would create WindowsPath objects
    windows = SimpleNamespace(**{**vars(os), "name": "nt", "replace": refuse})
    monkeypatch.setattr(files, "os", windows)
    monkeypatch.setattr(files, "SECONDS_TO_REPLACE", seconds)
    if refusals == 3:
        files.write_whole(tmp_path / "summary.json", b"new")
        assert (tmp_path / "summary.json").read_bytes() == b"new" and len(calls) == 4
        return
    with pytest.raises(PermissionError) as caught:
        files.write_whole(tmp_path / "summary.json", b"new")
    assert caught.value.filename == str(tmp_path / "summary.json")
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert (tmp_path / "summary.json").read_bytes() == b"old"


def test_a_picture_of_the_tree_has_no_name_that_windows_refuses(students):
    """Check also that no two names differ only in case."""
    reserved = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
    parts = {part for file in students for part in file.split("/")}
    assert not [part for part in parts if set(part) & set('<>:"|?*\\') or part != part.rstrip(" .")]
    assert not reserved & {part.split(".")[0].lower() for part in parts}
    assert len({file.lower() for file in students}) == len(students)
    assert max(map(len, students)) < 120, "Windows allows 260 characters, including the path to the folder"
