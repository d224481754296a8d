"""Download GPT-2's files, config.json and model.safetensors, from the Hugging Face hub; read and write such files.

Their tensors have the same names as ours, with or without the prefix "transformer.". There are three differences:
- four weights of each block are stored transposed, as [in, out];
- the file also contains the causal masks (`attn.bias`), which are not weights;
- `lm_head.weight` is missing if it is tied to the token embedding.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from course.datasets import DataError
from course.files import write_whole
from part3_gpt.options import PRETRAINED

TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
MASKS = (".attn.bias", ".attn.masked_bias")
FILES = ("config.json", "model.safetensors")
SIZES = {"n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 50257, "n_positions": 1024}  # with GPT-2's defaults
DROPOUTS = {"embd_pdrop": 0.1, "resid_pdrop": 0.1, "attn_pdrop": 0.1}
FIXED = {  # options of GPT-2's configuration -> values that this model supports, the default in transformers first
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


def locate(name_or_folder: str | Path, files: tuple[str, ...] = FILES) -> Path:
    """Return the folder with a model's files: as given, or in huggingface_hub's cache, downloaded if necessary.

    Raises:
        DataError: files are not available; the message says how to get them.
    """
    if str(name_or_folder) not in PRETRAINED:
        folder = Path(name_or_folder).expanduser()
        if not folder.is_dir():
            raise DataError(f"{folder}: neither a folder nor one of {', '.join(PRETRAINED)}", status=2)
        missing = [file for file in files if not (folder / file).is_file()]
        if missing:
            raise DataError(f"{folder}: has no {' and no '.join(missing)}{_other_weights(folder)}", status=2)
        return folder
    from huggingface_hub import hf_hub_download

    repository = f"openai-community/{name_or_folder}"
    try:
        return [Path(hf_hub_download(repository, file)).parent for file in files][-1]
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{name_or_folder} could not be fetched from the Hugging Face hub and is not in its local cache: {reason}\n"
            f"On a machine with network access: `hf download {repository} {' '.join(FILES)} tokenizer.json --local-dir"
            f" {name_or_folder}`; copy that folder here and give its path (./{name_or_folder}) instead of the name."
        ) from error


def _other_weights(folder: Path) -> str:
    """Return advice on how to convert weights in unsupported files: those that are pickled or split into shards."""
    others = ("model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
    found = next((name for name in others if (folder / name).is_file()), None)
    if found is None:
        return ""
    return (
        f", but {found}; only weights in a single safetensors file can be read. With transformers installed,"
        " this command converts them:\n"
        '  python -c "from transformers import GPT2LMHeadModel as Model;'
        f" Model.from_pretrained({str(folder)!r}).save_pretrained('converted', max_shard_size='100GB')\"\n"
        "Then pass ./converted. If the folder has tokenizer.json, or vocab.json and merges.txt, copy them there first."
    )


def read(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """Read the fields of a GPTConfig and the float32 tensors, keyed by their names in the file.

    Raises:
        course.datasets.DataError: a file cannot be read.
        ValueError: a file is damaged, or describes a model that is not supported.
    """
    for name in FILES:
        _check_readable(folder / name)
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'}: is not JSON: {error}") from error
    settings = _settings(described, folder / "config.json")
    path = folder / "model.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a dictionary)
    except SafetensorError as error:
        raise ValueError(f"{path}: is damaged, or not a safetensors file: {error}") from error
    strange = [name for name, value in state.items() if not value.is_floating_point() and not name.endswith(MASKS)]
    if strange:
        raise ValueError(f"{path}: {strange[0]} is {state[strange[0]].dtype}, not a weight")
    return settings, {name: value.float() for name, value in state.items()}


def _check_readable(path: Path) -> None:
    """Check that a file can be opened: safetensors would report an unreadable file as "No such file"."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", status=2) from error


def _settings(described: object, path: Path) -> dict:
    if not isinstance(described, dict):
        raise ValueError(f"{path}: is not a configuration")
    for name, allowed in FIXED.items():
        if described.get(name, allowed[0]) not in allowed:
            raise ValueError(f"{path}: {name} is {described[name]!r}; this model has {' or '.join(map(str, allowed))}")
    sizes = {name: described.get(name, default) for name, default in SIZES.items()}
    dropouts = {name: described.get(name, default) for name, default in DROPOUTS.items()}
    if described.get("n_inner") not in (None, 4 * sizes["n_embd"] if isinstance(sizes["n_embd"], int) else None):
        raise ValueError(f"{path}: n_inner is {described['n_inner']!r}; this model has 4 n_embd")
    for name, value in dropouts.items():
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"{path}: {name} is {value!r}, not a probability")
    tied = described.get("tie_word_embeddings", True) is not False
    block_size = sizes.pop("n_positions")
    return {**sizes, **dropouts, "block_size": block_size, "tie_weights": tied}


def load(model, state: dict[str, Tensor]) -> None:
    """Load a file's tensors into a GPT; the tensors of both must match.

    Raises:
        ValueError: tensors are missing, extra or of the wrong shape (the message names them), or the last layer
            differs from the token embedding although config.json ties them.
    """
    ours = dict(model.named_parameters())  # without a tied last layer
    theirs = {_our_name(name): value for name, value in state.items() if not name.endswith(MASKS)}
    if model.config.tie_weights and "lm_head.weight" in theirs:
        if not torch.equal(theirs.pop("lm_head.weight"), theirs.get("transformer.wte.weight", torch.empty(0))):
            raise ValueError("lm_head.weight differs from wte.weight, although config.json says that they are tied")
    theirs = {name: value.T if name.endswith(TRANSPOSED) else value for name, value in theirs.items()}
    problems = [f"missing: {name}" for name in ours if name not in theirs]
    problems += [f"extra: {name}" for name in theirs if name not in ours]
    problems += [
        f"wrong shape: {name} is {tuple(theirs[name].shape)}, should be {tuple(parameter.shape)}"
        for name, parameter in ours.items()
        if name in theirs and theirs[name].shape != parameter.shape
    ]
    if problems:
        raise ValueError(
            "the file's tensors do not match the model (shapes after transposing [in, out] weights): "
            + "; ".join(problems)
        )
    for name, parameter in ours.items():
        parameter.data = theirs[name]  # keeps the file's memory layout, [in, out], which is faster for a few rows


def _our_name(name: str) -> str:
    return name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"


def write(model, folder: Path) -> None:
    """Write a GPT's files to a folder, in the format of transformers' GPT2LMHeadModel."""
    config = model.config
    end = 50256 if config.vocab_size == 50257 else None  # GPT-2's <|endoftext|>
    described = {
        **{name: config.block_size if name == "n_positions" else getattr(config, name) for name in SIZES},
        **{name: getattr(config, name) for name in DROPOUTS},
        **{name: allowed[0] for name, allowed in FIXED.items()},
        "bos_token_id": end,
        "eos_token_id": end,
        "architectures": ["GPT2LMHeadModel"],
        "tie_word_embeddings": config.tie_weights,
    }
    tensors = {
        name: (value.detach().T if name.endswith(TRANSPOSED) else value.detach()).contiguous().cpu()
        for name, value in model.named_parameters()
    }
    write_whole(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))
    write_whole(folder / "config.json", json.dumps(described, indent=2).encode() + b"\n")
