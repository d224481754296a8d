"""A stand-in for Windows: with this folder on PYTHONPATH, Python hides Unix-only modules and calls.

The standard library still sees them, because its files for Windows are not on this machine. Other libraries cannot
import Unix-only modules. Files below STUDENTS_ROOT can use neither such modules nor such calls, and get an error if
they open a text file without an encoding.
"""

import os
import sys
import sysconfig
import types
import warnings
from importlib.abc import MetaPathFinder

import unix_only

ROOT = os.environ["STUDENTS_ROOT"]
LIBRARY = sysconfig.get_path("stdlib")
NOT_FOR_STUDENTS = tuple(os.path.join(ROOT, folder, "") for folder in (".venv", "staff", "bench"))


def is_for_students(file: str) -> bool:
    return file.startswith(os.path.join(ROOT, "")) and not file.startswith(NOT_FOR_STUDENTS)


def is_of_python(file: str) -> bool:
    return file.startswith(("<", LIBRARY)) and "site-packages" not in file


class NoUnixModules(MetaPathFinder):
    """A finder that finds no modules itself and lets only the standard library import Unix-only modules."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in unix_only.MODULES:
            frame = sys._getframe(1)
            while "importlib" in frame.f_code.co_filename:
                frame = frame.f_back
            if not is_of_python(frame.f_code.co_filename):
                raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
        return None


class Guarded(types.ModuleType):
    """A module that hides its Unix-only names from the students' files."""

    def __getattribute__(self, name):
        if name in unix_only.CALLS[super().__getattribute__("__name__")]:
            if is_for_students(sys._getframe(1).f_code.co_filename):
                raise AttributeError(f"{name} does not exist on Windows")
        return super().__getattribute__(name)


sys.meta_path.insert(0, NoUnixModules())
for module in unix_only.MODULES:  # forget those that Python imported at startup
    if module != "posix":
        sys.modules.pop(module, None)
for module in unix_only.CALLS:
    __import__(module)
    sys.modules[module].__class__ = Guarded

OURS = r"(__main__|course|part\d_\w+|theory|tests|adapters|conftest|answers|judge|inputs|generating|gpt_inputs)(\..*)?"
warnings.filterwarnings("error", category=EncodingWarning, module=rf"{OURS}\Z")
