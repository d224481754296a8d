"""Made-up grader results, for the tests of the exports."""

import csv
import io
import itertools
import math

from course import rubric as rubrics
from staff.grading import exports, results
from staff.marking import entries

RUBRIC = rubrics.read()


FENCE = "`" * 7


HOSTILE = [
    '=HYPERLINK("http://evil.example","click")',
    "+1+1",
    "-2+3|cmd",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "  =1+1",
    "\u00a0=1+1",
    "\uff1d1+1",
    "\u200b=1+1",
    'harmless;=1+1;"=1+1"',
    "<script>alert(1)</script>",
    "</pre></code></td></table><img src=x onerror=alert(1)>",
    "\"' onmouseover=alert(1) x='",
    "<!-- comment -->&lt;b&gt;",
    f"{FENCE}\n<script>alert(1)</script>\n{FENCE}\n# a heading",
    "`` <b>x</b> `` **bold** [a](javascript:alert(1)) ![p](http://evil.example/x.png) | cell | \\| cell \\\\| x",
    "\n\n# a heading\n- [x] an item\n1. one\n> quote\n\n---\n<b>x</b>\n~~~\n<i>y</i>",
    "[31mred\x1b[31mred\x1b]0;title\x07\x9b2J\x00\x08\x7f",
    "abc\u202edcba\u2066x\u2069\ufeff\u200f\U000e0041",
    "lone \ud800 surrogate",
    "line\u2028separator\u2029x",
    "x" * 1_000_000,
    "`" * 5000,
    "one ` <b>x</b> ` and <i>one</i> ` more",
    "../../etc/passwd",
    "%s {0} {{}} $HOME ${x} @everyone #1 www.evil.example https://evil.example",
]


def question(automatic=0.0, evidence=None, judged=None, name="1.7") -> dict:
    of = RUBRIC.questions[name]
    return {
        "points": of.points,
        "automatic": automatic,
        "automatic_of": of.automatic,
        "automatic_open": 0 if automatic is not None else of.automatic,
        "evidence": evidence,
        "evidence_of": of.evidence,
        "evidence_open": 0 if evidence is not None else of.evidence,
        "manual": judged,
        "manual_of": of.manual,
        "manual_open": 0 if judged is not None else of.manual,
    }


def case(name="test_kld", outcome="passed", message="", hidden=False, of="1.7", points=0.5) -> dict:
    return {
        "name": name,
        "question": of,
        "points": points,
        "hidden": hidden,
        "outcome": outcome,
        "message": message,
        "error": None,
        "seconds": 0.2,
    }


def run(**changed) -> dict:
    what = {"question": "1.7", "what": "test bits per dimension", "run": "logs/vae/version_0"}
    return {
        **what,
        "claimed": 0.519,
        "recomputed": 0.52,
        "points": 2,
        "of": 2,
        "warning": None,
        "waits_for": None,
        **changed,
    }


def make_result(student="ada", **changed) -> dict:
    questions = {name: question(name=name) for name in RUBRIC.questions}
    questions["1.7"] = question(7.5, 1.5)
    return {
        "student": student,
        "source": f"{student}.zip",
        "status": "graded",
        "problem": None,
        "sandbox": "namespaces",
        "seed": 123456789,
        "seconds": 12.3,
        "graded": "2026-11-21T20:00:00Z",
        "left_out": [],
        "problems": [],
        "missing": [],
        "older": [],
        "name": "",
        "group": "",
        "where": "",
        "forbidden": [],
        "questions": questions,
        "tests": [case()],
        "evidence": [run()],
        **changed,
    }


def hostile_result(student: str, words: list[str]) -> dict:
    """Return a result in which every string from the submission is replaced by the next of `words`."""
    word = itertools.cycle(words)
    failed = [case(next(word), "failed", next(word)) for _ in range(6)]
    return make_result(
        student,
        source=next(word),
        status="failed",
        problem=next(word),
        sandbox=next(word),
        left_out=[next(word) for _ in words],
        problems=[next(word) for _ in words],
        older=[next(word) for _ in words],
        forbidden=[{"file": each, "line": 3, "name": each, "question": None} for each in words],
        tests=failed + [case("test_secret", "failed", next(word), hidden=True)],
        evidence=[
            run(what=next(word), run=each, warning=each, claimed=math.nan, recomputed=-math.inf) for each in words
        ],
    )


def rows_of(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def changed(path: str, value) -> dict:
    """Return a result with one value changed; `path` is like "questions/1.7/automatic"."""
    result = make_result(forbidden=[{"file": "a.py", "line": 1, "name": "x", "question": None}])
    *way, last = [int(step) if step.isdecimal() else step for step in path.split("/")]
    place = result
    for step in way:
        place = place[step]
    place[last] = value
    return result


def entered(points: dict[str, dict[str, float]]) -> entries.Entries:
    """Return manual points as entries; `points` maps student -> question -> points."""
    typed = {
        (student, question, "manual"): entries.Entry(float(value), "jo", "a.csv", "2026-11-28T12:00:00Z")
        for student, row in points.items()
        for question, value in row.items()
    }
    return entries.Entries(typed)


def write(folder, manual=None) -> list:
    """Write all exports of the results to a folder; return the written files."""
    found, _ = results.read_all(folder, RUBRIC)
    return exports.write(folder, entries.apply(found, entered(manual or {}), RUBRIC), RUBRIC)
