"""The mirrors of the built-in games: from the mirrored state, the mirrored action leads to the mirrored next state."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from schemas.mirror import Mirror
from trainer.envs.racing.simulation import RacingSimulation
from trainer.envs.racing.track import HALF_WIDTH
from trainer.envs.racing.vec_env import MIRROR, RacingVecEnv
from trainer.envs.rocket.mirror import rocket_mirror
from trainer.envs.rocket.simulation import find_meshes

_SIDEWAYS = ("offset", "heading", "steer", "yaw_rate", "roll", "roll_rate", "across")


def mirrored_tracks(tracks):
    image = copy.deepcopy(tracks)
    image.y, image.heading, image.curvature = -image.y, -image.heading, -image.curvature
    image.walls = np.stack([image._wall(side * HALF_WIDTH) for side in (1.0, -1.0)])
    image._walls_around = image._wall_table()
    return image


def test_the_racing_game_is_symmetric():
    mirror = Mirror.of(MIRROR, RacingVecEnv(1).contract)
    game, image = RacingSimulation(16, seed=0), RacingSimulation(16, seed=0)
    image.tracks = mirrored_tracks(game.tracks)
    rng = np.random.default_rng(0)
    for _ in range(30):
        for name in game.cars.__slots__:
            column = getattr(game.cars, name)
            setattr(image.cars, name, -column if name in _SIDEWAYS else column.copy())
        image.track = game.track.copy()
        np.testing.assert_allclose(mirror.observations(game.observe()), image.observe(), atol=1e-6)
        action = np.clip(rng.normal(0.2, 0.5, (16, 3)), [-1, 0, 0], 1).astype(np.float32)
        step, other = game.step(action), image.step(mirror.actions(action))
        np.testing.assert_allclose(mirror.observations(step.next_observation), other.next_observation, atol=1e-6)
        np.testing.assert_allclose(step.reward, other.reward, atol=1e-6)
        assert (step.terminated == other.terminated).all()


def mirrored_vector(sim, vector):
    return sim.Vec(-vector.x, vector.y, vector.z)


def mirrored_spin(sim, spin):
    """A spin is a pseudovector: its part along the mirror's normal stays."""
    return sim.Vec(spin.x, -spin.y, -spin.z)


def copy_mirrored(sim, arena, image):
    """Set the second arena to the mirror image of the first one."""
    ball, other = arena.ball.get_state(), image.ball.get_state()
    other.pos, other.vel = mirrored_vector(sim, ball.pos), mirrored_vector(sim, ball.vel)
    other.ang_vel = mirrored_spin(sim, ball.ang_vel)
    image.ball.set_state(other)
    for car, second in zip(*(sorted(a.get_cars(), key=lambda car: car.id) for a in (arena, image)), strict=True):
        state = car.get_state()
        matrix = state.rot_mat
        right = matrix.right
        matrix = sim.RotMat(
            forward=mirrored_vector(sim, matrix.forward),
            right=sim.Vec(right.x, -right.y, -right.z),
            up=mirrored_vector(sim, matrix.up),
        )
        state.pos, state.vel = mirrored_vector(sim, state.pos), mirrored_vector(sim, state.vel)
        state.ang_vel, state.rot_mat = mirrored_spin(sim, state.ang_vel), matrix
        second.set_state(state)


@pytest.mark.torch
@pytest.mark.skipif(find_meshes() is None, reason="the collision meshes are not installed")
@pytest.mark.parametrize("discrete", [True, False], ids=["discrete", "continuous"])
def test_rocket_league_is_symmetric(discrete):
    sim = pytest.importorskip("RocketSim")
    from trainer.envs.rocket.vec_env import GameRules, RocketVecEnv

    env = RocketVecEnv(2, 2, 2, GameRules(weights={}, discrete=discrete, random_starts=1.0))
    mirror = Mirror.of(rocket_mirror(discrete=discrete), env.contract)
    assert mirror.is_own_inverse()
    env.reset(3)
    env.use_one_thread()
    rng, apart, seen = np.random.default_rng(0), [], []
    for step in range(90):
        if step % 9 == 0:  # rounding drives the two arenas apart, so episodes are short
            start_mirrored(sim, env, rng)
        before = env._observe(np.arange(2))
        action = random_actions(rng, discrete=discrete)
        now = env.step(np.concatenate([action, mirror.actions(action)])).next_observation
        apart += [np.abs(mirror.observations(both[:4]) - both[4:]).max(axis=0) for both in (before, now)]
        seen.append(np.abs(now).max(axis=0))
    env.close()
    assert np.quantile(apart, 0.95, axis=0).max() < 1e-3
    assert np.max(apart) < 0.1
    signs = list(rocket_mirror(discrete=discrete).observation_signs)
    assert np.max(seen, axis=0)[signs].min() > 0.02, "a sign that is wrong would be noticed"


def start_mirrored(sim, env, rng):
    """Start an episode in the first arena, with a ball that spins, and its mirror image in the second one."""
    env._start_episodes(np.arange(2))
    first, second = env._sim._arenas
    ball = first.ball.get_state()
    ball.ang_vel = sim.Vec(*rng.uniform(-3.0, 3.0, 3).tolist())
    first.ball.set_state(ball)
    copy_mirrored(sim, first, second)
    env._sim.read_some([0, 1])


def random_actions(rng, *, discrete):
    if discrete:
        return rng.integers(0, 90, (4, 1)).astype(np.float32)
    return np.clip(rng.normal(0.0, 0.7, (4, 8)), -1.0, 1.0).astype(np.float32)
