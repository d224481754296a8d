"""Find wrong outcomes of graded tests in a template, and summarize them, one line per cause."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from staff.release.suites import GradedTest

BLANK = re.compile(r"Q(\d+\.\d+) is not filled in yet")
SHOWN = 3  # maximum number of test names in a line


@dataclass(frozen=True)
class Wrong:
    """A wrong outcome of a test in a template with some questions filled in.

    blank: the question whose blank stopped the test, if the test's mark does not list it under needs.
    """

    test: GradedTest
    filled: tuple[str, ...]
    what: str
    blank: str | None = None


def find_wrong(test: GradedTest, entry: dict | None, filled: tuple[str, ...]) -> Wrong | None:
    """Describe a wrong outcome of a test; return None if the outcome is right.

    Args:
        entry: the test's entry in --points-json.
        filled: the questions that are filled in.
    """
    own = (test.question, *test.needs)
    what = _what(entry, own, passes={*own} <= {*filled})
    if what is None:
        return None
    stopped = entry and entry["error"] == "NotImplementedError" and BLANK.match(entry["message"])
    return Wrong(test, filled, what, stopped[1] if stopped and stopped[1] not in own else None)


def _what(entry: dict | None, own: tuple[str, ...], passes: bool) -> str | None:
    if entry is None:
        return "does not run"
    if passes:
        return None if entry["outcome"] == "passed" else f"does not pass: {entry['message']}"
    if entry["outcome"] != "failed":
        return f"should fail, but its outcome is {entry['outcome']}"
    if entry["error"] != "NotImplementedError":
        return f"should stop at a blank, but: {entry['message']}"
    if not any(f"Q{question}" in entry["message"] for question in own):
        return f"should name its question, but: {entry['message']}"
    return None


def summarize(found: Iterable[Wrong]) -> list[str]:
    """Return a line per cause: one for all tests that need the same question, and one for each way a test fails."""
    needs: dict[tuple, list[GradedTest]] = {}
    others: dict[tuple, list[Wrong]] = {}
    for wrong in found:
        if wrong.blank:
            tests = needs.setdefault((wrong.test.file, wrong.blank, wrong.test.needs), [])
            tests += [wrong.test] if wrong.test not in tests else []
        else:
            first_line = wrong.what.partition("\n")[0]  # the rest are locations, which differ between combinations
            others.setdefault((wrong.test, first_line), []).append(wrong)
    lines = [_add_needs(tests, question) for (_, question, _), tests in needs.items()]
    for wrong, *more in others.values():
        place, name = f"{wrong.test.file}:{wrong.test.first}", wrong.test.name
        also = f" (also with {len(more)} other combinations)" if more else ""
        lines.append(f"{place}: with {describe(wrong.filled)} filled in, {name} {wrong.what}{also}")
    return lines


def _add_needs(tests: list[GradedTest], question: str) -> str:
    tests = sorted(tests, key=lambda test: test.first)
    names = ", ".join(test.name for test in tests[:SHOWN])
    more = f" and {len(tests) - SHOWN} more" if len(tests) > SHOWN else ""
    needs = ", ".join(f'"{each}"' for each in sorted({*tests[0].needs, question}))
    stops = "stops" if len(tests) == 1 else "stop"
    return (
        f"{tests[0].file}:{tests[0].first}: {names}{more} {stops} at the blank of Q{question}: "
        f"add needs=[{needs}], or add a stand-in to the adapter"
    )


def describe(filled: tuple[str, ...]) -> str:
    """Describe the questions that are filled in."""
    return " and ".join(f"Q{question}" for question in filled) or "no question"
