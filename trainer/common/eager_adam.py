"""torch's Adam without the import of torch.compile, which takes a second of CPU time and 75 MB in every process."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Method = TypeVar("Method", bound=Callable[..., Any])


def _undecorated(method: Method) -> Method:
    """Return a method of torch without its decorators, which only matter to code that torch.compile compiles."""
    plain: Method = inspect.unwrap(method)
    return plain


class EagerAdam(torch.optim.Adam):
    """`torch.optim.Adam` for code that is not compiled: the same steps and the same state."""

    add_param_group = _undecorated(torch.optim.Adam.add_param_group)
    load_state_dict = _undecorated(torch.optim.Adam.load_state_dict)
    state_dict = _undecorated(torch.optim.Adam.state_dict)
    zero_grad = _undecorated(torch.optim.Adam.zero_grad)
    step = torch.no_grad()(_undecorated(torch.optim.Adam.step))
