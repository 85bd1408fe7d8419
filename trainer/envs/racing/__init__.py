"""The racing game: numpy only, so that the simulated engine starts fast."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.envs.racing.simulation import RacingSimulation
    from trainer.envs.racing.vec_env import RacingVecEnv
    from trainer.envs.vec_env import Step

__all__ = ["RacingSimulation", "RacingVecEnv", "Step"]

_MODULE_OF = {
    "RacingSimulation": "trainer.envs.racing.simulation",
    "RacingVecEnv": "trainer.envs.racing.vec_env",
    "Step": "trainer.envs.vec_env",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
