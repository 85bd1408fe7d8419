"""Rocket League games in which some cars are played by past policies: the learner's own cars as a world."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.envs.rocket.vec_env import RocketVecEnv
from trainer.envs.vec_env import Step
from trainer.online.actor import Actor

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Opponent:
    """A past policy."""

    name: str
    actor: Actor


class Matches:
    """A `trainer.envs.vec_env.World` of the learner's cars. An opponent is drawn when a game begins and plays it out.

    `past_blue` and `past_orange` are the arenas where that team is a past policy's.
    """

    def __init__(
        self,
        env: RocketVecEnv,
        past_blue: Iterable[int],
        past_orange: Iterable[int],
        draw: Callable[[np.random.Generator], Opponent],
        *,
        greedy: bool = False,
    ) -> None:
        self.games, self._draw, self._greedy = env, draw, greedy
        self._side = dict.fromkeys(past_blue, -1) | dict.fromkeys(past_orange, 1)  #: the learner's, by arena
        agents = np.arange(env.n_agents).reshape(env.arenas, env.cars_per_arena)
        self._past_agents = {
            arena: agents[arena, : env.blue] if side < 0 else agents[arena, env.blue :]
            for arena, side in self._side.items()
        }
        past = np.concatenate([*self._past_agents.values(), np.zeros(0, np.int64)]).astype(np.intp)
        self._own = np.setdiff1d(agents.reshape(-1), past)
        self.contract, self.n_agents = env.contract, len(self._own)
        self._opponent: dict[int, Opponent] = {}
        self._rng = np.random.default_rng(0)
        self._all: Float32 = np.zeros((0, 0), np.float32)
        self.results: list[tuple[str, float]] = []  #: opponent and the learner's result, until the reader empties it

    def reset(self, seed: int) -> Float32:
        """Start every game anew, each against an opponent drawn for it."""
        self._rng = np.random.default_rng([seed, 1])
        self._all = self.games.reset(seed)
        for arena in self._side:
            self._opponent[arena] = self._draw(self._rng)
        return self._all[self._own]

    def step(self, action: Float32) -> Step:
        """Take the learner's actions; the opponents choose theirs."""
        everyone = np.zeros((self.games.n_agents, action.shape[1]), np.float32)
        everyone[self._own] = action
        for actor, agents in self._groups():
            seen = self._all[agents]
            everyone[agents] = actor.best(seen) if self._greedy else actor.sample(seen, self._rng)
        step = self.games.step(everyone)
        self._all = step.observation
        for over in self.games.ended_episodes:
            if over.arena in self._side:
                won = 0.5 + 0.5 * over.scored * self._side[over.arena]
                self.results.append((self._opponent[over.arena].name, won))
                self._opponent[over.arena] = self._draw(self._rng)
        self.games.ended_episodes = []
        own = self._own
        parts = {name: part[own] for name, part in step.reward_parts.items()}
        return Step(
            step.next_observation[own],
            step.observation[own],
            step.reward[own],
            step.terminated[own],
            step.truncated[own],
            parts,
        )

    def _groups(self) -> list[tuple[Actor, npt.NDArray[np.intp]]]:
        """Return each opponent that plays now with all its cars: one pass through its network."""
        by_name: dict[str, list[int]] = {}
        for arena, opponent in self._opponent.items():
            by_name.setdefault(opponent.name, []).append(arena)
        return [
            (self._opponent[arenas[0]].actor, np.concatenate([self._past_agents[arena] for arena in arenas]))
            for arenas in by_name.values()
        ]

    def close(self) -> None:
        """Close the games."""
        self.games.close()
