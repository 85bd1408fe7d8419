"""The environment that a config names, opened and held to what DAgger needs of it. No episode is played here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigError, HotlapError
from schemas.program.commands import install_command
from trainer.common.user_code import search_current_folder
from trainer.dagger.actions import Actions, Labels, actions_of
from trainer.dagger.milestones import MilestoneConfig

BUILT_IN = {
    "racing": "trainer.envs.racing.milestones:RacingMilestones",
    "retro": "trainer.envs.retro:RetroMilestones",
}
_NEEDED = ("reset", "step", "save_state", "load_state")


class StateError(HotlapError):
    """A start state that is missing, torn, or of another game."""

    code = "E_STATE"


class EnvironmentRaisedError(HotlapError):
    """The environment raised where it should have played."""

    code = "E_ENV"


class GymEnvironment(Protocol):
    """A Gymnasium environment that can save and load its state."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; everything that chance decides in it comes from `seed`."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go one step on. `info["milestones"]` names what has been reached."""

    def render(self) -> Any:
        """Return an RGB frame [height, width, 3]."""

    def save_state(self) -> bytes:
        """Return the whole state of the game."""

    def load_state(self, state: bytes) -> Any:
        """Go back to a state. Raises ValueError for bytes that are none."""

    def close(self) -> None:
        """Let go of everything."""


@dataclass(frozen=True, slots=True)
class ObservationSpec:
    """What policies see: a vector of numbers, or a picture [height, width, channels] of bytes."""

    shape: tuple[int, ...]
    pixels: bool

    @property
    def dtype(self) -> type[Any]:
        """What observations are stored as."""
        return np.uint8 if self.pixels else np.float32

    def of(self, observation: Any) -> NDArray[Any]:
        """Return an observation as it is stored."""
        seen = np.asarray(observation)
        return seen if self.pixels else seen.astype(np.float32).reshape(self.shape)


class MilestoneEnv:
    """One environment with what is known about it."""

    def __init__(self, env: GymEnvironment, spec: ObservationSpec, actions: Actions) -> None:
        self._env, self.spec, self.actions = env, spec, actions
        self._expert_state = getattr(env, "expert_state", None)
        self._observation: Any = None

    def begin(self, seed: int, start: bytes | None) -> NDArray[Any]:
        """Begin an episode from a start state; None = where `reset` leads. Raises StateError."""
        try:
            self._observation, _ = self._env.reset(seed=seed)
        except Exception as error:
            raise _raised("reset", error) from error
        if start is not None:
            self._observation = self._load(start)
        return self.spec.of(self._observation)

    def step(self, label: Labels) -> tuple[NDArray[Any], bool, frozenset[str]]:
        """Return the next observation, whether the episode is over by the game's rules, and the milestones reached."""
        try:
            self._observation, _, terminated, truncated, info = self._env.step(self.actions.for_env(label))
        except Exception as error:
            raise _raised("step", error) from error
        reached = info.get("milestones", ())
        return self.spec.of(self._observation), bool(terminated or truncated), frozenset(map(str, reached))

    def expert_state(self) -> Any:
        """What the expert is given: the environment's `expert_state()` where it has one, else the observation."""
        return self._expert_state() if self._expert_state is not None else self._observation

    def frame(self) -> NDArray[np.uint8]:
        """An RGB picture of now."""
        picture = self._env.render()
        if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3:
            raise ConfigError("render() gives no RGB frame", hint='make it with render_mode="rgb_array"')
        return picture.astype(np.uint8, copy=False)

    def frames_per_second(self) -> int:
        """How fast a video of it should run."""
        metadata = getattr(self._env, "metadata", None) or {}
        return max(1, round(float(metadata.get("render_fps") or 30)))

    def save_state(self) -> bytes:
        """The state of now."""
        return bytes(self._env.save_state())

    def close(self) -> None:
        """Let go of the environment."""
        self._env.close()

    def _load(self, start: bytes) -> Any:
        try:
            given = self._env.load_state(start)
        except Exception as error:  # noqa: BLE001
            raise StateError(
                f"the start state cannot be loaded: {error}", hint="remove it to have it made anew"
            ) from None
        if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict):
            return given[0]
        if given is not None and not isinstance(given, bool):
            return given
        observe = getattr(self._env, "observe", None)
        if not callable(observe):
            raise ConfigError(
                "the environment does not say what is seen after load_state()",
                hint="let load_state() give the observation, or add observe()",
            )
        return observe()


def _raised(where: str, error: Exception) -> EnvironmentRaisedError:
    return EnvironmentRaisedError(
        f"the environment's {where}() raised {type(error).__name__}: {error}", hint="its log says more"
    )


def open_environments(config: MilestoneConfig, most: int) -> list[MilestoneEnv]:
    """Open as many environments side by side as the config or the environment allows, `most` at most."""
    first = _make(config)
    view, actions = _view_of(first), actions_of(first)
    lanes = min(most, config.lanes or int(getattr(first, "lanes", 1)))
    envs = [first, *(_make(config) for _ in range(lanes - 1))]
    return [MilestoneEnv(env, view, actions) for env in envs]


def _make(config: MilestoneConfig) -> Any:
    """Make the environment. Raises ConfigError with one line, whatever goes wrong in it."""
    name = BUILT_IN.get(config.env, config.env)
    try:
        factory, given = _named(name) if ":" in name else _registered(name)
        env = _call(factory, {**given, **config.env_options}, config)
    except HotlapError:
        raise
    except Exception as error:  # noqa: BLE001
        hint = "see docs/dagger.md"
        if isinstance(error, ModuleNotFoundError):
            extra = {"stable_retro": "retro", "gymnasium": "dagger"}.get(error.name or "")
            hint = install_command(extra) if extra else "is it installed, or in this folder?"
        raise ConfigError(f"env {config.env} cannot be made: {type(error).__name__}: {error}", hint=hint) from None
    missing = [name for name in _NEEDED if not callable(getattr(env, name, None))]
    if missing:
        raise ConfigError(f"env {config.env} has no {', '.join(missing)}()", hint="see docs/dagger.md")
    return env


def _named(name: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    search_current_folder()
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute), {}


def _registered(name: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return what a Gymnasium id stands for, without the wrappers of `make`: they hide save_state() and end episodes."""
    import gymnasium
    from gymnasium.envs.registration import load_env_creator

    spec = gymnasium.spec(name)
    point = spec.entry_point
    if point is None:
        raise ValueError("it has no entry point")
    return (load_env_creator(point) if isinstance(point, str) else point), dict(spec.kwargs)


def _call(factory: Callable[..., Any], given: dict[str, Any], config: MilestoneConfig) -> Any:
    parameters = inspect.signature(factory).parameters
    takes_any = ":" in config.env and any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if "milestones" in parameters or takes_any:
        given["milestones"] = [milestone.model_dump() for milestone in config.milestones]
    if "render_mode" in parameters:
        given.setdefault("render_mode", "rgb_array")
    return factory(**given)


def _view_of(env: Any) -> ObservationSpec:
    from gymnasium import spaces

    space = env.observation_space
    if isinstance(space, spaces.Box):
        if len(space.shape) == 1:
            return ObservationSpec(tuple(space.shape), pixels=False)
        if len(space.shape) == 3 and space.dtype == np.uint8:
            return ObservationSpec(tuple(space.shape), pixels=True)
    raise ConfigError(
        f"observations {space} cannot be learned from",
        hint="use a one-dimensional Box, or a Box [height, width, channels] of uint8",
    )
