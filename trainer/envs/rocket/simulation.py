"""Arenas of RocketSim as arrays: controls in, physics on, states out. Distances in unreal units (cm), times in seconds.

A car's state is 36 numbers, the ball's 25, each given twice: as it is, and turned half around the vertical axis, which
is how it looks to the orange team. `Arena.get_gym_state` documents their order; the slices below name what is used.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigError
from schemas.program.commands import install_command, pip_install

Float32 = npt.NDArray[np.float32]

TICKS_PER_S = 120
CAR_SPEED, BALL_SPEED = 2300.0, 6000.0  #: uu/s, the highest
GOAL_Y, GOAL_LINE = 5120.0, 5215.5  #: uu: the goal's mouth; where the ball's centre is when it counts

DEMOS, DEMOED, ON_GROUND, TOUCHED, BOOST = 5, 7, 8, 9, 10
POS, VEL, SPIN, FORWARD, RIGHT, UP = (slice(a, a + 3) for a in (11, 18, 21, 24, 27, 30))
FRAME = slice(24, 33)  #: forward, right, up
BALL_POS, BALL_VEL, BALL_SPIN = slice(0, 3), slice(7, 10), slice(10, 13)
_RESPAWN_SOON_S = 0.1
_MEASURE_EVERY = 2000  #: steps
MESHES_PACKAGE = "rlgym-rocket-league==2.0.1"
_ready = False


def simulator() -> Any:
    """Import RocketSim and load the soccar meshes, once. Raises ConfigError (E_EXTRA) where one is missing."""
    global _ready
    try:
        import RocketSim
    except ImportError:
        raise ConfigError("rocketsim is not installed", hint=install_command("rocket"), code="E_EXTRA") from None
    if not _ready:
        folder = meshes()
        if folder is None:
            hint = f"{pip_install('--no-deps', MESHES_PACKAGE)}, or name their folder in RS_COLLISION_MESHES"
            raise ConfigError("the collision meshes of Rocket League are missing", hint=hint, code="E_EXTRA")
        RocketSim.init(str(folder))
        _ready = True
    return RocketSim


def meshes() -> Path | None:
    """Find the folder that holds soccar/*.cmf: as named in RS_COLLISION_MESHES, or where rlgym's package has it."""
    places = [Path(os.environ["RS_COLLISION_MESHES"])] if "RS_COLLISION_MESHES" in os.environ else []
    try:
        found = find_spec("rlgym.rocket_league")
    except ModuleNotFoundError:
        found = None
    if found is not None and found.submodule_search_locations:
        places += [Path(place) / "sim" / "collision_meshes" for place in found.submodule_search_locations]
    return next((place for place in places if any(place.glob("soccar/*.cmf"))), None)


@dataclass(frozen=True, slots=True)
class ArenaState:
    """G arenas with C cars each. The axis of 2 is the side that looks: blue, orange."""

    car: Float32  #: [G, C, 2, 36]
    ball: Float32  #: [G, 2, 25]
    pads: Float32  #: [G, 2, 34], 1 = there
    flip: Float32  #: [G, C], 1 = can still jump or flip

    def of(self, arenas: npt.NDArray[np.intp]) -> ArenaState:
        """Return some arenas only."""
        return ArenaState(self.car[arenas], self.ball[arenas], self.pads[arenas], self.flip[arenas])

    def facing(self, blue: int) -> tuple[Float32, Float32]:
        """Return each car [G, C, 36] and the ball [G, C, 25] as its own side sees them."""
        cars = self.flip.shape[1]
        side = side_of(cars, blue)
        return self.car[:, np.arange(cars), side], self.ball[:, side]


def _step_each(arenas: list[Any], ticks: int) -> None:
    for arena in arenas:
        arena.step(ticks)


def side_of(cars: int, blue: int) -> npt.NDArray[np.intp]:
    """Return each car's side, 0 blue, 1 orange."""
    return (np.arange(cars) >= blue).astype(np.intp)


class StepTrial:
    """Finds the fastest of several ways. The first is one thread; the others must save something to be worth the cores.

    Where another program holds the cores, threads wait for each other, and a step takes up to forty times as long as
    one thread needs. So a way that is much slower once is not tried again.
    """

    ROUNDS = 6
    WORTH_IT, HOPELESS = 0.9, 1.5

    def __init__(self, ways: int) -> None:
        self._seconds: list[list[float]] = [[] for _ in range(ways)]
        self._left = list(range(ways)) * self.ROUNDS
        self._fastest = 0

    def turn(self) -> int:
        """Return the way to take now."""
        return self._left[0] if self._left else self._fastest

    def took(self, way: int, seconds: float) -> None:
        """Take note of how long it took; once all have had their turns it changes nothing."""
        if not self._left:
            return
        self._left.pop(0)
        self._seconds[way].append(seconds)
        if way and seconds > self.HOPELESS * max(self._seconds[0]):
            self._left = [other for other in self._left if other != way]
            self._seconds[way] = []
        if not self._left:
            means = [sum(took) / len(took) if took else float("inf") for took in self._seconds]
            means[0] *= self.WORTH_IT
            self._fastest = means.index(min(means))


class Arenas:
    """G arenas of the same two teams. All randomness comes in as numbers; equal calls lead to equal bits."""

    def __init__(self, count: int, blue: int, orange: int) -> None:
        self._sim = sim = simulator()
        self.count, self.cars_each, self._blue = count, blue + orange, blue
        self._arenas = [sim.Arena(sim.GameMode.SOCCAR) for _ in range(count)]
        for arena in self._arenas:
            for team in [sim.Team.BLUE] * blue + [sim.Team.ORANGE] * orange:
                arena.add_car(team)
            arena.reset_kickoff(seed=0)
        self._cars = [sorted(arena.get_cars(), key=lambda car: car.id) for arena in self._arenas]
        self._flat = [car for cars in self._cars for car in cars]
        self._car = np.zeros((count, self.cars_each, 2, 36), np.float32)
        self._ball = np.zeros((count, 2, 25), np.float32)
        self._pads = np.zeros((count, 2, 34), np.float32)
        self._flip = np.zeros((count, self.cars_each), np.float32)
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="arenas")
        #: ways to step that lead to the same states
        self.ways: tuple[Callable[[int], None], ...] = (self._alone, self._shared, self._multi_step)
        self._trial = StepTrial(len(self.ways))
        self._steps = 0

    def controls(self, numbers: Float32) -> list[Any]:
        """Make controls of [n, 8]: throttle, steer, pitch, yaw, roll in [-1, 1]; jump, boost, handbrake where > 0."""
        make = self._sim.CarControls
        return [
            make(throttle=t, steer=s, pitch=p, yaw=y, roll=r, jump=j > 0, boost=b > 0, handbrake=h > 0)
            for t, s, p, y, r, j, b, h in numbers.tolist()
        ]

    def step(self, controls: list[Any], ticks: int, rng: np.random.Generator) -> None:
        """Hold these controls, one a car, for some ticks."""
        for car, control in zip(self._flat, controls, strict=True):
            car.set_controls(control)
        self._respawn(rng)
        if self._steps % _MEASURE_EVERY == 0:
            self._trial = StepTrial(len(self.ways))
        self._steps += 1
        way = self._trial.turn()
        began_s = time.perf_counter()
        self.ways[way](ticks)
        self._trial.took(way, time.perf_counter() - began_s)

    def _alone(self, ticks: int) -> None:
        _step_each(self._arenas, ticks)

    def _shared(self, ticks: int) -> None:
        """Step half of the arenas in a thread of our own: RocketSim lets go of Python meanwhile."""
        half = self.count // 2
        other = self._helper.submit(_step_each, self._arenas[:half], ticks)
        _step_each(self._arenas[half:], ticks)
        other.result()

    def _multi_step(self, ticks: int) -> None:
        self._sim.Arena.multi_step(self._arenas, ticks)

    def _respawn(self, rng: np.random.Generator) -> None:
        """Bring wrecks back at a place that `rng` names; the simulator itself would draw one of its own."""
        for g, c in np.argwhere(self._car[:, :, 0, DEMOED] > 0).tolist():
            car = self._cars[g][c]
            if car.get_state().demo_respawn_timer <= _RESPAWN_SOON_S:
                car.respawn(seed=int(rng.integers(1, 2**31)))

    def read(self) -> ArenaState:
        """Look at all arenas; the arrays are used again."""
        states = [arena.get_gym_state() for arena in self._arenas]
        np.concatenate([state[1] for state in states], out=self._pads.reshape(-1, 34))
        np.concatenate([state[2] for state in states], out=self._ball.reshape(-1, 25))
        np.concatenate([car for state in states for car in state[3:]], out=self._car.reshape(-1, 36))
        self._flip.reshape(-1)[:] = [car.get_state().has_flip_or_jump() for car in self._flat]
        return ArenaState(self._car, self._ball, self._pads, self._flip)

    def read_some(self, arenas: list[int]) -> None:
        """Look at some arenas; the snapshot that `read` gave shows them too."""
        for g in arenas:
            _, self._pads[g], self._ball[g], *cars = self._arenas[g].get_gym_state()
            for c, state in enumerate(cars):
                self._car[g, c] = state
                self._flip[g, c] = self._cars[g][c].get_state().has_flip_or_jump()

    def close(self) -> None:
        """End the helping thread."""
        self._helper.shutdown()

    def kickoff(self, arena: int, rng: np.random.Generator) -> None:
        """Begin with a kickoff."""
        self._arenas[arena].reset_kickoff(seed=int(rng.integers(1, 2**31)))
        for team in (self._cars[arena][: self._blue], self._cars[arena][self._blue :]):
            self._deal(team, rng)

    def _deal(self, team: list[Any], rng: np.random.Generator) -> None:
        """Deal a team's places to its cars by `rng`: the simulator goes by where its cars lie in memory."""
        if len(team) < 2:
            return
        places = sorted((car.get_state() for car in team), key=lambda state: (state.pos.x, state.pos.y))
        for car, place in zip(team, rng.permutation(len(team)).tolist(), strict=True):
            car.set_state(places[place])

    def scatter(self, arena: int, rng: np.random.Generator) -> None:
        """Begin with ball and cars anywhere."""
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
