"""Games and their rows: the racing game, Gymnasium's classics, and random processes that are easily mistaken."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.envs.racing.simulation import RacingSimulation
from trainer.simulate.model_file import random_model

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Play:
    """The rows of several agents over time: [ticks, agents, ...]."""

    observations: npt.NDArray[np.float32]
    actions: npt.NDArray[np.float32]
    done: npt.NDArray[np.bool_]

    def part(self, ticks: slice, agents: slice) -> Play:
        """Return some ticks of some agents."""
        return Play(self.observations[ticks, agents], self.actions[ticks, agents], self.done[ticks, agents])


Game = Callable[[int, int, int], Play]
"""Agents, ticks and seed -> the rows."""


def _played(observations: list[Any], actions: list[Any], done: list[Any]) -> Play:
    return Play(np.array(observations, np.float32), np.array(actions, np.float32), np.array(done, bool))


def racing(*, is_driven: bool) -> Game:
    """Return the racing game, with a scripted driver or a random network."""

    def play(agents: int, ticks: int, seed: int) -> Play:
        rng, simulation = np.random.default_rng([seed, 7]), RacingSimulation(agents, seed=seed)
        model = random_model((15, 128, 128, 3), np.random.default_rng([seed, 2]))
        observation, rows = simulation.observe(), ([], [], [])  # type: tuple[Any, tuple[list[Any], list[Any], list[Any]]]
        for _ in range(ticks):
            mean, deviation = (_driven(observation), 0.25) if is_driven else (model.mean(observation), 0.6)
            action = np.clip(rng.normal(mean, deviation), simulation.ACTION_LOW, simulation.ACTION_HIGH)
            step = simulation.step(action)
            for column, value in zip(rows, (observation, action, step.terminated | step.truncated), strict=True):
                column.append(value)
            observation = step.observation
        return _played(*rows)

    return play


def _driven(observation: npt.NDArray[np.float32]) -> Floats:
    """Return actions that keep a car on the road."""
    speed, yaw_rate, ahead, left, right, left_45, right_45 = observation[:, [0, 1, 4, 5, 6, 7, 8]].T
    steer = 1.5 * (right - left) + 1.5 * (right_45 - left_45) - 0.3 * yaw_rate
    wanted = 0.7 * np.clip(0.15 + 0.5 * ahead, 0.0, 1.0)
    return np.stack([steer, 4.0 * (wanted - speed), 4.0 * (speed - wanted)], axis=1).astype(np.float64)


def gym(name: str, policy: Callable[[Any, np.random.Generator], Any], *, one_hot: bool = False) -> Game:
    """Return a Gymnasium environment; whole numbers are observed as such or one-hot."""

    def play(agents: int, ticks: int, seed: int) -> Play:
        import gymnasium

        rng, plays = np.random.default_rng([seed, 3]), []
        for agent in range(agents):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                env = gymnasium.make(name)
            states = getattr(env.observation_space, "n", 0)
            observation, _ = env.reset(seed=seed * 1000 + agent)
            rows: tuple[list[Any], list[Any], list[Any]] = [], [], []
            for _ in range(ticks):
                action = policy(observation, rng)
                rows[0].append(np.eye(states)[observation] if one_hot else np.ravel(observation))
                rows[1].append(np.ravel(action))
                observation, _, terminated, truncated, _ = env.step(action)
                rows[2].append(terminated or truncated)
                if rows[2][-1]:
                    observation, _ = env.reset()
            plays.append(_played(*rows))
        columns = (np.stack([getattr(p, n) for p in plays], axis=1) for n in ("observations", "actions", "done"))
        return Play(*columns)

    return play


def process(
    width: int,
    memory: float = 1.0,
    *,
    jumps: float = 0.0,
    noise: float = 0.0,
    episode: float = 0.0,
    from_0: bool = False,
    constant: int = 0,
    flags: int = 0,
) -> Game:
    """Return a random walk (memory 1), an autoregressive process or independent noise (memory 0)."""

    def play(agents: int, ticks: int, seed: int) -> Play:
        rng = np.random.default_rng([seed, 5])
        state, rows = 3.0 * rng.normal(size=(agents, width)), ([], [], [])  # type: tuple[Any, tuple[list[Any], list[Any], list[Any]]]
        for _ in range(ticks):
            sensors = state + noise * rng.normal(size=state.shape)
            rows[0].append(np.concatenate([sensors, state[:, :flags] > 0, np.full((agents, constant), 0.5)], axis=1))
            rows[1].append(rng.normal(size=(agents, 2)))
            state = memory * state + np.sqrt(max(1.0 - memory**2, 0.1)) * rng.normal(size=state.shape)
            state = np.where(
                rng.random((agents, 1)) < jumps, 5.0 * rng.normal(size=state.shape), np.clip(state, -10, 10)
            )
            ended = rng.random(agents) < (1.0 / episode if episode else 0.0)
            state[ended] = 0.0 if from_0 else rng.normal(size=(int(ended.sum()), width))
            rows[2].append(ended)
        return _played(*rows)

    return play


def alternating(period: int, *, phases: bool = False) -> Game:
    """Return a game of which some observations are very different in each of `period` steps, and some are slow."""

    def play(agents: int, ticks: int, seed: int) -> Play:
        rng = np.random.default_rng([seed, 6])
        pattern = rng.normal(size=(period, agents, 4))[np.arange(ticks) % period]
        slow = np.cumsum(0.3 * rng.normal(size=(ticks, agents, 2)), axis=0)
        phase = np.repeat(np.eye(period)[np.arange(ticks) % period][:, None], agents, axis=1)[:, :, : period * phases]
        observations = np.concatenate([pattern + 0.05 * rng.normal(size=pattern.shape), slow, phase], axis=2)
        return _played([*observations], [*rng.normal(size=(ticks, agents, 1))], [*np.zeros((ticks, agents), bool)])

    return play


def repeated(length: int) -> Game:
    """Return a game with a fixed seed: every episode is the same."""

    def play(agents: int, ticks: int, seed: int) -> Play:
        episode = np.cumsum(np.random.default_rng([seed, 8]).normal(size=(length, agents, 6)), axis=0)
        place = np.arange(ticks) % length
        done = np.repeat((place == length - 1)[:, None], agents, axis=1)
        return _played([*episode[place]], [*np.zeros((ticks, agents, 1))], [*done])

    return play


def changed(game: Game, change: Callable[[npt.NDArray[np.float32], np.random.Generator], Any]) -> Game:
    """Return a game with other observations."""

    def play(agents: int, ticks: int, seed: int) -> Play:
        found = game(agents, ticks, seed)
        observations = change(found.observations, np.random.default_rng([seed, 11]))
        return Play(observations.astype(np.float32), found.actions, found.done)

    return play


def _noisy(share: float) -> Callable[[npt.NDArray[np.float32], np.random.Generator], Any]:
    return lambda observations, rng: (
        observations + share * observations.std((0, 1)) * rng.normal(size=observations.shape)
    )


def _stacked(observations: npt.NDArray[np.float32], _: np.random.Generator) -> Any:
    before = np.concatenate([observations[:1], observations[:-1]])
    return np.concatenate([before, observations], axis=2)


def _any_of(n: int) -> Callable[[Any, np.random.Generator], int]:
    return lambda _, rng: int(rng.integers(n))


def _balance(observation: Any, rng: np.random.Generator) -> int:
    position, speed, angle, rate = observation
    lean = angle + 0.5 * rate + 0.02 * position + 0.05 * speed
    return int(lean > 0.0) if rng.random() > 0.02 else int(rng.integers(2))


def _swing_up(observation: Any, rng: np.random.Generator) -> Floats:
    cosine, sine, rate = observation
    energy = rate**2 / 2.0 + 10.0 * (cosine - 1.0)
    torque = -8.0 * sine - 2.0 * rate if cosine > 0.8 else -np.sign(rate) * np.sign(energy)
    return np.array([np.clip(torque, -2.0, 2.0) + 0.1 * rng.normal()])


_DRIVEN, _CRASHING = racing(is_driven=True), racing(is_driven=False)
_CART_POLE = gym("CartPole-v1", _any_of(2))
_PENDULUM = gym("Pendulum-v1", lambda _, rng: rng.uniform(-2.0, 2.0, 1))
_ACROBOT = gym("Acrobot-v1", _any_of(3))
_MOUNTAIN_CAR = gym("MountainCar-v0", _any_of(3))

PHYSICAL: Mapping[str, Game] = {
    "racing, driven well": _DRIVEN,
    "racing, crashing": _CRASHING,
    "CartPole": _CART_POLE,
    "Pendulum": _PENDULUM,
    "Acrobot": _ACROBOT,
    "MountainCar": _MOUNTAIN_CAR,
    "random walk, 8 observations": process(8),
}
"""Games whose tracks are recovered."""

CORRECT: Mapping[str, Game] = {
    **PHYSICAL,
    "racing, 10 % noise": changed(_DRIVEN, _noisy(0.1)),
    "racing, 50 % noise": changed(_DRIVEN, _noisy(0.5)),
    "racing, rounded": changed(_DRIVEN, lambda observations, _: np.round(observations, 1)),
    "racing, two frames": changed(_DRIVEN, _stacked),
    "CartPole, 30 % noise": changed(_CART_POLE, _noisy(0.3)),
    "CartPole, balanced": gym("CartPole-v1", _balance),
    "Pendulum, swung up": gym("Pendulum-v1", _swing_up),
    "Pendulum, spinning": gym("Pendulum-v1", lambda _, rng: np.array([2.0 + 0.1 * rng.normal()])),
    "Acrobot, swung": gym("Acrobot-v1", lambda o, rng: 2 if o[5] + 0.3 * rng.normal() > 0 else 0),
    "MountainCar, swung": gym("MountainCar-v0", lambda o, _: 2 if o[1] > 0 else 0),
    "FrozenLake, number": gym("FrozenLake-v1", _any_of(4)),
    "FrozenLake, one-hot": gym("FrozenLake-v1", _any_of(4), one_hot=True),
    "CliffWalking, one-hot": gym("CliffWalking-v1", _any_of(4), one_hot=True),
    "Taxi, number": gym("Taxi-v4", _any_of(6)),
    "random walk, 1 observation": process(1),
    "random walk, 2 observations": process(2),
    "random walk, 16 observations": process(16),
    "random walk, flags and constants": process(4, constant=4, flags=4),
    "random walk, 5 % jumps": process(6, jumps=0.05),
    "random walk, 30 % jumps": process(6, jumps=0.3),
    "random walk, sensor noise 1 step": process(6, noise=0.3),
    "random walk, sensor noise 3 steps": process(6, noise=1.0),
    "random walk, sensor noise 6 steps": process(6, noise=2.0),
    "random walk, episodes of 2 steps": process(6, episode=2.0),
    "random walk, episodes of 5 steps from one place": process(6, episode=5.0, from_0=True),
    "random walk, episodes of 20 steps from one place": process(4, episode=20.0, from_0=True),
    "autoregressive, 0.9": process(4, 0.9),
    "autoregressive, 0.5": process(16, 0.5),
    "autoregressive, -0.9": process(6, -0.9),
    "independent, 1 observation": process(1, 0.0),
    "independent, 4 observations": process(4, 0.0),
    "independent, 16 observations": process(16, 0.0),
    "alternating, 2 steps": alternating(2),
    "alternating, 4 steps": alternating(4, phases=True),
    "equal episodes of 5 steps": repeated(5),
    "equal episodes of 30 steps": repeated(30),
}
"""Games of which the files of a single agent must not raise an alarm."""
