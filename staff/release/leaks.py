"""Lines of the solution that stand in what students get."""

from staff.release.build import Course, Files
from staff.release.markers import solution_lines

LONG = 25  # a solution's line of so many characters must not stand within another line either


def leaks(files: Files, course: Course) -> list[str]:
    """Lines of the solution that stand in these files: "file:line: ..."."""
    solution = {line: file for file, text in course.sources.items() for line in solution_lines(text, file)}
    long = [line for line in solution if len(line) >= LONG]
    found = []
    for file, content in files.items():
        if file.endswith(".png"):
            continue
        if file.endswith((".pyc", ".pyo", ".so")) or b"\0" in content:
            found.append(f"{file}: is compiled, or no text: what is in it cannot be seen")
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
            for wanted in [line.strip()] if line.strip() in solution else [each for each in long if each in line]:
                found.append(f"{file}:{number}: a line of the solution ({solution[wanted]}): {wanted}")
    return found
