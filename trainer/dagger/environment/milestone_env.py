"""One environment of a milestone, with its observation and action spec. Its exceptions become one line each."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainer.dagger.actions import ActionSpec, Labels
from trainer.dagger.environment.errors import HINT, EnvironmentRaisedError, NoFrameError, StateError, in_environment
from trainer.dagger.environment.frames import rgb_frame
from trainer.dagger.environment.reached import UnclearMilestonesError, reached_milestones
from trainer.dagger.environment.saved_states import SavedStates
from trainer.dagger.environment.wrappers import find_attribute, wrapped_observation
from trainer.dagger.expert.codec import encode_state
from trainer.envs.observations import ObservationSpec

_OBSERVING = ("observe", "get_observation", "get_obs", "_get_observation", "_get_obs", "_observe", "_observation")
_MAX_NAMES = 5
_IDLE = ("noop", "no_op", "no-op", "none", "wait", "stay", "idle", "nothing")


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


class MilestoneEnv:
    """One environment with its observation and action spec."""

    def __init__(self, env: StatefulEnv, spec: ObservationSpec, actions: ActionSpec) -> None:
        self._env, self.spec, self.actions = env, spec, actions
        self._expert_state = find_attribute(env, "expert_state")
        self._states = SavedStates(env)
        self._observation: Any = None
        self._names: set[str] = set()
        self._reports_milestones = False
        self._idle_action = ""

    def reset(self, seed: int, start_state: bytes | None) -> NDArray[Any]:
        """Start an episode from a state and return the first observation; None: the state after the env's reset.

        Raises StateError if the state cannot be loaded.
        """
        with in_environment("reset()"):
            result: Any = self._env.reset(seed=seed)
        if not isinstance(result, tuple) or len(result) != 2:
            raise EnvironmentRaisedError("the environment's reset() must return (observation, info)", hint=HINT)
        self._observation = result[0]
        if start_state is not None:
            self._load(start_state)
        return self._checked_observation("reset")

    def step(self, label: Labels) -> tuple[NDArray[Any], bool, frozenset[str]]:
        """Return the next observation, whether the game ended the episode, and the milestones that are reached."""
        with in_environment("step()"):
            result = self._env.step(self.actions.env_action(label))
        try:
            self._observation, _, terminated, truncated, info = result
            reported = info.get("milestones")
        except (TypeError, ValueError, AttributeError):
            raise EnvironmentRaisedError(
                "the environment's step() must return (observation, reward, terminated, truncated, info)", hint=HINT
            ) from None
        try:
            names = reached_milestones(reported)
        except UnclearMilestonesError as error:
            hint = 'let it contain the ids that are reached, as in ["DOOR"], or flags, as in {"DOOR": true}'
            raise EnvironmentRaisedError(f'info["milestones"] is {error}', hint=hint) from None
        self._reports_milestones |= reported is not None
        self._names |= names
        return self._checked_observation("step"), bool(terminated or truncated), names

    def reported_milestones(self, milestone_id: str) -> str:
        """Return in words what the environment reported so far, if it never reported one milestone; else ""."""
        if milestone_id in self._names:
            return ""
        if not self._reports_milestones:
            return 'its steps have no info["milestones"]'
        if not self._names:
            return 'info["milestones"] was always empty'
        names = sorted(self._names)
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        return f'info["milestones"] had only {", ".join(names[:_MAX_NAMES])}{more}'

    def start_note(self) -> str:
        """Return what users should know about the first observations of episodes, or ""."""
        if not self._idle_action:
            return ""
        return (
            "load_state() does not return the observation, so that each episode starts with one step of the action "
            f"{self._idle_action} -> let it return the observation, or add observe() to the environment"
        )

    def expert_state(self) -> msgspec.Raw:
        """Return the state for the expert: the environment's `expert_state()` if it has one, else the observation.

        It is encoded at once, because environments change their arrays and lists in the next step.
        """
        state = self._observation
        if self._expert_state is not None:
            with in_environment("expert_state()"):
                state = self._expert_state()
        try:
            return encode_state(state)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            what = "an observation" if self._expert_state is None else "the result of expert_state()"
            hint = "use numbers, texts, lists, dicts and numpy arrays"
            raise EnvironmentRaisedError(f"{what} cannot be sent to the expert: {error}", hint=hint) from None

    def render(self) -> NDArray[np.uint8]:
        """Return an RGB frame of the current state. Raises NoFrameError."""
        render = None
        try:
            with in_environment("render()"):
                render = getattr(self._env, "render", None)
                frame = render() if callable(render) else None
        except EnvironmentRaisedError as error:
            if isinstance(error.__cause__, AttributeError | NotImplementedError) and not callable(render):
                raise NoFrameError("the environment has no render()") from None
            raise NoFrameError(error.message, hint=error.hint) from error
        if not callable(render):
            raise NoFrameError("the environment has no render()")
        return rgb_frame(frame)

    def frames_per_second(self) -> float:
        """Return the frame rate of videos."""
        metadata = getattr(self._env, "metadata", None)
        try:
            return max(1, round(float((metadata or {}).get("render_fps") or 30)))
        except (TypeError, ValueError, AttributeError, OverflowError):
            return 30

    def can_save(self) -> bool:
        """Return whether the environment can save and load its state."""
        return self._states.exist

    def save_state(self) -> bytes:
        """Return the current state."""
        return self._states.save()

    def close(self) -> None:
        """Close the environment. Raises EnvironmentRaisedError."""
        self._states.close()
        close = getattr(self._env, "close", None)
        if callable(close):
            with in_environment("close()"):
                close()

    def _checked_observation(self, method: str) -> NDArray[Any]:
        try:
            return self.spec.as_array(self._observation)
        except (TypeError, ValueError) as error:
            raise EnvironmentRaisedError(f"the environment's {method}() returned {error}", hint=HINT) from None

    def _load(self, start_state: bytes) -> None:
        """Load a state, and set the observation in it."""
        if not self._states.exist:
            raise StateError("the environment has no save_state() and load_state()", hint=HINT)
        result = self._states.load(start_state)
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict):
            result = result[0]
        if result is not None and not isinstance(result, bool):
            self._observation = self._as_wrapped("load_state", result)
        else:
            self._observation = self._observe()
        if self._observation is not None:
            return
        self._do_idle_step()

    def _observe(self) -> Any:
        """Return the observation of the current state; None if no method returns it."""
        for name in _OBSERVING:
            method = find_attribute(self._env, name)
            if callable(method):
                with in_environment(f"{name}()"):
                    observation = method()
                return self._as_wrapped(name, observation)
        return None

    def _as_wrapped(self, method: str, observation: Any) -> Any:
        with in_environment("observation()"):
            return wrapped_observation(self._env, method, observation)

    def _do_idle_step(self) -> None:
        """Do one step without an effect if the environment has one, to see the state that was loaded."""
        names = [name.lower() for name in self.actions.names]
        idle = next((names.index(name) for name in _IDLE if name in names), 0)
        label = self.actions.idle_label(idle)
        self._idle_action = self.actions.names[idle] if self.actions.kind == "discrete" else str(label.tolist())
        _, is_over, _ = self.step(label)
        if is_over:
            raise StateError(
                "the observation after load_state() is unknown, and a first step ended the episode",
                hint="let load_state() return the observation, or add observe() to the environment",
            )
