"""Fixtures that the staff's tests share: MNIST, the training programs, and the sandbox's zygote."""

import contextlib
import zlib
from pathlib import Path

import pytest
import torch

import small_runs
from small_runs import PARTS, Program
from staff.grading.kit import SandboxError, Zygote


@pytest.fixture(scope="session", autouse=True)
def runs_are_shared(request, tmp_path_factory):
    """Let the processes of pytest-xdist share trained runs."""
    if hasattr(request.config, "workerinput"):
        small_runs.RUNS = tmp_path_factory.getbasetemp().parent / "runs"
        small_runs.RUNS.mkdir(exist_ok=True)


@pytest.fixture(autouse=True)
def subnormal_numbers():
    """Turn off the flushing of subnormals, as hypothesis requires; an earlier test or library may have turned it on."""
    torch.set_flush_denormal(False)


@pytest.fixture
def rng(request):
    """Return a torch generator for random inputs; the graded tests' `rng` is a numpy.random.RandomState."""
    text = f"{request.config.getoption('--seed')}/{request.node.name}"
    return torch.Generator().manual_seed(zlib.crc32(text.encode()))


@pytest.fixture(scope="session")
def mnist_files() -> Path:
    """Return the shared data folder, which contains MNIST."""
    from course import download

    try:
        return download.fetch("mnist").parents[1]
    except download.DataError as error:
        pytest.skip(f"MNIST is missing and cannot be downloaded: {error}")


@pytest.fixture(params=list(PARTS))
def program(request, mnist_files, tmp_path):
    """Yield the training program of each part in turn."""
    program = Program(request.param, mnist_files, tmp_path / "logs")
    yield program
    program.end()


@pytest.fixture
def vae(mnist_files, tmp_path):
    """Yield part 1's training program: vae("--epochs", "2") -> exit status; vae.start("--epochs", "2") -> Popen."""
    program = Program("vae", mnist_files, tmp_path / "logs")
    yield program
    program.end()


@pytest.fixture
def aae(mnist_files, tmp_path):
    """Yield part 2's training program."""
    program = Program("aae", mnist_files, tmp_path / "logs")
    yield program
    program.end()


@pytest.fixture
def gpt(tmp_path):
    """Yield part 3's training program, which does not need MNIST."""
    program = Program("gpt", tmp_path / "data", tmp_path / "logs")
    yield program
    program.end()


@pytest.fixture
def one_thread():
    """Use one thread: results are bit-identical only if this process and its children use the same number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def without_pictures(monkeypatch):
    """Halve the time of runs in this process: they draw no figures, write no report and generate only short texts."""
    monkeypatch.setattr(Program, "pictures", False)


ZYGOTE: list[Zygote] = []


def pytest_collection_finish(session):
    """Start the zygote early, on the second core, while other tests run; with xdist, start it when a test needs it."""
    if hasattr(session.config, "workerinput") or session.config.option.collectonly:
        return
    if any("zygote" in item.fixturenames for item in session.items):
        with contextlib.suppress(SandboxError):
            ZYGOTE.append(Zygote())


@pytest.fixture(scope="session")
def zygote():
    """Return the zygote, the process from which submissions' processes are forked."""
    if not ZYGOTE:
        ZYGOTE.append(Zygote())
    return ZYGOTE[0]


def pytest_sessionfinish(session):
    while ZYGOTE:
        ZYGOTE.pop().close()


@pytest.fixture(scope="session")
def level(zygote) -> str:
    """Return the strongest sandbox level that works on this machine."""
    from staff.grading import sandbox

    level, lines = sandbox.strongest(zygote)
    if level == "none":
        pytest.skip(f"no sandbox works on this machine: {lines}")
    return level


# --- several processes ------------------------------------------------------------------------------------------------

# beginning of a test file's name -> group; the tests of a group share an expensive fixture, so they run in one process.
# Other files run in any free process.
TOGETHER = {
    **dict.fromkeys(["attacks", "evidence", "grader_faults", "grading"], "the zygote"),
    **{what: what for what in ("generate", "release", "suites", "part1_run", "part2_run", "part3_run")},
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Return the scheduler for `pytest -n 2 --dist loadscope`; xdist 3.8's own groups do not work with pytest 9.2."""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.split("::")[0])
            topic = file.parent.name if file.parent.name in TOGETHER else file.stem.removeprefix("test_")
            return next((place for start, place in TOGETHER.items() if topic.startswith(start)), nodeid)

    return Scheduling(config, log)
