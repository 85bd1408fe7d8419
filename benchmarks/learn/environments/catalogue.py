"""The environments: how each is made, measured and split between tuning and reporting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.learn.environments.racing_variants import GatesVecEnv, PullingCarVecEnv
from trainer.envs.gymnasium_env import GymnasiumVecEnv
from trainer.envs.racing.vec_env import RacingVecEnv
from trainer.envs.vec_env import VecEnv

RACING_TIME_LIMIT = 1000  #: steps


class Measure(StrEnum):
    """How the reward of a cycle is measured."""

    PER_STEP = "reward per step"  #: mean over all steps: episodes end seldom
    RETURN = "return"  #: mean over the episodes that ended in the cycle
    FIXED = "return of a fixed length"  #: every episode has `horizon` steps: mean reward per step times horizon


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment of the benchmark."""

    name: str
    make: Callable[[int, int], VecEnv]  #: number of agents, environment seed
    cycles: int  #: trainings of a run by default
    measure: Measure
    horizon: int  #: steps of the longest episode
    good: float  #: a score of a policy that solves it: the smallest useful unit of the normalised scores, see `scores`
    is_discrete: bool = False
    needs: str = ""  #: a module that has to be installed
    action_scale: float = 1.0  #: the environment's own actions are those of the policy, times this


def _racing(kind: type[RacingVecEnv]) -> Callable[[int, int], VecEnv]:
    """Return a maker of a racing game: the environment seed chooses the tracks as well."""
    return lambda agents, seed: kind(agents, time_limit=RACING_TIME_LIMIT, track_seed=seed)


def _gymnasium(name: str) -> Callable[[int, int], VecEnv]:
    return lambda agents, seed: GymnasiumVecEnv(name, agents)


def _driving(name: str, kind: type[RacingVecEnv], cycles: int, good: float) -> Environment:
    return Environment(name, _racing(kind), cycles, Measure.PER_STEP, RACING_TIME_LIMIT, good)


_ALL = (
    _driving("racing", RacingVecEnv, 20, 0.9),
    _driving("racing-pull", PullingCarVecEnv, 20, 0.9),
    _driving("racing-gates", GatesVecEnv, 20, 0.07),
    Environment("Pendulum-v1", _gymnasium("Pendulum-v1"), 20, Measure.FIXED, 200, -200.0, action_scale=2.0),
    Environment("MountainCarContinuous-v0", _gymnasium("MountainCarContinuous-v0"), 15, Measure.RETURN, 999, 90.0),
    Environment("Acrobot-v1", _gymnasium("Acrobot-v1"), 20, Measure.RETURN, 500, -100.0, is_discrete=True),
    Environment(
        "LunarLander-v3", _gymnasium("LunarLander-v3"), 40, Measure.RETURN, 1000, 200.0, is_discrete=True, needs="Box2D"
    ),
    Environment(
        "LunarLanderContinuous-v3",
        _gymnasium("LunarLanderContinuous-v3"),
        40,
        Measure.RETURN,
        1000,
        200.0,
        needs="Box2D",
    ),
    Environment("BipedalWalker-v3", _gymnasium("BipedalWalker-v3"), 60, Measure.RETURN, 1600, 300.0, needs="Box2D"),
    Environment("Hopper-v5", _gymnasium("Hopper-v5"), 40, Measure.RETURN, 1000, 2500.0, needs="mujoco"),
    Environment("HalfCheetah-v5", _gymnasium("HalfCheetah-v5"), 40, Measure.FIXED, 1000, 4000.0, needs="mujoco"),
)
ENVIRONMENTS = {environment.name: environment for environment in _ALL}
TUNE = (
    "racing",
    "Pendulum-v1",
    "MountainCarContinuous-v0",
    "LunarLander-v3",
    "LunarLanderContinuous-v3",
    "HalfCheetah-v5",
)
"""Settings and defaults are chosen on these. They have one of each kind: driving, a classic task with dense rewards,
one with rewards that are seldom reached, discrete choices, and a robot in MuJoCo. The other half has one of each kind
as well, and shows whether a choice holds where nobody looked. So it is measured only for a report. (Acrobot and
BipedalWalker were each tried once or twice by hand; no setting was chosen by them.)"""
REPORT = tuple(name for name in ENVIRONMENTS if name not in TUNE)
