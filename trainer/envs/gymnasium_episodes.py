"""A wrapper of one Gymnasium environment whose episodes can be repeated; needs Gymnasium."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigError

LONGEST_REPEATED = 20_000
"""Steps of an episode that can be repeated; the actions of longer ones are not kept."""


class EpisodeSoFar(NamedTuple):
    """What determines the state of one environment: the start of its episode, and the actions since then."""

    seed: int  #: of the last reset that had a seed
    number: int  #: episodes since then
    actions: list[npt.NDArray[Any]] | None  #: None: too many


class RepeatableEpisodes(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A wrapper whose episodes have seeds of their own: seed, number and actions of an episode determine its state.

    It copies observations, because some environments return the same array each time, which a reset then changes. It
    leaves out `info`, whose items may have any form, and which nothing reads.
    """

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self._seed, self._number = 0, 0
        self._actions: list[npt.NDArray[Any]] | None = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode: the first one of a seed, or the next one. Raises ConfigError (E_ENV)."""
        self._seed, self._number = (self._seed, self._number + 1) if seed is None else (seed, 0)
        self._actions = []
        return self._start(options)

    def _start(self, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        result = self.env.reset(seed=seed_of(self._seed, self._number), options=options)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise ConfigError(
                "reset does not return (observation, info): it has perhaps the interface of the older gym package",
                hint="return (observation, info) from reset and five values from step",
                code="E_ENV",
            )
        return self._copy(result[0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step. Raises ConfigError (E_ENV)."""
        if self._actions is not None:
            self._actions.append(np.array(action))
            if len(self._actions) > LONGEST_REPEATED:
                self._actions = None
        observation, reward, terminated, truncated, _ = self.env.step(action)
        return self._copy(observation), _as_number(reward), bool(terminated), bool(truncated), {}

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
