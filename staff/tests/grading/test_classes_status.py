"""Everybody has a status: graded, partly graded, not readable, nothing handed in."""

import json

from class_cases import PARTS, RUBRIC, parts, rows, unpacked, zipped

from staff.grading import gradescope
from staff.grading.archives import part_folders
from staff.grading.report import mistakes


def test_a_missing_part_is_one_sentence(tmp_path, grade):
    zipped(tmp_path / "class" / "ada.zip", parts())
    zipped(tmp_path / "class" / "bob.zip", parts(folders=PARTS[:2]))
    assert grade("class") == 0
    assert "bob: partly graded: Missing: part3_gpt." in grade.said
    bob = rows(tmp_path)["bob"]
    assert (bob["status"], bob["problem"]) == ("partly graded", "Missing: part3_gpt.")
    page = (tmp_path / "grades" / "feedback" / "bob.md").read_text()
    result = json.loads((tmp_path / "grades" / "results" / "bob.json").read_text())
    names = [test["name"] for test in result["tests"] if test["question"].startswith("3.")]
    assert f"part3\\_gpt is missing, so its {len(names)} tests could not run." in page
    assert len(names) > 5 and not [name for name in names if f"`{name}`" in page]
    assert mistakes([result], RUBRIC) == []
    entries = [test for test in gradescope.results_json(result, RUBRIC)["tests"] if test["name"].startswith("Q3")]
    assert {test["output"] for test in entries if "do not see" not in test["name"]} == {"part3_gpt is missing."}


def test_a_submission_without_a_part_says_why(tmp_path, grade):
    zipped(tmp_path / "class" / "ada.zip", {"utils.py": b"", "gpt.py": b""})
    unpacked(tmp_path / "class" / "bob", {"report.pdf": b""})
    assert grade("class") == 0
    found = rows(tmp_path)
    assert found["ada"]["status"] == found["bob"]["status"] == "not readable"
    assert "The files gpt.py, utils.py do not lie in folders of the parts" in found["ada"]["problem"]
    assert found["bob"]["problem"].startswith(f"There is none of the folders {', '.join(part_folders().values())}")
