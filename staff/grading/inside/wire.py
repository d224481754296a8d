"""The protocol between the judge and a submission's process: only JSON and the bytes of tensors.

A message has a header with two sizes, JSON in which each tensor is replaced by a description, and the bytes of the
tensors in the same order. Nothing is executed or unpickled; the reader checks each length, type and shape.
"""

import json
import math
import os
import select
import struct
import time

import torch
from torch import Tensor

HEADER = struct.Struct("!IQ")
MOST_JSON, MOST_BYTES = 4_000_000, 256_000_000
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool,
    )
}  # fmt: skip


class WireError(Exception):
    """The message is malformed or too large, or the value cannot be sent."""


class Late(Exception):
    """The deadline has passed."""


class Closed(Exception):
    """The other side has closed the connection."""


def encode(value) -> bytes:
    """Encode a value as a message: tensors, numbers, strings, None, and lists, tuples and dictionaries of these.

    Raises:
        WireError: the value has another type, or is too large.
    """
    tensors: list[bytes] = []
    text = json.dumps(_describe(value, tensors)).encode()
    blob = b"".join(tensors)
    if len(text) > MOST_JSON or len(blob) > MOST_BYTES:
        raise WireError(f"an answer of {(len(text) + len(blob)) / 1e6:.0f} MB is too large")
    return HEADER.pack(len(text), len(blob)) + text + blob


def _describe(value, tensors: list[bytes]):
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return {"float": repr(float(value))}
    if isinstance(value, Tensor):
        return _describe_tensor(value, tensors)
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_describe(each, tensors) for each in value]}
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {"dict": {name: _describe(each, tensors) for name, each in value.items()}}
    raise WireError(f"a {type(value).__name__} is not a tensor, number or string")


def _describe_tensor(value: Tensor, tensors: list[bytes]) -> dict:
    name = str(value.dtype).removeprefix("torch.")
    if name not in DTYPES or value.layout != torch.strided or value.device.type == "meta":
        raise WireError(f"a tensor of {value.dtype}, {value.layout} on {value.device} cannot be judged")
    plain = value.detach().cpu().contiguous()
    tensors.append(plain.view(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return {"tensor": [name, list(plain.shape)]}


def decode(text: bytes, blob: bytes):
    """Decode the value in a message.

    Raises:
        WireError: the message is malformed.
    """
    try:
        tensors = memoryview(blob)
        value, left = _value(json.loads(text, parse_constant=_refuse), tensors)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise WireError("the answer is malformed") from error
    if len(left):
        raise WireError("the answer has unused bytes")
    return value


def _refuse(constant: str):
    raise ValueError(constant)


def _value(described, blob: memoryview):
    if not isinstance(described, dict):
        if isinstance(described, list):
            raise WireError("the answer is malformed")
        return described, blob
    ((kind, content),) = described.items()
    if kind == "float":
        return float(content), blob
    if kind == "tensor":
        return _tensor(*content, blob)
    if kind == "dict":
        values = {}
        for name, each in content.items():
            values[name], blob = _value(each, blob)
        return values, blob
    values = []
    for each in content:
        value, blob = _value(each, blob)
        values.append(value)
    if kind == "tuple":
        return tuple(values), blob
    if kind == "list":
        return values, blob
    raise WireError("the answer is malformed")


def _tensor(name: str, shape: list[int], blob: memoryview) -> tuple[Tensor, memoryview]:
    dtype = DTYPES[name]
    if len(shape) > 8 or not all(type(size) is int and 0 <= size <= MOST_BYTES for size in shape):
        raise WireError("the answer has a tensor of an impossible shape")
    size = math.prod(shape) * dtype.itemsize
    if size > len(blob):
        raise WireError("the answer lacks the bytes of a tensor")
    if size == 0:
        return torch.empty(shape, dtype=dtype), blob
    content = bytearray(blob[:size])
    if dtype == torch.bool:  # a byte other than 0 or 1 is not a valid bool
        return (torch.frombuffer(content, dtype=torch.uint8) != 0).view(shape), blob[size:]
    return torch.frombuffer(content, dtype=dtype).view(shape), blob[size:]


def write(fd: int, message: bytes, until: float | None = None) -> None:
    """Send a message.

    Raises:
        Late: the message was not sent before `until` (time.monotonic()). Closed: the other side is gone.
    """
    left = memoryview(message)
    while left:
        try:
            _wait(fd, select.POLLOUT, until)
            left = left[os.write(fd, left[:65536]) :]
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error


def read(fd: int, until: float | None = None):
    """Receive a message and return its value.

    Raises:
        WireError, Late, Closed: see the classes.
    """
    text_size, blob_size = HEADER.unpack(_read_exactly(fd, HEADER.size, until))
    if text_size > MOST_JSON or blob_size > MOST_BYTES:
        raise WireError("the answer is too large")
    return decode(_read_exactly(fd, text_size, until), _read_exactly(fd, blob_size, until))


def _read_exactly(fd: int, size: int, until: float | None) -> bytes:
    content = bytearray()
    while len(content) < size:
        _wait(fd, select.POLLIN, until)
        try:
            piece = os.read(fd, min(size - len(content), 1 << 20))
        except ConnectionResetError as error:
            raise Closed from error
        if not piece:
            raise Closed
        content += piece
    return bytes(content)


def _wait(fd: int, event: int, until: float | None) -> None:
    if until is None:
        return
    poll = select.poll()
    poll.register(fd, event)
    if not poll.poll(max(0, until - time.monotonic()) * 1000):
        raise Late
