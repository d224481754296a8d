"""Say what to fix first if a graded test fails because of a blank that another test checks separately.

The marker of a test names the functions whose blanks it needs: `needs=["KLD", "KLD_per_dim"]`. If another failing test
needs only some of these functions, that test should be fixed first.
"""

from pathlib import Path

from course import blanks
from course.rubric import Rubric, read


def first_lines(tests: list[dict], root: Path | None, rubric: Rubric | None = None) -> dict[str, str]:
    """Return, for each failed test that needs another one fixed first, the line to put before its message.

    Args:
        tests: the tests of a run, with name, question, outcome, message, hidden, needs.
        root: the repository, in which to find the blanks; None: do not read the files of a submission.
    """
    failed = [test for test in tests if test["outcome"] == "failed" and test["needs"]]
    lines = {}
    for test in failed:
        stopped = (test["message"] or "").startswith("Q") and "is not filled in yet: " in test["message"]
        earlier = [other for other in failed if not other["hidden"] and _comes_before(other, test)]
        if earlier and not stopped:  # otherwise, the message already names the open blank
            first = min(earlier, key=lambda other: (len(other["needs"]), _order(other)))
            lines[test["name"]] = _line(first, _suspects(first, tests), root, rubric)
    return lines


def _order(test: dict) -> list[int]:
    return [int(number) for number in test["question"].split(".")]


def _comes_before(one: dict, other: dict) -> bool:
    fewer, earlier = set(one["needs"]) <= set(other["needs"]), _order(one) <= _order(other)
    same = set(one["needs"]) == set(other["needs"]) and one["question"] == other["question"]
    return fewer and earlier and not same


def _suspects(test: dict, tests: list[dict]) -> list[str]:
    """Return the functions that a test needs, except those that a passing test also needs."""
    right = {name for each in tests if each["outcome"] == "passed" for name in each["needs"]}
    return [name for name in test["needs"] if name not in right] or test["needs"]


def _line(test: dict, names: list[str], root: Path | None, rubric: Rubric | None) -> str:
    found = _blanks(test, names, root, rubric) if root else []
    left = [(name, blank) for name, blank in found if blank.open]
    places = [f"{name} ({blank.file}:{blank.line})" for name, blank in left or found]
    which = " or ".join(dict.fromkeys(places or names))
    return (
        f"first {'fill in' if left else 'fix'} {which}, Q{test['question']}: this test needs it, and {test['name']} "
        f"fails too; run: python -m pytest -k {test['name']}"
    )


def _blanks(test: dict, names: list[str], root: Path, rubric: Rubric | None) -> list[tuple[str, blanks.Blank]]:
    """Return the blanks in these functions that belong to the test's question or an earlier one."""
    rubric = rubric or read()
    try:
        known = blanks.in_order(rubric, rubric.parts[rubric.questions[test["question"]].part], root)
    except (KeyError, OSError, SyntaxError, ValueError):  # e.g. invalid Python, which another test reports
        return []
    return [
        (name, blank)
        for name in names
        for blank in known
        if f"{blank.where}.".startswith(f"{name}.") and _order({"question": blank.question}) <= _order(test)
    ]
