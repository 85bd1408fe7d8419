"""Rocket League in many arenas: a `trainer.envs.vec_env.VecEnv` whose agents are the cars, blue before orange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from trainer.envs.rocket.actions import CONTROL_NAMES, lookup_table
from trainer.envs.rocket.observations import OBSERVATION_SIZE, observe
from trainer.envs.rocket.rewards import REWARD_PARTS, reward_parts
from trainer.envs.rocket.simulation import BALL_POS, DEMOS, GOAL_LINE, TICKS_PER_S, TOUCHED, Arenas
from trainer.envs.vec_env import Float32, Step

MAX_BLUE, MAX_ORANGE = 2, 2


@dataclass(frozen=True, slots=True)
class GameRules:
    """The rules of a game: actions, reward weights, and when an episode starts and ends."""

    weights: Mapping[str, float]  #: reward part to weight; a part that is missing has the weight 0
    discrete: bool = True  #: indices of the lookup table, or 8 controls
    tick_skip: int = 8  #: physics ticks for which an action is held
    time_limit_s: float = 60.0  #: game seconds after which an episode is ended
    no_touch_s: float = 20.0  #: game seconds without a touch of the ball after which an episode is ended
    random_starts: float = 0.5  #: part of the episodes that start at random places


@dataclass(frozen=True, slots=True)
class EndedEpisode:
    """An episode that has ended."""

    arena: int
    scored: int  #: 1 if blue scored, -1 if orange scored, 0 if the episode was cut


class RocketVecEnv:
    """`arenas` games of blue against orange. Agent = arena * cars + car.

    A goal terminates an episode; a time limit truncates it.
    """

    def __init__(self, arenas: int, blue: int, orange: int, rules: GameRules) -> None:
        if not (1 <= blue <= MAX_BLUE and 0 <= orange <= MAX_ORANGE):
            limits = f"1 to {MAX_BLUE} against 0 to {MAX_ORANGE}"
            raise ValueError(f"{blue} cars against {orange} do not fit into the observations; allowed are {limits}")
        controls = ContinuousActions(
            names=CONTROL_NAMES, low=(-1.0,) * len(CONTROL_NAMES), high=(1.0,) * len(CONTROL_NAMES)
        )
        space = DiscreteActions(n=len(lookup_table())) if rules.discrete else controls
        self.contract = PolicyContract(observation_size=OBSERVATION_SIZE, action_space=space)
        self.arenas, self.blue, self.cars_per_arena = arenas, blue, blue + orange
        self.n_agents = arenas * self.cars_per_arena
        self.rules = rules
        self._orange = orange
        self._sim = Arenas(arenas, blue, orange)
        self._has_started = False
        self.arena_state = self._sim.read()  #: the present state
        self._table = lookup_table()
        self._table_controls = self._sim.controls(self._table)
        self._rng = np.random.default_rng(0)
        self._weights = {name: np.float32(rules.weights.get(name, 0.0)) for name in REWARD_PARTS}
        self._action = np.zeros((arenas, self.cars_per_arena, 8), np.float32)
        self._steps = np.zeros(arenas, np.int64)
        self._steps_since_touch = np.zeros(arenas, np.int64)
        self._demos = np.zeros((arenas, self.cars_per_arena), np.float32)
        self.ended_episodes: list[EndedEpisode] = []  #: readers empty it
        self.touches = self.goals = 0  #: readers reset them

    def reset(self, seed: int) -> Float32:
        """Start new episodes in all arenas and return the observations [n, 180].

        Used arenas are replaced: a kickoff does not clear all of their state.
        """
        if self._has_started:
            self._sim.close()
            del self._sim  # first, so that the new ones can use its memory
            self._sim = Arenas(self.arenas, self.blue, self._orange)
            self.arena_state = self._sim.read()
        self._has_started = True
        self._rng = np.random.default_rng(seed)
        self.ended_episodes = []
        all_arenas = np.arange(self.arenas)
        self._start_episodes(all_arenas)
        return self._observe(all_arenas)

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
        self._steps_since_touch = np.where(touched.any(axis=1), 0, self._steps_since_touch + 1)
        ball_y = self.arena_state.ball[:, 0, BALL_POS][:, 1]
        scored = np.where(np.abs(ball_y) > GOAL_LINE, np.sign(ball_y), 0.0).astype(np.int64)
        cut = (self._steps >= self._steps_in(self.rules.time_limit_s)) | (
            self._steps_since_touch >= self._steps_in(self.rules.no_touch_s)
        )
        parts = reward_parts(self.arena_state, self.blue, scored, self._demos)
        self._demos = self.arena_state.car[:, :, 0, DEMOS].copy()
        self.touches += int(touched.sum())
        self.goals += int((scored != 0).sum())
        return self._finish_step(parts, scored, cut & (scored == 0))

    def _finish_step(
        self, parts: dict[str, Float32], scored: npt.NDArray[np.int64], cut: npt.NDArray[np.bool_]
    ) -> Step:
        """Weight the reward parts, start a new episode in each arena whose episode ended, and observe."""
        weighted = {name: (part * self._weights[name]).reshape(-1) for name, part in parts.items()}
        reward: Float32 = np.stack(list(weighted.values())).sum(axis=0)
        successor = self._observe(np.arange(self.arenas))
        observation = successor
        over = np.flatnonzero((scored != 0) | cut)
        if len(over):
            self.ended_episodes += [EndedEpisode(int(g), int(scored[g])) for g in over]
            self._start_episodes(over)
            observation = successor.copy()
            observation.reshape(self.arenas, self.cars_per_arena, OBSERVATION_SIZE)[over] = self._observe(over).reshape(
                -1, self.cars_per_arena, OBSERVATION_SIZE
            )
        terminated, truncated = np.repeat(scored != 0, self.cars_per_arena), np.repeat(cut, self.cars_per_arena)
        return Step(successor, observation, reward, terminated, truncated, weighted)

    def _start_episodes(self, arenas: npt.NDArray[np.intp]) -> None:
        for g in arenas.tolist():
            if self._rng.random() < self.rules.random_starts:
                self._sim.random_start(g, self._rng)
            else:
                self._sim.kickoff(g, self._rng)
        self._sim.read_some(arenas.tolist())
        self._steps[arenas] = 0
        self._steps_since_touch[arenas] = 0
        self._action[arenas] = 0.0
        self._demos[arenas] = self.arena_state.car[arenas][:, :, 0, DEMOS]

    def _observe(self, arenas: npt.NDArray[np.intp]) -> Float32:
        since_touch = (self._steps_since_touch[arenas] / self._steps_in(self.rules.no_touch_s)).astype(np.float32)
        state = self.arena_state if len(arenas) == self.arenas else self.arena_state.select(arenas)
        return observe(state, self.blue, self._action[arenas], since_touch).reshape(-1, OBSERVATION_SIZE)

    def _steps_in(self, seconds: float) -> int:
        """Return the number of steps in some game seconds, at least 1."""
        return max(1, round(seconds * TICKS_PER_S / self.rules.tick_skip))

    def use_one_thread(self) -> None:
        """Step on one thread until the next reset, even if more cores are free."""
        self._sim.step_functions = self._sim.step_functions[:1] * len(self._sim.step_functions)

    def close(self) -> None:
        """End the helper thread."""
        self._sim.close()
