"""The racing game: geometry against brute force, driving against plain integration, and the results of `step`."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trainer.envs.racing import car, track
from trainer.envs.racing.simulation import RacingSimulation, _upright_rays

ROOT = Path(__file__).resolve().parents[4]
DIRECTIONS = np.deg2rad([0.0, 90.0, -90.0, 45.0, -45.0])


def actions(simulation, rng, steps):
    for _ in range(steps):
        yield np.clip(rng.normal(0.0, 0.5, (simulation.n_agents, 3)), simulation.ACTION_LOW, simulation.ACTION_HIGH)


def keep_to_the_middle(simulation, speed=14.0):
    """Steer toward the centreline ahead, at a constant speed."""
    c = simulation.cars
    ahead = 4.0 + 0.7 * c.speed
    target = simulation.tracks.world_xy(simulation.track, (c.arc + ahead) % track.LENGTH, np.zeros(simulation.n_agents))
    here = simulation.tracks.world_xy(simulation.track, c.arc, c.offset)
    heading = simulation.tracks.at(simulation.track, c.arc).heading + c.heading
    aim = np.arctan2(*(target - here).T[::-1]) - heading
    aim = (aim + np.pi) % (2 * np.pi) - np.pi
    steer = np.arctan(2.0 * car.WHEELBASE * np.sin(aim) / ahead) / car.STEER_MAX
    action = np.stack([-steer, 0.3 * (speed - c.speed), 0.3 * (c.speed - speed)], axis=-1)
    return np.clip(action, simulation.ACTION_LOW, simulation.ACTION_HIGH)


# --- geometry ---------------------------------------------------------------------------------------


def brute_force(walls, origin, direction):
    """Return the distance along one ray to the nearest of all wall segments of a track, [2 sides, points, 2]."""
    start, end = walls, np.roll(walls, -1, axis=1)
    d = np.array([np.cos(direction), np.sin(direction)])
    s, w = end - start, start - origin
    cross = d[0] * s[..., 1] - d[1] * s[..., 0]
    along = (w[..., 0] * s[..., 1] - w[..., 1] * s[..., 0]) / cross
    part = (w[..., 0] * d[1] - w[..., 1] * d[0]) / cross
    hit = along[(along > 0.0) & (part >= 0.0) & (part <= 1.0)]
    return min(hit.min(initial=np.inf), track.RAY_RANGE)


def test_rays_equal_a_brute_force_search_of_all_walls():
    tracks, rng, n = track.Tracks(6, seed=0), np.random.default_rng(0), 400
    which, arc = rng.integers(0, 6, n), rng.uniform(0.0, track.LENGTH, n)
    offset, heading = rng.uniform(-5.5, 5.5, n), rng.uniform(-np.pi, np.pi, n)
    rays = tracks.cast(which, arc, offset, heading)
    origin = tracks.world_xy(which, arc, offset)
    direction = tracks.at(which, arc).heading + heading
    expected = [
        [brute_force(tracks.walls[:, which[i]], origin[i], direction[i] + turn) for i in range(n)]
        for turn in DIRECTIONS
    ]
    np.testing.assert_allclose(rays, expected, atol=2e-3)
    assert (rays < track.RAY_RANGE).mean() > 0.8, "most rays must hit a wall"


def test_up_down_and_ground_rays_end_at_the_parabola_that_approximates_the_road():
    n, rng = 50, np.random.default_rng(1)
    cars = car.Cars.at_rest(n)
    cars.pitch, cars.roll = rng.uniform(-0.05, 0.05, n), rng.uniform(-0.09, 0.09, n)
    tracks = track.Tracks(3, seed=0)
    road = tracks.at(rng.integers(0, 3, n), rng.uniform(0.0, track.LENGTH, n))
    no_wall = np.full(n, track.RAY_RANGE, np.float32)
    up, down, ground = _upright_rays(road, no_wall, cars)
    along = np.arange(0.0, track.RAY_RANGE, 1e-3)
    for i in range(n):
        for tilt, found in ((10.0, up[i]), (-10.0, down[i])):
            angle = cars.pitch[i] + np.deg2rad(tilt)
            over = 0.5 + along * np.sin(angle) - 0.5 * road.bend[i] * (along * np.cos(angle)) ** 2
            under = np.flatnonzero(over <= 0.0)
            expected = along[under[0]] if len(under) else track.RAY_RANGE
            assert found == pytest.approx(expected, abs=3e-3)
    np.testing.assert_allclose(ground, 0.5 / (np.cos(cars.pitch) * np.cos(cars.roll)), rtol=1e-6)
    near = np.full(n, 2.0, np.float32)
    up, down, _ = _upright_rays(road, near, cars)
    np.testing.assert_allclose(up, 2.0 / np.cos(cars.pitch + np.deg2rad(10.0)), rtol=1e-5)
    np.testing.assert_allclose(down, 2.0 / np.cos(cars.pitch - np.deg2rad(10.0)), rtol=1e-5)


def test_gravity_points_down_on_a_hill_for_every_heading():
    simulation, rng = RacingSimulation(200, seed=0), np.random.default_rng(0)
    heading = rng.uniform(-np.pi, np.pi, 200)
    still = np.zeros(200)
    simulation.cars.place(
        np.arange(200), arc=rng.uniform(0.0, track.LENGTH, 200), offset=still, heading=heading, speed=still
    )
    slope = np.arctan(simulation.tracks.at(simulation.track, simulation.cars.arc).slope)
    assert np.abs(slope).max() > 0.03
    uphill = np.stack([np.cos(heading), -np.sin(heading)])  # in the car's frame: ahead, left
    expected = np.stack([*(-np.sin(slope) * uphill), -np.cos(slope)], axis=1)
    np.testing.assert_allclose(simulation.observe()[:, 12:], expected, atol=1e-4)


def test_tracks_are_closed_have_equal_spacing_and_differ():
    tracks = track.Tracks(4, seed=0)
    x, y = tracks.x.reshape(4, -1), tracks.y.reshape(4, -1)
    gaps = np.hypot(np.roll(x, -1, 1) - x, np.roll(y, -1, 1) - y)
    assert gaps.min() > 0.97 * track.SPACING
    assert gaps.max() < 1.001 * track.SPACING
    assert np.abs(tracks.curvature).max() * track.MIN_RADIUS < 1.0
    turns = (tracks.curvature.reshape(4, -1) * track.SPACING).sum(1) / (2 * np.pi)
    np.testing.assert_allclose(turns, [1, -1, 1, -1], atol=1e-6)
    assert len({round(float(k), 6) for k in tracks.curvature[:: track.SAMPLES]}) == 4


# --- driving ----------------------------------------------------------------------------------------


def test_track_coordinates_and_world_coordinates_describe_the_same_path():
    simulation = RacingSimulation(64, seed=1)
    worst = 0.0
    for _ in range(100):
        c, which = simulation.cars, simulation.track
        before = simulation.tracks.world_xy(which, c.arc, c.offset)
        heading = simulation.tracks.at(which, c.arc).heading + c.heading
        speed = c.speed.copy()
        car.drive(c, simulation.tracks.at(which, c.arc), keep_to_the_middle(simulation))
        middle = heading + 0.5 * car.STEP_S * c.yaw_rate
        moved = 0.5 * car.STEP_S * (speed + c.speed) * np.stack([np.cos(middle), np.sin(middle)])
        after = simulation.tracks.world_xy(which, c.arc, c.offset)
        worst = max(worst, float(np.abs(after - before - moved.T).max()))
        turned = simulation.tracks.at(which, c.arc).heading + c.heading - heading - car.STEP_S * c.yaw_rate
        assert np.abs((turned + np.pi) % (2 * np.pi) - np.pi).max() < 0.02
    assert worst < 0.06  # m, of up to 1.5 m a step


def test_grip_bounds_every_acceleration_and_a_fast_car_understeers():
    straight = track.Centreline(*(np.zeros(2) for _ in range(6)))
    cars = car.Cars.at_rest(2)
    cars.speed[:] = 5.0, 25.0
    for _ in range(10):
        car.drive(cars, straight, np.tile([-1.0, 0.0, 0.0], (2, 1)))
    assert (np.abs(cars.across) <= car.GRIP + 1e-9).all()
    assert cars.steer == pytest.approx(car.STEER_MAX, rel=0.01), "full left lock"
    assert cars.yaw_rate[0] > 0.0
    assert cars.yaw_rate[1] < 0.5 * cars.speed[1] * np.tan(cars.steer[1]) / car.WHEELBASE


def test_full_throttle_reaches_the_top_speed_and_brakes_stop_the_car():
    straight = track.Centreline(*(np.zeros(1) for _ in range(6)))
    cars = car.Cars.at_rest(1)
    for _ in range(600):
        car.drive(cars, straight, np.array([[0.0, 1.0, 0.0]]))
    assert cars.speed[0] == pytest.approx(car.SPEED_SCALE, rel=0.02)
    for _ in range(100):
        car.drive(cars, straight, np.array([[0.0, 0.0, 1.0]]))
    assert cars.speed[0] == 0.0
    assert cars.along[0] == 0.0


def test_a_simple_driver_earns_several_times_as_much_as_noise():
    noise, driver = RacingSimulation(64, seed=0), RacingSimulation(64, seed=0)
    rng = np.random.default_rng(0)
    by_noise = np.mean([noise.step(a).reward.mean() for a in actions(noise, rng, 300)])
    steps = [driver.step(keep_to_the_middle(driver)) for _ in range(300)]
    by_driver = np.mean([s.reward.mean() for s in steps])
    assert 0.1 < by_noise < 0.25
    assert by_driver > 0.7
    assert sum(s.terminated.sum() for s in steps) == 0


# --- the results of `step` -----------------------------------------------------------------------------


def test_observations_are_finite_and_well_scaled():
    simulation, rng = RacingSimulation(64, seed=2), np.random.default_rng(2)
    observations = [simulation.reset()] + [simulation.step(a).next_observation for a in actions(simulation, rng, 400)]
    observations += [simulation.step(keep_to_the_middle(simulation, speed=20.0)).next_observation for _ in range(300)]
    flat = np.concatenate(observations)
    assert flat.dtype == np.float32
    assert flat.shape[1] == simulation.OBSERVATION_SIZE == len(simulation.OBSERVATION_NAMES) == 15
    assert np.isfinite(flat).all()
    assert np.abs(flat).max() < 3.0
    assert flat.std(axis=0).min() > 1e-4, "every observation varies"
    np.testing.assert_allclose(np.linalg.norm(flat[:, 12:], axis=1), 1.0, atol=1e-5)


def test_reward_is_the_sum_of_its_parts():
    simulation, rng = RacingSimulation(128, seed=3), np.random.default_rng(3)
    crashes = 0
    for action in actions(simulation, rng, 200):
        step = simulation.step(action)
        assert tuple(step.reward_parts) == simulation.REWARD_PARTS
        np.testing.assert_allclose(sum(step.reward_parts.values()), step.reward, atol=1e-6)
        np.testing.assert_array_equal(step.reward_parts["crash"] < 0.0, step.terminated)
        crashes += step.terminated.sum()
    assert crashes > 20


def test_an_end_returns_the_last_observation_and_starts_a_new_episode():
    simulation, rng = RacingSimulation(128, seed=4, time_limit=40), np.random.default_rng(4)
    ends = {"terminated": 0, "truncated": 0}
    for action in actions(simulation, rng, 120):
        step = simulation.step(action)
        ended = step.terminated | step.truncated
        assert not (step.terminated & step.truncated).any()
        np.testing.assert_array_equal(step.observation[~ended], step.next_observation[~ended])
        assert (step.observation[ended] != step.next_observation[ended]).any(axis=1).all()
        np.testing.assert_array_equal(simulation.steps == 0, ended)
        np.testing.assert_array_equal(simulation.observe(), step.observation)
        ends["terminated"] += step.terminated.sum()
        ends["truncated"] += step.truncated.sum()
    assert min(ends.values()) > 20


def test_only_the_same_seed_leads_to_the_same_rewards():
    def play(seed):
        simulation, rng = RacingSimulation(16, seed=seed), np.random.default_rng(0)
        return np.stack([simulation.step(a).reward for a in actions(simulation, rng, 150)])

    np.testing.assert_array_equal(play(5), play(5))
    assert (play(5) != play(6)).any()


def test_a_restored_state_continues_identically():
    simulation, rng = RacingSimulation(32, seed=7, time_limit=60), np.random.default_rng(7)
    plan = list(actions(simulation, rng, 200))
    for action in plan[:50]:
        simulation.step(action)
    saved = simulation.save_state()
    first = [simulation.step(a) for a in plan[50:]]
    other = RacingSimulation(32, seed=99, time_limit=60)
    other.load_state(saved)
    second = [other.step(a) for a in plan[50:]]
    assert sum(s.terminated.sum() + s.truncated.sum() for s in first) > 30, "restarts draw from the saved random state"
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.observation, b.observation)
        np.testing.assert_array_equal(a.next_observation, b.next_observation)
        np.testing.assert_array_equal(a.reward, b.reward)
    assert simulation.save_state() == other.save_state()


def test_a_state_that_is_damaged_foreign_or_a_pickle_is_rejected():
    simulation = RacingSimulation(2, seed=0)
    with pytest.raises(ValueError, match="agents=3"):
        simulation.load_state(RacingSimulation(3, seed=0).save_state())
    out = io.BytesIO()
    np.savez(out, about=np.array([{}], dtype=object))
    saved, before = simulation.save_state(), simulation.observe()
    for damaged in (out.getvalue(), b"", saved[:-30], saved[:500], b"PK" + saved[50:]):
        with pytest.raises(ValueError, match="not a saved state of the racing game"):
            simulation.load_state(damaged)
    np.testing.assert_array_equal(simulation.observe(), before)


def test_scaled_observations_do_not_change_the_game():
    good, bad = (
        RacingSimulation(8, seed=1),
        RacingSimulation(8, seed=1, observation_scale=30.0, observation_shift=100.0),
    )
    rng = np.random.default_rng(1)
    for action in actions(good, rng, 100):
        a, b = good.step(action), bad.step(action)
        np.testing.assert_array_equal(a.reward, b.reward)
        np.testing.assert_allclose(b.observation, a.observation * 30.0 + 100.0, rtol=1e-6)


def test_all_agents_can_use_one_track():
    simulation = RacingSimulation(64, seed=0, track=3)
    assert set(simulation.track) == {3}
    with pytest.raises(ValueError, match="track is 9, but must be from 0 to 5"):
        RacingSimulation(1, seed=0, track=9)


@pytest.mark.parametrize("bad", [np.zeros((3, 3)), np.full((2, 3), np.nan)], ids=["shape", "nan"])
def test_an_invalid_action_is_rejected(bad):
    with pytest.raises(ValueError, match="finite and of shape"):
        RacingSimulation(2, seed=0).step(bad)


def test_an_image_shows_the_car_on_the_road():
    simulation = RacingSimulation(2, seed=0)
    image = simulation.render(1, (160, 120))
    assert image.shape == (120, 160, 3)
    assert image.dtype == np.uint8
    assert tuple(image[90, 80]) == (246, 196, 40), "the car"
    colours = {tuple(c) for c in image.reshape(-1, 3)}
    assert {(74, 76, 82), (58, 94, 52)} <= colours, "road and grass"
    assert simulation.render(0, (3, 2)).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="agent 2"):
        simulation.render(2)


def test_the_simulation_needs_numpy_alone():
    code = (
        "import sys, trainer.envs.racing.simulation as r; r.RacingSimulation(1, seed=0).render();"
        "print([name for name in ('numpy', 'torch', 'pydantic', 'gymnasium') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['numpy']"
