"""Episodes of a run: each end is seen, a resumed run continues them, and no simulator can hold a run up."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import register

from schemas.errors import HotlapError
from tests.platforms import PATIENCE, needs_posix
from tests.trainer.online.test_parts import actor_for
from tests.trainer.online.test_run import ROOT, checkpoints, comparable
from trainer.checkpoints.checkpoint import load_document
from trainer.envs.gymnasium_env import GymnasiumVecEnv
from trainer.envs.gymnasium_episodes import LONGEST_REPEATED, seed_of
from trainer.envs.racing.vec_env import RacingVecEnv
from trainer.online.cli import main
from trainer.online.collector import Collector
from trainer.online.evaluation.episodes import evaluate

CONFIG = """
[run]
total_steps = {steps}
threads = 1
[env]
id = "{env}"
num_envs = {envs}
n_steps = 32
[train]
hidden_sizes = [8]
batch_size = 64
[evaluation]
every_steps = {evaluate}
episodes = 4
[checkpoints]
every_steps = 512
[report]
interval_s = 0.1
tensorboard = false
"""


class Line(gymnasium.Env):
    """Observes the steps of its episode and a random number; an episode ends after `length` steps."""

    length = 20
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None, length=None):
        self.render_mode = render_mode
        self.length = length or self.length
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.t = 0

    def observe(self):
        return np.array([self.t, self.mark], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.mark = 0, float(self.np_random.random())
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        return self.observe(), float(action), False, self.t >= self.length, {}

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)


class SameArray(Line):
    """Returns the same array each time, which a reset changes."""

    def __init__(self, **options):
        super().__init__(**options)
        self.array = np.zeros(2, np.float32)

    def observe(self):
        self.array[:] = self.t, self.mark
        return self.array


class LateReward(Line):
    """The only reward comes at the end of an episode of 300 steps."""

    length = 300

    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float(truncated), terminated, truncated, info


class Endless(Line):
    length = 10**9


class NanLater(Line):
    """The second episode starts with a NaN."""

    episodes = 0

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        self.episodes += 1
        return (observation * np.float32(np.nan) if self.episodes == 2 else observation), info


class Clocked(Line):
    """Does something else each time, like a simulator that runs in real time."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None)


class OnlyOne(Line):
    """A simulator that listens on one port, which is then in use."""

    port = 0

    def __init__(self, **options):
        super().__init__(**options)
        self.socket = socket.socket()
        try:
            self.socket.bind(("127.0.0.1", type(self).port))
        except OSError:
            self.socket.close()
            raise
        type(self).port = self.socket.getsockname()[1]

    def close(self):
        self.socket.close()


class Moves(Line):
    """Changes the current folder."""

    def __init__(self, **options):
        super().__init__(**options)
        os.chdir(Path.home())


class Untidy(Line):
    """Rewards in an array, items of `info` whose kind changes."""

    def step(self, action):
        observation, reward, terminated, truncated, _ = super().step(action)
        info = {"visited": np.arange(self.t), "enemy": None if self.t % 3 else "rat", "hp": self.t % 2 or 0.5}
        return observation, np.array([reward], np.float32), terminated, truncated, info


class WrongShape(Line):
    def observe(self):
        return np.zeros((2, 1), np.float32)


class SmallSeed(Line):
    """Stores its seed in 32 bits with a sign."""

    def reset(self, *, seed=None, options=None):
        assert seed is None or np.int32(seed) >= 0
        return super().reset(seed=seed)


for kind in (Line, SameArray, LateReward, Endless, NanLater, Clocked, OnlyOne, Moves, Untidy, WrongShape, SmallSeed):
    register(f"Hotlap{kind.__name__}-v0", kind, disable_env_checker=True)


def run(folder, env, *arguments, steps=1024, envs=2, evaluate=512):
    path = folder / "config.toml"
    path.write_text(CONFIG.format(env=f"Hotlap{env}-v0", steps=steps, envs=envs, evaluate=evaluate))
    return main(["--config", str(path), "--logs", str(folder / "logs"), *arguments])


@pytest.mark.parametrize("workers", [False, True])
def test_an_environment_that_returns_the_same_array_each_time_is_recorded_as_another_one_is(workers):
    batches = []
    for name in ("HotlapLine-v0", "HotlapSameArray-v0"):
        env = GymnasiumVecEnv(name, 2, workers=workers)
        batches.append(Collector(env, seed=1).collect(actor_for(env.contract), 45, np.random.default_rng(0)))
        env.close()
    one, other = batches
    assert one.final_observation_FO[:, 0].tolist() == [20, 20, 20, 20, 5, 5]
    for name in ("observation_BO", "final_observation_FO", "reward_B", "action_BA", "final_B"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_a_vec_env_may_change_its_arrays_in_the_next_step():
    class Reused(RacingVecEnv):
        array = np.zeros((2, 15), np.float32)

        def step(self, action):
            step = super().step(action)
            self.array[:] = step.observation
            return step._replace(observation=self.array)

    rows = [
        Collector(env, seed=3).collect(actor_for(env.contract), 20, np.random.default_rng(0)).observation_BO
        for env in (RacingVecEnv(2), Reused(2))
    ]
    assert np.array_equal(*rows)


def test_an_observation_that_is_not_finite_at_the_start_of_a_later_episode_is_reported():
    env = GymnasiumVecEnv("HotlapNanLater-v0", 2)
    with pytest.raises(HotlapError, match="returned nan in its observations"):
        Collector(env, seed=0).collect(actor_for(env.contract), 25, np.random.default_rng(0))
    env.close()


def test_each_episode_has_a_seed_of_31_bits():
    seeds = {seed_of(seed, number) for seed in (0, 1, 2**31 - 1) for number in range(100)}
    assert len(seeds) == 300
    assert max(seeds) < 2**31
    env = GymnasiumVecEnv("HotlapSmallSeed-v0", 3)
    for seed in (0, 2**31, 2**63 - 1):
        env.reset(seed)
        for _ in range(25):
            env.step(np.zeros((3, 1), np.float32))
    env.close()


def test_rewards_in_arrays_and_any_info_are_accepted_and_a_wrong_shape_is_named():
    env = GymnasiumVecEnv("HotlapUntidy-v0", 2)
    batch = Collector(env, seed=0).collect(actor_for(env.contract), 25, np.random.default_rng(0))
    assert batch.reward_B.tolist() == batch.action_BA[:, 0].tolist()
    env.close()
    env = GymnasiumVecEnv("HotlapWrongShape-v0", 2)
    with pytest.raises(HotlapError, match=r"the shape \(2, 1\), but announces \(2,\)"):
        env.reset(0)
    env.close()


def saved(folder, name):
    document = load_document((checkpoints(folder) / name).read_bytes())
    online = {key: comparable(value) for key, value in document["online"].items() if key != "seconds"}
    return [tensor.numpy().tobytes() for tensor in document["policy_state_dict"].values()], online


def test_an_episode_that_is_longer_than_a_checkpoint_interval_ends_and_a_resumed_run_continues_it(tmp_path, capsys):
    """A checkpoint is saved every 256 steps of each environment, an episode has 300 steps."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        assert run(folder, "LateReward", steps=2048) == 0
    assert ", reward 1, " in capsys.readouterr().out
    for path in sorted(checkpoints(cut).glob("model_step_*.pt"))[-2:]:
        path.unlink()
    assert run(cut, "LateReward", "--resume", steps=2048) == 0
    out = capsys.readouterr().out
    assert "new episodes start" not in out
    for path in sorted(checkpoints(whole).glob("*.pt")):
        assert saved(whole, path.name) == saved(cut, path.name), path.name


def test_an_environment_that_cannot_be_repeated_starts_new_episodes_and_says_so(tmp_path, capsys):
    assert run(tmp_path, "Clocked", steps=512) == 0
    capsys.readouterr()
    assert run(tmp_path, "Clocked", "--resume", steps=1024) == 0
    reason = "the same actions lead to other observations"
    assert f"new episodes start, so the run will not equal an uninterrupted one: {reason}" in capsys.readouterr().out


def test_workers_continue_their_episodes_too_and_long_ones_are_not_repeated(monkeypatch):
    env = GymnasiumVecEnv("HotlapLine-v0", 2, workers=True)
    env.reset(5)
    steps = [env.step(np.array([[t % 2], [1]], np.float32)) for t in range(47)]
    state = env.save_episodes()
    later = env.step(np.zeros((2, 1), np.float32))
    assert np.array_equal(env.load_episodes(state), steps[-1].observation)
    again = env.step(np.zeros((2, 1), np.float32))
    assert all(np.array_equal(a, b) for a, b in zip(later[:5], again[:5], strict=True))
    env.close()
    monkeypatch.setattr("trainer.envs.gymnasium_episodes.LONGEST_REPEATED", 30)
    assert LONGEST_REPEATED > 30
    env = GymnasiumVecEnv("HotlapEndless-v0", 1)
    env.reset(5)
    for _ in range(31):
        env.step(np.zeros((1, 1), np.float32))
    with pytest.raises(ValueError, match="more than 30 steps"):
        env.load_episodes(env.save_episodes())
    env.close()


class Unrepeatable(RacingVecEnv):
    """An environment of a user, without the methods of RepeatableVecEnv."""

    save_episodes = property()

    def __init__(self, n_agents):
        super().__init__(n_agents, time_limit=50)


def test_without_the_methods_to_continue_episodes_they_start_again_only_after_each_agent_has_ended_one():
    env = Unrepeatable(2)
    collector = Collector(env, seed=0)
    collector.collect(actor_for(env.contract), 10, np.random.default_rng(0))
    assert not collector.may_restart()
    assert collector.state() == {}
    collector.collect(actor_for(env.contract), 41, np.random.default_rng(1))
    assert collector.may_restart()


def test_an_evaluation_without_end_is_cut_and_stops_when_asked():
    env = GymnasiumVecEnv("HotlapEndless-v0", 2)
    actor = actor_for(env.contract)
    score = evaluate(actor, env, episodes=6, seed=0, most_steps=50, stop=lambda: False)
    assert (score.episodes, score.cut, score.steps) == (2, 2, 100)
    asked = iter([False] * 10 + [True])
    assert evaluate(actor, env, episodes=2, seed=0, most_steps=50, stop=lambda: next(asked)) is None
    env.close()


def test_a_run_in_which_no_episode_ends_says_so_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("trainer.online.run._LONG_EPISODE", 200)
    assert run(tmp_path, "Endless", steps=1536, evaluate=0) == 0
    out = capsys.readouterr().out
    assert out.count("no episode ended since the last checkpoint") == 1
    assert "max_episode_steps = 1000" in out
    assert run(tmp_path, "Endless", "--env-options", "max_episode_steps = 100", steps=1024, evaluate=0) == 0
    assert "no episode ended" not in capsys.readouterr().out


def test_a_simulator_that_exists_only_once_is_evaluated_in_turn_and_the_run_can_be_resumed(tmp_path, capsys):
    OnlyOne.port = 0
    assert run(tmp_path, "OnlyOne", envs=1, steps=1024) == 0
    out = capsys.readouterr().out
    before, _, after = out.partition("[WARN] HotlapOnlyOne-v0 cannot be opened a second time (OSError: ")
    assert "evaluation at" not in before
    assert "evaluation at 1,024" in after
    for path in sorted(checkpoints(tmp_path).glob("model_step_*.pt"))[1:]:
        path.unlink()
    one = saved(tmp_path, "final_model.pt")
    assert run(tmp_path, "OnlyOne", "--resume", envs=1, steps=1024) == 0
    assert saved(tmp_path, "final_model.pt") == one


def test_a_checkpoint_exists_before_the_first_evaluation(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no second window")

    monkeypatch.setattr("trainer.online.environments.evaluate", fails)
    assert run(tmp_path, "Line", steps=512, evaluate=256) == 70
    assert [path.name for path in checkpoints(tmp_path).glob("*.pt")] == ["model_step_0000000256.pt"]
    monkeypatch.undo()
    assert run(tmp_path, "Line", "--resume", steps=512, evaluate=256) == 0
    assert (checkpoints(tmp_path) / "best_model.json").is_file()


def test_an_environment_that_changes_the_current_folder_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(CONFIG.format(env="HotlapMoves-v0", steps=512, envs=2, evaluate=512))
    assert main(["--config", "config.toml"]) == 0
    assert (tmp_path / "logs" / "latest_run" / "checkpoints" / "final_model.json").is_file()


PROGRAM = """
import sys, threading, time
sys.path.insert(0, {root!r})
from tests.trainer.online.test_episodes import Line
import gymnasium
class Threaded(Line):
    def __init__(self, **options):
        super().__init__(**options)
        threading.Thread(target=lambda: time.sleep(10**6)).start()
gymnasium.register("Threaded-v0", Threaded)
from trainer.cli import main
from schemas.process.ending import exit_with
exit_with(main(["online", "--config", "config.toml"]))
"""


def test_a_thread_of_the_environment_does_not_keep_the_finished_process_alive(tmp_path):
    text = CONFIG.format(env="HotlapLine-v0", steps=256, envs=1, evaluate=0)
    (tmp_path / "config.toml").write_text(text.replace("HotlapLine", "Threaded"))
    command = [sys.executable, "-c", PROGRAM.format(root=str(ROOT))]
    child = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
    assert child.returncode == 0, child.stderr
    assert "done: " in child.stdout


@needs_posix("SIGINT of a group of processes")
def test_ctrl_c_on_a_terminal_saves_with_workers_and_in_an_endless_evaluation(tmp_path):
    text = CONFIG.format(env="tests.trainer.online.test_episodes:HotlapEndless-v0", steps=10**6, envs=2, evaluate=256)
    (tmp_path / "config.toml").write_text(text.replace("[train]", "workers = true\n[train]"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-m", "trainer", "online", "--config", "config.toml"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    folder = tmp_path / "logs" / "latest_run" / "checkpoints"
    deadline = time.monotonic() + 60 * PATIENCE
    while not list(folder.glob("model_step_*.pt")) and time.monotonic() < deadline:  # the first evaluation runs
        assert child.poll() is None, child.stdout.read()
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGINT)
    out, _ = child.communicate(timeout=60 * PATIENCE)
    assert child.returncode == 130, out
    assert "the evaluation was stopped" in out
    assert "checkpoint: model_step_0000000256.pt" in out
    assert multiprocessing.active_children() == []
