"""Rocket League in which past policies control some cars: an environment of the learner's cars alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from trainer.envs.rocket.vec_env import RocketVecEnv
from trainer.envs.vec_env import Float32, Step
from trainer.online.actor import Actor
from trainer.online.selfplay.opponent_pool import Opponent


class Matches:
    """A `trainer.envs.vec_env.VecEnv` of the learner's cars.

    In the arenas `past_blue` and `past_orange` a past policy controls that team. `choose_opponent` chooses it when an
    episode starts, and it stays until the episode ends.
    """

    def __init__(
        self,
        env: RocketVecEnv,
        past_blue: Iterable[int],
        past_orange: Iterable[int],
        choose_opponent: Callable[[np.random.Generator], Opponent],
    ) -> None:
        self.env, self._choose_opponent = env, choose_opponent
        #: arena to the learner's team, 1 blue, -1 orange
        self._side = dict.fromkeys(past_blue, -1) | dict.fromkeys(past_orange, 1)
        agents = np.arange(env.n_agents).reshape(env.arenas, env.cars_per_arena)
        self._past_agents = {
            arena: agents[arena, : env.blue] if side < 0 else agents[arena, env.blue :]
            for arena, side in self._side.items()
        }
        all_past = np.concatenate([*self._past_agents.values(), np.zeros(0, np.int64)]).astype(np.intp)
        self._learner_agents = np.setdiff1d(agents.reshape(-1), all_past)
        self.contract, self.n_agents = env.contract, len(self._learner_agents)
        self._opponent: dict[int, Opponent] = {}
        self._rng = np.random.default_rng(0)
        self._observation: Float32 = np.zeros((0, 0), np.float32)
        self.results: list[tuple[str, float]] = []  #: name of the opponent and the learner's score; readers empty it

    def reset(self, seed: int) -> Float32:
        """Start new episodes, each with a newly chosen opponent."""
        self._rng = np.random.default_rng([seed, 1])
        self._observation = self.env.reset(seed)
        for arena in self._side:
            self._opponent[arena] = self._choose_opponent(self._rng)
        return self._observation[self._learner_agents]

    def step(self, action: Float32) -> Step:
        """Advance all games with the learner's actions; the opponents choose their own."""
        all_actions = np.zeros((self.env.n_agents, action.shape[1]), np.float32)
        all_actions[self._learner_agents] = action
        for actor, agents in self._agents_by_opponent():
            all_actions[agents] = actor.sample(self._observation[agents], self._rng)
        step = self.env.step(all_actions)
        self._observation = step.observation
        for episode in self.env.ended_episodes:
            if episode.arena in self._side:
                score = 0.5 + 0.5 * episode.scored * self._side[episode.arena]
                self.results.append((self._opponent[episode.arena].name, score))
                self._opponent[episode.arena] = self._choose_opponent(self._rng)
        self.env.ended_episodes = []
        agents = self._learner_agents
        parts = {name: part[agents] for name, part in step.reward_parts.items()}
        return Step(
            step.next_observation[agents],
            step.observation[agents],
            step.reward[agents],
            step.terminated[agents],
            step.truncated[agents],
            parts,
        )

    def _agents_by_opponent(self) -> list[tuple[Actor, npt.NDArray[np.intp]]]:
        """Return each present opponent with all its cars, so that its network runs once."""
        by_name: dict[str, list[int]] = {}
        for arena, opponent in self._opponent.items():
            by_name.setdefault(opponent.name, []).append(arena)
        return [
            (self._opponent[arenas[0]].actor, np.concatenate([self._past_agents[arena] for arena in arenas]))
            for arenas in by_name.values()
        ]

    def close(self) -> None:
        """Close the environment."""
        self.env.close()
