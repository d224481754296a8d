"""Tests of the handout as a website and a PDF: the sources for Sphinx, the printable page, and the built files."""

import html
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from small_runs import REPOSITORY
from staff import __main__ as command_line
from staff.release import build as release
from staff.release import commands as release_commands
from staff.release import editions, handout
from staff.site import build, conf, printing, sources

CHAPTER = "handout/01_variational_autoencoders.md"


@pytest.mark.parametrize(
    "text, converted",
    [
        ('<a id="eq-13"></a>\n', "(eq-13)=\n"),
        ("[1.1](01_variational_autoencoders.md#q1-1)", "[1.1](#q1-1)"),
        ("[A](A_information_theory.md)", "[A](A_information_theory.md)"),
        ("[A.3](A_information_theory.md#a3-codes)", "[A.3](A_information_theory.md#a3-codes)"),
        ("[list](README.md#bibliography)", "[list](index.md#bibliography)"),
        ("[here](#below)", "[here](#below)"),
        ("[`utils.py`](../part1_vae/utils.py)", "`part1_vae/utils.py`"),
        ("[`part1_vae/`](../part1_vae/README.md)", "`part1_vae/`"),
        ("[kl.py](../theory/kl.py)", "`theory/kl.py`"),
        ("[1](../part1_vae/README.md)", "1"),
        ("[paper](https://arxiv.org/abs/1312.6114)", "[paper](https://arxiv.org/abs/1312.6114)"),
        ("![A plate [n]](figures/figure_1.svg)", "![A plate [n]](figures/figure_1.svg)"),
        ("![KL](../theory/figures/kl.png)", "![KL](figures/theory_figures_kl.png)"),
        ("$$\n[a](b.md)\n$$\n", "$$\n[a](b.md)\n$$\n"),
        ("the image $x$, and ($y$) `$z$`, $a$ $b$", "the image $x$\u2060, and ($y$\u2060) `$z$`, $a$ $b$"),
        ("```\n[a](b.md)\n```\n", "```\n[a](b.md)\n```\n"),
        ("a\n<!-- BEGIN STAFF -->\nsecret\n<!-- END STAFF -->\nb\n", "a\nb\n"),
        ("34 points. [Contents](README.md) · previous:\n[x](B.md)\n\nText", "34 points. \n\nText"),
    ],
)
def test_githubs_markdown_becomes_mysts(text, converted):
    assert sources.convert(text, CHAPTER)[0] == converted


@pytest.mark.parametrize("edition, other", [("2023", "B_neural"), ("2022", "03_attention")])
def test_each_chapter_and_picture_is_written(tmp_path, edition, other):
    read = sources.write(REPOSITORY, tmp_path, edition)
    chapters = {path.name for path in (REPOSITORY / "handout").glob("*.md") if not path.name.startswith(other)}
    chapters -= {"README.md"}
    assert {path.name for path in tmp_path.glob("*.md")} == chapters | {"index.md"}
    assert {f"handout/{name}" for name in chapters} <= read.keys()
    listed = re.search(r"```\{toctree\}.*?```", (tmp_path / "index.md").read_text(), re.DOTALL)[0]
    assert re.findall(r"^\w+$", listed, re.MULTILINE) == sorted(name.removesuffix(".md") for name in chapters)
    for path in tmp_path.glob("*.md"):
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", path.read_text()):
            assert (tmp_path / picture).stat().st_size > 0, picture
        assert '<a id="' not in path.read_text() and "](../" not in path.read_text(), path.name


PAGE = (
    '<html><head><title>t</title></head><body><div class="related">no</div><div class="body" role="main">{}</div>'
    '<div class="clearer"></div></div></body></html>'
)


def test_pages_become_one_page():
    one = '<section id="a"><h1>A<a class="headerlink" href="#a">¶</a></h1><a href="2_b.html#x">x</a></section>'
    two = '<section id="a"><a href="#x">x</a><a href="1_a.html">1</a><p id="x"><a href="http://e.org/#y">y</a></p></section>'
    page = printing.assemble({"1_a": PAGE.format(one), "2_b": PAGE.format(two)})
    assert "no" not in page and "headerlink" not in page and page.count("<title>") == 1
    assert '<section class="chapter" id="1_a"><section id="1_a.a"><h1>A</h1><a href="#2_b.x">' in page
    assert '<section id="2_b.a"><a href="#2_b.x">x</a><a href="#1_a">1</a><p id="2_b.x">' in page
    assert 'href="http://e.org/#y"' in page


def test_folded_answers_stand_at_the_end_of_the_chapter_on_paper():
    folded = "<h2>Exercise 7</h2><p>Q</p><details>\n<summary>Answer</summary>\n<p>42</p>\n</details><p>on</p>"
    page = printing.assemble({"c": PAGE.format(f'<section id="a"><h1>C</h1>{folded}</section>')})
    assert "details" not in page
    assert (
        '<p class="answer" id="c.try-1">Answer: <a href="#c.answer-1">answer 1, at the end of the chapter</a></p>'
        in page
    )
    end = '<h2>Answers</h2><h3 id="c.answer-1">1. <a href="#c.try-1">Exercise 7</a></h3>\n<p>42</p>\n</section>'
    assert page.index("<p>Q</p>") < page.index("<p>on</p>") < page.index(end)
    other = printing.assemble({"c": PAGE.format(f"<section>{folded.replace('Exercise 7', 'Question 1.4')}</section>")})
    assert "Question 1.4" not in other.partition("<h2>Answers</h2>")[2] and "Food for thought</a></h3>" in other
    figure = folded.replace("Answer<", "The figure from kl.py (predict first)<")
    assert ">The figure from kl.py</a></h3>" in printing.assemble({"c": PAGE.format(f"<section>{figure}</section>")})


def test_a_pdf_gets_the_date_of_its_sources():
    pdf = b"/CreationDate (D:20261128111154+00'00')\n/ModDate (D:20261128111154+00'00')"
    assert printing.dated(pdf, 0) == b"/CreationDate (D:19700101000000+00'00')\n/ModDate (D:19700101000000+00'00')"


def test_a_pdf_that_does_not_match_the_chapters_is_refused(tmp_path):
    (tmp_path / "handout").mkdir()
    chapter = tmp_path / "handout" / "a.md"
    chapter.write_text("one")
    assert build.built_pdf(tmp_path, "2023", tmp_path) is None
    (tmp_path / build.PDF).write_bytes(b"%PDF")
    record = {"edition": "2023", "files": build.digests({"handout/a.md": b"one"})}
    (tmp_path / build.RECORD).write_text(json.dumps(record))
    assert build.built_pdf(tmp_path, "2023", tmp_path) == b"%PDF"
    with pytest.raises(build.SiteError, match="is for the 2023 edition: run `make handout EDITION=2022`"):
        build.built_pdf(tmp_path, "2022", tmp_path)
    chapter.write_text("two")
    with pytest.raises(build.SiteError, match="does not match the chapters: run `make handout` again, or remove it"):
        build.built_pdf(tmp_path, "2023", tmp_path)
    (tmp_path / build.RECORD).unlink()
    with pytest.raises(build.SiteError, match="does not match"):
        build.built_pdf(tmp_path, "2023", tmp_path)


def test_a_release_has_the_pdf_if_it_was_built(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "folder", lambda edition: tmp_path)
    assert release_commands._pdf("2023") == {}
    read = sources.write(REPOSITORY, tmp_path, "2023")
    (tmp_path / build.PDF).write_bytes(b"%PDF")
    (tmp_path / build.RECORD).write_text(json.dumps({"edition": "2023", "files": build.digests(read)}))
    extra = release_commands._pdf("2023")
    assert extra == {"handout/handout.pdf": b"%PDF"}
    files = release.contents(release.read_course(), "2026", extra=extra)
    assert files["handout/handout.pdf"] == b"%PDF"
    assert "handout/handout.pdf" in json.loads(files[release.MANIFEST])["files"]
    (tmp_path / build.RECORD).write_text("{}")
    with pytest.raises(release.ReleaseError, match="make handout"):
        release_commands._pdf("2023")


def test_what_is_missing_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(printing, "BROWSERS", ())
    assert command_line.main(["handout", str(tmp_path / "out")]) == 1
    assert "apt install chromium" in capsys.readouterr().err
    monkeypatch.setattr(build, "NEEDED", ("sphinx-of-nobody",))
    assert command_line.main(["handout", str(tmp_path / "out"), "--no_pdf"]) == 1
    said = capsys.readouterr().err
    assert "sphinx-of-nobody" in said and "pip install -e '.[handout]' -c constraints.txt" in said
    monkeypatch.setattr(build, "NEEDED", ())
    (tmp_path / "mine.txt").write_text("mine")
    assert command_line.main(["handout", str(tmp_path), "--no_pdf"]) == 1
    assert "choose another folder" in capsys.readouterr().err
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert command_line.main(["handout", str(tmp_path / "out"), "--no_pdf"]) == 1
    assert "SOURCE_DATE_EPOCH is 'yesterday'" in capsys.readouterr().err
    with pytest.raises(printing.PrintError, match="no_browser: No such file"):
        printing.print_pdf(tmp_path / "a.html", tmp_path / "a.pdf", "no_browser", 0)


# --- the built files --------------------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """A parser that collects the anchors and URLs of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.add(attributes.get("id"))
        if tag == "a":
            self.links.append(attributes.get("href") or "")
        elif address := attributes.get("src") or attributes.get("href"):
            self.loaded.append(address)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Build the site and, if there is a browser, the PDF; return their folder."""
    if missing := build.missing_packages():
        pytest.skip(f"{', '.join(missing)} not installed: {build.INSTALL}")
    out = tmp_path_factory.mktemp("site") / "out"
    build.build(out, printing.find_browser())
    return out


@pytest.fixture(scope="module")
def pages(built) -> dict[str, Page]:
    return {path.name: Page(path.read_text("utf-8")) for path in sorted((built / "site").glob("*.html"))}


@pytest.mark.slow
def test_the_same_sources_give_the_same_bytes(built, tmp_path):
    build.build(tmp_path / "again", printing.find_browser())
    listed = [path.relative_to(built) for path in sorted(built.rglob("*")) if path.is_file()]
    assert len(listed) > 30 and (Path(build.PDF) in listed) == bool(printing.find_browser())
    assert [path for path in listed if (built / path).read_bytes() != (tmp_path / "again" / path).read_bytes()] == []
    again = [path for path in (tmp_path / "again").rglob("*") if path.is_file()]
    assert len(again) == len(listed)


@pytest.mark.slow
def test_the_site_asks_no_other_host(built, pages):
    for name, page in pages.items():
        for address in page.loaded:
            assert not re.match(r"(\w+:)?//", address), f"{name}: {address}"
            assert (built / "site" / address.partition("?")[0].partition("#")[0]).exists(), f"{name}: {address}"
    for style in (built / "site").rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style.read_text("utf-8")), style
    assert conf.mathjax_files().keys() == {"tex-svg-full.js", "a11y/assistive-mml.js"}
    assert all((built / "site" / "_static" / "mathjax" / file).exists() for file in conf.mathjax_files())


@pytest.mark.slow
def test_each_link_of_the_site_leads_somewhere(pages):
    inside = 0
    for name, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link) or (name == "search.html" and not target):
                continue
            assert (target or name) in pages, f"{name}: {link}"
            assert not anchor or anchor in pages[target or name].anchors, f"{name}: {link}"
            inside += bool(anchor)
    assert inside > 200


@pytest.mark.slow
def test_each_equation_question_and_folded_answer_is_on_the_site(built, pages):
    record = json.loads((built / build.RECORD).read_text())
    read = {file: (REPOSITORY / file).read_text("utf-8") for file in record["files"] if file.endswith(".md")}
    texts = {file: editions.passages_of(text, file, record["edition"]) for file, text in read.items()}
    chapters = handout.read(texts)
    site = "".join(path.read_text("utf-8") for path in (built / "site").glob("*.html"))
    for label in chapters.equations:
        assert site.count(f"\\tag{{{label}}}") == 1, label
    anchors = set().union(*(page.anchors for page in pages.values()))
    assert {f"eq-{number}" for number in range(1, 26)} <= anchors
    assert {f"q{question.replace('.', '-')}" for question in chapters.questions} <= anchors
    assert site.count("<details>") == sum(text.count("<details>") for text in texts.values()) > 20
    assert "$$" not in re.sub(r"<script.*?</script>", "", site, flags=re.DOTALL)
    index = (built / "site" / "searchindex.js").read_text("utf-8")
    assert "reparameter" in index and "01_variational_autoencoders" in index


FRAME = """<iframe id="frame" src="{page}" style="width: {width}px; height: 900px; border: 0"></iframe><script>
frame.onload = () => frame.contentWindow.MathJax.startup.promise.then(() => setTimeout(() => {{
  const page = frame.contentDocument, wide = [];
  for (const each of page.querySelectorAll("details")) each.open = true;
  const scrolls = each => each && each !== page.body && (getComputedStyle(each).overflowX === "auto" ||
      scrolls(each.parentElement));
  for (const each of page.querySelectorAll("article *"))
    if (each.getBoundingClientRect().right > {width} + 1 && !scrolls(each.parentElement)) wide.push(each.outerHTML);
  for (const each of page.querySelectorAll("article mjx-container:not([display])"))
    if (each.scrollWidth > each.clientWidth + 2 && each.clientWidth < {width} / 2) wide.push(each.textContent);
  for (const each of page.querySelectorAll("article div.math"))
    if ({width} > 1000 && each.scrollWidth > each.clientWidth + 2) wide.push(each.textContent);
  for (const each of page.querySelectorAll("article p code span.pre"))
    if (each.textContent.startsWith("--") && each.getClientRects().length > 1) wide.push(each.textContent);
  const formulas = page.querySelectorAll("article mjx-container").length;
  document.body.textContent = "MEASURED" + JSON.stringify({{formulas, wide}}) + "END";
}}, 5000))</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_a_phone_or_a_laptop(built, tmp_path, width):
    """On a phone, long formulas and wide tables scroll; on a laptop, no formula needs to. No flag is broken."""
    browser = printing.find_browser()
    if not browser:
        pytest.skip("no Chromium or Chrome is installed")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--disable-web-security"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=60000", "--dump-dom"]
    seen = 0
    for chapter in sorted((built / "site").glob("[0-9A-Z]*_*.html")):
        frame = tmp_path / "frame.html"
        frame.write_text(FRAME.format(page=chapter.as_uri(), width=width))
        shown = subprocess.run([browser, *flags, frame.as_uri()], capture_output=True, text=True, timeout=300).stdout
        measured = json.loads(html.unescape(re.search("MEASURED(.*)END", shown, re.DOTALL)[1]))
        assert measured["wide"] == [], chapter.name
        seen += measured["formulas"]
    assert seen > 1000


@pytest.mark.slow
def test_the_pdf_has_every_chapter(built):
    if not printing.find_browser():
        pytest.skip("no Chromium or Chrome is installed")
    pdf = (built / build.PDF).read_bytes()
    assert pdf.startswith(b"%PDF") and len(pdf) > 1_000_000
    assert 55 < len(re.findall(rb"/Type\s*/Page\b", pdf)) < 100
    if shutil.which("pdftotext") is None:
        return
    shown = build.subprocess.run(["pdftotext", built / build.PDF, "-"], capture_output=True, text=True).stdout
    for title in ("0 Introduction and rules", "C Exercises", "Question 3.3 (3 points)"):
        assert title in shown
    assert "\\mathbf" not in shown and "\\tag" not in shown
