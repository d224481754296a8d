"""Notice, while a submission runs, that it uses a name that the rules forbid: in its process, for the grader's report.

What a submission does to hide it is not looked for; the syntax tree is searched as well (`rules`).
"""

import functools
import importlib
import sys
import types
from pathlib import Path

import torch


class Watch:
    """Stand-ins for forbidden names that note who uses them.

    Args:
        submission: its folder; uses by anybody else, PyTorch itself and the adapters, do not count. A layer of PyTorch
            that builds a forbidden one for the submission is such a use. A module that PyTorch imports for itself,
            whatever the submission asked it for, is not.
        allowed: files of the submission that may use them.
    """

    def __init__(self, submission: Path, allowed: list[str]):
        self.submission, self.allowed = str(submission) + "/", allowed
        self.packages = str(Path(torch.__file__).parents[1]) + "/"
        self.seen: set[tuple[str, int, str]] = set()  # file, line, name

    def watch(self, name: str) -> None:
        """Put a stand-in in the place of a module, a class or a function."""
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
        """Remember the innermost place in the submission, if the call comes from there at all.

        Args:
            ends_in: a folder; it does not come from the submission if a file in there is met first.
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
        """What was noted since the last time."""
        seen, self.seen = sorted(self.seen), set()
        return [list(each) for each in seen[:50]]
