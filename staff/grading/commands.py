"""The grader's command line: `python -m staff grade` and `merge`."""

import argparse
import shutil
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from course import rubric as rubrics
from course.flag_types import number, whole_number
from staff.grading import archives
from staff.grading.inside.sandbox import LEVELS, Limits
from staff.grading.workplace import workplace


class GradingError(Exception):
    """Grading is not possible; the message says why and what to do."""


PROBLEMS = (GradingError,)


def add(commands) -> None:
    """Add `grade` and `merge` to the commands."""
    command = commands.add_parser("grade", help="judge submissions, write marks and feedback")
    command.add_argument("submissions", nargs="+", type=Path, metavar="SUBMISSIONS", help="folders, zip or tar files")
    _add_output(command)
    command.add_argument(
        "-j", "--jobs", type=whole_number(1, 256), default=2, help="submissions to judge at a time (default: 2)"
    )
    command.add_argument(
        "--shard", type=_shard, metavar="K/N", help="grade only shard K of N; combine the results with `merge`"
    )
    command.add_argument(
        "--seed",
        type=whole_number(0, 2**31 - 1),
        help="seed of the random inputs for all submissions (default: depends on the submission and the tests)",
    )
    command.add_argument(
        "--same-students", action="store_true",
        help="assume that submissions with the same name from another folder are by the same students",
    )  # fmt: skip
    command.add_argument("--again", action="store_true", help="judge submissions again even if they have a result")
    command.add_argument(
        "--seconds",
        type=number(1, below=100_000),
        default=60.0,
        help="total CPU seconds for all tests of a question (default: 60)",
    )
    command.add_argument(
        "--memory", type=number(0.25, below=1000), default=2.0, help="memory limit per submission in GB (default: 2)"
    )
    command.add_argument(
        "--sandbox", choices=LEVELS[:-1], help="the sandbox level (default: the strongest that works on this machine)"
    )
    command.add_argument("--unsafe", action="store_true", help="if no sandbox works, run submissions without one")
    command.set_defaults(run=grade)
    command = commands.add_parser("merge", help="merge the results of several shards, write marks and feedback")
    command.add_argument("shards", nargs="+", type=Path, metavar="GRADES", help="the folders that `grade` wrote")
    _add_output(command)
    command.set_defaults(run=merge)


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-o", "--output", type=Path, default=Path("grades"), help="the output folder (default: grades)"
    )
    command.add_argument(
        "--roster", type=Path, metavar="CSV",
        help="table of students: id, name, group, and their names in other systems; saved with the results",
    )  # fmt: skip
    command.add_argument(
        "--manual", type=Path, action="append", default=[], metavar="CSV",
        help="a table of manual points, a copy of OUTPUT/manual.csv; may be repeated",
    )  # fmt: skip
    command.add_argument(
        "--replace", action="store_true", help="let --manual override points entered earlier from another file"
    )


def _shard(text: str) -> tuple[int, int]:
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text!r}: should look like 3/10, the third of ten")
    return int(number), int(of)


def grade(args: argparse.Namespace) -> None:
    """Judge the submissions that have not been judged yet, then write all exports."""
    from staff.grading import grade as grading
    from staff.grading.results import STATUSES

    with ExitStack() as opened:
        opened.enter_context(workplace())
        try:
            submissions, skipped = _find(args, opened)
        except ValueError as error:
            raise GradingError(str(error)) from error
        for name in skipped:
            print(f"{name}: is not a submission; left out", file=sys.stderr)
        if args.shard:
            submissions = grading.shard(submissions, *args.shard)
        counts = _judge(args, submissions) if submissions else {}
        said = [f"{count} {STATUSES.get(what, what)}" for what, count in counts.items() if count]
        print(", ".join(said) or "no submissions")
    _export(args)


def _find(args: argparse.Namespace, opened: ExitStack) -> tuple[list[archives.Submission], list[str]]:
    """Return the submissions, one per student or group, and the skipped names; set withdrawn results aside.

    Raises:
        ValueError: a path contains no submission, or the owner of a file is not clear.
    """
    from staff.grading import class_list, people
    from staff.grading.archives import bulk

    paths = opened.enter_context(bulk.unpacked(args.submissions))
    found, skipped = archives.find(paths, [args.output, *args.manual, *filter(None, [args.roster])])
    roster = class_list.load_roster(args.output, args.roster)
    submissions = [people.submission(handed, roster) for handed in people.who(found, roster)]
    if paths != args.submissions:
        submissions = [replace(each, place=str(args.submissions[0].resolve())) for each in submissions]
    class_list.refuse_namesakes(args.output, submissions, args.same_students)
    for student in class_list.withdraw(args.output, args.submissions, submissions):
        print(f"{student}: was withdrawn; its result was moved to {class_list.WITHDRAWN}/", file=sys.stderr)
    return submissions, skipped


def _judge(args: argparse.Namespace, submissions: list[archives.Submission]) -> dict[str, int]:
    from staff.grading import grade as grading
    from staff.grading.judge import Judge, Rules

    limits = Limits(cpu_seconds=int(args.seconds) + 1, memory=int(args.memory * 2**30))
    judges = grading.Judges(partial(Judge, args.sandbox))
    try:
        rules = Rules(_level(args, judges), args.seconds, limits)
        course = grading.Class(args.output, rubrics.read(), rules, args.seed, _has_mnist())
        if args.again:
            course.forget(submissions)
        return grading.grade_all(course, submissions, judges, args.jobs, show=sys.stderr.isatty())
    finally:
        judges.close()


def _has_mnist() -> bool:
    """Return whether MNIST, which is needed to judge runs, is available or can be downloaded."""
    from course import download

    try:
        download.fetch("mnist")
        return True
    except (download.DataError, OSError) as error:
        print(f"{error}\nJudging submitted runs requires MNIST; grade again once it is available", file=sys.stderr)
        return False


def _level(args: argparse.Namespace, judges) -> str:
    """Return the sandbox level that works on this machine; refuse to continue if submissions would not be isolated."""
    from staff.grading.judge import JudgeError

    try:
        judge = judges.current()
    except JudgeError as error:
        raise GradingError(str(error)) from error
    for line in judge.weaker:
        print(f"sandbox {line}", file=sys.stderr)
    if judge.level == "none" and not args.unsafe:
        raise GradingError(
            "no sandbox works on this machine: grade where one does (Linux with user namespaces or Landlock), or use "
            "--unsafe if you trust every submission with access to this account"
        )
    for path in map(Path.resolve, args.submissions if judge.level == "user" else ()):
        if path.stat().st_mode & 0o004 and all(parent.stat().st_mode & 0o001 for parent in path.parents):
            raise GradingError(f"{path}: at sandbox level user, submissions could read it; run chmod -R go-rwx {path}")
    print(f"sandbox: {judge.level}", file=sys.stderr)
    return judge.level


def merge(args: argparse.Namespace) -> None:
    """Copy the results of all shards, and the points that people entered, into one folder."""
    from staff.grading import class_list
    from staff.marking import collect, entries

    if not any(path for shard in args.shards for path in (shard / "results").glob("*.json")):
        raise GradingError(f"{', '.join(map(str, args.shards))}: contains no results")
    chosen, said = class_list.newest([args.output, *args.shards])
    try:
        entered = collect.of_shards(args.output, args.shards, list(chosen), rubrics.read())
    except ValueError as error:
        raise GradingError(str(error)) from error
    target = args.output / "results"
    target.mkdir(parents=True, exist_ok=True)
    for path in chosen.values():
        if path.resolve() != (target / path.name).resolve():
            shutil.copyfile(path, target / path.name)
    entries.write(args.output, entered)
    rosters = [shard / class_list.ROSTER for shard in args.shards if (shard / class_list.ROSTER).exists()]
    args.roster = args.roster or next(iter(rosters), None)
    print("\n".join(said), end="\n" if said else "")
    print(f"{len(chosen)} results from {len(args.shards)} shards")
    _export(args)


def _export(args: argparse.Namespace) -> None:
    from staff.grading import class_list, exports
    from staff.grading.results import STATUSES, is_undecided, read_all
    from staff.marking import collect, entries

    rubric = rubrics.read()
    results, problems = read_all(args.output, rubric)
    try:
        results = class_list.with_everybody(results, class_list.load_roster(args.output, args.roster), rubric)
        students = [result["student"] for result in results]
        entered = collect.collect(args.output, args.manual, students, rubric, args.replace)
        results = entries.apply(results, entered, rubric)
    except ValueError as error:
        raise GradingError(str(error)) from error
    form = collect.keep(args.output, entered, students, rubric)
    exports.write(args.output, results, rubric)
    for result in results:
        if result["status"] != "graded":
            print(f"{result['student']}: {STATUSES[result['status']]}: {result['problem'] or ''}", file=sys.stderr)
    print(f"{args.output}: grades.csv, grades.json, report.html, feedback/")
    for student in collect.without_result(entered, students):
        print(f"{student}: has points entered by a person but no result; the points are kept", file=sys.stderr)
    busy = [each["student"] for each in results if is_undecided(each)]
    if busy:
        print(f"not fully judged because the machine was busy; grade again: {', '.join(busy)}", file=sys.stderr)
    waiting = [each["student"] for each in results if any(row["waits_for"] == "data" for row in each["evidence"])]
    if waiting:
        print(f"runs not judged because MNIST is missing: {', '.join(waiting)}", file=sys.stderr)
    if problems:
        raise GradingError("\n".join(problems))
    print(f"to enter points by hand, fill in {form}; the next grade or merge reads it")
