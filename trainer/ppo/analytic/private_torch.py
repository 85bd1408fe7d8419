"""The private functions of torch that the analytic gradient calls.

They are not documented, so another version of torch may lack or change them. `self_test` checks them before their first
use. None stands for a missing function.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch

FUSED_ADAM = "_fused_adam_"
RELU_BACKWARD = "ops.aten.threshold_backward.grad_input"


def _find(path: str) -> Any:
    """Return torch's function at a dotted path, or None."""
    start: Any = torch
    return reduce(lambda found, name: getattr(found, name, None), path.split("."), start)


fused_adam_ = _find(FUSED_ADAM)
"""Adam's step for lists of tensors, in place, with the gradients divided by `grad_scale`."""

relu_backward_ = _find(RELU_BACKWARD)
"""`relu_backward_(gradient, output, 0, grad_input=out)`: the gradient if the output is above 0, otherwise 0."""


def missing() -> list[str]:
    """Return the names of the functions that this version of torch does not have."""
    found = {FUSED_ADAM: fused_adam_, RELU_BACKWARD: relu_backward_}
    return [f"torch.{path}" for path, function in found.items() if function is None]
