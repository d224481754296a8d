"""Record uses of forbidden names in a submission's process, for the grader's report.

This does not detect deliberate evasion. The syntax tree is searched as well (see `rules`).
"""

import functools
import importlib
import sys
import types
from pathlib import Path

import torch


class Watch:
    """Wrap forbidden names to record where they are used.

    Args:
        submission: the submission's folder. A use counts if code in this folder is on the call stack, e.g. if a PyTorch
            layer builds a forbidden layer for the submission. Access to a forbidden module by an installed package
            such as PyTorch does not count, even if the submission called the package.
        allowed: files of the submission that may use the names.
    """

    def __init__(self, submission: Path, allowed: list[str]):
        self.submission, self.allowed = str(submission) + "/", allowed
        self.packages = str(Path(torch.__file__).parents[1]) + "/"
        self.seen: set[tuple[str, int, str]] = set()  # file, line, name

    def watch(self, name: str) -> None:
        """Replace a module or function with a wrapper, or wrap the `__init__` of a class."""
        owner, _, last = name.rpartition(".")
        holder = importlib.import_module(owner)
        thing = getattr(holder, last)
        if isinstance(thing, types.ModuleType):
            setattr(holder, last, self._module(name, thing))
            sys.modules[name] = getattr(holder, last)
        elif isinstance(thing, type):
            thing.__init__ = self._noting(name, thing.__init__)
        else:
            setattr(holder, last, self._noting(name, thing))

    def _module(self, name: str, module: types.ModuleType) -> types.ModuleType:
        watch = self

        class Noting(types.ModuleType):
            def __getattribute__(self, attribute):
                if not attribute.startswith("__"):
                    watch.note(name, ends_in=watch.packages)
                return getattr(module, attribute)

        return Noting(name)

    def _noting(self, name: str, function):
        @functools.wraps(function)
        def noting(*args, **kwargs):
            self.note(name)
            return function(*args, **kwargs)

        return noting

    def note(self, name: str, ends_in: str | None = None) -> None:
        """Record the innermost frame in the submission, if the submission is on the call stack.

        Args:
            ends_in: a folder; the call does not count if a frame from a file in this folder is found first.
        """
        frame = sys._getframe(2)
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(self.submission):
                file = file.removeprefix(self.submission)
                if file not in self.allowed:
                    self.seen.add((file, frame.f_lineno, name))
                return
            if ends_in and file.startswith(ends_in):
                return
            frame = frame.f_back

    def take(self) -> list[list]:
        """Return up to 50 uses recorded since the last call, and clear the record."""
        seen, self.seen = sorted(self.seen), set()
        return [list(each) for each in seen[:50]]
