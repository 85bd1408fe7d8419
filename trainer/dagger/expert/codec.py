"""Messages to and from an expert's process: a length, then MessagePack, with arrays as dtype, shape, bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

_LENGTH = struct.Struct("<Q")
_ARRAY, _OTHER = 1, 2


class Opaque:
    """A value that MessagePack cannot encode: only its `repr` is sent."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _encode_value(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufSU":
        parts = (value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
        return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(parts))
    if callable(getattr(value, "__array__", None)):  # tensors of any library
        return _encode_value(np.asarray(value))
    return msgspec.msgpack.Ext(_OTHER, repr(value)[:200].encode("utf-8", "replace"))


def _decode_value(code: int, data: memoryview) -> Any:
    if code != _ARRAY:
        return Opaque(bytes(data).decode("utf-8", "replace"))
    dtype, shape, raw = msgspec.msgpack.decode(data, type=tuple[str, tuple[int, ...], bytes])
    return np.frombuffer(raw, np.dtype(dtype)).reshape(shape)


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_value)
_decoder = msgspec.msgpack.Decoder(ext_hook=_decode_value)


def pack(message: Any) -> bytes:
    """Return the bytes of a message. Raises TypeError or ValueError if MessagePack cannot express it."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def read_message(read: Callable[[int], bytes]) -> Any:
    """Return the next message. `read` returns exactly the requested number of bytes, or fewer at the end.

    Raises EOFError at the end.
    """
    head = read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (size,) = _LENGTH.unpack(head)
    body = read(size)
    if len(body) < size:
        raise EOFError
    return _decoder.decode(body)
