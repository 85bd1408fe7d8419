"""Rocket League through RocketSim: simulation, observations, rewards, actions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.envs.rocket.gymnasium_envs import RocketSimEnv, RocketVectorEnv

__all__ = ["RocketSimEnv", "RocketVectorEnv"]

_MODULE_OF = {
    "RocketSimEnv": "trainer.envs.rocket.gymnasium_envs",
    "RocketVectorEnv": "trainer.envs.rocket.gymnasium_envs",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
