"""Tests of the messages between the judge and a submission's process."""

import pytest
import torch

from staff.grading.inside import wire

# --- messages between the processes -----------------------------------------------------------------------------------


def test_what_is_sent_arrives():
    tensors = [torch.arange(6).view(2, 3), torch.randn(2, 0, 3), torch.tensor(1.5), torch.tensor([True, False])]
    tensors += [torch.randn(3).to(dtype) for dtype in (torch.float64, torch.float16, torch.bfloat16)]
    value = {"a": [1, "two", None, True, 2.5, (3, 4)], "t": tensors, "inf": float("inf"), "strided": torch.eye(3)[:, 1]}
    message = wire.encode(value)
    text, blob = wire.HEADER.unpack(message[: wire.HEADER.size])
    body = message[wire.HEADER.size :]
    back = wire.decode(body[:text], body[text : text + blob])
    assert back["a"] == value["a"] and back["inf"] == value["inf"] and type(back["a"][5]) is tuple
    for one, other in zip([*back["t"], back["strided"]], [*tensors, value["strided"]], strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
    assert wire.decode(*_message(float("nan"))) != 0


def _message(value) -> tuple[bytes, bytes]:
    message = wire.encode(value)
    size, _ = wire.HEADER.unpack(message[: wire.HEADER.size])
    return message[wire.HEADER.size :][:size], message[wire.HEADER.size + size :]


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a": {3}}, torch.ones(2, dtype=torch.complex64), b"bytes"])
def test_what_may_not_be_sent(value):
    with pytest.raises(wire.WireError):
        wire.encode(value)


@pytest.mark.parametrize(
    "text, blob",
    [
        (b"{", b""),
        (b"[1, 2]", b""),
        (b"NaN", b""),
        (b'{"float": "x"}', b""),
        (b'{"tensor": ["float32", [2]]}', b"\0" * 7),
        (b'{"tensor": ["float32", [1]]}', b"\0" * 8),
        (b'{"tensor": ["float32", [-1]]}', b""),
        (b'{"tensor": ["float32", [1.0]]}', b"\0" * 4),
        (b'{"tensor": ["float32", [true]]}', b"\0" * 4),
        (b'{"tensor": ["object", [1]]}', b"\0" * 8),
        (b'{"tensor": ["uint8", [1000000000000, 0]]}', b""),
        (b'{"tensor": ["uint8", [1, 1, 1, 1, 1, 1, 1, 1, 1]]}', b"\0"),
        (b'{"list": 1}', b""),
        (b'{"dict": [1]}', b""),
        (b'{"pickle": "x"}', b""),
        (b'{"list": [], "tuple": []}', b""),
        (b'{"list": [' * 100_000, b""),
        (b"1" * 5000, b""),
        (b"\xff", b""),
    ],
)
def test_what_is_no_message_is_refused(text, blob):
    with pytest.raises(wire.WireError):
        wire.decode(text, blob)


def test_a_byte_that_is_no_truth_value():
    found = wire.decode(b'{"tensor": ["bool", [3]]}', bytes([0, 1, 7]))
    assert found.view(torch.uint8).tolist() == [0, 1, 1]
