"""Tests of the search for forbidden names in the syntax tree of a submission."""

import gc
import shutil
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from course import rubric
from small_runs import REPOSITORY
from staff.grading import judge, rules
from staff.grading.rules import forbidden

DISTRIBUTIONS = "torch.distributions"
MODULE = "torch.nn.MultiheadAttention"
FUSED = "torch.nn.functional.scaled_dot_product_attention"
RULES = {
    DISTRIBUTIONS: ["part1_vae", "part2_aae", "part3_gpt"],
    MODULE: ["part3_gpt/gpt.py"],
    FUSED: ["part3_gpt/gpt.py"],
}


def scan(tmp_path, source: str | bytes, file: str = "part3_gpt/gpt.py", allowed=()) -> list[rules.Finding]:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return forbidden(tmp_path, RULES, allowed)


@pytest.mark.parametrize(
    "source, lines",
    [
        ("import torch.distributions as d\nd.Normal(0, 1)", [1, 2]),
        ("from torch import distributions as D\nD.Normal(0, 1)", [1, 2]),
        ("from torch.distributions import Normal\n\nNormal(0, 1)", [1, 3]),
        ("from torch.distributions.normal import Normal", [1]),
        ("import torch\ntorch.distributions.Normal(0, 1)", [2]),
        ("import torch as t\n(t\n .distributions\n .Normal)", [2]),
        ("import torch.nn\ntorch.distributions", [2]),
        ("import torch\ngetattr(torch, 'distributions')", [2]),
        ("import torch\ngetattr(torch, 'distri' + 'butions').Normal", [2]),
        ("import builtins as b, torch\nb.getattr(torch, 'distributions')", [2]),
        ("import importlib\nimportlib.import_module('torch.distributions')", [2]),
        ("from importlib import import_module as load\nload(name='torch.distributions')", [2]),
        ("import importlib\nimportlib.import_module('.distributions', 'torch')", [2]),
        ("import importlib\nimportlib.import_module('torch').distributions", [2]),
        ("__import__('torch.distributions')", [1]),
        ("__import__('torch').distributions", [1]),
        ("from torch.distributions import *", [1]),
        ("from torch import *\ndistributions.Normal", [2]),
        ("import sys\nsys.modules['torch.distributions']", [2]),
        ("import torch\nvars(torch)['distributions']", [2]),
        ("import torch\ntorch.__dict__['distributions']", [2]),
        ("import torch\nT = torch\nT.distributions", [3]),
        ("import torch\na, b = 1, torch\nb.distributions", [3]),
        ("import torch\nif (x := torch).distributions: pass", [2]),
        ("import torch\ndef f():\n    return g.distributions\n\ng: object = torch", [3]),
        ("def f():\n    import torch as t\n    return lambda: t.distributions", [3]),
    ],
)
def test_distributions_are_found_however_they_are_named(source, lines, tmp_path):
    found = scan(tmp_path, source, "part1_vae/utils.py")
    assert [(each.file, each.line, each.name) for each in found] == [
        ("part1_vae/utils.py", line, DISTRIBUTIONS) for line in lines
    ]


@pytest.mark.parametrize(
    "source, name",
    [
        ("from torch import nn\nnn.MultiheadAttention(8, 2)", MODULE),
        ("import torch.nn as nn\nclass A(nn.MultiheadAttention): pass", MODULE),
        ("import torch.nn.functional as F\nF.scaled_dot_product_attention(q, k, v)", FUSED),
        ("from torch.nn import functional as F\nF.scaled_dot_product_attention(q, k, v)", FUSED),
        ("from torch import nn\nnn.functional.scaled_dot_product_attention(q, k, v)", FUSED),
        ("from torch.nn.functional import *\nscaled_dot_product_attention(q, k, v)", FUSED),
    ],
)
def test_attention_is_found_in_the_file_that_it_is_forbidden_in(source, name, tmp_path):
    assert [(each.line, each.name) for each in scan(tmp_path, source)] == [(2, name)]
    assert scan(tmp_path / "part3_gpt", source, "train.py") == [], "another file"


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.nn.Linear(1, 2)\nx = 'torch.distributions'  # torch.distributions",
        "import torch.distributionsx",
        "distributions = {}\ndistributions.Normal",
        "from . import distributions\nfrom .distributions import Normal\nNormal()",
        "import torch\nclass A:\n    def f(self):\n        return self.distributions",
        "import numpy as torch_like\ntorch_like.distributions",
        "import torch\ngetattr(torch, name)",
        "import torch\ngetattr(torch)\ngetattr()\n__import__()\n__import__(1)\ntorch[1:2]",
    ],
)
def test_what_only_looks_like_it_is_not_found(source, tmp_path):
    assert scan(tmp_path, source) == []


@pytest.mark.parametrize(
    "source",
    [
        b"import torch.distributions\ndef broken(:",
        b"import torch.distributions\n\0",
        b"import torch.distributions\nx = '\xff'",
        b"# coding: nowhere\nimport torch.distributions",
        b"import torch.distributions\nx = " + b"(" * 100_000,
        b"import torch.distributions\nx = " + b"-" * 100_000 + b"1",
        b"import torch.distributions\nx = " + b"9" * 10_000,
        b"import torch.distributions\nx = a" + b".a" * 100_000,
        b"import torch.distributions\n" + b"#" * 2_000_001,
        b"",
    ],
    ids=["syntax", "null", "encoding", "codec", "parentheses", "minus", "number", "attributes", "huge", "empty"],
)
def test_what_cannot_be_parsed_has_no_finding(source, tmp_path):
    found = scan(tmp_path, source)
    assert [each.line for each in found] in ([], [1]), "a Python version that can parse the file may find the name"
    other = scan(tmp_path, "import torch.distributions", "part3_gpt/utils.py")
    assert "part3_gpt/utils.py" in [each.file for each in other], "the other files are still checked"


def test_bom_and_windows_line_ends(tmp_path):
    (found,) = scan(tmp_path, b"\xef\xbb\xbfimport torch\r\nimport math\r\ntorch.distributions\r\n")
    assert found.line == 3


def test_nothing_is_run_and_nothing_is_warned_of(tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = scan(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\nx = '\\d'\nimport torch.distributions\n1/0")
    assert [each.line for each in found] == [3]
    assert not (tmp_path / "ran").exists()
    assert capfd.readouterr() == ("", "")


def test_links_are_not_followed(tmp_path):
    (tmp_path / "elsewhere.txt").write_text("import torch.distributions")
    (tmp_path / "part3_gpt").mkdir()
    (tmp_path / "part3_gpt" / "gpt.py").symlink_to(tmp_path / "elsewhere.txt")
    (tmp_path / "part3_gpt" / "folder.py").mkdir()
    assert forbidden(tmp_path, RULES) == []


def test_a_file_can_be_allowed(tmp_path):
    source = """
import torch.nn.functional as F
class CausalSelfAttention:
    def attention(self, q):
        # Q3.2: softmax of the scores
        #   hint
        return F.scaled_dot_product_attention(q, q, q)
F.scaled_dot_product_attention
"""
    found = scan(tmp_path, source, allowed=["part3_gpt/fused.py"])
    assert [(each.line, each.place, each.question) for each in found] == [
        (7, "CausalSelfAttention.attention", "3.2"),
        (8, "", None),
    ]
    assert scan(tmp_path, source, allowed=["part3_gpt/gpt.py"]) == []


def test_the_solution_uses_nothing_forbidden(tmp_path):
    for part in ("part1_vae", "part2_aae", "part3_gpt"):
        shutil.copytree(REPOSITORY / part, tmp_path / part)
    read = rubric.read()
    names = {rule.name: rule.where for rule in read.forbidden}
    found = forbidden(tmp_path, names)
    assert [(each.file, each.name, each.place) for each in found] == [
        ("part3_gpt/fused.py", FUSED, "fused_attention")
    ], "the rules must see the names that the template contains"
    assert forbidden(tmp_path, names, judge.to_watch(read)["allowed"]) == []


def test_a_file_full_of_findings_and_a_long_chain_end_soon(tmp_path):
    chain = "".join(f"a{i + 1} = a{i}\n" for i in reversed(range(5000)))
    found = scan(tmp_path, f"import torch.distributions as a0\n{chain}" + "a0.x\n" * 5000)
    assert len(found) == rules.MOST


def test_several_submissions_at_a_time():
    """While a tree is being built, garbage collection may run Python code, and other threads may run in between."""
    source = (REPOSITORY / "part3_gpt" / "gpt.py").read_bytes()
    collected = []

    def let_others_run(*_):
        collected.append(1)
        time.sleep(0)

    threshold = gc.get_threshold()
    gc.callbacks.append(let_others_run)
    gc.set_threshold(300)
    try:
        with ThreadPoolExecutor(4) as pool:
            trees = list(pool.map(lambda _: rules._parsed(source), range(12)))
    finally:
        gc.callbacks.remove(let_others_run)
        gc.set_threshold(*threshold)
    assert collected and all(len(tree.body) == len(trees[0].body) > 5 for tree in trees)
