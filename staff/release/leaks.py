"""Lines of the solution that would reach students."""

from staff.release.build import Course, Files
from staff.release.markers import solution_lines

LONG = 25  # characters; a solution's line of at least so many must not be part of another line either


def find_leaks(files: Files, course: Course) -> list[str]:
    """Lines of the solution that are in these files: "file:line: ..."."""
    solution = {line: file for file, text in course.sources.items() for line in solution_lines(text, file)}
    found = []
    for file, content in files.items():
        if file.endswith(".png"):
            continue
        if file.endswith((".pyc", ".pyo", ".so")) or b"\0" in content:
            found.append(f"{file}: is compiled or not text, so it cannot be searched for the solution")
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
            for leak in _leaks_in(line, solution):
                found.append(f"{file}:{number}: a line of the solution ({solution[leak]}): {leak}")
    return found


def _leaks_in(line: str, solution: dict[str, str]) -> list[str]:
    if line.strip() in solution:
        return [line.strip()]
    return [each for each in solution if len(each) >= LONG and each in line]
