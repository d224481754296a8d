"""Build the zip to hand in and list what is missing: `python -m course submission` (`make submission`)."""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from urllib.parse import unquote

from course import blanks
from course.command_line import WrongFlag
from course.files import write_whole
from course.flags import REPOSITORY
from course.rubric import Part, Question, Rubric, RubricError, read
from course.runs import report
from course.runs.folder import RunError, fits
from course.tasks import FOR_TESTS

ANSWERS = "answers.md"
OF_A_RUN = (
    "summary.json", report.FILE, "hparams.yaml", "events.out.tfevents.*", "checkpoints/best.ckpt", "figures/*",
)  # fmt: skip


def missing_code(rubric: Rubric, root: Path) -> list[str]:
    """List open blanks and files that are not valid Python."""
    found = []
    for part in rubric.with_code:
        for path in sorted((root / part.folder).rglob("*.py")):
            try:
                for blank in blanks.find(path, root):
                    found.append(f"Q{blank.question}: {blank.file}, line {blank.line} is not filled in: {blank.what}")
            except (SyntaxError, ValueError) as error:
                found.append(f"{path.relative_to(root).as_posix()}: is not valid Python: {error}")
    return found


def missing_answers(rubric: Rubric, root: Path) -> list[str]:
    """List problems in answers.md: questions without an answer, answers that are too long, and missing pictures."""
    try:
        text = (root / ANSWERS).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return [f"{ANSWERS}: cannot be read: {error}"]
    lost = [f"{ANSWERS}: there is no picture {link}" for link, file in pictures(root).items() if not file]
    return _missing_sections(rubric, text) + lost


def _missing_sections(rubric: Rubric, text: str) -> list[str]:
    sections = dict(re.findall(r"^## Q(\d+\.\d+)[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    found = []
    for question in rubric.questions.values():
        answer = sections.get(question.id, "").replace(f"*{question.title}.*", "").strip()
        if question.manual and not answer:
            found.append(f"Q{question.id}: no answer in {ANSWERS}: {question.title}")
        words, most = len(answer.split()), re.search(r"\((\d+) words at most\)", question.title)
        if most and words > int(most[1]):
            found.append(f"Q{question.id}: the answer in {ANSWERS} has {words} words; the limit is {most[1]}")
    return found


def read_answers(root: Path) -> str:
    """Read answers.md; return "" if it cannot be read."""
    try:
        return (root / ANSWERS).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def pictures(root: Path) -> dict[str, Path | None]:
    """Map the pictures that the answers link to, except URLs, to their files in the repository, or to None."""
    pairs = re.findall(r"!\[[^\]]*\]\(\s*<?([^)>\s]+)|<img[^>]*\bsrc=[\"']([^\"']+)", read_answers(root))
    links = [unquote(one or two) for one, two in pairs if "://" not in one + two]
    files = {link: (root / link).resolve() for link in links}
    here = root.resolve()
    return {link: file if file.is_file() and file.is_relative_to(here) else None for link, file in files.items()}


def missing_points(root: Path) -> list[str]:
    """Run the graded tests; list the questions that do not earn full points."""
    with tempfile.TemporaryDirectory() as folder:
        points = Path(folder) / "points.json"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "question", "--points-json", str(points)]
        done = subprocess.run(
            command, cwd=root, env={**os.environ, **FOR_TESTS}, capture_output=True, encoding="utf-8", errors="replace"
        )
        try:
            questions = json.loads(points.read_text("utf-8"))["questions"]
        except (OSError, ValueError, KeyError):
            lines = (done.stderr + done.stdout).strip().splitlines() or ["no output"]
            return [f"the tests did not run: {lines[-1]}; run pytest to see why"]
    return [
        f"Q{id}: the tests give {row['earned']:g} of {row['worth']:g} points; pytest --question {id} shows why"
        for id, row in questions.items()
        if row["earned"] < row["worth"]
    ]


def find_runs(rubric: Rubric, logs: Path, answers: str = "") -> tuple[list[Path], list[str]]:
    """Find the folders of the runs that the questions require; also list missing runs or epochs.

    Args:
        answers: the written answers; a run named in them, such as vae/version_3, is preferred to a longer one.
    """
    chosen: list[Path] = []
    missing = []
    for question in rubric.questions.values():
        part = rubric.parts[question.part]
        for wanted in question.runs:
            run, epochs = _longest(part, wanted, logs, answers)
            name = _command(question, part, wanted)
            if run is None:
                missing.append(f"{name}: no such run in {logs / part.logs}")
                continue
            if epochs < wanted.get("epochs", 1):
                missing.append(f"{name}: {run} stopped after epoch {epochs}; it is included anyway")
            if run not in chosen:
                chosen.append(run)
    return chosen, missing


def _longest(part: Part, wanted: dict, logs: Path, answers: str) -> tuple[Path | None, int]:
    """Find the run with these flags (ignoring epochs), in order of preference: named in the answers, longest, newest.

    Returns:
        its folder and its number of epochs.
    """
    named = set(re.findall(rf"\b{re.escape(part.logs)}/([\w.-]*\w)", answers))
    best: tuple[bool, int, float] = (False, 0, 0.0)
    found = None
    for summary in (logs / part.logs).glob("*/summary.json"):
        try:
            content = json.loads(summary.read_text("utf-8"))
            flags, epochs = content["flags"], len(content["history"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # treat a damaged file as missing
        rank = (summary.parent.name in named, epochs, summary.stat().st_mtime)
        if fits(flags, wanted) and rank > best:
            best, found = rank, summary.parent
    return found, best[1]


def _command(question: Question, part: Part, wanted: dict) -> str:
    words = " ".join(f"--{name} {value:g}" for name, value in wanted.items())
    return f"Q{question.id}: python {part.folder}/train.py {words}"


def write_reports(runs: list[Path]) -> list[str]:
    """Rewrite the report of each run, so that it matches the submission; return a list of errors."""
    problems = []
    for run in runs:
        try:
            report.write(run)
        except (RunError, RubricError, OSError) as error:
            problems.append(f"{run}: {report.FILE} could not be written: {error}")
    return problems


def files_of(root: Path, rubric: Rubric, runs: list[Path], logs: Path) -> dict[str, Path]:
    """List the contents of the zip: the parts' code, the answers, their pictures, and run files (name -> file)."""
    files = {}
    for part in rubric.with_code:
        paths = [*(root / part.folder).rglob("*.py"), *(root / part.folder).glob("*.job")]
        files |= {path.relative_to(root).as_posix(): path for path in paths if path.is_file()}
    files |= {ANSWERS: root / ANSWERS} if (root / ANSWERS).is_file() else {}
    files |= {file.relative_to(root.resolve()).as_posix(): file for file in pictures(root).values() if file}
    for run in runs:
        paths = [path for pattern in OF_A_RUN for path in run.glob(pattern) if path.is_file()]
        files |= {f"logs/{path.relative_to(logs).as_posix()}": path for path in paths}
    return dict(sorted(files.items()))


def pack(files: dict[str, Path], out: Path) -> None:
    """Write the zip atomically."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            archive.write(path, name)
    write_whole(out, buffer.getvalue())


def build(output: Path, logs: Path, root: Path = REPOSITORY, test: bool = False) -> None:
    """Write the zip and print what is missing.

    Args:
        output: the zip to write.
        logs: the folder of the runs.
        root: the repository with the parts and the answers.
        test: whether to run the graded tests.

    Raises:
        WrongFlag: the zip cannot be written.
    """
    if output.suffix != ".zip":
        raise WrongFlag(f"--output {output}: the name must end in .zip")
    rubric = read()
    runs, missing = find_runs(rubric, logs, read_answers(root))
    missing = missing_code(rubric, root) + missing + write_reports(runs) + missing_answers(rubric, root)
    if test:
        print("running the tests; this takes a minute or two", flush=True)
        missing += missing_points(root)
    for line in missing:
        print(f"missing  {line}")
    files = files_of(root, rubric, runs, logs)
    try:
        pack(files, output)
    except OSError as error:
        raise WrongFlag(f"--output {output}: cannot be written: {error.strerror or error}") from error
    size = output.stat().st_size / 1e6
    lacks = f"missing: {len(missing)}, listed above" if missing else "nothing is missing"
    print(f"{output}: {len(files)} files, {len(runs)} runs, {size:.1f} MB; {lacks}")


def add(commands) -> None:
    """Add `submission` to the commands."""
    parser = commands.add_parser("submission", help="list what is missing and build the zip to hand in")
    parser.add_argument("-o", "--output", type=Path, default=Path("submission.zip"), help="the zip to write")
    parser.add_argument("--log_dir", type=Path, default=REPOSITORY / "logs", help="the folder with the runs")
    parser.add_argument("--no-test", action="store_false", dest="test", help="do not run the graded tests")
    parser.set_defaults(run=lambda args: build(args.output, args.log_dir, test=args.test))
