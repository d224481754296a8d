"""Tests with unusual but correct solutions in the sandbox: they earn full points and no false accusations."""

import json
import time

import pytest
import torch
from class_cases import QuickJudge, parts, unpacked
from grading_cases import points, solution

from course import rubric
from staff.grading import archives, judge, sandbox
from staff.grading.grade import Class
from staff.grading.inside.sandbox import Limits

MODULE, FUSED = "torch.nn.MultiheadAttention", "torch.nn.functional.scaled_dot_product_attention"
GPT, ENCODER, UTILS = "part3_gpt/gpt.py", "part1_vae/cnn_encoder_decoder.py", "part1_vae/utils.py"
FLOAT16_MASK = (
    GPT, "scores = scores.masked_fill(~self.mask[:, :, S - T : S, :S], -torch.inf)",
    "mask = torch.zeros(T, S, device=q.device).half()\n"
    "        scores = scores + mask.masked_fill(~self.mask[0, 0, S - T : S, :S], -torch.inf)",
)  # fmt: skip
COMPILED_ATTENTION = (GPT, "    def attention(self", "    @torch.compile\n    def attention(self")
COMPILED_KLD = (UTILS, "def KLD(", '@torch.compile(mode="max-autotune", fullgraph=True)\ndef KLD(')
NOT_COMPILED = (UTILS, "def KLD(", "@torch.compiler.disable\ndef KLD(")
COMPILED_LAYERS = (ENCODER, "        self.mean =", "        self.net = torch.compile(self.net)\n        self.mean =")
COMPILED_IN_PLACE = (ENCODER, "        self.mean =", "        self.net.compile()\n        self.mean =")
AUTOCAST = (
    ENCODER, "        hidden = self.net(x)\n        return self.mean",
    '        with torch.autocast("cpu", torch.bfloat16):\n            rough = self.net(x)\n'
    "        hidden = self.net(x) + 0 * rough.float()\n        return self.mean",
)  # fmt: skip
TRANSFORMER = (  # attends over the 49 positions of a 7x7 feature map
    ENCODER, "            nn.GELU(),\n            nn.Flatten(),\n        )\n",
    "            nn.GELU(),\n        )\n"
    "        self.attention = nn.MultiheadAttention(2 * c, 4, batch_first=True)\n"
    "        self.transformer = nn.TransformerEncoderLayer(2 * c, 4, 4 * c, dropout=0.0, batch_first=True)\n",
)  # fmt: skip
TOKENS = (
    ENCODER, "hidden = self.net(x)",
    "tokens = self.net(x).flatten(2).mT\n"
    "        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]\n"
    "        hidden = self.transformer(tokens).flatten(1)",
)  # fmt: skip


def attend(rng):
    sizes = {"c_attn.weight": (24, 8), "c_attn.bias": (24,), "c_proj.weight": (8, 8), "c_proj.bias": (8,)}
    weights = {name: torch.randn(size, generator=rng) for name, size in sizes.items()}
    return "part3.run_attention", torch.randn(2, 5, 8, generator=rng), weights, 2, 8


def diverge(rng):
    return "part1.run_kld", torch.randn(3, 4, generator=rng), torch.randn(3, 4, generator=rng)


def encode(rng):
    return "part1.run_encoder", torch.randint(16, (3, 1, 28, 28), generator=rng), 8, 4, 1


@pytest.mark.parametrize(
    "change, ask",
    [
        pytest.param(FLOAT16_MASK, attend, id="a mask in float16"),
        pytest.param(AUTOCAST, encode, id="layers in bfloat16"),
        pytest.param(COMPILED_ATTENTION, attend, id="a compiled method"),
        pytest.param(COMPILED_KLD, diverge, id="a compiled function"),
        pytest.param(NOT_COMPILED, diverge, id="a function that is not to be compiled"),
        pytest.param(COMPILED_LAYERS, encode, id="compiled layers"),
        pytest.param(COMPILED_IN_PLACE, encode, id="layers compiled in place"),
    ],
)
def test_it_gives_the_same_numbers(zygote, level, tmp_path, change, ask):
    watch, answers = judge.to_watch(rubric.read()), []
    for name, changes in (("usual", {}), ("unusual", {"change": change})):
        folder = solution(tmp_path.resolve() / name, **changes)
        child = sandbox.Child(zygote, level, folder, Limits(), watch=watch)
        called, *args = ask(torch.Generator().manual_seed(1))
        try:
            answers.append(child.call(called, tuple(args), {}, 1, time.monotonic() + 100))
        finally:
            child.close()
        assert child.seen == set()
    torch.testing.assert_close(answers[1], answers[0])


@pytest.fixture
def class_(tmp_path, level) -> Class:
    return Class(tmp_path / "grades", rubric.read(), judge.Rules(level))


@pytest.mark.slow
def test_it_earns_all_points(class_, judges, tmp_path):
    """Apply all changes at once; PyTorch's attention, forbidden only in part 3, is in the encoder of part 1."""
    changes = (FLOAT16_MASK, COMPILED_ATTENTION, COMPILED_KLD, TRANSFORMER, TOKENS)
    folder = solution(tmp_path / "ada", **{str(number): change for number, change in enumerate(changes)})
    result = class_.grade(archives.Submission("ada", folder), judges)
    assert [test["message"] for test in result["tests"] if test["outcome"] != "passed"] == []
    assert points(result) == 24 and result["forbidden"] == []


FORBIDDEN = [
    ("part1_vae/utils.py", "torch.distributions", True),
    ("part2_aae/models.py", "torch.distributions", True),
    ("part3_gpt/gpt.py", "torch.distributions", True),
    ("part3_gpt/gpt.py", MODULE, True),
    ("part3_gpt/mine.py", MODULE, True),
    ("part1_vae/utils.py", MODULE, False),
    ("part2_aae/models.py", MODULE, False),
    ("part1_vae/utils.py", FUSED, False),
]


@pytest.mark.parametrize("file, name, is_forbidden", FORBIDDEN)
def test_a_name_is_reported_where_it_is_forbidden_alone(tmp_path, grade, file, name, is_forbidden):
    """The name is found in the syntax tree, or only while the code runs."""
    for number, text in enumerate((f"import torch\nprint({name})\n", "x = 1\n")):
        files = parts(str(number)) | {file: text.encode()}
        unpacked(tmp_path / "class" / f"s{number}", files)
        QuickJudge.special[files["part1_vae/utils.py"].decode()] = {"seen": [[file, 1, name]] * number}
    assert grade("class") == 0
    for number in range(2):
        result = json.loads((tmp_path / "grades" / "results" / f"s{number}.json").read_text())
        found = [(each["file"], each["line"], each["name"]) for each in result["forbidden"]]
        assert found == [(file, 2 - number, name)] * is_forbidden
