"""The tasks of the Makefile, for systems without make: `python -m course setup`, then demo, test and the others.

This module imports no packages that must be installed, so that any Python can run it. It runs programs with the current
Python if that has PyTorch (an active environment, conda, a notebook), otherwise with the one in .venv.
"""

import argparse
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from course.parser import Parser

REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENT = REPOSITORY / ".venv"
INSTALLED = ENVIRONMENT / "installed"  # written last, so that an interrupted installation is repeated
DESCRIPTIONS = ("setup.cfg", "pyproject.toml", "constraints.txt")  # the files that define the packages to install
PACKAGES = ["-e", ".[dev]", "-c", "constraints.txt"]
PASSED_ON = ("test", "tensorboard")  # they take the flags of pytest and TensorBoard
BESIDE_TASKS = ("next", "runs", "submission")  # other commands that need the repository's files
DEMO = (
    ("download MNIST if it is missing (seconds)", "-m course.data mnist"),
    (
        "a VAE learns to draw digits (2 epochs, about a minute)",
        "part1_vae/train.py --epochs 2 --accelerator cpu",
    ),
    (
        "an adversarial autoencoder learns to reconstruct them (2 epochs, about a minute)",
        "part2_aae/train.py --epochs 2 --accelerator cpu",
    ),
    (
        "a small GPT learns to write (1 epoch, about a minute and a half)",
        "part3_gpt/train.py --epochs 1 --accelerator cpu",
    ),
    ("it generates text (seconds)", "part3_gpt/generate.py --checkpoint last --do_sample --temperature 0.8 --prompt"),
)  # programs that are missing from this edition are skipped
# the tests' tensors are so small that more threads would only slow them down, especially on a busy machine
FOR_TESTS = {"OMP_NUM_THREADS": "1"}
PROMPT = 'The "assert" statement'
# by default, TensorBoard keeps ten images or texts per tag and a thousand points per curve
SHOW = "scalars=100000,images=1000,text=1000,histograms=1000"


def setup(uv: bool = False) -> None:
    """Create .venv and install the packages, if this has not been done yet."""
    python = _python_of_environment()
    if not _is_installed():
        if Path(sys.prefix).resolve() != ENVIRONMENT:
            _create(uv)
        elif INSTALLED.exists() and not _is_here():
            sys.exit(f"error: {ENVIRONMENT} was created in another folder; `deactivate` it, then run the command again")
        installer = ["uv", "pip", "install", "--python", str(python)]
        if not uv:
            installer = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
        _run([*installer, *PACKAGES])
        INSTALLED.write_text(f"{REPOSITORY}\n", "utf-8")
    activate = r".venv\Scripts\activate" if os.name == "nt" else "source .venv/bin/activate"
    print(f"The packages are installed in {ENVIRONMENT}. To use them in this terminal: {activate}", flush=True)


def _create(uv: bool) -> None:
    """Create the virtual environment; clear one that was moved, because its scripts contain its old path."""
    clear = ["--clear"] if INSTALLED.exists() and not _is_here() else []
    if uv:
        _run(["uv", "venv", *(clear or ["--allow-existing"]), "--python", sys.executable, ENVIRONMENT.name])
    else:
        _run([sys.executable, "-m", "venv", *clear, ENVIRONMENT.name])


def _is_installed() -> bool:
    """Return whether all packages were installed here and the files that define them have not changed since."""
    if not INSTALLED.exists() or not _is_here():
        return False
    changed = max((REPOSITORY / file).stat().st_mtime for file in DESCRIPTIONS)
    return INSTALLED.stat().st_mtime >= changed


def _is_here() -> bool:
    """Return whether the environment was created in this folder; older versions left the file `installed` empty."""
    return INSTALLED.read_text("utf-8").strip() in ("", str(REPOSITORY))


def _python_of_environment() -> Path:
    return ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _python() -> str:
    """Return this Python if it has PyTorch; otherwise, set up the environment and return its Python."""
    if find_spec("torch"):
        return sys.executable
    setup()
    return str(_python_of_environment())


def _run(command: list[str], **variables: str) -> None:
    """Run a command in the repository's folder; if it fails, exit with its status."""
    try:
        status = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **variables}).returncode
    except FileNotFoundError:
        sys.exit(f"error: command not found: {command[0]}; install it first")
    if status:
        sys.exit(status)


def demo() -> None:
    """Download MNIST, train the models of all parts on the CPU for one or two epochs, and generate text."""
    python, steps = _python(), [(what, words) for what, words in DEMO if _is_there(words.split()[0])]
    for number, (what, words) in enumerate(steps, start=1):
        print(f"{number}/{len(steps)}: {what}", flush=True)
        _run([python, *words.split(), *([PROMPT] if words.endswith("--prompt") else [])])
    print("\nOpen the newest report.html of each part in logs/, or run: python -m course tensorboard")


def _is_there(program: str) -> bool:
    return program == "-m" or (REPOSITORY / program).exists()


def theory() -> None:
    """Run the demos for the written questions, which write figures to theory/figures/."""
    python, failed = _python(), []
    for script in sorted((REPOSITORY / "theory").glob("*.py")):
        print(f"--- theory/{script.name}", flush=True)
        if subprocess.run([python, script], cwd=REPOSITORY).returncode:
            failed.append(script.name)
    if failed:
        sys.exit(f"error: failed: {', '.join(failed)}")


def notebooks() -> None:
    """Convert the demos for the written questions to notebooks in build/notebooks/."""
    python = _python()
    _run([python, "-m", "pip", "install", "--disable-pip-version-check", "-e", ".[notebooks]", "-c", "constraints.txt"])
    (REPOSITORY / "build" / "notebooks").mkdir(parents=True, exist_ok=True)
    for script in sorted((REPOSITORY / "theory").glob("*.py")):
        notebook = f"build/notebooks/{script.stem}.ipynb"
        _run([python, "-m", "jupytext", "--to", "ipynb", "--output", notebook, str(script)])


def test(flags: list[str]) -> None:
    """Run the tests and show the points; accepts pytest's flags."""
    python = _python()
    _run([python, "-m", "course.data", "mnist"])
    _run([python, "-m", "pytest", *flags], **FOR_TESTS)


def tensorboard(flags: list[str]) -> None:
    """Show the runs in logs/ in TensorBoard; accepts TensorBoard's flags."""
    _run([_python(), "-m", "tensorboard.main", "--logdir", "logs", "--samples_per_plugin", SHOW, *flags])


TASKS = {
    "setup": setup,
    "demo": demo,
    "theory": theory,
    "notebooks": notebooks,
    "test": test,
    "tensorboard": tensorboard,
}


def add(commands) -> None:
    """Add the tasks to the commands."""
    for name, task in TASKS.items():
        about = task.__doc__.partition("\n")[0].removesuffix(".")
        parser = commands.add_parser(name, help=about[0].lower() + about[1:])
        parser.set_defaults(run=lambda args, task=task: task())
        if name == "setup":
            parser.add_argument("--uv", action="store_true", help="install with uv, which is faster than pip")
            parser.set_defaults(run=lambda args: setup(args.uv))


def need_repository(words: list[str], commands: tuple[str, ...] = (*TASKS, *BESIDE_TASKS)) -> None:
    """Exit with an error if one of these commands is called in an installation without the repository."""
    if words and words[0] in commands and not (REPOSITORY / "setup.cfg").is_file():
        sys.exit(f"error: {words[0]} needs the repository, which is not in {REPOSITORY}; run it in a clone")


def parse(parser: Parser, words: list[str]) -> argparse.Namespace:
    """Parse the words of a task; for a task that runs another program, pass on the words after the task's name."""
    name, *flags = words
    if name in PASSED_ON:
        return argparse.Namespace(run=lambda args: TASKS[name](flags))
    return parser.parse_args(words)
