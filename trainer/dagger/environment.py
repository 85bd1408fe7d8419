"""Environments of DAgger: create the one that a config names, check it, and convert its exceptions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigError, HotlapError
from schemas.program.commands import install_command
from trainer.common.user_code import search_current_folder
from trainer.dagger.actions import ActionSpec, Labels, read_action_spec
from trainer.dagger.milestones import MilestoneConfig

BUILT_IN = {
    "racing": "trainer.envs.racing.milestones:RacingMilestones",
    "retro": "trainer.envs.retro:RetroMilestones",
}
_REQUIRED_METHODS = ("reset", "step", "save_state", "load_state")
_HINT = "see `hotlap docs dagger`"
T = TypeVar("T")


class StateError(HotlapError):
    """A start state is missing, damaged, or from another game."""

    code = "E_STATE"


class EnvironmentRaisedError(HotlapError):
    """The environment raised an exception, or returned something that cannot be used."""

    code = "E_ENV"


class StatefulEnv(Protocol):
    """A Gymnasium environment that can save and load its state."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode. All its randomness comes from `seed`."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Do one step. `info["milestones"]` names the milestones that are reached."""

    def render(self) -> Any:
        """Return an RGB frame [height, width, 3]."""

    def save_state(self) -> bytes:
        """Return the whole state of the game."""

    def load_state(self, state: bytes) -> Any:
        """Set the state. Raises an exception for bytes that are not a state."""

    def close(self) -> None:
        """Release all resources."""


@dataclass(frozen=True, slots=True)
class ObservationSpec:
    """The observations of policies: vectors, or images [height, width, channels] of bytes."""

    shape: tuple[int, ...]
    is_image: bool

    def as_array(self, observation: Any) -> NDArray[Any]:
        """Return an observation as it is stored. Raises ValueError if it is not a finite array of this shape."""
        array = np.array(observation, dtype=np.uint8 if self.is_image else np.float32)  # a copy: envs reuse theirs
        if not self.is_image and array.size == self.shape[0]:
            array = array.reshape(self.shape)
        if array.shape != self.shape:
            raise ValueError(f"an observation of shape {array.shape} instead of {self.shape}")
        if not self.is_image and not np.isfinite(array).all():
            raise ValueError("an observation that contains nan or inf")
        return array


class MilestoneEnv:
    """One environment with its observation and action spec."""

    def __init__(self, env: StatefulEnv, spec: ObservationSpec, actions: ActionSpec) -> None:
        self._env, self.spec, self.actions = env, spec, actions
        self._expert_state = getattr(env, "expert_state", None)
        self._observation: Any = None

    def reset(self, seed: int, start_state: bytes | None) -> NDArray[Any]:
        """Start an episode from a state and return the first observation; None: the state after the env's reset.

        Raises StateError if the state cannot be loaded.
        """
        result: Any = _call("reset", lambda: self._env.reset(seed=seed))
        if not isinstance(result, tuple) or len(result) != 2:
            raise EnvironmentRaisedError("the environment's reset() must return (observation, info)", hint=_HINT)
        self._observation = result[0]
        if start_state is not None:
            self._observation = self._load(start_state)
        return self._checked_observation("reset")

    def step(self, label: Labels) -> tuple[NDArray[Any], bool, frozenset[str]]:
        """Return the next observation, whether the game ended the episode, and the milestones that are reached."""
        result = _call("step", lambda: self._env.step(self.actions.env_action(label)))
        try:
            self._observation, _, terminated, truncated, info = result
            reached = info.get("milestones", ())
            names = frozenset([reached] if isinstance(reached, str) else map(str, reached))
        except (TypeError, ValueError, AttributeError):
            raise EnvironmentRaisedError(
                "the environment's step() must return (observation, reward, terminated, truncated, info), "
                'and info["milestones"] must be a list of ids',
                hint=_HINT,
            ) from None
        return self._checked_observation("step"), bool(terminated or truncated), names

    def expert_state(self) -> Any:
        """Return the state for the expert: the environment's `expert_state()` if it has one, else the observation."""
        return self._observation if self._expert_state is None else _call("expert_state", self._expert_state)

    def render(self) -> NDArray[np.uint8]:
        """Return an RGB frame of the current state."""
        frame = _call("render", self._env.render)
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3:
            raise EnvironmentRaisedError(
                "the environment's render() did not return an array [height, width, 3]",
                hint='create it with render_mode="rgb_array", or use --no-record-video',
            )
        return frame.astype(np.uint8, copy=False)

    def frames_per_second(self) -> int:
        """Return the frame rate of videos."""
        metadata = getattr(self._env, "metadata", None) or {}
        return max(1, round(float(metadata.get("render_fps") or 30)))

    def save_state(self) -> bytes:
        """Return the current state."""
        return bytes(_call("save_state", self._env.save_state))

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _checked_observation(self, method: str) -> NDArray[Any]:
        try:
            return self.spec.as_array(self._observation)
        except (TypeError, ValueError) as error:
            raise EnvironmentRaisedError(f"the environment's {method}() returned {error}") from None

    def _load(self, start_state: bytes) -> Any:
        try:
            result = self._env.load_state(start_state)
        except Exception as error:  # noqa: BLE001
            raise StateError(
                f"the start state cannot be loaded: {type(error).__name__}: {error}",
                hint="remove the file; the previous milestone's expert creates it again",
            ) from None
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict):
            return result[0]
        if result is not None and not isinstance(result, bool):
            return result
        observe = getattr(self._env, "observe", None)
        if not callable(observe):
            raise ConfigError(
                "the observation after load_state() is unknown",
                hint="let load_state() return the observation, or add observe() to the environment",
            )
        return _call("observe", observe)


def _call(method: str, function: Callable[[], T]) -> T:
    """Return what a method of the environment returns. Raises EnvironmentRaisedError."""
    try:
        return function()
    except Exception as error:
        raise EnvironmentRaisedError(
            f"the environment's {method}() raised {type(error).__name__}: {error}", hint="see the milestone's log"
        ) from error


def open_environments(config: MilestoneConfig, max_count: int) -> list[MilestoneEnv]:
    """Create as many environments as the config or the environment allows in one process, at most `max_count`."""
    first = _make(config)
    spec, actions = _read_observation_spec(first), read_action_spec(first)
    allowed = config.num_envs or int(getattr(first, "num_envs", getattr(first, "lanes", 1)))
    envs = [first, *(_make(config) for _ in range(min(max_count, allowed) - 1))]
    return [MilestoneEnv(env, spec, actions) for env in envs]


def _make(config: MilestoneConfig) -> Any:
    """Create the environment. Raises ConfigError with one line for every failure."""
    name = BUILT_IN.get(config.env, config.env)
    try:
        factory, options = _import_factory(name) if ":" in name else _find_registered(name)
        env = _create(factory, {**options, **config.env_options}, config)
    except HotlapError:
        raise
    except Exception as error:  # noqa: BLE001
        close = get_close_matches(config.env.lower(), BUILT_IN, n=1)
        hint = f"did you mean {close[0]}?" if close and config.env not in BUILT_IN else _HINT
        if isinstance(error, ModuleNotFoundError):
            extra = {"stable_retro": "retro", "gymnasium": "dagger"}.get(error.name or "")
            hint = install_command(extra) if extra else "install it, or run the command in its folder"
        raise ConfigError(f"env {config.env} cannot be created: {type(error).__name__}: {error}", hint=hint) from None
    missing = [f"{name}()" for name in _REQUIRED_METHODS if not callable(getattr(env, name, None))]
    if missing:
        raise ConfigError(f"env {config.env} does not have {', '.join(missing)}", hint=_HINT)
    return env


def _import_factory(name: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    search_current_folder()
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute), {}


def _find_registered(name: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the factory and the options of a Gymnasium id.

    `gymnasium.make` is not used: its wrappers hide save_state() and end episodes.
    """
    import gymnasium
    from gymnasium.envs.registration import load_env_creator

    spec = gymnasium.spec(name)
    point = spec.entry_point
    if point is None:
        raise ValueError("it has no entry point")
    return (load_env_creator(point) if isinstance(point, str) else point), dict(spec.kwargs)


def _create(factory: Callable[..., Any], options: dict[str, Any], config: MilestoneConfig) -> Any:
    parameters = inspect.signature(factory).parameters
    takes_any = ":" in config.env and any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if "milestones" in parameters or takes_any:
        options["milestones"] = [milestone.model_dump() for milestone in config.milestones]
    if "render_mode" in parameters:
        options.setdefault("render_mode", "rgb_array")
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        unknown = [name for name in config.env_options if name not in parameters]
        if unknown:
            known = ", ".join(name for name in parameters if name not in {"milestones", "render_mode"})
            hint = f"its options are {known}" if known else "it has no options"
            raise ConfigError(f"env {config.env} does not have the option {unknown[0]} (in env_options)", hint=hint)
    return factory(**options)


def _read_observation_spec(env: Any) -> ObservationSpec:
    from gymnasium import spaces

    space = env.observation_space
    if isinstance(space, spaces.Box):
        if len(space.shape) == 1:
            return ObservationSpec(tuple(space.shape), is_image=False)
        if len(space.shape) == 3 and space.dtype == np.uint8:
            return ObservationSpec(tuple(space.shape), is_image=True)
    raise ConfigError(
        f"DAgger cannot learn from the observation space {space}",
        hint="use a one-dimensional Box, or a Box [height, width, channels] of uint8",
    )
