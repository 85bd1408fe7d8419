"""Copies of a network's and an optimizer's tensors, as few pieces of memory as can be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_Place = tuple[object, ...]


def copy_tensors(state: Any) -> Any:
    """Copy nested dicts, lists and tuples to the CPU.

    What stands in several places is copied once, and all tensors of one type share one storage: one copy instead of
    dozens, and one entry in the file they are saved to.
    """
    found: dict[_Place, Tensor] = {}
    _collect(state, found)
    copies: dict[_Place, Tensor] = {}
    for kind in {(tensor.dtype, tensor.device) for tensor in found.values()}:
        places = [place for place, tensor in found.items() if (tensor.dtype, tensor.device) == kind]
        flat = torch.cat([found[place].detach().reshape(-1) for place in places]).cpu()
        parts = torch.split(flat, [found[place].numel() for place in places])
        copies |= {place: part.view(found[place].shape) for place, part in zip(places, parts, strict=True)}
    return _replaced(state, copies)


def _place(tensor: Tensor) -> _Place:
    return tensor.data_ptr(), tensor.dtype, tensor.device, tensor.shape, tensor.stride()


def _collect(state: Any, found: dict[_Place, Tensor]) -> None:
    if isinstance(state, Tensor):
        found.setdefault(_place(state), state)
    elif isinstance(state, dict):
        for value in state.values():
            _collect(value, found)
    elif isinstance(state, (list, tuple)):
        for value in state:
            _collect(value, found)


def _replaced(state: Any, copies: dict[_Place, Tensor]) -> Any:
    if isinstance(state, Tensor):
        return copies[_place(state)]
    if isinstance(state, dict):
        return {key: _replaced(value, copies) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_replaced(value, copies) for value in state)
    return state
