"""The tasks of the Makefile, for systems without make: `python -m course setup`, then demo, test and the others.

It imports nothing that has to be installed, so that any Python can run it. Programs run with the current Python if it
has PyTorch (an active environment, conda, a notebook), else with the one in .venv.
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
DESCRIPTIONS = ("setup.cfg", "pyproject.toml", "constraints.txt")  # the files that say what to install
PACKAGES = ["-e", ".[dev]", "-c", "constraints.txt"]
PASSED_ON = ("test", "tensorboard")  # their flags are pytest's and TensorBoard's
BESIDE_TASKS = ("next", "runs", "submission")  # commands that need the repository's files too
DEMO = (
    ("MNIST, unless it is there (seconds)", "-m course.data mnist"),
    (
        "a VAE learns to draw digits (2 epochs, about a minute)",
        "part1_vae/train.py --epochs 2 --accelerator cpu",
    ),
    (
        "an adversarial autoencoder learns to copy them (2 epochs, about a minute)",
        "part2_aae/train.py --epochs 2 --accelerator cpu",
    ),
    (
        "a small GPT learns to write (1 epoch, about a minute and a half)",
        "part3_gpt/train.py --epochs 1 --accelerator cpu",
    ),
    ("it writes (seconds)", "part3_gpt/generate.py --checkpoint last --do_sample --temperature 0.8 --prompt"),
)  # programs that this edition does not have are left out
# the tests' tensors are small: more threads only wait for each other, and even longer on a busy machine
FOR_TESTS = {"OMP_NUM_THREADS": "1"}
PROMPT = 'The "assert" statement'
# by default, TensorBoard keeps ten pictures or texts per tag and a thousand points per curve
SHOW = "scalars=100000,images=1000,text=1000,histograms=1000"


def setup(uv: bool = False) -> None:
    """Create .venv and install the packages, unless that has been done."""
    python = _python_of_environment()
    if not _is_installed():
        if Path(sys.prefix).resolve() != ENVIRONMENT:
            _create(uv)
        elif INSTALLED.exists() and not _is_here():
            sys.exit(f"error: {ENVIRONMENT} was created in another folder; `deactivate` it, then run this again")
        installer = ["uv", "pip", "install", "--python", str(python)]
        if not uv:
            installer = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
        _run([*installer, *PACKAGES])
        INSTALLED.write_text(f"{REPOSITORY}\n", "utf-8")
    activate = r".venv\Scripts\activate" if os.name == "nt" else "source .venv/bin/activate"
    print(f"The packages are installed in {ENVIRONMENT}. To use them in this terminal: {activate}", flush=True)


def _create(uv: bool) -> None:
    """Create the virtual environment. An old one that was moved is cleared, because its scripts contain its path."""
    clear = ["--clear"] if INSTALLED.exists() and not _is_here() else []
    if uv:
        _run(["uv", "venv", *(clear or ["--allow-existing"]), "--python", sys.executable, ENVIRONMENT.name])
    else:
        _run([sys.executable, "-m", "venv", *clear, ENVIRONMENT.name])


def _is_installed() -> bool:
    """Whether everything was installed here, and the files that say what to install have not changed since."""
    if not INSTALLED.exists() or not _is_here():
        return False
    changed = max((REPOSITORY / file).stat().st_mtime for file in DESCRIPTIONS)
    return INSTALLED.stat().st_mtime >= changed


def _is_here() -> bool:
    """Whether the environment was created in this folder; older versions of this program left `installed` empty."""
    return INSTALLED.read_text("utf-8").strip() in ("", str(REPOSITORY))


def _python_of_environment() -> Path:
    return ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _python() -> str:
    """This Python if it has PyTorch, else the environment's, which is set up first."""
    if find_spec("torch"):
        return sys.executable
    setup()
    return str(_python_of_environment())


def _run(command: list[str], **variables: str) -> None:
    """Run a command in the repository's folder; end with its exit status unless it is 0."""
    try:
        status = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **variables}).returncode
    except FileNotFoundError:
        sys.exit(f"error: there is no command {command[0]}; install it first")
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
    """Run the demos of the written questions; their figures are written to theory/figures/."""
    python, failed = _python(), []
    for script in sorted((REPOSITORY / "theory").glob("*.py")):
        print(f"--- theory/{script.name}", flush=True)
        if subprocess.run([python, script], cwd=REPOSITORY).returncode:
            failed.append(script.name)
    if failed:
        sys.exit(f"error: failed: {', '.join(failed)}")


def notebooks() -> None:
    """Convert the same demos to notebooks, in build/notebooks/."""
    python = _python()
    _run([python, "-m", "pip", "install", "--disable-pip-version-check", "-e", ".[notebooks]", "-c", "constraints.txt"])
    (REPOSITORY / "build" / "notebooks").mkdir(parents=True, exist_ok=True)
    for script in sorted((REPOSITORY / "theory").glob("*.py")):
        notebook = f"build/notebooks/{script.stem}.ipynb"
        _run([python, "-m", "jupytext", "--to", "ipynb", "--output", notebook, str(script)])


def test(flags: list[str]) -> None:
    """Run the tests, with the points that they give; its flags are pytest's."""
    python = _python()
    _run([python, "-m", "course.data", "mnist"])
    _run([python, "-m", "pytest", *flags], **FOR_TESTS)


def tensorboard(flags: list[str]) -> None:
    """Look at the runs in logs/; its flags are TensorBoard's."""
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
    """End with a message if one of these commands is called in an installation without the repository."""
    if words and words[0] in commands and not (REPOSITORY / "setup.cfg").is_file():
        sys.exit(f"error: {words[0]} needs the repository, which is not in {REPOSITORY}; run it in a clone")


def parse(parser: Parser, words: list[str]) -> argparse.Namespace:
    """Parse the words of a task; if the task runs another program, pass the words after its name on to that program."""
    name, *flags = words
    if name in PASSED_ON:
        return argparse.Namespace(run=lambda args: TASKS[name](flags))
    return parser.parse_args(words)
