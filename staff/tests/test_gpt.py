"""Tests of the GPT: configuration, weights, optimizer and generation."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from gpt_cases import BLOCK, VOCABULARY, small

from part3_gpt import streaming
from part3_gpt.build import adamw
from part3_gpt.generation import new_cache
from part3_gpt.gpt import GPT, GPTConfig
from part3_gpt.options import MODEL_SIZES
from part3_gpt.utils import keep_top_p


@pytest.fixture
def model() -> GPT:
    """Return a GPT whose large weights make its choices depend on the input; float64 rules out near ties."""
    model = GPT(small()).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def prompts(rng, batch: int, length: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, (batch, length), generator=rng)


# --- configuration, weights, optimizer -------------------------------------------------------------------------------


def test_sizes_by_name_or_by_number_never_both():
    for name, (n_layer, n_head, n_embd) in MODEL_SIZES.items():
        config = GPTConfig(model_type=name, vocab_size=5, block_size=6).with_sizes()
        assert (config.n_layer, config.n_head, config.n_embd) == (n_layer, n_head, n_embd)
        assert config.model_type is None and n_embd % n_head == 0
    wrong = {
        "model_type 'gpt-nano' and n_head": GPTConfig(model_type="gpt-nano", n_head=3, vocab_size=5, block_size=6),
        "model_type 'gpt-5'": GPTConfig(model_type="gpt-5", vocab_size=5, block_size=6),
        "n_layer is None": GPTConfig(vocab_size=5, block_size=6),
        "n_embd is None": small(n_embd=None),
        "vocab_size is None": small(vocab_size=None),
        "block_size is 0": small(block_size=0),
        "n_layer is 2.0": small(n_layer=2.0),
        "n_embd 16 is not a multiple of n_head 3": small(n_head=3),
    }
    for reason, config in wrong.items():
        with pytest.raises(ValueError, match=reason):
            GPT(config)
    config = GPT.get_default_config()
    config.model_type, config.vocab_size, config.block_size = "gpt-nano", 5, 6
    assert GPT(config).config.n_embd == GPT(config).config.n_embd == 48, "the configuration can be reused"


def test_the_initialization_is_gpt2s(capsys):
    model = GPT(GPTConfig(model_type="gpt-mini", vocab_size=500, block_size=100))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all()
        elif ".ln_" in name:
            assert (parameter == 1).all()
        else:
            std = 0.02 / 12**0.5 if name.endswith("c_proj.weight") else 0.02  # two additions in each of 6 layers
            error = 5 * std / (2 * parameter.numel()) ** 0.5  # five standard errors of an estimated standard deviation
            assert abs(parameter.std().item() - std) < error, name
            assert abs(parameter.mean().item()) < 5 * std / parameter.numel() ** 0.5, name
    assert capsys.readouterr() == ("", ""), "a model prints nothing"


def test_tied_weights():
    tied, untied = GPT(small(tie_weights=True)), GPT(small())
    assert tied.lm_head.weight is tied.transformer.wte.weight
    assert untied.lm_head.weight is not untied.transformer.wte.weight
    assert sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters()) == VOCABULARY * 16


def test_only_matrices_decay():
    model = GPT(small())
    optimizer = adamw(model, lr=0.01, weight_decay=0.3, betas=(0.8, 0.9))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0.3 if parameter.dim() == 2 else 0), name
    assert {(group["lr"], group["betas"]) for group in optimizer.param_groups} == {(0.01, (0.8, 0.9))}
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["fused"]
    assert not adamw(model, lr=0.01, fused=False).defaults["fused"]


def test_the_loss_leaves_out_what_is_not_to_be_predicted(model, rng):
    idx, targets = prompts(rng, 3, 7), prompts(rng, 3, 7)
    targets[0, :4] = -1
    logits, loss = model(idx, targets)
    expected = [
        -F.log_softmax(logits[b, t], -1)[targets[b, t]] for b in range(3) for t in range(7) if targets[b, t] >= 0
    ]
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    assert model(idx)[1] is None
    with pytest.raises(ValueError, match="13 tokens is longer than block_size 12"):
        model(prompts(rng, 1, 13))


# --- generation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("length", [1, 4, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_the_cache_changes_nothing(model, rng, length, flash):
    for block in model.transformer.h:
        block.attn.flash = flash
    for batch in (1, 3):
        idx = prompts(rng, batch, length)
        ways = [{}, {"do_sample": True}, {"do_sample": True, "temperature": 0.7, "top_k": 9, "top_p": 0.9}]
        for way in ways:
            results = [
                model.generate(idx, 2 * BLOCK, **way, use_cache=use_cache, generator=torch.Generator().manual_seed(5))
                for use_cache in (True, False)
            ]
            assert torch.equal(*results), f"{way}: {results}"
            for position in range(
                length, length + 2 * BLOCK if not way else 0
            ):  # each greedy token is the model's choice for its window
                window = results[0][:, max(0, position - BLOCK) : position]
                assert torch.equal(model(window)[0][:, -1].argmax(-1), results[0][:, position])


@pytest.mark.parametrize("flash", [True, False])
def test_a_prompt_can_reach_the_cache_in_pieces(model, rng, flash):
    """A chunk's queries are those of the last positions and can attend to all earlier chunks."""
    for block in model.transformer.h:
        block.attn.flash = flash
    idx, cache = prompts(rng, 2, BLOCK), new_cache(model, BLOCK)
    with torch.no_grad():
        pieces = torch.cat([model.hidden(piece, cache) for piece in idx.split([3, 1, 5, BLOCK - 9], dim=1)], dim=1)
        torch.testing.assert_close(pieces, model.hidden(idx))


def test_the_cache_spares_work(model, rng):
    seen = []
    model.transformer.wte.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].size(1)))
    model.generate(prompts(rng, 2, 3), 9)
    assert seen == [3] + [1] * 8
    seen.clear()
    model.generate(prompts(rng, 2, 3), 9, use_cache=False)
    assert seen == list(range(3, 12))
    seen.clear()
    model.generate(prompts(rng, 2, 10), 5)
    assert seen == [10, 1, 1, 12, 12], "a full window moves on, which invalidates the whole cache"


def test_a_stream_gives_each_token_when_it_is_there(model, rng):
    idx = prompts(rng, 2, 3)
    calls = []
    model.transformer.wte.register_forward_hook(lambda *_: calls.append(1))
    stream = streaming.stream(model, idx, 5)
    assert not calls
    tokens = []
    for count, token in enumerate(stream, start=1):
        assert len(calls) == count and token.shape == (2, 1) and not token.requires_grad
        tokens.append(token)
    assert torch.equal(torch.cat([idx, *tokens], dim=1), model.generate(idx, 5))
    assert torch.equal(model.generate(idx, 0), idx)


def test_draws_that_are_repeated_and_draws_that_are_not(model, rng):
    idx = prompts(rng, 4, 3)

    def draw(seed=None):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return model.generate(idx, 30, do_sample=True, generator=generator)

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    before = torch.get_rng_state()
    draw(1)
    assert torch.equal(torch.get_rng_state(), before), "with its own generator, it does not change the global state"
    assert not torch.equal(draw(), draw())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"idx": torch.zeros(1, 0, dtype=torch.long)}, r"\(1, 0\)"),
        ({"idx": torch.zeros(3, dtype=torch.long)}, r"\(3,\)"),
        ({"idx": torch.zeros(1, 3)}, "torch.float32"),
        ({"idx": torch.tensor([[0, VOCABULARY]])}, f"token {VOCABULARY} is outside the vocabulary of {VOCABULARY}"),
        ({"idx": torch.tensor([[0, -2]])}, "token -2 is outside"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
        ({"temperature": 0.0, "do_sample": True}, "temperature is 0.0"),
        ({"temperature": -0.5, "do_sample": True}, "temperature is -0.5"),
        ({"temperature": 1e-40, "do_sample": True}, "temperature is 1e-40: for sampling, it must be at least 1e-06"),
        ({"temperature": float("nan"), "do_sample": True}, "temperature is nan"),
        ({"top_k": 0, "do_sample": True}, "top_k is 0"),
        ({"top_p": 0.0, "do_sample": True}, "top_p is 0.0"),
        ({"top_p": 1.01, "do_sample": True}, "top_p is 1.01"),
    ],
)
def test_wrong_arguments(model, arguments, message):
    call = {"idx": torch.tensor([[1, 2]]), "max_new_tokens": 3, **arguments}
    for method in (model.generate, partial(streaming.stream, model)):  # not only at the first token
        with pytest.raises(ValueError, match=message):
            method(**call)


def test_temperature_0_is_no_matter_where_nothing_is_drawn(model):
    idx = torch.tensor([[1, 2]])
    assert torch.equal(model.generate(idx, 3, temperature=0), model.generate(idx, 3))


def test_top_p_of_1_drops_nothing(rng):
    """In float32, the likeliest of 50,257 tokens already have probabilities that sum to 1, but none may be dropped."""
    logits = 10 * torch.randn(2, 50257, generator=rng)
    assert torch.equal(keep_top_p(logits, 1.0), logits)


def test_the_smallest_top_p_keeps_the_likeliest(rng):
    logits = torch.randn(4, 97, generator=rng)
    kept = keep_top_p(logits, 1e-30) > -torch.inf
    assert kept.sum(dim=1).tolist() == [1] * 4 and torch.equal(kept.int().argmax(dim=1), logits.argmax(dim=1))
