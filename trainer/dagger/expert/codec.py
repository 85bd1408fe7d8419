"""Messages to and from an expert's process: a length, then MessagePack.

Arrays are sent as dtype, shape and bytes. Tuples, sets and dicts whose keys are not texts, which MessagePack does not
have, arrive as what they were.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

_LENGTH = struct.Struct("<Q")
_ARRAY, _OTHER, _TUPLE, _SET, _DICT = 1, 2, 3, 4, 5


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
        array = np.asarray(value)
        if array.dtype.kind in "biufSU":
            return _encode_value(array)
    return msgspec.msgpack.Ext(_OTHER, repr(value)[:200].encode("utf-8", "replace"))


def _decode_value(code: int, data: memoryview) -> Any:
    match code:
        case 1:
            dtype, shape, raw = msgspec.msgpack.decode(data, type=tuple[str, tuple[int, ...], bytes])
            return np.frombuffer(raw, np.dtype(dtype)).reshape(shape)
        case 3:
            return tuple(_decoder.decode(data))
        case 4:
            return set(_decoder.decode(data))
        case 5:
            return dict(_decoder.decode(data))
    return Opaque(bytes(data).decode("utf-8", "replace"))


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_value)
_decoder = msgspec.msgpack.Decoder(ext_hook=_decode_value)


def _marked(value: Any) -> Any:
    """Return a value in which tuples, sets and dicts with other keys than texts are marked as such."""
    kind = type(value)
    if kind is list:
        return [_marked(item) for item in value]
    if isinstance(value, dict):
        if all(type(key) is str for key in value):
            return {key: _marked(item) for key, item in value.items()}
        return _ext(_DICT, [[_marked(key), _marked(item)] for key, item in value.items()])
    if isinstance(value, tuple):
        return _ext(_TUPLE, [_marked(item) for item in value])
    if isinstance(value, set | frozenset):
        return _ext(_SET, [_marked(item) for item in value])
    return value


def _ext(code: int, items: list[Any]) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, _encoder.encode(items))


def encode_state(state: Any) -> msgspec.Raw:
    """Return a state as a part of a message. Raises TypeError, ValueError, OverflowError or RecursionError."""
    return msgspec.Raw(_encoder.encode(_marked(state)))


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
