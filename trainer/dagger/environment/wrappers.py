"""What an environment offers through Gymnasium's wrappers, which hide all methods that Gymnasium does not know."""

from __future__ import annotations

from typing import Any


def find_attribute(env: Any, name: str) -> Any:
    """Return an attribute of an environment or of the one that it wraps; None if nobody has it."""
    owner = _owner_of(env, name)
    return None if owner is None else getattr(owner, name, None)


def wrapped_observation(env: Any, name: str, observation: Any) -> Any:
    """Return an observation that the method `name` returned as the outermost wrapper would return it.

    Return None if this is unknown, because a wrapper between them needs more than the observation.
    """
    from gymnasium import ObservationWrapper

    owner, layers = _owner_of(env, name), []
    layer = env
    while layer is not owner:
        layers.append(layer)
        layer = layer.env
    for layer in reversed(layers):
        if isinstance(layer, ObservationWrapper):
            observation = layer.observation(observation)
        elif layer.observation_space != layer.env.observation_space:
            return None
    return observation


def _owner_of(env: Any, name: str) -> Any:
    from gymnasium import Wrapper

    while getattr(env, name, None) is None:
        if not isinstance(env, Wrapper):
            return None
        env = env.env
    return env
