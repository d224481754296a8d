"""Grade a class: stage each submission, judge it, and write each student's result to a separate file.

`results/STUDENT.json` is written atomically when a submission is done, so a grader that was stopped can resume.
"""

import errno
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from tqdm import tqdm

from course import rubric as rubrics
from course.rubric import Rubric
from staff.grading import archives, results, rules
from staff.grading.judge import REPOSITORY, SUITES, JudgeError, Rules, to_watch
from staff.grading.judges import Closed, Judges

HELPERS = [  # modules that the tests import
    path.relative_to(REPOSITORY).as_posix()
    for pattern in ("tests/*.py", "tests/adapters/*.py", "staff/oracles/*.py")
    for path in sorted(REPOSITORY.glob(pattern))
]
JUDGED_WITH = (
    *sorted({*SUITES, *HELPERS}), "conftest.py", "course/rubric.toml", "staff/grading/evidence/recompute.py",
    "staff/grading/inside/prepare.py", "staff/grading/inside/stored_runs.py",
)  # fmt: skip

EVERYBODYS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO}  # caused by the machine


def digest(files: Iterable[tuple[str, Path]]) -> str:
    """Return a hash of the files' names and contents."""
    total = hashlib.sha256()
    for name, path in sorted(files):
        total.update(f"{name}\0{path.stat().st_size}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def judged_with() -> str:
    """Return a hash of all files that determine points. If it changes, earlier results are invalid."""
    return digest((file, REPOSITORY / file) for file in JUDGED_WITH)


@dataclass
class Class:
    """A class to be graded.

    Args:
        out: the output folder.
        rules: how each submission is judged.
        seed: the seed of the random inputs for all submissions; None: see `seed_of`.
        has_data: whether MNIST is available, so that evidence waiting for it can be judged.
    """

    out: Path
    rubric: Rubric
    rules: Rules = Rules()
    seed: int | None = None
    has_data: bool = True
    with_these: str = field(default_factory=judged_with)

    def result_file(self, student: str) -> Path:
        return self.out / "results" / f"{student}.json"

    def is_done(self, student: str, content: str) -> bool:
        """Return whether a submission with exactly this content was already judged with these tests."""
        result, problems = results.read(self.result_file(student))
        if problems or results.unlike(result, self.rubric):
            return False
        if result["status"] not in results.JUDGED:
            return False
        if results.is_undecided(result):
            return False
        if self.has_data and any(row["waits_for"] == "data" for row in result["evidence"]):
            return False
        wanted = {"sha256": content, "judged_with": self.with_these}
        return all(result.get(name) == value for name, value in wanted.items())

    def forget(self, submissions: list[archives.Submission]) -> None:
        """Delete the results of these submissions, so that they are judged again."""
        for submission in submissions:
            for student in submission.everybody:
                self.result_file(student).unlink(missing_ok=True)

    def grade(
        self, submission: archives.Submission, judges: Judges, on_progress: Callable[[dict], None] = lambda _: None
    ) -> dict | None:
        """Judge one submission and write its result, unless the result already exists.

        An error that concerns only this submission is recorded in its result; one that would affect all is raised.

        Returns:
            The result; None if it already existed.

        Raises:
            OSError: the result cannot be written, or the machine has a problem such as a full disk. Closed: the judges
                are closed.
        """
        began = time.monotonic()
        try:
            result = self._graded(submission, judges, on_progress)
        except archives.SubmissionError as error:
            result = self.failed(submission, str(error), "unreadable")
        except Exception as error:
            if isinstance(error, Closed) or (isinstance(error, OSError) and error.errno in EVERYBODYS):
                raise
            result = self.failed(submission, f"the grader failed: {type(error).__name__}: {error}")
        if result is None:
            return None
        result |= {"seconds": round(time.monotonic() - began, 2), "graded": results.now()}
        for student in reversed(submission.everybody):
            written = self._write(student, submission, result)
        return written

    def _write(self, student: str, submission: archives.Submission, result: dict) -> dict:
        """Write the result for one student of a submission."""
        name, group = submission.names.get(student, ("", ""))
        whose = {"student": student, "name": name, "group": group, "source": submission.source.name}
        whose |= {"older": list(submission.older), "where": submission.where}
        return results.write(self.result_file(student), result | whose, self.rubric)

    def _is_done(self, submission: archives.Submission, content: str) -> bool:
        """Return whether a submission was already judged for the whole group; if so, update the names and groups."""
        if not all(self.is_done(student, content) for student in submission.everybody):
            return False
        for student in submission.everybody:
            self._write(student, submission, results.read(self.result_file(student))[0])
        return True

    def _graded(
        self, submission: archives.Submission, judges: Judges, on_progress: Callable[[dict], None]
    ) -> dict | None:
        if submission.problem:
            raise archives.SubmissionError(submission.problem)
        with tempfile.TemporaryDirectory(prefix="staged-") as folder:
            if self.rules.level == "user":
                os.chmod(folder, 0o711)  # the submission's user may enter it but not list it, and cannot guess names
            root = Path(folder).resolve() / token_hex(16)
            staged = archives.stage(submission, root)
            if not staged.parts:
                raise archives.SubmissionError(" ".join(staged.problems))
            files = [(path.relative_to(root).as_posix(), path) for path in root.rglob("*") if path.is_file()]
            content = digest(files)
            if self._is_done(submission, content):
                return None
            result = results.blank(submission.student, submission.source.name, self.rubric)
            result |= {"sha256": content, "judged_with": self.with_these, "seed": self.seed_of(content)}
            result |= {"left_out": staged.left_out, "problems": staged.problems, "missing": staged.missing}
            if staged.missing:
                result |= {"status": "partly", "problem": f"Missing: {', '.join(staged.missing)}."}
            self._judge(result, root, judges, on_progress)
            return result

    def failed(self, submission: archives.Submission, problem: str, status: str = "failed") -> dict:
        """Return the result of a submission that could not be judged."""
        return results.failed(submission.student, submission.source.name, self.rubric, problem, status)

    def seed_of(self, content: str) -> int:
        """Return the seed of the random inputs for a submission; it depends only on the submission and the tests.

        The seed cannot be computed without the hidden tests. A submission cannot contain its own seed, because the
        seed depends on the content.
        """
        if self.seed is not None:
            return self.seed
        text = f"{self.with_these}/{content}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1

    def _judge(self, result: dict, root: Path, judges: Judges, on_progress: Callable[[dict], None]) -> None:
        def on_test(test: dict) -> None:
            result["tests"].append(test)
            self._add_up(result)
            on_progress(result)

        result["forbidden"] = self._forbidden(root)
        for attempt in (1, 2):
            result["tests"] = []
            try:
                with judges.borrowed() as judge:
                    result["sandbox"] = self.rules.level or judge.level
                    found = judge.judge(root, result["seed"], self.rules, on_test)
                result |= {"tests": found["tests"], "evidence": found["evidence"]}
                result["forbidden"] += self._seen(result["forbidden"], found["seen"])
                break
            except JudgeError as error:
                if judges.closed:
                    raise Closed("the judges are closed") from error
                if attempt == 2:
                    result |= {"status": "failed", "problem": f"the grader failed: {error}", "tests": []}
        self._add_up(result)

    def _seen(self, known: list[dict], seen: list[list]) -> list[dict]:
        """Return the forbidden uses that were detected at run time but not found in the syntax tree."""
        lines = {(each["file"], each["name"]) for each in known}
        return [
            {"file": file, "line": line, "name": name, "question": rule.question}
            for file, line, name in seen
            for rule in self.rubric.forbidden
            if name == rule.name and _is_in(file, rule.where) and (file, name) not in lines
        ]

    def _forbidden(self, root: Path) -> list[dict]:
        names: dict[str, list[str]] = {}
        for rule in self.rubric.forbidden:
            names.setdefault(rule.name, []).extend(rule.where)
        found = rules.forbidden(root, names, to_watch(self.rubric)["allowed"])
        return [{"file": each.file, "line": each.line, "name": each.name, "question": each.question} for each in found]

    def _add_up(self, result: dict) -> None:
        for name, question in result["questions"].items():
            question["automatic"] = question["automatic_open"] = 0.0
            rows = [row for row in result["evidence"] if row["question"] == name]
            judged = [row for row in rows if row["points"] is not None]
            question["evidence"] = sum(row["points"] for row in judged) if judged else None
            question["evidence_open"] = question["evidence_of"] - sum(row["of"] for row in judged)
        for test in result["tests"]:
            if test["outcome"] == "passed":
                result["questions"][test["question"]]["automatic"] += test["points"]
            if test["outcome"] == "undecided":
                result["questions"][test["question"]]["automatic_open"] += test["points"]
        for rule in self.rubric.forbidden:
            places = [each["file"] for each in result["forbidden"] if each["name"] == rule.name]
            if rule.deduct and any(_is_in(file, rule.where) for file in places):
                row = result["questions"][rule.question]
                row["automatic"] = max(0.0, row["automatic"] - rule.deduct)


def _is_in(file: str, places: list[str]) -> bool:
    """Return whether a file is one of these files, or in one of these folders."""
    return any(file == place or file.startswith(f"{place}/") for place in places)


def grade_all(
    course: Class, submissions: list[archives.Submission], judges: Judges, workers: int, show: bool
) -> dict[str, int]:
    """Grade submissions in parallel. Finished results survive an interrupt (KeyboardInterrupt).

    Args:
        show: whether to show a progress bar with the rate and the time left.

    Returns:
        The number of submissions with each outcome: "graded", "partly", "already judged", "unreadable" or "failed".
    """
    work = _Work(course, submissions, judges, show)
    threads = [threading.Thread(target=work.run, daemon=True) for _ in range(min(workers, len(submissions)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
    finally:
        work.stop.set()
        work.bar.close()
    if not work.trouble:
        work.run_again()
    if work.trouble:
        raise work.trouble[0]
    return work.counts


class _Work:
    """The queue of submissions to grade, shared by several threads that each call `run`."""

    def __init__(self, course: Class, submissions: list[archives.Submission], judges: Judges, show: bool):
        self.course, self.judges = course, judges
        self.left, self.lock = list(reversed(submissions)), threading.Lock()
        self.counts = dict.fromkeys(("graded", "partly", "already judged", "unreadable", "failed"), 0)
        self.again: list[archives.Submission] = []
        self.trouble: list[BaseException] = []
        self.stop = threading.Event()
        tqdm.set_lock(threading.RLock())  # tqdm's default lock is shared by processes, and can outlive a killed grader
        self.bar = tqdm(total=len(submissions), unit="submission", disable=not show)

    def run(self) -> None:
        """Grade submissions one by one until none is left or another thread has failed."""
        while not self.stop.is_set():
            with self.lock:
                if not self.left:
                    return
                submission = self.left.pop()
            try:
                result = self.course.grade(submission, self.judges)
            except BaseException as error:
                self.trouble.append(error)
                self.stop.set()
                return
            with self.lock:
                if result and results.is_undecided(result):
                    self.again.append(submission)
                self.counts["already judged" if result is None else result["status"]] += 1
                self.bar.set_postfix_str(submission.student[:30])
                self.bar.update()

    def run_again(self) -> None:
        """Grade the submissions with undecided results again, one at a time, so that the machine is less busy."""
        for submission in self.again:
            self.course.grade(submission, self.judges)


def grade_one(source: Path, student: str, on_progress: Callable[[dict], None] = lambda _: None) -> dict:
    """Judge a single submission, for Gradescope.

    Args:
        on_progress: called after each test with the result so far.

    Raises:
        JudgeError: no sandbox works on this machine, or the judge does not start.
    """
    with tempfile.TemporaryDirectory() as out:
        course = Class(Path(out), rubrics.read())
        judges = Judges()
        try:
            if judges.current().level == "none":
                raise JudgeError("; ".join(["no sandbox works on this machine", *judges.current().weaker]))
            submission = archives.Submission(student, source)
            result = course.grade(submission, judges, on_progress)
            if result and results.is_undecided(result):  # no progress reports, so that the points shown do not drop
                result = course.grade(submission, judges)
            return result
        finally:
            judges.close()


def shard(submissions: list[archives.Submission], number: int, of: int) -> list[archives.Submission]:
    """Return the submissions in shard `number` (1 to `of`). A student's shard does not depend on other submissions."""
    return [each for each in submissions if _shard_of(each.student, of) == number]


def _shard_of(student: str, of: int) -> int:
    return int.from_bytes(hashlib.sha256(student.encode()).digest()[:8], "big") % of + 1
