"""Everything that learns: rollouts in, checkpoints and model JSON out.

`load_policy` is imported when it is first asked for, so that `import trainer` does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.checkpoints.policy import load_policy

__all__ = ["load_policy"]


def __getattr__(name: str) -> Any:
    """Import what is public, once it is asked for (PEP 562)."""
    if name == "load_policy":
        from trainer.checkpoints.policy import load_policy

        return load_policy
    raise AttributeError(f"module 'trainer' has no attribute {name!r}")
