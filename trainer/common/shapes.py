"""Axes live in the name: the capital letters after the last underscore, one an axis, checked where data is made.

B experiences    O observation features    A action numbers    K outputs of the policy head
F final observations    C packed action columns
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class ShapeError(TypeError):
    """Two columns that should be equally long are not, or one has another number of axes than its name says."""


def check_shapes(record: DataclassInstance) -> dict[str, int]:
    """Bind each letter after a field's last underscore to one size: obs_BO gives {B: 64, O: 15}."""
    size: dict[str, int] = {}
    for field in fields(record):
        value: Any = getattr(record, field.name)
        letters = field.name.rpartition("_")[2]
        if not hasattr(value, "shape") or not letters.isupper():
            continue
        if len(letters) != value.ndim:
            raise ShapeError(f"{field.name}: {value.ndim} axes, {len(letters)} letters")
        for letter, n in zip(letters, value.shape, strict=True):
            if size.setdefault(letter, n) != n:
                raise ShapeError(f"{field.name}: {letter} is {n} here and {size[letter]} before")
    return size


Float64 = npt.NDArray[np.float64]


Int64 = npt.NDArray[np.int64]
