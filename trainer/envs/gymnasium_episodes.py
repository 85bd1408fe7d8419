"""A wrapper of one Gymnasium environment whose episodes can be repeated; needs Gymnasium."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigError, HotlapError
from trainer.envs.observations import NotFiniteError, number_type, read_observation_spec
from trainer.envs.raised import in_environment, values_of

LONGEST_REPEATED = 20_000
"""Steps of an episode that can be repeated; the actions of longer ones are not kept."""


class EpisodeSoFar(NamedTuple):
    """What determines the state of one environment: the start of its episode, and the actions since then."""

    seed: int  #: of the last reset that had a seed
    number: int  #: episodes since then
    actions: list[npt.NDArray[Any]] | None  #: None: too many


class RepeatableEpisodes(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A wrapper whose episodes have seeds of their own: seed, number and actions of an episode determine its state.

    Observations become what a policy gets: vectors, or images of bytes [height, width, channels]. They are copied,
    because some environments return the same array each time, which a reset then changes. `info` is left out: its items
    may have any form, and nothing reads it.
    """

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self._name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        self.observations_of_policy = spec = read_observation_spec(env)
        self._dtype: type[np.floating[Any]] = np.float32
        self._is_plain = isinstance(env.observation_space, gymnasium.spaces.Box) and not spec.is_image
        if spec.is_image:
            self.observation_space = gymnasium.spaces.Box(0, 255, spec.shape, np.uint8)
        elif not self._is_plain:
            self._dtype = number_type(env.observation_space)
            self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, spec.shape, self._dtype)
        self._seed, self._number = 0, 0
        self._actions: list[npt.NDArray[Any]] | None = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode: the first one of a seed, or the next one. Raises HotlapError (E_ENV, E_ENV_NAN)."""
        self._seed, self._number = (self._seed, self._number + 1) if seed is None else (seed, 0)
        self._actions = []
        return self._start(options)

    def _start(self, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        with in_environment("reset", self._name):
            result: Any = self.env.reset(seed=seed_of(self._seed, self._number), options=options)
            observation, _ = values_of(result, 2, "reset", self._name)
            return self._prepared(observation), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step. Raises HotlapError (E_ENV, E_ENV_NAN)."""
        if self._actions is not None:
            self._actions.append(np.array(action))
            if len(self._actions) > LONGEST_REPEATED:
                self._actions = None
        with in_environment("step", self._name):
            result: Any = self.env.step(action)
            observation, reward, terminated, truncated, _ = values_of(result, 5, "step", self._name)
            return self._prepared(observation), _as_number(reward), bool(terminated), bool(truncated), {}

    def episode_so_far(self) -> EpisodeSoFar:
        """Return what `repeat` needs."""
        return EpisodeSoFar(self._seed, self._number, self._actions)

    def repeat(self, episodes: dict[int, EpisodeSoFar]) -> npt.NDArray[Any] | None:
        """Repeat the episode of this environment, by the seed of its last reset, and return the last observation.

        Return None if it ends before its last action: the environment does not do the same each time.
        """
        episode = episodes[self._seed]
        self._number, self._actions = episode.number, []
        observation, _ = self._start()
        for action in episode.actions or ():
            observation, _, terminated, truncated, _ = self.step(action)
            if terminated or truncated:
                return None
        return np.asarray(observation)

    def _prepared(self, observation: Any) -> npt.NDArray[Any]:
        if self._is_plain:
            return self._copy(observation)
        hint = "correct its observation_space, or what reset and step return"
        try:
            return self.observations_of_policy.as_array(observation, self._dtype)
        except NotFiniteError as error:
            hint = "fix the environment; the last checkpoint is intact"
            raise HotlapError(f"the environment returned {error}", hint=hint, code="E_ENV_NAN") from None
        except ValueError as error:
            raise ConfigError(f"the environment returned {error}", hint=hint, code="E_ENV") from None

    def _copy(self, observation: Any) -> npt.NDArray[Any]:
        array, shape = np.array(observation), self.observation_space.shape
        if array.shape != shape:
            raise ConfigError(
                f"the environment returned an observation of the shape {array.shape}, but announces {shape}",
                hint="correct its observation_space, or what reset and step return",
                code="E_ENV",
            )
        return array


def seed_of(seed: int, number: int) -> int:
    """Return the seed of an episode. Simulators store it in 32 bits with a sign, so it is below 2**31."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0] >> 1)


def _as_number(reward: Any) -> float:
    """Return a reward, which may be an array with one element. Raises ConfigError (E_ENV)."""
    array = np.asarray(reward)
    if array.size != 1 or array.dtype.kind not in "fiub":
        message = f"the environment returned the reward {reward!r}, which is not one number"
        raise ConfigError(message, hint="return a float from step", code="E_ENV")
    return float(array.reshape(-1)[0])
