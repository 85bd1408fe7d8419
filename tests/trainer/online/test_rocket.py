"""Rocket League: actions, observations, rewards, and repeatability."""

import numpy as np
import pytest

pytest.importorskip("RocketSim", reason="needs the extra `rocket`")

from gymnasium.utils.env_checker import check_env

from trainer.envs.rocket import simulation as rocket_sim
from trainer.envs.rocket.actions import CONTROL_NAMES, lookup_table
from trainer.envs.rocket.gymnasium_envs import RocketSimEnv, RocketVectorEnv
from trainer.envs.rocket.observations import OBSERVATION_SIZE
from trainer.envs.rocket.render import render_frame
from trainer.envs.rocket.simulation import BOOST, DEMOED, POS, TOUCHED, VEL, Arenas
from trainer.envs.rocket.vec_env import GameRules, RocketVecEnv

if rocket_sim.find_meshes() is None:
    pytest.skip("the collision meshes are not installed", allow_module_level=True)

RULES = GameRules(weights={"goal": 10.0, "concede": -10.0, "touch": 1.0, "velocity_player_to_ball": 0.1})


@pytest.fixture(scope="module")
def duel():
    return Arenas(1, 1, 1)


def held(**given):
    return np.array([[given.get(name, 0.0) for name in CONTROL_NAMES]] * 2, np.float32)


def after(arenas, steps=4, **given):
    rng = np.random.default_rng(0)
    arenas.kickoff(0, rng)
    before = arenas.read().car[0, 0, 0].copy()
    for _ in range(steps):
        arenas.step(arenas.controls(held(**given)), 8, rng)
    return before, arenas.read().car[0, 0, 0].copy()


def test_each_control_has_the_effect_of_its_name(duel):
    """RocketSim's type stubs have jump and boost in the wrong order."""
    before, now = after(duel, throttle=1.0)
    assert now[VEL] @ before[rocket_sim.FORWARD] > 250
    assert now[BOOST] == before[BOOST]
    assert now[POS][2] < 30
    _, boosted = after(duel, throttle=1.0, boost=1.0)
    assert boosted[BOOST] < before[BOOST]
    assert np.linalg.norm(boosted[VEL]) > np.linalg.norm(now[VEL]) + 100
    assert boosted[POS][2] < 30
    _, jumped = after(duel, jump=1.0)
    assert jumped[POS][2] > 60
    _, back = after(duel, throttle=-1.0)
    assert back[VEL] @ before[rocket_sim.FORWARD] < -200


def test_the_touch_flag_covers_every_tick_of_a_step(duel):
    """The control is RocketSim's callback."""
    sim, rng, touches = rocket_sim.load_simulator(), np.random.default_rng(0), 0
    hits = []
    arena, car = duel._arenas[0], duel._cars[0][0]
    arena.set_ball_touch_callback(lambda arena, car, data: hits.append(car.id))
    controls = duel.controls(np.stack([held(throttle=1.0, boost=1.0)[0], held()[0]]))
    for k in range(30):
        duel.kickoff(0, rng)
        state = sim.CarState()
        state.pos, state.vel = sim.Vec(0.0, -300.0 - k * 7, 17.0), sim.Vec(0.0, 900.0, 0.0)
        state.rot_mat = sim.Angle(np.pi / 2, 0.0, 0.0).as_rot_mat()
        car.set_state(state)
        for _ in range(5):
            hits.clear()
            duel.step(controls, 8, rng)
            assert (duel.read().car[0, 0, 0, TOUCHED] > 0) == (car.id in hits)
            touches += bool(hits)
    assert touches > 15


def test_the_lookup_table_equals_rlgyms():
    table = lookup_table()
    assert table.shape == (90, 8)
    assert len(np.unique(table, axis=0)) == 90
    parsers = pytest.importorskip("rlgym.rocket_league.action_parsers")
    assert np.array_equal(parsers.LookupTableAction.make_lookup_table(), table)


@pytest.mark.parametrize("discrete", [False, True])
def test_gymnasiums_checker_accepts_the_environment(discrete):
    env = RocketSimEnv(discrete=discrete)
    assert env.observation_space.shape == (180,)
    assert getattr(env.action_space, "n", None) == 90 if discrete else env.action_space.shape == (8,)
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize("sides", [(1, 1), (1, 2), (2, 2)])
def test_observations_have_the_same_size_for_all_teams(sides):
    blue, orange = sides
    games = RocketVecEnv(2, blue, orange, RULES)
    observations = games.reset(3)
    assert observations.shape == (2 * (blue + orange), OBSERVATION_SIZE)
    mate, first, second = (
        observations.reshape(2, -1, OBSERVATION_SIZE)[:, :blue, 86 + 31 * slot :][..., :31] for slot in range(3)
    )
    assert mate.any() == (blue == 2)
    assert first.any()
    assert second.any() == (orange == 2)


def test_orange_observes_the_rotated_field():
    games = RocketVecEnv(1, 1, 1, GameRules(weights={}, random_starts=0.0))
    blue, orange = games.reset(5)
    assert np.allclose(blue, orange, atol=1e-4)  # a kickoff is the same for both
    blue, orange = games.step(np.array([[8.0], [8.0]])).observation
    assert np.allclose(blue, orange, atol=1e-4)
    games.step(np.array([[21.0], [8.0]]))
    blue, orange = games.step(np.array([[21.0], [8.0]])).observation
    assert not np.allclose(blue[51:71], orange[51:71], atol=1e-3)


def test_a_goal_ends_the_episode_and_is_rewarded():
    games = RocketVecEnv(2, 1, 2, RULES)
    games.reset(0)
    sim = rocket_sim.load_simulator()
    ball = sim.BallState()
    ball.pos, ball.vel = sim.Vec(0.0, 5000.0, 200.0), sim.Vec(0.0, 4000.0, 0.0)
    games._sim._arenas[0].ball.set_state(ball)
    step = games.step(np.full((6, 1), 8.0))
    assert step.terminated.tolist() == [True] * 3 + [False] * 3
    assert not step.truncated.any()
    assert step.reward_parts["goal"].tolist() == [10.0, 0, 0, 0, 0, 0]
    assert step.reward_parts["concede"].tolist() == [0, -10.0, -10.0, 0, 0, 0]
    assert np.allclose(step.reward, sum(step.reward_parts.values()))
    assert [(e.arena, e.scored) for e in games.ended_episodes] == [(0, 1)]
    assert step.next_observation[0, 1] > 1.2  # the true successor has the ball in the goal
    assert abs(step.observation[0, 1]) < 1.2


def test_an_episode_without_a_touch_is_cut():
    games = RocketVecEnv(1, 1, 1, GameRules(weights={}, no_touch_s=1.0))
    games.reset(0)
    cut = [bool(games.step(np.full((2, 1), 8.0)).truncated.all()) for _ in range(30)]
    assert [i for i, over in enumerate(cut) if over] == [14, 29]


def play(seed, *, step_function, steps=80):
    games = RocketVecEnv(3, 2, 2, RULES)
    games.reset(seed)
    games._sim.step_functions = (games._sim.step_functions[step_function],) * 3
    games._sim._cars[0][0].demolish()
    rng = np.random.default_rng(seed)
    observations, wrecks = [], 0
    for _ in range(steps):
        step = games.step(rng.integers(0, 90, (12, 1)).astype(np.float32))
        wrecks += int(games.arena_state.car[0, 0, 0, DEMOED])
        observations.append(step.next_observation.copy())
    return np.array(observations), wrecks


def test_the_same_seed_leads_to_the_same_game_with_any_number_of_threads():
    """Demolished cars respawn by Hotlap's seed: RocketSim alone would choose a random place."""
    first, wrecks = play(4, step_function=0)
    assert 30 < wrecks < 60
    for step_function in (1, 2):
        assert np.array_equal(first, play(4, step_function=step_function)[0])
    assert not np.array_equal(first, play(5, step_function=0)[0])


def test_a_kickoff_depends_on_the_seed_alone():
    """RocketSim assigns places to a team's cars by their memory addresses."""
    others = [Arenas(1, 1 + k % 2, 1) for k in range(6)]
    del others[::2]  # leaves gaps of different sizes, so that the addresses of cars are in different orders
    arenas = Arenas(8, 2, 2)
    for seed in range(4):
        for arena in range(8):
            arenas.kickoff(arena, np.random.default_rng(seed))
        cars = arenas.read().car[:, :, 0]
        assert (cars[:, :, POS] == cars[:1, :, POS]).all()
    arenas.close()


def test_used_arenas_start_again_like_new_ones():
    """A resumed run depends on this."""
    used = RocketVecEnv(2, 1, 1, RULES)
    used.reset(1)
    rng = np.random.default_rng(2)
    for _ in range(60):
        used.step(rng.integers(0, 90, (4, 1)).astype(np.float32))
    fresh = RocketVecEnv(2, 1, 1, RULES)
    rows = [(games.reset(9), np.random.default_rng(7)) for games in (used, fresh)]
    assert np.array_equal(rows[0][0], rows[1][0])
    for _ in range(60):
        steps = [
            games.step(rng.integers(0, 90, (4, 1)).astype(np.float32))
            for games, (_, rng) in zip((used, fresh), rows, strict=True)
        ]
        assert np.array_equal(steps[0].observation, steps[1].observation)
        assert np.array_equal(steps[0].reward, steps[1].reward)


def test_the_vector_environment_returns_final_observations():
    envs = RocketVectorEnv(2, discrete=True, no_touch_s=0.5)
    observation, _ = envs.reset(seed=1)
    assert observation.shape == envs.observation_space.shape == (4, 180)
    for _ in range(8):
        observation, reward, terminated, truncated, info = envs.step(np.full(4, 8))
        assert set(info["reward_parts"]) >= {"goal", "touch", "align"}
        assert reward.shape == terminated.shape == (4,)
    assert truncated.all()
    assert info["_final_obs"].all()
    assert not np.array_equal(np.stack(info["final_obs"]), observation)
    envs.close()


def test_an_image_shows_the_ball_at_its_position():
    games = RocketVecEnv(1, 1, 1, GameRules(weights={}, random_starts=0.0))
    games.reset(0)
    sim = rocket_sim.load_simulator()
    ball = sim.BallState()
    ball.pos = sim.Vec(2000.0, -3000.0, 93.0)
    games._sim._arenas[0].ball.set_state(ball)
    games.step(np.full((2, 1), 8.0))
    picture = render_frame(games.arena_state, 0, 1)
    assert picture.shape == (528, 360, 3)
    white = np.median(np.argwhere((picture == 240).all(axis=2)), axis=0)  # noses of cars are white too
    x, y = -4096 + white[1] / 359 * 8192, 6000 - white[0] / 527 * 12000
    assert abs(x - 2000) < 150
    assert abs(y + 3000) < 150
