"""Rocket League as a run plays it: stages, a pool of past policies, ratings, evaluation against the first policy."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from trainer.common.rng import key_for
from trainer.envs.rocket.vec_env import RocketVecEnv
from trainer.envs.vec_env import VecEnv
from trainer.online.actor import Actor
from trainer.online.config import OnlineSettings
from trainer.online.environments import game_rules
from trainer.online.evaluate import ReturnStatistics, evaluate
from trainer.online.selfplay.curriculum import STAGES, next_stage
from trainer.online.selfplay.matches import Matches, Opponent
from trainer.online.selfplay.opponent_pool import OpponentPool

_STEPS_A_MINUTE = 60 * 120


class League:
    """See `trainer.online.environments.Ground`."""

    def __init__(self, settings: OnlineSettings, num_envs: int, folder: Path) -> None:
        self._settings, self._arenas = settings, num_envs
        self.stage = 0
        self._results: deque[float] = deque(maxlen=settings.curriculum.matches)
        self._steps = 0
        self._game_minutes = 0.0
        self._matches = self._make(self.stage)
        self.env: VecEnv = self._matches
        self.pool = OpponentPool(folder, self._matches.contract, size=settings.curriculum.pool_size)
        self._separate: Matches | None = None

    def _make(self, stage: int) -> Matches:
        kind = STAGES[stage]
        games = RocketVecEnv(self._arenas, kind.blue, kind.orange, game_rules(self._settings))
        if not kind.self_play:
            return Matches(games, (), range(self._arenas), self._draw)
        past = round(self._arenas * self._settings.curriculum.pool_fraction)
        return Matches(games, range(past // 2), range(past // 2, past), self._draw)

    def _draw(self, rng: np.random.Generator) -> Opponent:
        member = self.pool.opponents[int(rng.integers(len(self.pool.opponents)))]
        return Opponent(member.name, member.actor)

    def prepare(self, actor: Actor, steps: int, iteration: int) -> bool:
        """Let the policy join the pool where it is time, and go on to the next stage where the gate is open."""
        del iteration
        every = self._settings.curriculum.pool_every_steps
        if not self.pool.opponents or steps // every > self._steps // every:
            self.pool.add(actor, steps)
        self._steps = steps
        stage = next_stage(self.stage, steps, list(self._results), self._settings.curriculum)
        if stage == self.stage:
            return False
        self.stage = stage
        self._results.clear()
        self._enter()
        return True

    def _enter(self) -> None:
        self._matches.close()
        self._matches = self._make(self.stage)
        self.env = self._matches
        if self._separate is not None:
            self._separate.close()
            self._separate = None

    def played(self, steps: int) -> None:
        """Rate the matches of a batch."""
        del steps
        for name, won in self._matches.results:
            self.pool.record_result(name, won)
            self._results.append(won)
        self._matches.results = []

    def evaluate(self, actor: Actor) -> ReturnStatistics:
        """Play against the run's first policy, blue, in the stage's teams, from the same starts each time."""
        given = self._settings.evaluation
        kind = STAGES[self.stage]
        if self._separate is None:
            arenas = min(given.episodes, 8)
            games = RocketVecEnv(arenas, kind.blue, kind.orange, game_rules(self._settings))
            first = self.pool.opponents[0]
            opponent = Opponent(first.name, first.actor)
            self._separate = Matches(games, (), range(arenas), lambda _: opponent)
        score = evaluate(
            actor,
            self._separate,
            episodes=given.episodes * kind.blue,
            seed=key_for(self._settings.run.seed, "evaluation"),
        )
        self._separate.results = []
        return score

    def numbers(self) -> dict[str, float]:
        """Return rating, win rate, stage, and how much happens in a minute of game."""
        games, ticks = self._matches.games, self._settings.rocket.tick_skip
        steps = self._settings.env.n_steps * games.arenas
        minutes = steps * ticks / _STEPS_A_MINUTE
        numbers = {
            "selfplay/elo": self.pool.rating,
            "selfplay/stage": float(self.stage + 1),
            "selfplay/touches_per_min": games.touches / minutes,
            "selfplay/goals_per_min": games.goals / minutes,
        }
        if self._results:
            numbers["selfplay/win_rate"] = sum(self._results) / len(self._results)
        games.touches = games.goals = 0
        return numbers

    def state(self) -> dict[str, Any]:
        """Return stage, results, pool and ratings."""
        return {"stage": self.stage, "results": list(self._results), "steps": self._steps, "pool": self.pool.state()}

    def saved(self) -> None:
        """Let go of policies that have left the pool."""
        self.pool.remove_unused_files()

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a stage, with its pool and ratings."""
        self.pool.restore(state["pool"])
        self._results.extend(state["results"])
        self._steps = int(state["steps"])
        if int(state["stage"]) != self.stage:
            self.stage = int(state["stage"])
            self._enter()

    def close(self) -> None:
        """Close the games."""
        self._matches.close()
        if self._separate is not None:
            self._separate.close()
