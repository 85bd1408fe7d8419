"""The modules of online training, each on its own."""

import io
import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import register

from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from schemas.errors import HotlapError
from schemas.model import Dense, Stack
from trainer.envs.gymnasium_env import GymnasiumVecEnv
from trainer.envs.racing.vec_env import RacingVecEnv
from trainer.envs.vec_env import Step
from trainer.networks.distributions import distribution_for
from trainer.online.actor import Actor
from trainer.online.checkpoints import names_to_remove
from trainer.online.collector import Collector
from trainer.online.config import CurriculumSettings, EvaluationSettings, OnlineSettings, RunSettings
from trainer.online.environments import choose_num_envs
from trainer.online.evaluation.episodes import evaluate
from trainer.online.learners.ppo import OnlineLearner, ScheduledValues
from trainer.online.reporting.console import RunConsole
from trainer.online.selfplay.curriculum import STAGES, next_stage
from trainer.online.selfplay.opponent_pool import OpponentPool, expected_score


class Counter(gymnasium.Env):
    """Observes its step count and a random number; the reward is 1 per step; an episode is truncated after 5 steps."""

    def __init__(self, bad=False):
        self.observation_space = gymnasium.spaces.Box(-1e6, 1e6, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(0.0, 4.0, (1,), np.float32)
        self._bad = bad

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._t, self._mark = 0, float(self.np_random.integers(1000))
        return self._seen(), {}

    def _seen(self):
        return np.array([self._t, self._mark], np.float32)

    def step(self, action):
        assert self.action_space.contains(action)
        self._t += 1
        reward = math.nan if self._bad and self._t == 3 else 1.0
        return self._seen(), reward, False, self._t == 5, {}


register("Counter-v0", Counter, max_episode_steps=None)


def actor_for(contract, bias=0.0):
    outputs = contract.action_space.output_size
    head = Dense(np.zeros((outputs, 4), np.float32), np.full(outputs, bias, np.float32))
    hidden = Dense(np.zeros((4, contract.observation_size), np.float32), np.zeros(4, np.float32))
    return Actor(contract, Stack((hidden,), head), np.full(outputs, math.log(0.5), np.float32))


def test_each_cut_step_has_its_final_observation():
    """Seven steps with episodes of five: truncated steps and the batch's last step have their true successors."""
    env = GymnasiumVecEnv("Counter-v0", 3)
    collector = Collector(env, seed=1)
    e = collector.collect(actor_for(env.contract), 7, np.random.default_rng(0))
    t, mark = e.observation_BO.reshape(3, 7, 2).transpose(2, 0, 1)
    assert t.tolist() == [[0, 1, 2, 3, 4, 0, 1]] * 3
    assert len(set(mark[:, 0])) == 3
    assert not e.terminated_B.any()
    assert e.has_next_row_B.reshape(3, 7).tolist() == [[True] * 4 + [False, True, False]] * 3
    final = e.final_B.reshape(3, 7)
    assert (final[:, [4, 6]] >= 0).all()
    assert (final[:, [0, 1, 2, 3, 5]] == -1).all()
    assert e.final_observation_FO[final[:, 4], 0].tolist() == [5, 5, 5]
    assert e.final_observation_FO[final[:, 6], 0].tolist() == [2, 2, 2]
    assert (e.final_observation_FO[final[:, 4], 1] == mark[:, 0]).all()
    assert collector.episodes == [(5.0, 5)] * 3
    env.close()


def test_the_value_of_an_endless_environment_is_one_over_one_minus_gamma():
    """Truncation is not termination: with the bootstrap, the value is that of a reward of 1 forever."""
    settings = OnlineSettings(run=RunSettings(total_steps=10**6))
    settings = settings.model_copy(
        update={
            "train": settings.train.model_copy(
                update={
                    "gamma": 0.9,
                    "hidden_sizes": (16,),
                    "batch_size": 64,
                    "learning_rate": 3e-3,
                    "learning_rate_end": 3e-3,
                }
            )
        }
    )
    env = GymnasiumVecEnv("Counter-v0", 8)
    learner = OnlineLearner(env.contract, settings)
    collector = Collector(env, seed=0)
    for iteration in range(30):
        actor = Actor.of(learner.network, learner.normalisers, learner.contract)
        learner.learn(
            collector.collect(actor, 32, np.random.default_rng(iteration)), iteration, ScheduledValues.at(0, settings)
        )
    with torch.no_grad():
        observation = learner.normalisers.observations(np.array([[2.0, 500.0]], np.float32))
        value = learner.normalisers.returns.restored(learner.network(observation)[1].double().numpy())
    assert value[0] == pytest.approx(10.0, rel=0.05)
    env.close()


def test_a_value_that_is_not_finite_is_reported():
    env = GymnasiumVecEnv("Counter-v0", 2, bad=True)
    collector = Collector(env, seed=0)
    with pytest.raises(HotlapError, match=r"returned nan in its rewards \(agent 0\)") as caught:
        collector.collect(actor_for(env.contract), 7, np.random.default_rng(0))
    assert caught.value.code == "E_ENV_NAN"
    env.close()


@pytest.mark.parametrize("space", [ContinuousActions.named(("steer", "throttle")), DiscreteActions(n=4)])
def test_actions_are_distributed_as_training_assumes(space):
    """Frequencies of sampled actions against the distribution."""
    contract = PolicyContract(observation_size=3, action_space=space)
    learner = OnlineLearner(contract, OnlineSettings(run=RunSettings(seed=3)))
    with torch.no_grad():
        learner.network.policy_head.bias.add_(torch.linspace(-0.8, 0.8, space.output_size))
    actor = Actor.of(learner.network, learner.normalisers, contract)
    observation = np.tile(np.array([[0.3, -1.0, 2.0]], np.float32), (40_000, 1))
    action = torch.from_numpy(actor.sample(observation, np.random.default_rng(0)))
    head = distribution_for(space)
    with torch.no_grad():
        output, _ = learner.network(learner.normalisers.observations(observation))
    if isinstance(space, DiscreteActions):
        share = torch.bincount(action[:, 0].long(), minlength=4) / len(action)
        assert torch.allclose(share, output[0].softmax(0), atol=0.01)
    else:
        normal = torch.distributions.Normal(head.mean(output[0]), learner.network.action_log_std.detach().exp())
        for a, (low, high) in enumerate(zip(space.low, space.high, strict=True)):
            at_low, at_high = (action[:, a] == low).float().mean(), (action[:, a] == high).float().mean()
            assert at_low == pytest.approx(float(normal.cdf(torch.tensor(low))[a]), abs=0.01)
            assert at_high == pytest.approx(float(1 - normal.cdf(torch.tensor(high))[a]), abs=0.01)


def test_a_bounded_action_is_scaled_to_the_range_of_the_environment():
    env = GymnasiumVecEnv("Counter-v0", 2)
    env.reset(0)
    env.step(np.array([[1.0], [-1.0]], np.float32))  # the environment asserts that it is within the bounds
    env.close()


def test_evaluation_counts_equally_many_episodes_of_each_agent():
    """To count the first episodes that end would favour short ones."""

    class Uneven:
        contract = PolicyContract(observation_size=1, action_space=DiscreteActions(n=2))
        n_agents = 2

        def reset(self, seed):
            self.t = 0
            return np.zeros((2, 1), np.float32)

        def step(self, action):
            self.t += 1
            over = np.array([True, self.t % 10 == 0])
            return Step(
                np.zeros((2, 1), np.float32),
                np.zeros((2, 1), np.float32),
                np.ones(2, np.float32),
                over,
                np.zeros(2, bool),
                {"part": np.array([1.0, 3.0], np.float32)},
            )

    score = evaluate(actor_for(Uneven.contract), Uneven(), episodes=4, seed=0, most_steps=1000, stop=lambda: False)
    assert score.episodes == 4
    assert score.mean == pytest.approx((1 + 1 + 10 + 10) / 4)
    assert score.parts["part"] == pytest.approx((2 * 1 + 20 * 3) / 22)


def test_the_newest_and_the_best_checkpoints_stay():
    checkpoints = {f"model_step_{i:010d}.pt": float(score) for i, score in enumerate([5, 9, 1, 2, 8, 3, 4])}
    removed = names_to_remove(checkpoints, newest=2, best=2)
    stay = {int(name[11:21]) for name in checkpoints} - {int(name[11:21]) for name in removed}
    assert stay == {5, 6, 1, 4}
    assert names_to_remove(checkpoints, newest=10, best=0) == []


def test_the_expected_score_follows_elo():
    assert expected_score(1000, 1000) == 0.5
    assert expected_score(1400, 1000) == pytest.approx(10 / 11)


def test_the_opponent_pool_rates_and_is_restored(tmp_path):
    contract = PolicyContract(observation_size=3, action_space=DiscreteActions(n=4))
    pool = OpponentPool(tmp_path, contract, size=3)
    for steps in range(5):
        pool.add(actor_for(contract, bias=float(steps)), steps)
    assert [int(o.name[7:17]) for o in pool.opponents] == [0, 3, 4]  # the first one always stays
    rng = np.random.default_rng(0)
    for _ in range(400):
        pool.record_result(pool.opponents[1].name, float(rng.random() < 0.75))
    assert pool.rating - pool.opponents[1].rating == pytest.approx(191, abs=90)  # 75 % is 191 points
    assert pool.rating + pool.opponents[1].rating == pytest.approx(2000)
    state = pool.state()
    again = OpponentPool(tmp_path, contract, size=3)
    again.restore(state)
    assert again.rating == pool.rating
    assert [(o.name, o.rating) for o in again.opponents] == [(o.name, o.rating) for o in pool.opponents]
    observation = np.zeros((1, 3), np.float32)
    assert np.array_equal(again.opponents[2].actor.policy(observation), pool.opponents[2].actor.policy(observation))
    again.remove_unused_files()
    assert len(list(tmp_path.glob("*.npz"))) == 3


def test_a_stage_ends_if_it_is_due_and_enough_was_won():
    settings = CurriculumSettings(matches=10, patience_steps=500_000)
    won, lost = [1.0] * 10, [0.0] * 10
    assert len(STAGES) == 3
    assert next_stage(0, 1_999_999, won, settings) == 0
    assert next_stage(0, 2_000_000, won, settings) == 1
    assert next_stage(0, 2_000_000, lost, settings) == 0
    assert next_stage(0, 2_000_000, won[:9], settings) == 0  # too few matches
    assert next_stage(0, 2_500_000, lost, settings) == 1  # patience
    assert next_stage(1, 3_500_000, [0.5] * 4 + [1.0] * 6, settings) == 2
    assert next_stage(2, 10**9, won, settings) == 2
    assert next_stage(0, 10**9, won, settings.model_copy(update={"enabled": False})) == 0


def test_num_envs_is_limited_by_memory_and_logged(monkeypatch):
    free = type("Memory", (), {"available": 100_000_000})
    monkeypatch.setattr("trainer.online.environments.psutil.virtual_memory", lambda: free)
    settings = OnlineSettings()
    wanted = settings.model_copy(update={"env": settings.env.model_copy(update={"num_envs": 512})})
    num_envs, note = choose_num_envs(wanted)
    assert num_envs == 6
    assert "num_envs 512 -> 6" in note
    free.available = 10**12
    assert choose_num_envs(wanted) == (512, "")
    assert choose_num_envs(settings)[0] == 32


def test_log_lines_are_ascii(tmp_path):
    path = tmp_path / "out.txt"
    with path.open("w", encoding="cp1252") as out:
        console = RunConsole(tmp_path, total_steps=10, interval_s=1.0, loggers=[], out=out)
        console.line("→ ελο \x1b[31m")
        console.close()
    assert path.read_bytes().isascii()
    assert (tmp_path / "train.log").read_bytes().isascii()


def test_schedules_are_linear_over_the_run():
    settings = OnlineSettings(run=RunSettings(total_steps=1000))
    assert ScheduledValues.at(0, settings) == ScheduledValues(3e-4, 0.01, 0.2)
    assert ScheduledValues.at(500, settings).learning_rate == pytest.approx((3e-4 + 5e-5) / 2)
    assert ScheduledValues.at(2000, settings) == ScheduledValues(pytest.approx(5e-5), pytest.approx(0.001), 0.2)
    clipped = settings.model_copy(update={"train": settings.train.model_copy(update={"clip_range_end": 0.1})})
    assert ScheduledValues.at(500, clipped).clip_range == pytest.approx(0.15)


def test_racing_starts_again_from_its_seed():
    used, new = RacingVecEnv(4, time_limit=30), RacingVecEnv(4, time_limit=30)
    actions = np.random.default_rng(0).uniform(-1, 1, (50, 4, 3)).astype(np.float32)
    used.reset(1)
    for action in actions:
        used.step(action)
    assert np.array_equal(used.reset(3), new.reset(3))
    for action in actions:  # long enough for new episodes, which draw from the random numbers again
        step, expected = used.step(action), new.step(action)
        assert np.array_equal(step.observation, expected.observation)
        assert np.array_equal(step.reward, expected.reward)
    assert not np.array_equal(used.reset(4), new.reset(3))


def test_defaults_of_the_settings():
    settings = OnlineSettings()
    assert (settings.train.learning_rate, settings.train.learning_rate_end) == (3e-4, 5e-5)
    assert (settings.train.entropy_coef, settings.train.entropy_coef_end, settings.train.gamma) == (0.01, 0.001, 0.995)
    assert settings.rocket.tick_skip == 8
    assert settings.checkpoints.every_steps == 250_000
    assert (settings.curriculum.one_v_two_at, settings.curriculum.two_v_two_at) == (2_000_000, 3_500_000)
    assert EvaluationSettings().every_steps > 0


def test_files_of_removed_policies_stay_until_a_checkpoint_is_saved(tmp_path):
    contract = PolicyContract(observation_size=3, action_space=DiscreteActions(n=4))
    pool = OpponentPool(tmp_path, contract, size=2)
    pool.add(actor_for(contract), 0)
    pool.add(actor_for(contract), 1)
    before = pool.state()
    pool.add(actor_for(contract), 2)
    again = OpponentPool(tmp_path, contract, size=2)
    again.restore(before)  # killed before the next checkpoint: the policies of the last one still exist
    assert [o.name[7:17] for o in again.opponents] == ["0000000000", "0000000001"]
    pool.remove_unused_files()
    assert sorted(path.name[7:17] for path in tmp_path.glob("*.npz")) == ["0000000000", "0000000002"]


def test_the_log_contains_means_over_the_interval(tmp_path):
    out = io.StringIO()
    console = RunConsole(tmp_path, total_steps=100, interval_s=1e9, loggers=[], out=out)
    losses = dict.fromkeys(("train/value_loss", "train/entropy", "train/approx_kl", "train/clip_fraction"), 0.0)
    console.show_batch(1, losses | {"speed/steps_per_s": 1.0, "selfplay/touches_per_min": 7.0}, [])
    console.show_batch(
        2, losses | {"speed/steps_per_s": 1.0, "selfplay/touches_per_min": 1.0, "selfplay/stage": 2.0}, []
    )
    console._interval_s = 0.0
    console.show_batch(
        3, losses | {"speed/steps_per_s": 1.0, "selfplay/touches_per_min": 2.0, "selfplay/stage": 3.0}, [(5.0, 3)]
    )
    console.close()
    first, last = out.getvalue().splitlines()
    assert "selfplay/touches_per_min 7" in first
    assert "selfplay/touches_per_min 1.5" in last
    assert "selfplay/stage 3" in last
    assert "reward 5" in last
