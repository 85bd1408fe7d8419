"""Arenas of RocketSim as arrays: controls in, states out. Distances are in unreal units (uu, 1 cm), times in seconds.

A car's state is 36 numbers and the ball's 25. Both exist twice: for the blue team, and rotated by 180 degrees around
the vertical axis for the orange team. RocketSim's `Arena.get_gym_state` documents their order; the slices below name
the numbers that are used.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigError
from schemas.program.commands import install_command, pip_install
from trainer.common.autotune import Autotuner
from trainer.envs.vec_env import Float32

TICKS_PER_S = 120
CAR_SPEED, BALL_SPEED = 2300.0, 6000.0  #: uu/s, the highest possible
GOAL_Y, GOAL_LINE = 5120.0, 5215.5  #: uu: the opening of the goal; the ball's centre when a goal counts

DEMOS, DEMOED, ON_GROUND, TOUCHED, BOOST = 5, 7, 8, 9, 10
POS, VEL, SPIN, FORWARD, RIGHT, UP = (slice(a, a + 3) for a in (11, 18, 21, 24, 27, 30))
FRAME = slice(24, 33)  #: forward, right, up
BALL_POS, BALL_VEL, BALL_SPIN = slice(0, 3), slice(7, 10), slice(10, 13)
_RESPAWN_SOON_S = 0.1
_TUNE_EVERY = 2000  #: steps
_MIN_SAVING = 0.1
"""Part of a step's time that more threads must save, because they use cores that other programs could use."""
_GIVE_UP_FACTOR = 1.5
"""If other programs use the cores, threads wait for each other, and a step takes up to 40 times as long as with one."""
_ROUNDS = 6
MESHES_PACKAGE = "rlgym-rocket-league==2.0.1"


def load_simulator() -> Any:
    """Import RocketSim and load the collision meshes. Raises ConfigError (E_EXTRA) if one is missing."""
    try:
        import RocketSim
    except ImportError:
        raise ConfigError("rocketsim is not installed", hint=install_command("rocket"), code="E_EXTRA") from None
    _load_meshes(RocketSim)
    return RocketSim


@cache
def _load_meshes(simulator: Any) -> None:
    """Load the meshes once per process; RocketSim does not allow it twice."""
    folder = find_meshes()
    if folder is None:
        hint = f"{pip_install('--no-deps', MESHES_PACKAGE)}, or set RS_COLLISION_MESHES to their folder"
        raise ConfigError("the collision meshes of Rocket League are missing", hint=hint, code="E_EXTRA")
    simulator.init(str(folder))


def find_meshes() -> Path | None:
    """Return the folder that contains soccar/*.cmf: RS_COLLISION_MESHES or the one in rlgym's package, or None."""
    folders = [Path(os.environ["RS_COLLISION_MESHES"])] if "RS_COLLISION_MESHES" in os.environ else []
    try:
        found = find_spec("rlgym.rocket_league")
    except ModuleNotFoundError:
        found = None
    if found is not None and found.submodule_search_locations:
        folders += [Path(place) / "sim" / "collision_meshes" for place in found.submodule_search_locations]
    return next((folder for folder in folders if any(folder.glob("soccar/*.cmf"))), None)


@dataclass(frozen=True, slots=True)
class ArenaState:
    """The state of G arenas with C cars each. The axis of size 2 is the view of the numbers: blue's, orange's."""

    car: Float32  #: [G, C, 2, 36]
    ball: Float32  #: [G, 2, 25]
    pads: Float32  #: [G, 2, 34], 1 = the boost pad is active
    flip: Float32  #: [G, C], 1 = the car can still jump or flip

    def select(self, arenas: npt.NDArray[np.intp]) -> ArenaState:
        """Return copies of the states of these arenas."""
        return ArenaState(self.car[arenas], self.ball[arenas], self.pads[arenas], self.flip[arenas])

    def from_own_side(self, blue: int) -> tuple[Float32, Float32]:
        """Return each car [G, C, 36] and the ball [G, C, 25] in the view of the car's own team."""
        cars = self.flip.shape[1]
        side = side_of(cars, blue)
        return self.car[:, np.arange(cars), side], self.ball[:, side]


def _step_each(arenas: list[Any], ticks: int) -> None:
    for arena in arenas:
        arena.step(ticks)


def side_of(cars: int, blue: int) -> npt.NDArray[np.intp]:
    """Return each car's team, 0 blue, 1 orange."""
    return (np.arange(cars) >= blue).astype(np.intp)


class Arenas:
    """G arenas with teams of the same sizes. All randomness comes from the callers: equal calls lead to equal bits."""

    def __init__(self, count: int, blue: int, orange: int) -> None:
        self._sim = sim = load_simulator()
        self.count, self.cars_per_arena, self._blue = count, blue + orange, blue
        self._arenas = [sim.Arena(sim.GameMode.SOCCAR) for _ in range(count)]
        for arena in self._arenas:
            for team in [sim.Team.BLUE] * blue + [sim.Team.ORANGE] * orange:
                arena.add_car(team)
            arena.reset_kickoff(seed=0)
        self._cars = [sorted(arena.get_cars(), key=lambda car: car.id) for arena in self._arenas]
        self._flat = [car for cars in self._cars for car in cars]
        self._car = np.zeros((count, self.cars_per_arena, 2, 36), np.float32)
        self._ball = np.zeros((count, 2, 25), np.float32)
        self._pads = np.zeros((count, 2, 34), np.float32)
        self._flip = np.zeros((count, self.cars_per_arena), np.float32)
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="arenas")
        #: functions that lead to the same states; the first one uses one thread
        self.step_functions: tuple[Callable[[int], None], ...] = (
            self._step_on_one_thread,
            self._step_on_two_threads,
            self._multi_step,
        )
        self._tuner = self._new_tuner()
        self._steps = 0

    def controls(self, numbers: Float32) -> list[Any]:
        """Return RocketSim's controls for `numbers` [n, 8], in the order of `actions.CONTROL_NAMES`.

        The first five are in [-1, 1]; jump, boost and handbrake are on if > 0.
        """
        make = self._sim.CarControls
        return [
            make(throttle=t, steer=s, pitch=p, yaw=y, roll=r, jump=j > 0, boost=b > 0, handbrake=h > 0)
            for t, s, p, y, r, j, b, h in numbers.tolist()
        ]

    def step(self, controls: list[Any], ticks: int, rng: np.random.Generator) -> None:
        """Hold these controls, one for each car, for some ticks."""
        for car, control in zip(self._flat, controls, strict=True):
            car.set_controls(control)
        self._respawn(rng)
        if self._steps % _TUNE_EVERY == 0:
            self._tuner = self._new_tuner()
        self._steps += 1
        start_s = time.perf_counter()
        self.step_functions[self._tuner.current](ticks)
        self._tuner.record(time.perf_counter() - start_s)

    def _new_tuner(self) -> Autotuner[int]:
        return Autotuner(
            range(len(self.step_functions)), rounds=_ROUNDS, min_saving=_MIN_SAVING, give_up_factor=_GIVE_UP_FACTOR
        )

    def _step_on_one_thread(self, ticks: int) -> None:
        _step_each(self._arenas, ticks)

    def _step_on_two_threads(self, ticks: int) -> None:
        """Step half of the arenas in another thread; RocketSim releases the global interpreter lock."""
        half = self.count // 2
        other = self._helper.submit(_step_each, self._arenas[:half], ticks)
        _step_each(self._arenas[half:], ticks)
        other.result()

    def _multi_step(self, ticks: int) -> None:
        self._sim.Arena.multi_step(self._arenas, ticks)

    def _respawn(self, rng: np.random.Generator) -> None:
        """Respawn demolished cars with a seed from `rng`; RocketSim alone would choose a random place."""
        for g, c in np.argwhere(self._car[:, :, 0, DEMOED] > 0).tolist():
            car = self._cars[g][c]
            if car.get_state().demo_respawn_timer <= _RESPAWN_SOON_S:
                car.respawn(seed=int(rng.integers(1, 2**31)))

    def read(self) -> ArenaState:
        """Return the state of all arenas, in arrays that the next call overwrites."""
        states = [arena.get_gym_state() for arena in self._arenas]
        np.concatenate([state[1] for state in states], out=self._pads.reshape(-1, 34))
        np.concatenate([state[2] for state in states], out=self._ball.reshape(-1, 25))
        np.concatenate([car for state in states for car in state[3:]], out=self._car.reshape(-1, 36))
        self._flip.reshape(-1)[:] = [car.get_state().has_flip_or_jump() for car in self._flat]
        return ArenaState(self._car, self._ball, self._pads, self._flip)

    def read_some(self, arenas: list[int]) -> None:
        """Update the state that `read` returned, for these arenas only."""
        for g in arenas:
            _, self._pads[g], self._ball[g], *cars = self._arenas[g].get_gym_state()
            for c, state in enumerate(cars):
                self._car[g, c] = state
                self._flip[g, c] = self._cars[g][c].get_state().has_flip_or_jump()

    def close(self) -> None:
        """End the helper thread."""
        self._helper.shutdown()

    def kickoff(self, arena: int, rng: np.random.Generator) -> None:
        """Start an episode with a kickoff."""
        self._arenas[arena].reset_kickoff(seed=int(rng.integers(1, 2**31)))
        for team in (self._cars[arena][: self._blue], self._cars[arena][self._blue :]):
            self._shuffle_places(team, rng)

    def _shuffle_places(self, team: list[Any], rng: np.random.Generator) -> None:
        """Assign a team's places to its cars by `rng`: RocketSim does it by the cars' memory addresses."""
        if len(team) < 2:
            return
        places = sorted((car.get_state() for car in team), key=lambda state: (state.pos.x, state.pos.y))
        for car, place in zip(team, rng.permutation(len(team)).tolist(), strict=True):
            car.set_state(places[place])

    def random_start(self, arena: int, rng: np.random.Generator) -> None:
        """Start an episode with ball and cars at random places."""
        sim = self._sim
        self.kickoff(arena, rng)
        ball = sim.BallState()
        ball.pos = sim.Vec(*rng.uniform((-3300, -4300, 95), (3300, 4300, 300)).tolist())
        ball.vel = sim.Vec(*rng.uniform((-400, -400, 0), (400, 400, 300)).tolist())
        self._arenas[arena].ball.set_state(ball)
        for car in self._cars[arena]:
            state = sim.CarState()
            state.pos = sim.Vec(*rng.uniform((-3500, -4500), (3500, 4500)).tolist(), 17.0)
            yaw, speed = float(rng.uniform(-np.pi, np.pi)), float(rng.uniform(0, 1400))
            state.vel = sim.Vec(speed * float(np.cos(yaw)), speed * float(np.sin(yaw)), 0.0)
            state.rot_mat = sim.Angle(yaw, 0.0, 0.0).as_rot_mat()
            state.boost = float(rng.uniform(0, 100))
            car.set_state(state)
