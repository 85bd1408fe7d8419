"""Axis letters in the names of arrays, and a check that arrays have these axes.

The capital letters after a name's last underscore are its axes, one letter for each: `observation_BO` is [B, O].

B experiences    O observation features    A action numbers    K outputs of the policy head
F final observations    C encoded action columns    P critic observations: features that only critics see
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


class ShapeError(TypeError):
    """An array does not have the axes in its name, or an axis has several sizes."""


def check_shapes(record: DataclassInstance) -> dict[str, int]:
    """Return the size of each axis letter in a dataclass of arrays. Raises ShapeError."""
    sizes: dict[str, int] = {}
    for field in fields(record):
        value: Any = getattr(record, field.name)
        letters = field.name.rpartition("_")[2]
        if not hasattr(value, "shape") or not letters.isupper():
            continue
        if len(letters) != value.ndim:
            raise ShapeError(f"{field.name} has {value.ndim} axes, but its name has {len(letters)} letters")
        for letter, size in zip(letters, value.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ShapeError(f"{field.name}: axis {letter} is {size}, but {sizes[letter]} in a field before it")
    return sizes
