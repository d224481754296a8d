"""Tests of GPT-2's files, compared with transformers: reading both naming schemes, writing, and refusing bad files."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from course.datasets import DataError
from part3_gpt import pretrained
from part3_gpt.gpt import GPT
from part3_gpt.options import MODEL_SIZES, PRETRAINED

transformers = pytest.importorskip("transformers")

SIZES = {"n_layer": 3, "n_head": 4, "n_embd": 32, "vocab_size": 97, "n_positions": 24}


@pytest.fixture(params=["tied", "untied"])
def theirs(request) -> "transformers.GPT2LMHeadModel":
    """Return a small GPT-2 from transformers in which all parameters, including biases and LayerNorms, are random."""
    ends = {"bos_token_id": None, "eos_token_id": None, "tie_word_embeddings": request.param == "tied"}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES, **ends, embd_pdrop=0.2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture(params=["with prefix", "without prefix"])
def folder(request, theirs, tmp_path):
    """Return a folder with the model's files, as transformers writes them or as GPT-2 was published."""
    theirs.save_pretrained(tmp_path / "theirs")
    if request.param == "without prefix":
        path = tmp_path / "theirs" / "model.safetensors"
        state = {name.removeprefix("transformer."): value for name, value in load_file(path).items()}
        masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 24, 24).tril() for layer in range(3)}
        save_file({**state, **masks}, path)
    return tmp_path / "theirs"


def tokens(rng, batch: int, length: int) -> torch.Tensor:
    return torch.randint(SIZES["vocab_size"], (batch, length), generator=rng)


def test_the_same_logits_and_tokens_as_transformers(theirs, folder, rng):
    ours = GPT.from_pretrained(folder).eval()
    assert ours.config.embd_pdrop == 0.2 and ours.config.attn_pdrop == 0.1
    assert (ours.lm_head.weight is ours.transformer.wte.weight) == theirs.config.tie_word_embeddings
    idx = tokens(rng, 3, 24)
    for block in ours.transformer.h:
        block.attn.flash = False
    written_out = ours(idx)[0]
    for block in ours.transformer.h:
        block.attn.flash = True
    expected = theirs(idx).logits
    for logits in (ours(idx)[0], written_out):
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    prompt = idx[:, :5]
    whole = torch.ones_like(prompt)  # otherwise token 0 in the prompt counts as padding
    continued = theirs.generate(prompt, attention_mask=whole, max_new_tokens=19, do_sample=False, pad_token_id=0)
    for use_cache in (True, False):
        assert torch.equal(ours.generate(prompt, 19, use_cache=use_cache), continued)


def test_the_same_gradients_as_transformers(theirs, folder, rng):
    ours = GPT.from_pretrained(folder).eval()
    idx = tokens(rng, 2, 24)
    ours(idx[:, :-1], idx[:, 1:])[1].backward()
    theirs(idx, labels=idx).loss.backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        gradient = expected[name].grad.T if name.endswith(pretrained.TRANSPOSED) else expected[name].grad
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)


def test_there_and_back_again(theirs, folder, tmp_path, rng):
    ours = GPT.from_pretrained(folder).eval()
    ours.save_pretrained(tmp_path / "ours")
    back, info = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    for name, value in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
    for name in (
        "embd_pdrop",
        "resid_pdrop",
        "attn_pdrop",
        "tie_word_embeddings",
        "bos_token_id",
        "eos_token_id",
        *SIZES,
    ):
        assert getattr(back.config, name) == getattr(theirs.config, name), name
    idx = tokens(rng, 2, 24)
    assert torch.equal(GPT.from_pretrained(tmp_path / "ours").eval()(idx)[0], ours(idx)[0])


def test_a_gpt_of_ours_in_transformers(tmp_path, rng):
    config = GPT.get_default_config()
    config.model_type, config.vocab_size, config.block_size = "gpt-nano", 97, 24
    ours = GPT(config).eval()
    ours.save_pretrained(tmp_path)
    idx = tokens(rng, 2, 24)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(theirs(idx).logits, ours(idx)[0], atol=1e-5, rtol=0)


def test_changes(folder):
    assert GPT.from_pretrained(folder, attn_pdrop=0.0, flash=False).config.attn_pdrop == 0
    half = load_file(folder / "model.safetensors")
    save_file({name: value.half() for name, value in half.items()}, folder / "model.safetensors")
    assert GPT.from_pretrained(folder).lm_head.weight.dtype == torch.float32


@pytest.mark.parametrize("folder", ["without prefix"], indirect=True)
@pytest.mark.parametrize("theirs", ["tied"], indirect=True)
def test_every_tensor_is_accounted_for(folder):
    path = folder / "model.safetensors"
    good = load_file(path)
    cases = {
        "missing: transformer.h.1.ln_2.bias": {**good, "h.1.ln_2.bias": None},
        "extra: transformer.h.3.ln_1.weight": {**good, "h.3.ln_1.weight": torch.ones(32)},
        r"wrong shape: transformer.wpe.weight is \(23, 32\), should be \(24, 32\)": {
            **good, "wpe.weight": torch.ones(23, 32)
        },
        r"wrong shape: transformer.h.0.mlp.c_fc.weight is \(32, 128\), should be \(128, 32\)": {
            **good, "h.0.mlp.c_fc.weight": torch.ones(128, 32)
        },
        "wpe.weight is torch.int64, not a weight": {**good, "wpe.weight": torch.ones(24, 32, dtype=torch.long)},
        "lm_head.weight differs from wte.weight": {**good, "lm_head.weight": torch.ones(97, 32)},
    }  # fmt: skip
    for reason, state in cases.items():
        save_file({name: value for name, value in state.items() if value is not None}, path)
        with pytest.raises(ValueError, match=reason):
            GPT.from_pretrained(folder)
    save_file({**good, "lm_head.weight": good["wte.weight"].clone()}, path)
    GPT.from_pretrained(folder)  # tied, but stored twice


@pytest.mark.parametrize("folder", ["with prefix"], indirect=True)
@pytest.mark.parametrize("theirs", ["tied"], indirect=True)
def test_configurations_of_other_models_are_refused(folder):
    path = folder / "config.json"
    good = json.loads(path.read_text())
    for name, value in {
        "model_type": "llama",
        "activation_function": "relu",
        "layer_norm_epsilon": 1e-6,
        "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True,
        "add_cross_attention": True,
        "n_inner": 100,
        "attn_pdrop": 1.5,
        "resid_pdrop": "much",
        "n_layer": 0,
        "n_head": "four",
        "n_embd": None,
        "vocab_size": 2.5,
        "n_positions": -1,
    }.items():
        path.write_text(json.dumps({**good, name: value}))
        with pytest.raises(ValueError, match=name if name != "n_positions" else "block_size"):
            GPT.from_pretrained(folder)
    for text in ("{", "[]", "3", "\udcff"):
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        with pytest.raises(ValueError, match="config.json"):
            GPT.from_pretrained(folder)


@pytest.mark.parametrize("folder", ["with prefix"], indirect=True)
@pytest.mark.parametrize("theirs", ["tied"], indirect=True)
def test_damaged_and_missing_files(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    for damaged in (content[:1000], content[: len(content) // 2], b"", b"\xff" * 100):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="model.safetensors: is damaged"):
            GPT.from_pretrained(folder)
    path.unlink()
    with pytest.raises(DataError, match=r"has no model.safetensors"):
        GPT.from_pretrained(folder)
    with pytest.raises(DataError, match="neither a folder nor one of gpt2, gpt2-medium, gpt2-large, gpt2-xl"):
        GPT.from_pretrained(folder / "gpt3")


@pytest.mark.parametrize("folder", ["with prefix"], indirect=True)
@pytest.mark.parametrize("theirs", ["tied"], indirect=True)
@pytest.mark.parametrize("kind", ["shards", "bin"])
def test_weights_in_other_files_are_converted_as_the_message_says(theirs, folder, kind, tmp_path, monkeypatch, rng):
    (folder / "model.safetensors").unlink()
    if kind == "shards":
        theirs.save_pretrained(folder, max_shard_size="20KB")
    else:
        torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(DataError, match="has no model.safetensors, but ") as caught:
        GPT.from_pretrained(folder)
    assert caught.value.status == 2, "the given path is wrong"
    command = str(caught.value).partition('python -c "')[2].partition('"\n')[0]
    monkeypatch.chdir(tmp_path)
    exec(command, {})
    idx = tokens(rng, 1, 24)
    torch.testing.assert_close(GPT.from_pretrained("converted").eval()(idx)[0], theirs(idx).logits, atol=1e-4, rtol=0)


def test_without_a_network_it_says_how_to_get_the_files(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError) as caught:
        GPT.from_pretrained("gpt2-medium")
    message = str(caught.value)
    assert "gpt2-medium could not be fetched" in message
    assert "hf download openai-community/gpt2-medium config.json model.safetensors" in message
    assert "--local-dir gpt2-medium" in message and "./gpt2-medium" in message


@pytest.mark.parametrize("theirs", ["tied"], indirect=True)
def test_published_models_come_from_the_hubs_cache(theirs, monkeypatch, tmp_path, rng):
    """If its files are in the hub's cache, "gpt2" can be loaded without a network."""
    from huggingface_hub import constants

    commit = "0" * 40
    repository = tmp_path / "models--openai-community--gpt2"
    theirs.save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    idx = tokens(rng, 1, 24)
    torch.testing.assert_close(GPT.from_pretrained("gpt2").eval()(idx)[0], theirs(idx).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_sizes_are_the_published_ones(name):
    parameters = {"gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200}
    config = GPT.get_default_config()
    config.model_type, config.vocab_size, config.block_size, config.tie_weights = name, 50257, 1024, True
    assert name in MODEL_SIZES
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in GPT(config).parameters()) == parameters[name]
