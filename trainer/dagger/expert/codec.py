"""What goes between us and an expert's process: length, then MessagePack; arrays as dtype, shape, bytes. No pickle."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

_LENGTH = struct.Struct("<Q")
_ARRAY, _OTHER = 1, 2


def _encoded(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufSU":
        about = (value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
        return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(about))
    if callable(getattr(value, "__array__", None)):  # tensors of whatever library
        return _encoded(np.asarray(value))
    return msgspec.msgpack.Ext(_OTHER, repr(value)[:200].encode("utf-8", "replace"))


def _decoded(code: int, data: memoryview) -> Any:
    if code != _ARRAY:
        return Opaque(bytes(data).decode("utf-8", "replace"))
    dtype, shape, raw = msgspec.msgpack.decode(data, type=tuple[str, tuple[int, ...], bytes])
    return np.frombuffer(raw, np.dtype(dtype)).reshape(shape)


class Opaque:
    """Something that cannot cross: only its `repr` did."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


_encoder = msgspec.msgpack.Encoder(enc_hook=_encoded)
_decoder = msgspec.msgpack.Decoder(ext_hook=_decoded)


def pack(message: Any) -> bytes:
    """Return a message's bytes. Raises TypeError or ValueError for what MessagePack cannot say."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def read_message(read: Callable[[int], bytes]) -> Any:
    """Read one message with a function that gives exactly so many bytes, fewer at the end. Raises EOFError."""
    head = read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (size,) = _LENGTH.unpack(head)
    body = read(size)
    if len(body) < size:
        raise EOFError
    return _decoder.decode(body)
