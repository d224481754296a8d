"""The process that submissions' processes are forked from: it has imported PyTorch, but nothing secret.

`kit.Zygote` starts it with a kit (inside/, course/ and the adapters) and without the site module, so that no
installed package can lead to the solution. It receives requests on a socket, each with two file descriptors:
one on which the submission's process answers calls, and one to control its warden.
"""

import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path

CALLED = {name: f"adapters.{name}" for name in ("part1", "part2", "part2_training", "part3")}
CALLED["stored_runs"] = "staff.grading.inside.stored_runs"


def main(kit: Path, packages: list[str], socket_fd: int) -> None:
    """Import everything, report "ready", and fork a warden for each request until the socket is closed."""
    sys.path[:0] = [str(kit)]
    sys.path += packages
    gc.disable()  # imported modules stay alive, so scanning them for garbage would only waste a second
    import_all()
    from staff.grading.inside import kernel, sandbox

    kernel.prepare_to_fork()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # wardens are never waited for
    requests = socket.socket(fileno=socket_fd)
    requests.send(b"ready")
    while True:
        message, handles, _, _ = socket.recv_fds(requests, 1 << 16, 2)
        if not message:
            return
        answer, control = handles
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            wanted = json.loads(message)
            submission, limits = Path(wanted["submission"]), sandbox.Limits(**wanted["limits"])
            serve = {"calls": Calls(submission, wanted.get("watch")), "probe": Probe(wanted)}[wanted["serve"]]
            sandbox.warden(wanted["level"], submission, kit, limits, answer, socket.socket(fileno=control), serve)
        os.close(answer)
        os.close(control)


def import_all() -> None:
    """Import what submissions need before forking, so that every fork already has it."""
    import logging
    import warnings

    import torch

    torch.set_num_threads(1)
    import matplotlib
    import pytorch_lightning
    import tensorboard.compat.proto.event_pb2  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401
    import torchvision  # noqa: F401

    from adapters import part1, part2, part2_training, part3  # noqa: F401
    from course import data, figures, flags  # noqa: F401
    from course.training import entry, exact, extras, history, run  # noqa: F401
    from staff.grading.inside import kernel, prepare, sandbox, stored_runs, watch, wire  # noqa: F401

    prepare.prepare()
    matplotlib.use("Agg")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    pytorch_lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)


class Calls:
    """Answer calls to the adapters: {"call": "part1.run_kld", "args": [...], "kwargs": {...}, "seed": 1}.

    Args:
        watch: names whose use by the submission is recorded, {"names": [...], "allowed": [files]}; see `watch.Watch`.
    """

    def __init__(self, submission: Path, watch: dict | None):
        self.submission, self.wanted = submission, watch or {"names": [], "allowed": []}

    def __call__(self, fd: int) -> None:
        from staff.grading.inside import wire
        from staff.grading.inside.watch import Watch

        watch = Watch(self.submission, self.wanted["allowed"])
        for name in self.wanted["names"]:
            watch.watch(name)
        sys.path.insert(0, str(self.submission))
        while True:
            try:
                request = wire.read(fd)
            except wire.Closed:
                return
            try:
                message = wire.encode({"value": self.answer(request), "seen": watch.take()})
            except BaseException as error:
                message = wire.encode(self.failure(error) | {"seen": watch.take()})
            wire.write(fd, message)

    def answer(self, request: dict):
        import torch

        torch.default_generator.manual_seed(request["seed"])
        module, _, function = request["call"].partition(".")
        called = importlib.import_module(CALLED[module])
        return getattr(called, function)(*request["args"], **request["kwargs"])

    def failure(self, error: BaseException) -> dict:
        """Return the exception's class, its text, and the last five places in the submission from its traceback."""
        steps = [
            (step.filename, step.lineno, step.name, step.line) for step in traceback.extract_tb(error.__traceback__)
        ]
        if isinstance(error, SyntaxError):
            steps.append((error.filename, error.lineno, "<module>", (error.text or "").strip()))
        places = []
        for file, line, function, source in steps:
            if file and Path(file).is_relative_to(self.submission):
                place = Path(file).relative_to(self.submission).as_posix()
                places.append(f"{place}:{line}, in {function}: {source}"[:300])
        try:
            text = str(error)
        except BaseException:
            text = "(its text cannot be shown)"
        return {"error": type(error).__name__[:100], "text": text[:2000], "places": places[-5:]}


class Probe:
    """Attempt everything that the sandbox should prevent, and send a list of the attempts that succeeded.

    Args:
        wanted: "file", "port" and "pid" of the grader, and "closed": files that must not be readable.
    """

    def __init__(self, wanted: dict):
        self.wanted = wanted

    def __call__(self, fd: int) -> None:
        import encodings.idna  # noqa: F401  (not imported yet, so this checks that the standard library is readable)

        from staff.grading.inside import wire

        attempts = {
            "read a file outside": lambda: open(self.wanted["file"]).close(),
            "read the tests or the solution": self.read_any,
            "write a file outside": lambda: open(self.wanted["file"] + ".new", "w").close(),
            "write where it may not": lambda: open(self.wanted["submission"] + "/new", "w").close(),
            "reach a port": lambda: socket.create_connection(("127.0.0.1", self.wanted["port"]), 1).close(),
            "signal a process": lambda: os.kill(self.wanted["pid"], 0),
            "start a process": self.fork,
        }
        possible = []
        for what, attempt in attempts.items():
            try:
                attempt()
                possible.append(what)
            except OSError:
                pass
        wire.write(fd, wire.encode(possible))

    def read_any(self) -> None:
        """Open a file that must not be readable; raise PermissionError if none can be opened."""
        for file in self.wanted["closed"]:
            with suppress(OSError):  # not os.access, which ignores Landlock
                return open(file).close()
        raise PermissionError

    @staticmethod
    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[3:], int(sys.argv[2]))
