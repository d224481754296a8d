"""What the staff's tests share: MNIST, and the training programs."""

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
    """What one process has trained, the others need not train."""
    if hasattr(request.config, "workerinput"):
        small_runs.RUNS = tmp_path_factory.getbasetemp().parent / "runs"
        small_runs.RUNS.mkdir(exist_ok=True)


@pytest.fixture(autouse=True)
def subnormal_numbers():
    """Not 0, as hypothesis wants them: a program or a library that ran before in this process may have changed that."""
    torch.set_flush_denormal(False)


@pytest.fixture
def rng(request):
    """A generator for random inputs: torch's, in place of the graded tests' numpy.random.RandomState."""
    text = f"{request.config.getoption('--seed')}/{request.node.name}"
    return torch.Generator().manual_seed(zlib.crc32(text.encode()))


@pytest.fixture(scope="session")
def mnist_files() -> Path:
    """The shared data folder with MNIST in it."""
    from course import download

    try:
        return download.fetch("mnist").parents[1]
    except download.DataError as error:
        pytest.skip(f"no MNIST here, and none to be had: {error}")


@pytest.fixture(params=list(PARTS))
def program(request, mnist_files, tmp_path):
    """The training program of each part in turn."""
    program = Program(request.param, mnist_files, tmp_path / "logs")
    yield program
    program.end()


@pytest.fixture
def vae(mnist_files, tmp_path):
    """Part 1's training program: vae("--epochs", "2") -> exit status; vae.start("--epochs", "2") -> Popen."""
    program = Program("vae", mnist_files, tmp_path / "logs")
    yield program
    program.end()


@pytest.fixture
def aae(mnist_files, tmp_path):
    """Part 2's."""
    program = Program("aae", mnist_files, tmp_path / "logs")
    yield program
    program.end()


@pytest.fixture
def gpt(tmp_path):
    """Part 3's; it needs no MNIST."""
    program = Program("gpt", tmp_path / "data", tmp_path / "logs")
    yield program
    program.end()


@pytest.fixture
def one_thread():
    """Bit-identical results need the same number of threads in this process and in those it starts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def without_pictures(monkeypatch):
    """Runs in this process draw nothing, write no page and short texts, so that they take half the time."""
    monkeypatch.setattr(Program, "pictures", False)


ZYGOTE: list[Zygote] = []


def pytest_collection_finish(session):
    """The zygote starts while other tests run, on the second core; with several processes, where it is needed."""
    if hasattr(session.config, "workerinput") or session.config.option.collectonly:
        return
    if any("zygote" in item.fixturenames for item in session.items):
        with contextlib.suppress(SandboxError):
            ZYGOTE.append(Zygote())


@pytest.fixture(scope="session")
def zygote():
    """What submissions' processes are forked from."""
    if not ZYGOTE:
        ZYGOTE.append(Zygote())
    return ZYGOTE[0]


def pytest_sessionfinish(session):
    while ZYGOTE:
        ZYGOTE.pop().close()


@pytest.fixture(scope="session")
def level(zygote) -> str:
    """The strongest sandbox that holds here."""
    from staff.grading import sandbox

    level, lines = sandbox.strongest(zygote)
    if level == "none":
        pytest.skip(f"no sandbox holds here: {lines}")
    return level


# --- several processes ------------------------------------------------------------------------------------------------

# Files whose tests share what is costly to make, by the beginning of their names, and the process that they share it
# in. Other tests run wherever there is time.
TOGETHER = {
    **dict.fromkeys(["attacks", "evidence", "grader_faults", "grading"], "the zygote"),
    **{what: what for what in ("generate", "release", "suites", "part1_run", "part2_run", "part3_run")},
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """For `pytest -n 2 --dist loadscope`. (xdist 3.8 puts its own groups where pytest 9.2 does not look for them.)"""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.split("::")[0])
            topic = file.parent.name if file.parent.name in TOGETHER else file.stem.removeprefix("test_")
            return next((place for start, place in TOGETHER.items() if topic.startswith(start)), nodeid)

    return Scheduling(config, log)
