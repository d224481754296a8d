"""Commands for students: reports, comparison and diagnosis of runs, and the zip to hand in."""

import sys
from importlib import import_module

from course import command_line, tasks

COMMANDS = (  # modules with a function `add`, imported only when needed, because `tasks` must run before installation
    "course.tasks",
    "course.next",
    "course.runs.report",
    "course.runs.compare",
    "course.runs.diagnose",
    "course.runs.assigned",
    "course.submission",
    "course.points",
)


def parser(modules: tuple[str, ...] = COMMANDS) -> command_line.Parser:
    """Create the parser with all commands and their flags."""
    return command_line.make_parser("python -m course", __doc__, map(import_module, modules))


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    words = sys.argv[1:] if argv is None else argv
    tasks.need_repository(words)
    if words and words[0] in tasks.TASKS:
        return command_line.run(tasks.parse(parser(("course.tasks",)), words), ())
    from course.next import NextError
    from course.rubric import RubricError
    from course.runs.folder import RunError

    return command_line.run(parser().parse_args(words), (RunError, RubricError, NextError))


if __name__ == "__main__":
    sys.exit(main())
