"""The environments of a Rocket League run: stages, opponent pool, ratings, evaluation against the first policy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainer.envs.rocket.simulation import TICKS_PER_S
from trainer.envs.rocket.vec_env import RocketVecEnv
from trainer.envs.vec_env import VecEnv
from trainer.online.actor import Actor
from trainer.online.config import OnlineSettings
from trainer.online.environments import evaluate_block, game_rules
from trainer.online.evaluation.episodes import ReturnStatistics
from trainer.online.selfplay.curriculum import STAGES, next_stage
from trainer.online.selfplay.matches import Matches
from trainer.online.selfplay.opponent_pool import Opponent, OpponentPool

_TICKS_PER_MINUTE = 60 * TICKS_PER_S


class League:
    """A `trainer.online.environments.Environments` for self-play and its curriculum."""

    def __init__(self, settings: OnlineSettings, num_envs: int, folder: Path) -> None:
        self._settings, self._arenas = settings, num_envs
        self.stage = 0
        self.evaluates_in_turn = False
        self.notes: tuple[str, ...] = ()
        self._results: deque[float] = deque(maxlen=settings.curriculum.matches)
        self._steps = 0
        self._matches = self._make_matches(self.stage)
        self.env: VecEnv = self._matches
        self.pool = OpponentPool(folder, self._matches.contract, size=settings.curriculum.pool_size)
        self._evaluation_env: Matches | None = None

    def _make_matches(self, stage: int) -> Matches:
        teams = STAGES[stage]
        env = RocketVecEnv(self._arenas, teams.blue, teams.orange, game_rules(self._settings))
        if not teams.self_play:
            return Matches(env, (), range(self._arenas), self._choose_opponent)
        past = round(self._arenas * self._settings.curriculum.pool_fraction)
        return Matches(env, range(past // 2), range(past // 2, past), self._choose_opponent)

    def _choose_opponent(self, rng: np.random.Generator) -> Opponent:
        return self.pool.opponents[int(rng.integers(len(self.pool.opponents)))]

    def before_batch(self, actor: Actor, steps: int) -> bool:
        """Add the policy to the pool if it is due, and start the next stage if this one has ended."""
        every = self._settings.curriculum.pool_every_steps
        if not self.pool.opponents or steps // every > self._steps // every:
            self.pool.add(actor, steps)
        self._steps = steps
        stage = next_stage(self.stage, steps, list(self._results), self._settings.curriculum)
        if stage == self.stage:
            return False
        self.stage = stage
        self._results.clear()
        self._start_stage()
        return True

    def _start_stage(self) -> None:
        self._matches.close()
        self._matches = self._make_matches(self.stage)
        self.env = self._matches
        if self._evaluation_env is not None:
            self._evaluation_env.close()
            self._evaluation_env = None

    def after_batch(self) -> None:
        """Update the ratings with the matches of the batch."""
        for name, score in self._matches.results:
            self.pool.record_result(name, score)
            self._results.append(score)
        self._matches.results = []

    def evaluate(self, actor: Actor, block: int, stop: Callable[[], bool]) -> ReturnStatistics | None:
        """Run episodes as blue against the run's first policy."""
        evaluation, teams = self._settings.evaluation, STAGES[self.stage]
        if self._evaluation_env is None:
            arenas, first = min(evaluation.episodes, 8), self.pool.opponents[0]
            env = RocketVecEnv(arenas, teams.blue, teams.orange, game_rules(self._settings))
            self._evaluation_env = Matches(env, (), range(arenas), lambda _: first)
        score = evaluate_block(actor, self._evaluation_env, self._settings, block, stop, agents=teams.blue)
        self._evaluation_env.results = []
        return score

    def metrics(self) -> dict[str, float]:
        """Return rating, win rate and stage, and the batch's touches and goals per minute of game."""
        env, ticks = self._matches.env, self._settings.rocket.tick_skip
        steps = self._settings.env.n_steps * env.arenas
        minutes = steps * ticks / _TICKS_PER_MINUTE
        metrics = {
            "selfplay/elo": self.pool.rating,
            "selfplay/stage": float(self.stage + 1),
            "selfplay/touches_per_min": env.touches / minutes,
            "selfplay/goals_per_min": env.goals / minutes,
        }
        if self._results:
            metrics["selfplay/win_rate"] = sum(self._results) / len(self._results)
        env.touches = env.goals = 0
        return metrics

    def state(self) -> dict[str, Any]:
        """Return stage, results, pool and ratings."""
        return {"stage": self.stage, "results": list(self._results), "steps": self._steps, "pool": self.pool.state()}

    def after_checkpoint(self) -> None:
        """Remove the files of policies that are no longer in the pool."""
        self.pool.remove_unused_files()

    def restore(self, state: dict[str, Any]) -> None:
        """Restore stage, results, pool and ratings."""
        self.pool.restore(state["pool"])
        self._results.extend(state["results"])
        self._steps = int(state["steps"])
        if int(state["stage"]) != self.stage:
            self.stage = int(state["stage"])
            self._start_stage()

    def close(self) -> None:
        """Close the environments."""
        self._matches.close()
        if self._evaluation_env is not None:
            self._evaluation_env.close()
