"""From results to tables, feedback and the report: right sums, and nothing of a submission that does harm."""

import copy
import csv
import io
import itertools
import json
import math
import re
from html.parser import HTMLParser

import pytest

from course import rubric as rubrics
from staff.grading import exports, feedback, report
from staff.marking import manual

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
        "evidence": evidence,
        "evidence_of": of.evidence,
        "manual": judged,
        "manual_of": of.manual,
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
    return {**what, "claimed": 0.519, "recomputed": 0.52, "points": 2, "of": 2, "warning": None, **changed}


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
        "forbidden": [],
        "questions": questions,
        "tests": [case()],
        "evidence": [run()],
        **changed,
    }


def hostile_result(student: str, words: list[str]) -> dict:
    """Every text of a submission is taken from `words`, in turn."""
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
        forbidden=[{"file": each, "line": 3, "name": each, "question": None} for each in words],
        tests=failed + [case("test_secret", "failed", next(word), hidden=True)],
        evidence=[
            run(what=next(word), run=each, warning=each, claimed=math.nan, recomputed=-math.inf) for each in words
        ],
    )


@pytest.fixture
def grades(tmp_path):
    """grades(result, ...) writes them as the grader does; returns the folder."""

    def write(*results: dict):
        (tmp_path / "results").mkdir(exist_ok=True)
        for result in results:
            (tmp_path / "results" / f"{result['student']}.json").write_text(json.dumps(result))
        return tmp_path

    return write


def rows_of(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


# --- reading results --------------------------------------------------------------------------------------------------


def test_results_are_sorted_by_student(grades):
    folder = grades(make_result("zoe"), make_result("ada"), make_result("Bo"))
    assert [result["student"] for result in exports.read_results(folder)] == ["Bo", "ada", "zoe"]
    assert exports.read_results(folder / "nothing") == []


def changed(path: str, value) -> dict:
    """A result with one value changed: "questions/1.7/automatic"."""
    result = make_result(forbidden=[{"file": "a.py", "line": 1, "name": "x", "question": None}])
    *way, last = [int(step) if step.isdecimal() else step for step in path.split("/")]
    place = result
    for step in way:
        place = place[step]
    place[last] = value
    return result


@pytest.mark.parametrize(
    "path, value",
    [
        ("questions/1.7/automatic", math.nan),
        ("questions/1.7/automatic", math.inf),
        ("questions/1.7/automatic", -0.5),
        ("questions/1.7/automatic", 8.5),
        ("questions/1.7/automatic", True),
        ("questions/1.7/automatic", "8"),
        ("questions/1.7/automatic", 10**400),
        ("questions/1.7/evidence", 2.01),
        ("questions/1.7/manual", 3),
        ("questions/1.7/automatic_of", None),
        ("questions/1.7", None),
        ("questions", []),
        ("tests/0/points", math.nan),
        ("tests/0/outcome", "skipped"),
        ("tests/0/hidden", "no"),
        ("tests/0", "x"),
        ("evidence/0/points", 2.5),
        ("evidence/0/claimed", "0.5"),
        ("forbidden/0/name", 3),
        ("status", "passed"),
        ("seconds", math.nan),
        ("left_out", [3]),
        ("student", "../x"),
        ("student", ""),
    ],
)
def test_a_result_with_impossible_content_is_named(tmp_path, path, value):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "ada.json").write_text(json.dumps(changed(path, value)))
    with pytest.raises(exports.ResultsError, match=r"results/ada\.json: "):
        exports.read_results(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"student": "ada"}'])
def test_all_damaged_files_are_named(grades, content):
    folder = grades(make_result("good"))
    for name in ("ada", "bob"):
        (folder / "results" / f"{name}.json").write_bytes(content)
    with pytest.raises(exports.ResultsError) as caught:
        exports.write(folder, RUBRIC)
    assert "ada.json" in str(caught.value) and "bob.json" in str(caught.value) and "good" not in str(caught.value)
    assert not (folder / "grades.csv").exists()


def test_results_of_another_rubric_are_refused(grades):
    result = make_result()
    result["questions"]["1.7"] |= {"automatic_of": 9}
    with pytest.raises(exports.ResultsError, match="ada: was judged by another rubric .Q1.7"):
        exports.write(grades(result), RUBRIC)
    result = make_result()
    del result["questions"]["3.3"]
    with pytest.raises(exports.ResultsError, match=r"Q3\.3"):
        exports.write(grades(result), RUBRIC)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_table_of_grades(grades):
    second = make_result("bob", status="failed", problem="the archive is damaged")
    second["questions"] = {name: question(None, name=name) for name in RUBRIC.questions}
    folder = grades(make_result(), second)
    exports.write(folder, RUBRIC)
    content = (folder / "grades.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbfstudent,status,Q1.1,")
    ada, bob = rows_of(content.decode())
    assert list(ada) == [
        "student",
        "status",
        *(f"Q{q}" for q in RUBRIC.questions),
        *feedback.SHARES,
        "total",
        "problem",
    ]
    assert (ada["Q1.1"], ada["Q1.7"], ada["Q1.9"]) == ("", "9", "0")
    assert (ada["automatic"], ada["evidence"], ada["manual"], ada["total"]) == ("7.5", "1.5", "", "9")
    assert (bob["status"], bob["automatic"], bob["total"]) == ("failed", "", "0")
    assert bob["problem"] == "the archive is damaged"


def test_the_grades_for_programs(grades):
    folder = grades(make_result("bob"), make_result("ada", graded="2026-11-22T08:00:00Z"))
    exports.write(folder, RUBRIC)
    content = json.loads((folder / "grades.json").read_text(), parse_constant=pytest.fail)
    assert (content["edition"], content["number_of_students"], content["points"]) == (RUBRIC.edition, 2, 66)
    assert content["graded"] == "2026-11-22T08:00:00Z"
    ada = content["students"][0]
    assert ada["student"] == "ada" and ada["total"] == 9 and ada["manual"] is None
    assert ada["questions"]["1.7"] == {"points": 9, "automatic": 7.5, "evidence": 1.5, "manual": None}
    assert "1.7" in ada["open"] and "3.2" not in ada["open"]


def test_the_same_results_give_the_same_bytes(grades):
    folder = grades(make_result("bob"), make_result("ada"), hostile_result("eve", HOSTILE))
    files = exports.write(folder, RUBRIC)
    first = {file: file.read_bytes() for file in files}
    assert {file: file.read_bytes() for file in exports.write(folder, RUBRIC)} == first
    names = {file.relative_to(folder).as_posix() for file in files}
    assert {"grades.csv", "grades.json", "report.html", "feedback/ada.md", "feedback/eve.html"} < names
    assert names == {each.relative_to(folder).as_posix() for each in folder.rglob("*.*") if each.suffix} - {
        f"results/{name}.json" for name in ("ada", "bob", "eve")
    }


def is_formula(text: str) -> bool:
    """As a suspicious spreadsheet would see it."""
    text = re.sub(r'^[\s"\ufffd\u200b]+', "", text)
    return text[:1] in tuple("=+-@\uff1d\uff0b\uff0d\uff20\u2212")


@pytest.mark.parametrize("text", [*HOSTILE, "\uff0b1", "\uff0d1", "\uff201", "\ufe661", '"=1', "a,=1", "\n=1"])
def test_no_cell_is_a_formula(text):
    shown = exports.cell(text)
    assert len(shown) < 600 and not re.search(r"[\r\n\t\0\x1b]", shown)
    for separator in (None, ",", ";", "|"):  # as a program sees it that separates cells by another character
        assert not any(is_formula(part) for part in shown.split(separator)) or separator is None
    assert not is_formula(shown)


def test_ordinary_cells_stay_as_they_are():
    for text in ("ada", "Ada Lovelace-King", "a@b.example", "x = 1 - 2", "1.5", "O'Neill", "Zoë"):
        assert exports.cell(text) == text
    assert exports.cell("\tx")[0] == exports.cell("\rx")[0] == exports.cell("=1")[0] == "'"


def test_formulas_do_not_reach_the_table(grades):
    results = [make_result(f"s{i}", status="failed", problem=text) for i, text in enumerate(HOSTILE)]
    results += [make_result("=1+1"), make_result("-x")]
    folder = grades(*results)
    exports.write(folder, RUBRIC)
    rows = rows_of((folder / "grades.csv").read_text("utf-8"))
    assert len(rows) == len(results), "a row a student"
    assert {"'=1+1", "'-x"} < {row["student"] for row in rows}
    assert not any(is_formula(text) for row in rows for text in row.values())
    assert (folder / "feedback" / "=1+1.html").exists()


# --- plain text -------------------------------------------------------------------------------------------------------


def test_text_is_cleaned_and_capped():
    assert feedback.clean("a\x1b[31;1mb\x1b[0m") == "a\ufffdb\ufffd"
    assert feedback.clean("a\x1b]0;title\x07b\x1b") == "a\ufffdb\ufffd"
    assert feedback.clean("a\u202eb\u2066c\x00d\ud800e\x85") == "a\ufffdb\ufffdc\ufffdd\ufffde\ufffd"
    assert feedback.clean("a\r\n\tb\rc é 漢 😀") == "a\n\tb\ufffdc é 漢 😀"
    assert feedback.clean("x" * 5000) == "x" * 2000 + "... (3000 more characters)"
    assert feedback.line("a\nb\t c ") == "a b c"
    for text in HOSTILE:
        shown = feedback.clean(text)
        assert len(shown) < 2050 and not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
        shown.encode("utf-8")


# --- pages ------------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """The tags of a page with their attributes, in order, and its text."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, *attributes))

    def handle_endtag(self, tag):
        self.tags.append((f"/{tag}",))

    def handle_comment(self, data):
        self.tags.append(("!--", data))

    def handle_data(self, data):
        self.text.append(data)


POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@pytest.mark.parametrize("word", HOSTILE)
def test_nothing_of_a_submission_becomes_a_tag_of_its_feedback(word):
    tags = Tags(feedback.html_page(hostile_result(word, [word]), RUBRIC)).tags
    assert tags == Tags(feedback.html_page(hostile_result("eve", ["word"]), RUBRIC)).tags
    assert ("meta", ("http-equiv", "Content-Security-Policy"), ("content", POLICY)) in tags
    assert ("meta", ("charset", "utf-8")) in tags and any("width=device-width" in str(tag) for tag in tags)
    assert not {"script", "a", "img", "iframe", "link"} & {tag[0] for tag in tags}


@pytest.mark.parametrize("word", HOSTILE)
def test_nothing_of_a_submission_becomes_a_tag_of_the_report(word):
    def page(text: str) -> list:
        results = [hostile_result("eve", [text]), hostile_result("bob", [text]) | {"status": "graded"}]
        return Tags(report.html_page(results, RUBRIC)).tags

    assert page(word) == page("word")


def test_a_page_keeps_its_text():
    text = 'KLD is <half> of "it" & more\nexpected 1, 2'
    page = feedback.html_page(make_result(tests=[case("test_kld", "failed", text)]), RUBRIC)
    assert text in Tags(page).text


@pytest.mark.parametrize("word", HOSTILE)
def test_no_markdown_of_a_submission_is_markup(word):
    markdown_it = pytest.importorskip("markdown_it")
    renderer = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

    def tags(text: str) -> list:
        return Tags(renderer.render(feedback.markdown(hostile_result(text, [text]), RUBRIC))).tags

    assert tags(word) == tags("word")
    rendered = {tag[0] for tag in tags(word)}
    assert {"pre", "code", "table", "h1", "h2", "li"} < rendered
    assert not {"a", "img", "b", "script", "em", "strong", "hr", "blockquote"} & rendered


def test_ordinary_text_is_escaped_in_markdown_too():
    blocks = [feedback.Paragraph(text.strip()) for text in HOSTILE if text.isprintable()]
    blocks += [feedback.Paragraph(text) for text in ("# x", "- x", "1. x", "> x", "+ x", "*x* _y_", "<b>", "===")]
    text = feedback.as_markdown(blocks)
    markdown_it = pytest.importorskip("markdown_it")
    tags = Tags(markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(text)).tags
    assert {tag[0] for tag in tags} == {"p", "/p"} and len(tags) == 2 * len(blocks)


@pytest.mark.parametrize("text", ["a", "```", "x\n````\ny", "`" * 3000, "~~~", "```text", "\n```\n"])
def test_a_fence_is_longer_than_those_in_the_message(text):
    lines = feedback.as_markdown([feedback.Message(text)]).splitlines()
    fence = lines[-1]
    assert re.fullmatch("`{3,}", fence) and lines[0] == f"{fence}text"
    assert all(fence not in each for each in lines[1:-1])


def test_feedback_says_what_passed_and_what_is_wrong():
    tests = [case("test_kld"), case("test_bpd", "failed", "the bpd is in nats\nexpected 1"), case("test_q32", of="3.2")]
    result = make_result(
        tests=tests,
        left_out=["part1_vae/__pycache__: compiled"],
        problems=["there is no folder part2_aae"],
        forbidden=[{"file": "part1_vae/utils.py", "line": 12, "name": "torch.distributions", "question": "1.7"}],
        evidence=[run(claimed=0.5, recomputed=0.6121, points=0, warning="the claimed figure is not that of the run")],
    )
    text = feedback.markdown(result, RUBRIC)
    assert "9 of 26 points; the assignment has 66" in text
    assert "| Q1.7 | 9 of 10 | 7.5 of 8 | 1.5 of 2 | 2: judged by a person |" in text
    assert "- `test_kld`" in text and "Failed: `test_bpd`, worth 0.5" in text
    assert "```text\nthe bpd is in nats\nexpected 1\n```" in text
    for words in ("part1_vae/__pycache__: compiled", "no folder part2_aae", "`part1_vae/utils.py:12` uses"):
        assert words in text
    assert "| 0.5 | 0.6121 | 0 of 2 | `the claimed figure is not that of the run` |" in text
    page = "".join(Tags(feedback.html_page(result, RUBRIC)).text)
    for words in ("the bpd is in nats\nexpected 1", "0.6121", "2: judged by a person", "test_kld"):
        assert words in page


def test_feedback_of_one_that_failed():
    text = feedback.markdown(make_result(status="failed", problem="the archive is damaged", tests=[]), RUBRIC)
    assert "could not be judged: `the archive is damaged`" in text


def test_hidden_tests_are_a_fixed_sentence():
    hidden = [
        case("test_secret_scaling", "failed", "the secret 42.5 is wrong", hidden=True, points=0.625),
        case("test_other_secret", "passed", "", hidden=True, points=0.375),
    ]
    for make in (feedback.markdown, feedback.html_page):
        text = make(make_result(tests=[*hidden, case()]), RUBRIC)
        assert text.count("a test that you do not see failed") == text.count("a test that you do not see passed") == 1
        assert not re.search("secret|42.5|0.625|0.375|scaling", text)
        assert "123456789" not in text, "with the seed, the inputs of the next time could be computed"
        assert text == make(make_result(tests=[case(), *hidden[::-1]]), RUBRIC), "nor does their order say anything"


# --- the class at a glance --------------------------------------------------------------------------------------------


def test_equal_mistakes_count_together_by_students():
    messages = [
        "the loss is 3.5 times too large\nexpected 1",
        "the loss is 2 times too large\nexpected 7",
        "the loss is -1e-05 times too large",
    ]
    results = [make_result(f"s{i}", tests=[case("t", "failed", text)] * 2) for i, text in enumerate(messages)]
    results.append(make_result("other", tests=[case("u", "failed", "Q1.7 is not filled in yet: part1_vae"), case()]))
    found = report.mistakes(results)
    assert found[0] == (3, "1.7", "the loss is N times too large", ["t"])
    assert found[1] == (1, "1.7", "Q1.7 is not filled in yet: part1_vae", ["u"])
    assert len(found) == 2
    assert report.sentence("at 0x7f3a2b in log2, nan, 3.0") == "at N in log2, N, N"
    assert report.sentence(None) == report.sentence(" \n ") == "no message"


def test_numbers_of_a_question():
    results = [make_result(f"s{i}") for i in range(4)]
    for result, points in zip(results, (0, 4, 8, 8), strict=True):
        result["questions"]["1.7"] = question(points)
    row = report.of_question("1.7", results)
    assert (row["count"], row["of"], row["mean"], row["full"], row["none"]) == (4, 8, 5, 0.5, 0.25)
    assert report.of_question("1.1", results) is None, "nobody has judged it"


def test_the_histogram():
    counts = report.histogram([0, 0, 12, 24, 23.99], 24)
    assert sum(counts) == 5 and counts[0] == 2 and counts[6] == 1 and counts[-1] == 2
    assert sum(report.histogram([], 24)) == 0 and sum(report.histogram([0, 0], 0)) == 2


def test_the_report(grades):
    results = [make_result(f"s{i:02}", seconds=i, tests=[case("t", "failed", f"off by {i}")]) for i in range(20)]
    results[3] |= {"left_out": ["conftest.py: changes the tests", "a/__pycache__: compiled"]}
    results[4] |= {"forbidden": [{"file": "u.py", "line": 3, "name": "torch.distributions", "question": None}]}
    results[5] |= {"evidence": [run(warning="claimed 0.5, recomputed 0.6")]}
    results[6] |= {"status": "failed", "problem": "the archive is a bomb"}
    folder = grades(*results)
    exports.write(folder, RUBRIC)
    text = (folder / "report.html").read_text("utf-8")
    words = re.sub(r"\s+", " ", " ".join(Tags(text).text))
    for wanted in (
        "20 submissions, 19 judged, 1 failed",
        "mean 7.5, median 7.5, best 7.5",
        "off by N",
        "the archive is a bomb",
        "left out: conftest.py: changes the tests",
        "u.py:3: torch.distributions is forbidden",
        "claimed 0.5, recomputed 0.6",
    ):
        assert wanted in words
    assert "__pycache__" not in words
    assert POLICY in text and "<svg" in text and "http" not in text.replace("http-equiv", "")


def test_a_report_of_nobody(grades):
    folder = grades()
    exports.write(folder, RUBRIC)
    assert "0 submissions" in (folder / "report.html").read_text()
    assert len((folder / "grades.csv").read_text().splitlines()) == 1


# --- points of a person -----------------------------------------------------------------------------------------------

STUDENTS = [make_result("ada"), make_result("=bob"), make_result("zoë")]
HEADER = "student,Q1.1 (2),Q1.7 (2),Q2.1 (3)"


def read_manual(tmp_path, text: str, encoding="utf-8") -> dict:
    path = tmp_path / "manual.csv"
    path.write_bytes(text.encode(encoding))
    return manual.read(path, STUDENTS, RUBRIC)


def test_the_table_to_fill_in_comes_back(tmp_path):
    text = manual.template(STUDENTS, RUBRIC)
    first, *rest = text.splitlines()
    assert first.startswith("student,Q1.1 (2),Q1.2 (3),") and "Q3.2" not in first and len(rest) == 3
    assert read_manual(tmp_path, text, "utf-8-sig") == {"ada": {}, "=bob": {}, "zoë": {}}
    judged = exports.with_manual(STUDENTS, {"=bob": {"1.1": 1.5}, "zoë": {"1.1": 0, "3.1": 3}})
    text = manual.template(judged, RUBRIC)
    assert read_manual(tmp_path, text) == {"ada": {}, "=bob": {"1.1": 1.5}, "zoë": {"1.1": 0, "3.1": 3}}
    assert read_manual(tmp_path, text.replace(",", ";"), "utf-8-sig")["zoë"] == {"1.1": 0, "3.1": 3}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_what_spreadsheets_make_of_it_is_read(tmp_path, separator, end):
    lines = ["Student,1.7,Q1.1(2),", "=bob,0.5, 2 ,", ",,,", "", "'=bob2,,,", "zoë,.5,1.,"]
    text = end.join(lines[:4] + lines[5:]).replace(",", separator)
    assert read_manual(tmp_path, text) == {"=bob": {"1.7": 0.5, "1.1": 2}, "zoë": {"1.7": 0.5, "1.1": 1}}


@pytest.mark.parametrize(
    "text, problem",
    [
        (f"{HEADER}\nada,,,\neve,1,,", r"line 3, column 1: there is no student 'eve'"),
        (f"{HEADER}\nada,,,\n\nada,1,,", r"line 4, column 1: 'ada' stands there twice"),
        (f"{HEADER}\n'=bob,,,\n=bob,1,,", r"line 3, column 1: '=bob' stands there twice"),
        (f'{HEADER}\nada,"\n1\n",,\neve,1,,', r"line 5, column 1: there is no student 'eve'"),
        (f"{HEADER}\n,1,,", r"line 2, column 1: names no student"),
        (f"{HEADER}\nada,3,,", r"line 2, column 2 \(Q1\.1\): 3 is more than the 2"),
        (f"{HEADER}\nada,2.01,,", "more than the 2"),
        (f"{HEADER}\nada,-1,,", r"column 2 \(Q1\.1\): -1 is negative"),
        (f"{HEADER}\nada,,NaN,", r"column 3 \(Q1\.7\): 'NaN' is no number"),
        (f"{HEADER}\nada,,inf,", "no number"),
        (f"{HEADER}\nada,1e0,,", "no number"),
        (f"{HEADER}\nada,1_0,,", "no number"),
        (f"{HEADER}\nada,\u0661,,", "no number"),
        (f"{HEADER}\nada,good,,", "'good' is no number"),
        (f'{HEADER}\nada,"1,5",,', r"line 2, column 2 \(Q1\.1\): 1,5: write 1\.5, with a point"),
        (f"{HEADER}\nada,1,5,,2".replace(",5", "#").replace(",", ";").replace("#", ",5"), "write 1.5"),
        (f"{HEADER}\nada,1,5,1,1", "line 2: 5 cells, the first line has 4; a number with a decimal comma"),
        ("student,Q1.1 (3)\nada,1", r"line 1, column 2: Q1\.1 has 2 manual points, not 3"),
        ("student,Q9.1 (3)\nada,1", r"line 1, column 2: 'Q9\.1 \(3\)'"),
        ("student,Q3.2\nada,1", r"'Q3\.2': no question that a person judges"),
        ("student,Q1.1,1.1\nada,1,1", r"column 3: Q1\.1 has a column already"),
        ("student,Q1.1,\nada,1,2", r"line 2, column 3: '2' stands in no question's column"),
        ("name,Q1.1\nada,1", "line 1: one column has to be named student"),
        ('student,Q1.1\nada,"1', "line 2: is no CSV"),
        ("", "is empty"),
    ],
)
def test_a_table_with_mistakes_is_refused(tmp_path, text, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        read_manual(tmp_path, text)
    assert "manual.csv" in str(caught.value)


def test_all_mistakes_are_named_at_once(tmp_path):
    with pytest.raises(ValueError) as caught:
        read_manual(tmp_path, f"{HEADER}\nada,3,-1,x\neve,1,1,1\nzoë,1,1,9")
    assert [re.search(r"line \d", each)[0] for each in str(caught.value).splitlines()] == (
        ["line 2"] * 3 + ["line 3", "line 4"]
    )


def test_another_encoding_is_refused(tmp_path):
    for encoding in ("latin-1", "utf-16"):
        with pytest.raises(ValueError, match="is not UTF-8; save it as 'CSV UTF-8'"):
            read_manual(tmp_path, f"{HEADER}\nzoë,1,,", encoding)


def test_manual_points_count(grades):
    folder = grades(make_result("ada"), make_result("bob"))
    exports.write(folder, RUBRIC, {"ada": {"1.1": 1.5, "1.7": 2}})
    ada, bob = rows_of((folder / "grades.csv").read_text("utf-8"))
    assert (ada["Q1.1"], ada["Q1.7"], ada["manual"], ada["total"]) == ("1.5", "11", "3.5", "12.5")
    assert (bob["manual"], bob["total"]) == ("", "9")
    assert "| Q1.1 | 1.5 of 2 |" in (folder / "feedback" / "ada.md").read_text()
    content = json.loads((folder / "grades.json").read_text())
    assert "1.1" not in content["students"][0]["open"] and "1.1" in content["students"][1]["open"]


@pytest.mark.parametrize("points", [{"eve": {}}, {"ada": {"1.1": 3}}, {"ada": {"1.1": math.nan}}, {"ada": {"9.9": 1}}])
def test_manual_points_that_do_not_fit_are_refused(grades, points):
    folder = grades(make_result("ada"))
    with pytest.raises(exports.ResultsError, match="manual points: "):
        exports.write(folder, RUBRIC, points)
    assert not (folder / "grades.csv").exists()


def test_results_are_not_changed_by_writing():
    before = copy.deepcopy(STUDENTS)
    exports.with_manual(STUDENTS, {"ada": {"1.1": 1}})
    assert before == STUDENTS
