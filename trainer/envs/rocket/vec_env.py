"""Rocket League for many arenas at once: a `trainer.envs.vec_env.World` whose agents are the cars, blue before orange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from trainer.envs.rocket.actions import CONTROL_NAMES, lookup_table
from trainer.envs.rocket.observations import OBSERVATION_SIZE, observe
from trainer.envs.rocket.rewards import REWARD_PARTS, reward_parts
from trainer.envs.rocket.simulation import BALL_POS, DEMOS, GOAL_LINE, TICKS_PER_S, TOUCHED, Arenas, Float32
from trainer.envs.vec_env import Step

MAX_BLUE, MAX_ORANGE = 2, 2


@dataclass(frozen=True, slots=True)
class GameRules:
    """How a game goes."""

    weights: Mapping[str, float]  #: reward part to weight
    discrete: bool = True
    tick_skip: int = 8
    time_limit_s: float = 60.0
    no_touch_s: float = 20.0
    random_starts: float = 0.5  #: part of the episodes that begin anywhere


@dataclass(frozen=True, slots=True)
class EndedEpisode:
    """An episode that is over."""

    arena: int
    scored: int  #: 1 blue, -1 orange, 0 nobody


class RocketVecEnv:
    """`arenas` games of blue against orange. Agent = arena * cars + car. A goal ends an episode, time cuts it."""

    def __init__(self, arenas: int, blue: int, orange: int, rules: GameRules) -> None:
        if not (1 <= blue <= MAX_BLUE and 0 <= orange <= MAX_ORANGE):
            raise ValueError(f"{blue} against {orange} does not fit into the observations")
        eight = ContinuousActions(
            names=CONTROL_NAMES, low=(-1.0,) * len(CONTROL_NAMES), high=(1.0,) * len(CONTROL_NAMES)
        )
        space = DiscreteActions(n=len(lookup_table())) if rules.discrete else eight
        self.contract = PolicyContract(observation_size=OBSERVATION_SIZE, action_space=space)
        self.arenas, self.blue, self.cars_per_arena = arenas, blue, blue + orange
        self.n_agents = arenas * self.cars_per_arena
        self.rules = rules
        self._orange = orange
        self._sim = Arenas(arenas, blue, orange)
        self._used = False
        self.arena_state = self._sim.read()  #: how everything stands now
        self._table = lookup_table()
        self._table_controls = self._sim.controls(self._table)
        self._rng = np.random.default_rng(0)
        self._weights = np.array([rules.weights.get(name, 0.0) for name in REWARD_PARTS], np.float32)
        self._action = np.zeros((arenas, self.cars_per_arena, 8), np.float32)
        self._steps = np.zeros(arenas, np.int64)
        self._untouched = np.zeros(arenas, np.int64)
        self._demos = np.zeros((arenas, self.cars_per_arena), np.float32)
        self.ended_episodes: list[EndedEpisode] = []  #: since the reader last emptied it
        self.touches = self.goals = 0  #: likewise

    def reset(self, seed: int) -> Float32:
        """Start every arena anew; [n, 180]. A used arena is replaced: a kickoff leaves traces of what was before."""
        if self._used:
            self._sim.close()
            del self._sim  # first, so that the new ones take the memory of the old
            self._sim = Arenas(self.arenas, self.blue, self._orange)
            self.arena_state = self._sim.read()
        self._used = True
        self._rng = np.random.default_rng(seed)
        self.ended_episodes = []
        everyone = np.arange(self.arenas)
        self._start(everyone)
        return self._observe(everyone)

    def step(self, action: Float32) -> Step:
        """Hold actions for `tick_skip` ticks: [n, 1] indices of the lookup table, or [n, 8] in [-1, 1]."""
        if self.rules.discrete:
            chosen = action[:, 0].astype(np.intp)
            controls = [self._table_controls[i] for i in chosen.tolist()]
            self._action = self._table[chosen].reshape(self.arenas, self.cars_per_arena, 8)
        else:
            controls = self._sim.controls(action)
            self._action = np.array(action, np.float32).reshape(self.arenas, self.cars_per_arena, 8)
        self._sim.step(controls, self.rules.tick_skip, self._rng)
        self.arena_state = self._sim.read()
        touched = self.arena_state.car[:, :, 0, TOUCHED] > 0
        self._steps += 1
        self._untouched = np.where(touched.any(axis=1), 0, self._untouched + 1)
        ball_y = self.arena_state.ball[:, 0, BALL_POS][:, 1]
        scored = np.where(np.abs(ball_y) > GOAL_LINE, np.sign(ball_y), 0.0).astype(np.int64)
        cut = (self._steps >= self._ticks(self.rules.time_limit_s)) | (
            self._untouched >= self._ticks(self.rules.no_touch_s)
        )
        parts = reward_parts(self.arena_state, self.blue, scored, self._demos)
        self._demos = self.arena_state.car[:, :, 0, DEMOS].copy()
        self.touches += int(touched.sum())
        self.goals += int((scored != 0).sum())
        return self._conclude(parts, scored, cut & (scored == 0))

    def _conclude(self, parts: dict[str, Float32], scored: npt.NDArray[np.int64], cut: npt.NDArray[np.bool_]) -> Step:
        """Weigh the parts, start anew what is over, and look."""
        weighted = {
            name: (part * weight).reshape(-1) for (name, part), weight in zip(parts.items(), self._weights, strict=True)
        }
        reward: Float32 = np.stack(list(weighted.values())).sum(axis=0)
        following = self._observe(np.arange(self.arenas))
        observation = following
        over = np.flatnonzero((scored != 0) | cut)
        if len(over):
            self.ended_episodes += [EndedEpisode(int(g), int(scored[g])) for g in over]
            self._start(over)
            observation = following.copy()
            observation.reshape(self.arenas, self.cars_per_arena, OBSERVATION_SIZE)[over] = self._observe(over).reshape(
                -1, self.cars_per_arena, OBSERVATION_SIZE
            )
        terminated, truncated = np.repeat(scored != 0, self.cars_per_arena), np.repeat(cut, self.cars_per_arena)
        return Step(following, observation, reward, terminated, truncated, weighted)

    def _start(self, arenas: npt.NDArray[np.intp]) -> None:
        for g in arenas.tolist():
            if self._rng.random() < self.rules.random_starts:
                self._sim.random_start(g, self._rng)
            else:
                self._sim.kickoff(g, self._rng)
        self._sim.read_some(arenas.tolist())
        self._steps[arenas] = 0
        self._untouched[arenas] = 0
        self._action[arenas] = 0.0
        self._demos[arenas] = self.arena_state.car[arenas][:, :, 0, DEMOS]

    def _observe(self, arenas: npt.NDArray[np.intp]) -> Float32:
        since = (self._untouched[arenas] / self._ticks(self.rules.no_touch_s)).astype(np.float32)
        seen = self.arena_state if len(arenas) == self.arenas else self.arena_state.of(arenas)
        return observe(seen, self.blue, self._action[arenas], since).reshape(-1, OBSERVATION_SIZE)

    def _ticks(self, seconds: float) -> int:
        """Return how many steps some game seconds are."""
        return max(1, round(seconds * TICKS_PER_S / self.rules.tick_skip))

    def use_one_thread(self) -> None:
        """Step on one thread from now on, however many cores are free; until the next reset."""
        self._sim.stepping_methods = self._sim.stepping_methods[:1] * len(self._sim.stepping_methods)

    def close(self) -> None:
        """End the helping thread."""
        self._sim.close()
