"""Tests of expected values, both computed by the oracles and looked up by the students' tests."""

import json
import math

import numpy as np
import pytest
import torch

import answers
from answers import Recorded, Sketch, Value, Whole
from staff.oracles import part1, part3, record

LARGE = (40, 30)  # too many elements to be recorded in full


def sketched(tensor: torch.Tensor) -> Sketch:
    """Return the sketch that is read back for a recorded tensor."""
    flat, n = tensor.double().flatten(), tensor.numel()
    of_sums = answers.summed(flat)
    size = torch.stack([of_sums.abs().sum(), of_sums.square().sum()])
    return Sketch(tensor.shape, answers.signs(n) @ of_sums, size, flat[answers.places(n)])


def recorded(tmp_path, asked: list[tuple[str, dict, dict]]) -> Recorded:
    """Record the calls made by one test in a file, the same for seeds 0 and 1; return the recording."""
    calls, numbers = [], []
    for oracle, inputs, answer in asked:
        form, its = record.described(oracle, inputs, answer)
        calls.append(form)
        numbers += its
    content = record.packed([{"test_x": (calls, numbers)}] * 2)
    assert content == record.packed([{"test_x": (calls, numbers)}] * 2), "the bytes must be the same each time"
    (tmp_path / "answers.npz").write_bytes(content)
    return Recorded(tmp_path / "answers.npz")


@pytest.mark.parametrize("known", [Whole, sketched])
def test_a_tensor_is_known_up_to_the_tolerance(known, rng):
    right = torch.randn(LARGE, generator=rng).double()
    expected = known(right)
    for _ in range(50):
        rounded = right + 1e-4 * (2 * torch.rand(LARGE, generator=rng) - 1) * (1 + right.abs())
        assert expected.error(rounded, rtol=1e-4, atol=1e-4) <= 1
    for wrong in (2 * right, right.T.contiguous(), right + 0.01, right.flip(0), right.mean(), right.exp() * math.nan):
        assert expected.error(wrong.double(), rtol=1e-4, atol=1e-4) > 1
    one = right.clone()
    one[17, 5] += 1
    assert expected.error(one, rtol=1e-4, atol=1e-4) > 1
    assert "expected" in expected.compare(one, 1e-4, 1e-4) and "of 1200 numbers" in expected.compare(one, 1e-4, 1e-4)


def test_infinities_and_what_is_not_a_number_agree_with_themselves():
    strange = torch.tensor([math.inf, -math.inf, math.nan, 1.0]).double()
    assert Whole(strange).error(strange.clone(), 0, 0) == 0
    assert Whole(strange).error(strange.flip(0), 1, 1) == math.inf


def test_a_sketch_knows_which_numbers_are_nan(rng):
    """Two mistakes that lead to NaN in different places must not be mistaken for each other."""
    right = torch.randn(LARGE, generator=rng).double()
    rows, columns = right.clone(), right.clone()
    rows[3], columns[:, 3] = math.nan, math.nan
    assert sketched(rows).error(rows.clone(), 1e-4, 1e-4) <= 1
    assert sketched(rows).error(columns, 1e-4, 1e-4) > 1
    assert sketched(rows).error(right, 1e-4, 1e-4) > 1
    assert sketched(right).error(rows, 1e-4, 1e-4) > 1


def test_the_mistake_that_fits_best_is_named():
    value = Value(1.0, [("close", 2.0009), ("closer", 2.0001), ("far", 3.0), ("as far", 3.00001), ("and", 3.00002)])
    assert value.mistake(torch.tensor(2.0).double(), rtol=1e-3, atol=0) == "closer"
    assert value.mistake(torch.tensor(3.0).double(), rtol=1e-3, atol=0) == "far; or as far"
    assert value.mistake(torch.tensor(4.0).double(), rtol=1e-3, atol=0) is None


@pytest.mark.parametrize("batch", [2, 300])
def test_a_recorded_answer_judges_as_the_oracle_does(tmp_path, rng, batch):
    inputs = {"mean": torch.randn(batch, 5, generator=rng), "log_std": torch.randn(batch, 5, generator=rng)}
    live = part1.kld(**inputs)
    found = recorded(tmp_path, [("kld", inputs, live)]).answer(1, "test_x", 0, "kld", inputs)
    assert found.keys() == live.keys()
    right, mistakes = live["kld"].tensor, live["kld"].mistakes
    assert found["kld"].right.error(right, rtol=1e-4, atol=1e-4) <= 1
    for sentence, wrong in mistakes:
        assert found["kld"].right.error(wrong.tensor, rtol=1e-4, atol=1e-4) > 1
        assert sentence in found["kld"].mistake(wrong.tensor, rtol=1e-4, atol=1e-4)


def test_each_question_has_its_own_answer(tmp_path, rng):
    inputs = [{"logits": torch.randn(3, 8, generator=rng), "temperature": 1.0} for _ in range(2)]
    asked = [("next_token", each, part3.next_token(**each)) for each in inputs]
    file = recorded(tmp_path, asked)
    for number, (oracle, given, answer) in enumerate(asked):
        found = file.answer(0, "test_x", number, oracle, given)["probabilities"]
        assert torch.allclose(found.tensor, answer["probabilities"].tensor, atol=1e-6)
        assert [sentence for sentence, _ in found.mistakes] == [s for s, _ in answer["probabilities"].mistakes]


def test_other_inputs_are_nobodys_mistake(tmp_path, rng):
    inputs = {"elbo": 1000 * torch.rand(4, generator=rng), "shape": (4, 1, 28, 28)}
    file = recorded(tmp_path, [("bpd", inputs, part1.bpd(**inputs))])
    last_digit = {**inputs, "elbo": inputs["elbo"] * (1 + 1e-7)}
    assert file.answer(0, "test_x", 0, "bpd", last_digit)
    others = {**inputs, "elbo": inputs["elbo"].flip(0)}
    for seed, number, oracle, given in [(0, 0, "bpd", others), (0, 0, "kld", inputs), (5, 0, "bpd", inputs)]:
        with pytest.raises(answers.AnswersError, match="not your fault"):
            file.answer(seed, "test_x", number, oracle, given)
    with pytest.raises(answers.AnswersError, match="test_y, seed 1"):
        file.answer(1, "test_y", 0, "bpd", inputs)


def test_the_file_has_numbers_and_sentences_alone(tmp_path, rng):
    inputs = {"mean": torch.randn(2, 5, generator=rng), "log_std": torch.randn(2, 5, generator=rng)}
    recorded(tmp_path, [("kld", inputs, part1.kld(**inputs))])
    with np.load(tmp_path / "answers.npz", allow_pickle=False) as file:
        index = json.loads(file["index"].tobytes())
        assert set(file) == {"index", "numbers"} and file["numbers"].dtype == np.float32
    assert set(index) == {"seeds", "sentences", "tests", "forms"}
