"""Copy the tensors of a network or an optimizer into few blocks of memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_TensorKey = tuple[object, ...]


def copy_tensors(state: Any) -> Any:
    """Return a copy of nested dicts, lists and tuples with all tensors on the CPU.

    A tensor that occurs several times is copied once. All tensors of one type share one storage: one copy instead of
    dozens, and one entry in the file that they are saved to.
    """
    found: dict[_TensorKey, Tensor] = {}
    _collect(state, found)
    copies: dict[_TensorKey, Tensor] = {}
    for kind in {(tensor.dtype, tensor.device) for tensor in found.values()}:
        keys = [key for key, tensor in found.items() if (tensor.dtype, tensor.device) == kind]
        flat = torch.cat([found[key].detach().reshape(-1) for key in keys]).cpu()
        parts = torch.split(flat, [found[key].numel() for key in keys])
        copies |= {key: part.view(found[key].shape) for key, part in zip(keys, parts, strict=True)}
    return _replace(state, copies)


def _key(tensor: Tensor) -> _TensorKey:
    return tensor.data_ptr(), tensor.dtype, tensor.device, tensor.shape, tensor.stride()


def _collect(state: Any, found: dict[_TensorKey, Tensor]) -> None:
    if isinstance(state, Tensor):
        found.setdefault(_key(state), state)
    elif isinstance(state, dict):
        for value in state.values():
            _collect(value, found)
    elif isinstance(state, (list, tuple)):
        for value in state:
            _collect(value, found)


def _replace(state: Any, copies: dict[_TensorKey, Tensor]) -> Any:
    if isinstance(state, Tensor):
        return copies[_key(state)]
    if isinstance(state, dict):
        return {key: _replace(value, copies) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_replace(value, copies) for value in state)
    return state
