"""Tests of the feedback pages and the report on the class."""

import re
from html.parser import HTMLParser

import pytest
from grading_results import HOSTILE, RUBRIC, case, hostile_result, make_result, question, run, write

from staff.grading import feedback, report

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
    """A parser that collects the tags of a page with their attributes, in order, and its text."""

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
        left_out=["part1_vae/lib.so: is never loaded"],
        problems=["there is no folder part2_aae"],
        forbidden=[{"file": "part1_vae/utils.py", "line": 12, "name": "torch.distributions", "question": "1.7"}],
        evidence=[run(claimed=0.5, recomputed=0.6121, points=0, warning="the claimed value is not that of the run")],
    )
    text = feedback.markdown(result, RUBRIC)
    assert "9 of 26 points; the assignment has 66" in text
    assert "| Q1.7 | 9 of 10 | 7.5 of 8 | 1.5 of 2 | 2: judged by a person |" in text
    assert "- `test_kld`" in text and "Failed: `test_bpd`, worth 0.5" in text
    assert "```text\nthe bpd is in nats\nexpected 1\n```" in text
    for words in ("part1_vae/lib.so: is never loaded", "no folder part2_aae", "`part1_vae/utils.py:12` uses"):
        assert words in text
    assert "| 0.5 | 0.6121 | 0 of 2 | `the claimed value is not that of the run` |" in text
    page = "".join(Tags(feedback.html_page(result, RUBRIC)).text)
    for words in ("the bpd is in nats\nexpected 1", "0.6121", "2: judged by a person", "test_kld"):
        assert words in page


def test_feedback_of_one_that_failed():
    text = feedback.markdown(make_result(status="failed", problem="the archive is damaged", tests=[]), RUBRIC)
    assert "could not be judged: the archive is damaged" in text


def test_hidden_tests_are_a_fixed_sentence():
    hidden = [
        case("test_secret_scaling", "failed", "the secret 42.5 is wrong", hidden=True, points=0.625),
        case("test_other_secret", "passed", "", hidden=True, points=0.375),
    ]
    for make in (feedback.markdown, feedback.html_page):
        text = make(make_result(tests=[*hidden, case()]), RUBRIC)
        assert text.count("a hidden test failed") == text.count("a hidden test passed") == 1
        assert not re.search("secret|42.5|0.625|0.375|scaling", text)
        assert "123456789" not in text, "the seed would reveal the inputs of the next grading"
        assert text == make(make_result(tests=[case(), *hidden[::-1]]), RUBRIC), "the order must not reveal anything"


# --- the report on the class ------------------------------------------------------------------------------------------


def test_equal_mistakes_count_together_by_students():
    messages = [
        "the loss is 3.5 times too large\nexpected 1",
        "the loss is 2 times too large\nexpected 7",
        "the loss is -1e-05 times too large",
    ]
    results = [make_result(f"s{i}", tests=[case("t", "failed", text)] * 2) for i, text in enumerate(messages)]
    results.append(make_result("other", tests=[case("u", "failed", "Q1.7 is not filled in yet: part1_vae"), case()]))
    found = report.mistakes(results, RUBRIC)
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
    assert report.of_question("1.1", results) is None, "nobody has graded it"


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
    write(folder)
    text = (folder / "report.html").read_text("utf-8")
    words = re.sub(r"\s+", " ", " ".join(Tags(text).text))
    for wanted in (
        "20 students: 19 graded, 1 failed",
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
    write(folder)
    assert "0 students" in (folder / "report.html").read_text()
    assert len((folder / "grades.csv").read_text().splitlines()) == 1
