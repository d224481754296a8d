"""What the staff's tests share: MNIST, and the training programs."""

from pathlib import Path

import pytest
import torch

from small_runs import PARTS, Program


@pytest.fixture(scope="session")
def mnist_files() -> Path:
    """The shared data folder with MNIST in it."""
    from course import data

    try:
        return data.fetch("mnist").parents[1]
    except data.DataError as error:
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


@pytest.fixture(scope="session")
def zygote():
    """What submissions' processes are forked from."""
    from course.grading import children

    zygote = children.Zygote()
    yield zygote
    zygote.close()


@pytest.fixture(scope="session")
def level(zygote) -> str:
    """The strongest sandbox that holds here."""
    from course.grading import children

    level, lines = children.strongest(zygote)
    if level == "none":
        pytest.skip(f"no sandbox holds here: {lines}")
    return level
