"""Every kind of contender runs, sees what an engine would see, and repeats for equal seeds."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.learn.child import execute
from benchmarks.learn.environments.catalogue import ENVIRONMENTS
from benchmarks.learn.environments.racing_variants import GatesVecEnv, PullingCarVecEnv
from benchmarks.learn.environments.recorded import MeanEvaluation, RecordedEnv
from benchmarks.learn.runner import execute_all
from benchmarks.learn.runs import Run, Sizes
from benchmarks.learn.store import Store
from schemas.rollout.reader import read_rollout
from trainer.envs.racing.vec_env import RacingVecEnv

pytestmark = pytest.mark.torch
TINY = Sizes(rollouts=2, steps=64, agents=2)
SETTINGS = {
    "hotlap-v1": (("agent.hidden_sizes", "[16, 16]"), ("trainer.epochs", "2")),
    "hotlap-v2": (("agent.hidden_sizes", "[16, 16]"), ("trainer.epochs", "2")),
    "hotlap-online": (("online.env.n_steps", "32"),),
}


def run_of(contender, environment="racing", *, cycles=2, seed=0, env_seed=0):
    return Run(contender, "tiny", SETTINGS.get(contender, ()), environment, cycles, TINY, seed, env_seed)


def outcome_of(run, folder):
    folder.mkdir()
    reports = []
    outcome = execute(run, folder, lambda *values: reports.append(values))
    json.dumps(outcome)
    assert [cycles for cycles, _, _ in reports] == list(range(1, run.cycles + 1))
    return outcome


@pytest.mark.parametrize("contender", ["hotlap-v1", "hotlap-v2", "untrained", "hotlap-online"])
@pytest.mark.parametrize("environment", ["racing", "Acrobot-v1"])
def test_hotlap_runs_with_actions_of_both_kinds(tmp_path, contender, environment):
    outcome = outcome_of(run_of(contender, environment), tmp_path / "run")
    assert len(outcome["curve"]) == len(outcome["reward_per_step"]) == 2
    assert np.isfinite(outcome["reward_per_step"]).all()
    assert dict(outcome["evaluation"]).keys() == {1, 2}


@pytest.mark.parametrize("contender", ["sb3-ppo", "sb3-sac", "sb3-td3", "sb3-td3-files", "crossq"])
def test_learners_of_stable_baselines3_run(tmp_path, contender):
    pytest.importorskip("sb3_contrib" if contender == "crossq" else "stable_baselines3")
    environment = "racing" if contender in ("sb3-ppo", "sb3-td3-files") else "Pendulum-v1"
    outcome = outcome_of(run_of(contender, environment, cycles=1), tmp_path / "run")
    assert np.isfinite(outcome["curve"]).all()


@pytest.mark.parametrize("contender", ["hotlap-v2", "sb3-ppo"])
def test_equal_seeds_give_equal_curves_and_each_seed_has_its_own_part(tmp_path, contender):
    if contender == "sb3-ppo":
        pytest.importorskip("stable_baselines3")
    names = {"first": (0, 0), "again": (0, 0), "other trainer": (1, 0), "other environment": (0, 1)}
    runs = {name: run_of(contender, "Pendulum-v1", seed=one, env_seed=other) for name, (one, other) in names.items()}
    curves = {name: outcome_of(run, tmp_path / name)["reward_per_step"] for name, run in runs.items()}
    assert curves["again"] == curves["first"]
    assert curves["other trainer"] != curves["first"] != curves["other environment"]


def test_version_2_has_cuts_and_last_observations_and_version_1_has_neither(tmp_path):
    for form in ("v1", "v2"):
        run = replace(run_of(f"hotlap-{form}", "Pendulum-v1", cycles=1), sizes=Sizes(1, 1000, 2))
        outcome_of(run, tmp_path / form)
        [file] = (tmp_path / form / "Exports").iterdir()
        rollout = read_rollout(file.read_bytes())
        ends = np.flatnonzero(rollout.terminated | rollout.truncated)
        assert len(ends) == 4, "both agents reach the limit of 200 steps twice in 500 steps"
        assert rollout.truncated[ends].all() == (form == "v2")
        assert len(rollout.final_observations) == (2 if form == "v2" else 0)
        assert np.abs(rollout.actions).max() <= 1.0, "the engine scales the actions, not the policy"


def test_the_recorded_rewards_are_those_of_the_environment():
    environment = ENVIRONMENTS["Pendulum-v1"]
    env = RecordedEnv(environment, 2, 0, batch=1000, cycles=2)
    env.reset()
    rewards = [env.step(np.zeros((2, 1), np.float32)).reward for _ in range(1000)]
    first, second = env.cycles
    assert env.is_finished
    assert first.reward_per_step == pytest.approx(np.mean(rewards[:500]))
    assert (first.episodes, second.episodes) == (4, 6)
    assert second.mean_return == pytest.approx(np.sum(rewards[400:]) / 6, rel=1e-5)


def test_an_evaluation_repeats_and_is_due_about_ten_times(monkeypatch):
    monkeypatch.setattr("benchmarks.learn.environments.recorded.EVALUATION_STEPS", 20)
    evaluation = MeanEvaluation(ENVIRONMENTS["racing"], seed=0, cycles=40)

    def policy(observation_NO):
        return np.tile(np.array([0.0, 0.5, 0.0], np.float32), (len(observation_NO), 1))

    for trained in range(1, 41):
        evaluation.evaluate_if_due(trained, policy)
    assert list(evaluation.scores) == [4, 8, 12, 16, 20, 24, 28, 32, 36, 38, 39, 40]
    assert len(set(evaluation.scores.values())) == 1


def test_a_mirrored_drive_of_the_pulling_car_is_another_drive():
    straight = np.zeros((1, 3), np.float32)
    plain, pulling = RacingVecEnv(1), PullingCarVecEnv(1)
    for env in (plain, pulling):
        env.reset(0)
        for _ in range(5):
            env.step(straight)
    assert plain.cars.steer[0] == 0.0
    assert pulling.cars.steer[0] < -0.01, "to the right"


def test_gates_are_paid_once_and_nothing_else_is():
    env, plain = GatesVecEnv(8), RacingVecEnv(8)
    env.reset(0)
    plain.reset(0)
    action = np.tile(np.array([0.0, 1.0, 0.0], np.float32), (8, 1))
    metres, paid = np.zeros(8), np.zeros(8)
    for _ in range(30):
        step, reference = env.step(action), plain.step(action)
        ended = step.terminated | step.truncated
        metres += np.where(ended, 0.0, reference.reward_parts["distance"] * 1.6 / 0.7)
        paid += step.reward
        assert ((step.reward == 0.0) | (step.reward == 1.0)).all()
        if ended.any():
            break
    assert paid.sum() > 0
    assert (np.abs(paid - metres // 20.0)[~ended] <= 1e-6).all()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_in_its_own_process_is_stored_and_not_measured_twice(tmp_path):
    store, lines = Store(tmp_path / "learn.jsonl"), []
    runs = [run_of("hotlap-v2")]
    assert execute_all(runs, store, jobs=1, nice=5, print_progress=lines.append, budget_s=None) == 0
    [stored] = Store(store.path).records
    assert stored.run == runs[0]
    assert list(stored.curve) == outcome_of(runs[0], tmp_path / "here")["curve"]
    assert any("cycle  2/2" in line for line in lines)
    assert Store(store.path).missing(runs) == []
    assert json.loads(store.path.read_text())["commit"]
    assert threading.active_count() < 10
