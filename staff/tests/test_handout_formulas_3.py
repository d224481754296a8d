"""Tests of Chapter 3 and Appendix B of the handout: check their formulas, numbers and figures independently.

The oracles are PyTorch's own attention and autograd, SciPy, quadrature and operation counters.
"""

import importlib
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate, special
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course import rubric
from part3_gpt.gpt import GPT, Block, GPTConfig
from part3_gpt.utils import keep_top_k, keep_top_p
from staff.marking import answers

HANDOUT = Path(__file__).parents[2] / "handout"
CHAPTERS = sorted(HANDOUT.glob("*.md"))
CHAPTER_2 = (HANDOUT / "02_adversarial_autoencoders.md").read_text("utf-8")
CHAPTER_3 = (HANDOUT / "03_attention_and_language_models.md").read_text("utf-8")
APPENDIX_B = (HANDOUT / "B_neural_radiance_fields.md").read_text("utf-8")


def assert_quoted(text, *numbers):
    """Check that the text contains each number as it is printed."""
    for number in numbers:
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d]|\.\d)", text), f"{number} is not in the text"


def assert_row(text, *cells):
    """Check that the text contains a table row that begins with these cells."""
    assert "| " + " | ".join(cells) + " |" in text, cells


def matrix(rows, digits=3):
    """Return the rows of a matrix as the chapter prints them."""
    return " \\cr ".join(" & ".join(f"{x:.{digits}f}" if x % 1 else f"{x:g}" for x in row) for row in rows)


@pytest.fixture
def script(monkeypatch):
    """Return a function that imports a figure script by name; the scripts can import each other."""
    monkeypatch.syspath_prepend(HANDOUT / "figures")
    return importlib.import_module


# --- section 3.1: additive attention ---------------------------------------------------------------------------------


def test_context_vector_of_the_example():
    weights = special.softmax([2, 1, 0])  # Eq. 21
    context = weights @ [[1, 0], [0, 1], [1, 1]]  # Eq. 20
    for vector in (weights, context):
        assert "$(" + ", ".join(f"{x:.3f}" for x in vector) + ")$" in CHAPTER_3
    assert_quoted(CHAPTER_3, f"{0.9**50:.3f}")


def test_alignment_of_figure_6(script):
    draw = script("draw_part3")
    weights = draw.alignment()
    np.testing.assert_allclose(weights, special.softmax(draw.SCORES, axis=1))
    assert_quoted(CHAPTER_3, *(f"{weight:.2f}" for weight in weights[draw.ROW]))


# --- section 3.2: the transformer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 64])
@pytest.mark.parametrize("length", [8, 512])
def test_variance_of_dot_products_is_the_size_of_a_head_and_not_the_length(size, length):
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 200_000 // length, length, size, generator=generator, dtype=torch.float64)
    variances = (q[:, 0, :, None] * k.transpose(1, 2)).sum(1).var(dim=1)  # over the keys, for a fixed query
    error = variances.std() / math.sqrt(len(variances))
    assert abs(variances.mean() - size) < 5 * error  # Eq. 22a; five standard errors


def test_weights_of_unscaled_scores():
    normal = np.random.default_rng(0).standard_normal((200_000, 16))
    largest, slope = [], []
    for size in (1, 4, 16, 64, 256):
        weights = special.softmax(normal * math.sqrt(size), axis=1)
        largest.append(f"{weights.max(axis=1).mean():.2f}")
        slope.append(f"{(weights * (1 - weights)).sum(axis=1).mean():.2f}")
    assert_row(CHAPTER_3, "mean of the largest weight in a row", *largest)
    assert_row(CHAPTER_3, "mean of the sum of $\\alpha_j (1 - \\alpha_j)$ over a row", *slope)


def test_derivative_of_the_softmax():
    scores = torch.randn(6, dtype=torch.float64)
    weights = scores.softmax(0)
    jacobian = torch.autograd.functional.jacobian(lambda e: e.softmax(0), scores)
    torch.testing.assert_close(torch.diag(weights) - weights[:, None] * weights, jacobian)  # Eq. 22b


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_multi_head_attention_is_that_of_pytorch(heads):
    C, T = 8, 5
    oracle = nn.MultiheadAttention(C, heads, bias=False, batch_first=True, dtype=torch.float64)
    x = torch.randn(T, C, dtype=torch.float64)
    W = [w.T.split(C // heads, dim=1) for w in oracle.in_proj_weight.split(C)]  # for queries, keys and values, per head
    outputs = []
    for w_q, w_k, w_v in zip(*W, strict=True):  # Eq. 22 and 22c
        scores = (x @ w_q) @ (x @ w_k).T / math.sqrt(C // heads)
        outputs.append(scores.softmax(dim=1) @ (x @ w_v))
    y = torch.cat(outputs, dim=1) @ oracle.out_proj.weight.T
    torch.testing.assert_close(y, oracle(x, x, x, need_weights=False)[0])
    assert sum(p.numel() for p in oracle.parameters()) == 4 * C**2


def small_example():
    """Return the matrices of the chapter's example: queries, keys and values."""
    printed = re.findall(r"([QKV]) = \\begin\{pmatrix\} (.*?) \\end", CHAPTER_3)
    rows = [[[float(x) for x in row.split("&")] for row in entries.split("\\cr")] for _, entries in printed]
    return torch.tensor(rows, dtype=torch.float64)


def test_causal_attention_of_the_example():
    q, k, v = small_example()
    output = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    weights = F.scaled_dot_product_attention(q, k, torch.eye(3, dtype=torch.float64), is_causal=True)
    assert matrix((q @ k.T / math.sqrt(2)).tolist()) in CHAPTER_3
    assert matrix(weights.tolist()) in CHAPTER_3
    assert matrix(output.tolist(), digits=2) in CHAPTER_3


def test_what_two_wrong_masks_show_of_the_future():
    q, k, _ = small_example()
    scores, triangle = q @ k.T / math.sqrt(2), torch.ones(3, 3, dtype=torch.float64).tril()
    for wrong in (scores * triangle, scores + triangle):
        assert_quoted(CHAPTER_3, f"{wrong.softmax(dim=1)[0, 1:].sum():.3f}")


def test_dropout_keeps_the_mean_of_the_weights():
    weights = torch.full((200_000,), 0.25, dtype=torch.float64)
    dropped = F.dropout(weights, 0.2)
    assert set(dropped.unique().tolist()) == {0.0, 0.25 / 0.8}
    assert abs(dropped.mean() - 0.25) < 5 * dropped.std() / math.sqrt(len(dropped))


@pytest.mark.parametrize("length", [64, 256])
def test_multiplications_of_a_layer(length):
    C = 48
    sizes = {"n_layer": 1, "n_head": 3, "n_embd": C, "vocab_size": 5, "block_size": length}
    block = Block(GPTConfig(**sizes, flash=False)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block(torch.randn(1, length, C))
    T = length
    assert counter.get_total_flops() == 2 * (4 * T * C**2 + 8 * T * C**2 + 2 * T**2 * C)  # 2: multiply and add


def test_cost_of_gpt2():
    C, heads, layers = 768, 12, 12
    for T, unit in ((1024, ".3f"), (4608, ".1f"), (32768, ".0f"), (131072, ".0f")):
        ratio, gigabytes = T / (6 * C), 4 * heads * T**2 / 1e9
        shown = f"{ratio:.2f}" if ratio < 2 else f"{ratio:.2g}"
        assert_row(CHAPTER_3, f"{T:,}", shown, f"{gigabytes:{unit}} GB")
    per_token = 2 * layers * C * 4
    assert_quoted(CHAPTER_3, f"{per_token:,}", f"{per_token * 32768 / 1e9:.1f}")


def test_linear_attention_is_a_sum_that_can_be_reordered():
    phi_q, phi_k = torch.rand(2, 7, 3, dtype=torch.float64)
    v = torch.randn(7, 4, dtype=torch.float64)
    weights = phi_q @ phi_k.T
    left = (weights / weights.sum(dim=1, keepdim=True)) @ v
    right = (phi_q @ (phi_k.T @ v)) / (phi_q @ phi_k.sum(dim=0))[:, None]
    torch.testing.assert_close(left, right)  # Eq. 22e
    with FlopCounterMode(display=False) as counter:
        assert (phi_q @ (phi_k.T @ v)).shape == (7, 4)
    assert counter.get_total_flops() / 2 == 2 * 7 * 3 * 4 and "| $2 T d_k d_v$ multiplications |" in CHAPTER_3


def test_pairs_of_a_window():
    """The model answer to Q3.1 quotes numbers for the first row of the table."""
    T, window = 32_768, 256
    assert "| $T w$ pairs |" in CHAPTER_3
    text = answers.read(edition="2023")["3.1"].answer
    assert f"with w = {window} and {T:,} tokens, {T**2 // (T * window)} times fewer" in text


# --- section 3.3: language models ------------------------------------------------------------------------------------

LOGITS = torch.tensor([[3, 2, 1, 0.5, -1]], dtype=torch.float64)


def test_probability_of_a_text_is_the_product_over_its_tokens():
    config = GPTConfig(n_layer=1, n_head=1, n_embd=8, vocab_size=4, block_size=3, flash=False)
    model = GPT(config).double().eval()
    every = torch.cartesian_prod(*[torch.arange(4)] * 3)  # all continuations of token 0
    before = torch.cat([torch.zeros(64, 1, dtype=torch.long), every[:, :-1]], dim=1)
    with torch.no_grad():
        logs = model(before)[0].log_softmax(dim=-1).gather(2, every[:, :, None]).sum(dim=(1, 2))
    assert logs.exp().sum().item() == pytest.approx(1)  # Eq. 22f is a distribution over texts
    assert_quoted(CHAPTER_3, f"{math.log(50_257):.2f}")


def test_temperatures():
    for temperature in (0.5, 1, 2):
        probabilities = (LOGITS[0] / temperature).softmax(0).tolist()  # Eq. 22h
        assert_row(CHAPTER_3, f"$\\tau = {temperature:g}$", *(f"{p:.3f}" for p in probabilities))


def test_filters():
    kept = keep_top_k(LOGITS, 2).softmax(1)[0]
    assert (kept > 0).sum() == 2
    assert_quoted(CHAPTER_3, *(f"{p:.3f}" for p in kept[:2].tolist()))
    assert (keep_top_p(LOGITS, 0.8) > -torch.inf).sum() == 2
    assert_quoted(CHAPTER_3, *(f"{p:.3f}" for p in LOGITS.softmax(1)[0].cumsum(0)[:2].tolist()))


# --- appendix B: volume rendering ------------------------------------------------------------------------------------

DENSITY, LENGTH = np.array([0.5, 2, 0, 4]), 0.5


def pieces(density, length):
    """Return the opacity, transmittance and weight of Eq. B.5."""
    opacity = 1 - np.exp(-density * length)
    transmittance = np.concatenate([[1], np.cumprod(1 - opacity)[:-1]])
    return opacity, transmittance, transmittance * opacity


def test_weights_of_the_example():
    names = ("opacity $\\alpha_i$", "transmittance $\\mathcal T_i$", "weight $w_i$")
    for name, numbers in zip(names, pieces(DENSITY, LENGTH), strict=True):
        assert_row(APPENDIX_B, name, *(f"{x:.3f}" if x % 1 else f"{x:g}" for x in numbers))
    opacity, _, weight = pieces(DENSITY, LENGTH)
    assert weight.sum() + np.prod(1 - opacity) == pytest.approx(1)  # Eq. B.6
    assert_quoted(APPENDIX_B, f"{weight.sum():.3f}", f"{np.prod(1 - opacity):.3f}")


def test_pieces_solve_the_integral_where_the_density_is_constant():
    edges = LENGTH * np.arange(5)

    def integrand(t):
        before = np.clip(t - edges[:-1], 0, LENGTH) @ DENSITY  # the exponent of Eq. B.3
        return math.exp(-before) * DENSITY[min(int(t / LENGTH), 3)]

    solved = [integrate.quad(integrand, a, b)[0] for a, b in zip(edges, edges[1:], strict=False)]  # Eq. B.4
    assert pieces(DENSITY, LENGTH)[2] == pytest.approx(solved)


def test_ray_of_figure_b1(script):
    t, density, transmittance, weight = script("draw_appendix_b").ray()
    step = t[1] - t[0]
    exponent = np.concatenate([[0], np.cumsum(density * step)[:-1]])
    assert transmittance == pytest.approx(np.exp(-exponent))
    assert weight.sum() * step == pytest.approx(1 - np.exp(-density.sum() * step))


def test_numbers_of_a_picture():
    rays, evaluations = 800 * 800, 64 + 64 + 128
    linear = [(60, 256), *[(256, 256)] * 6, (256 + 60, 256), (256, 1), (256, 256), (256 + 24, 128), (128, 3)]
    multiplications = sum(a * b for a, b in linear)
    assert_quoted(APPENDIX_B, f"{rays:,}", str(evaluations), str(round(rays * evaluations / 1e6)))
    assert_quoted(APPENDIX_B, f"{multiplications / 1e6:.2f}")
    assert round(math.log10(rays * evaluations * multiplications)) == 14


def test_positional_encoding_and_psnr():
    assert_quoted(APPENDIX_B, f"{2**9 * math.pi * 0.001:.2f}", str(3 * 2 * 10), str(3 * 2 * 4))
    assert -10 * math.log10(0.001) == pytest.approx(30)


# --- all chapters ----------------------------------------------------------------------------------------------------


def test_each_equation_has_one_tag_and_those_of_the_edition_are_there():
    tags = [tag for chapter in CHAPTERS for tag in re.findall(r"\\tag\{([^}]+)\}", chapter.read_text("utf-8"))]
    assert len(tags) == len(set(tags)), sorted(tag for tag in tags if tags.count(tag) > 1)
    assert {str(number) for number in range(1, 26)} <= set(tags)


@pytest.mark.parametrize("text", [CHAPTER_2, CHAPTER_3], ids=["chapter 2", "chapter 3"])
def test_questions_have_their_anchors_and_points(text):
    questions = rubric.read().questions
    for name in re.findall(r"^### Question (\d\.\d)", text, re.MULTILINE):
        points = questions[name].points
        assert f'<a id="q{name.replace(".", "-")}"></a>\n\n### Question {name} ({points:g} points)\n' in text


@pytest.mark.parametrize("name", ["draw_part2", "draw_part3", "draw_appendix_b"])
def test_figures_have_the_same_bytes_again(script, name, tmp_path):
    save = script("draw").save
    for draw_figure in script(name).FIGURES.values():
        first, again = (save(draw_figure, tmp_path / "figure.svg").read_bytes() for _ in range(2))
        assert first == again


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_figures_that_are_shown_exist(chapter):
    for figure in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", chapter.read_text("utf-8")):
        assert (HANDOUT / figure).is_file(), figure
