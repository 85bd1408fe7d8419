"""1v1 Rocket League: agent steps per second, compared with Stable-Baselines3 over rlgym, rlgym-learn and the floors.

Floors: the simulator alone (controls set, arenas stepped, states read) and the update alone. Every row runs in its own
process, with a 2x128 network, 4 epochs, tick skip 8 and the same batch. CPU seconds are those of the row's processes.
They can be compared even on a busy machine; wall seconds cannot.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.child_process import BenchChild, RunError
from benchmarks.lib.host_info import describe, in_words

ARENAS, STEPS, MINIBATCH, EPOCHS, HIDDEN = 32, 64, 512, 4, (128, 128)
AGENTS = 2 * ARENAS
TIMEOUT_S = 90.0  #: for the start and the iteration that does not count


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("online", help="agent steps per second of online training", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds per row")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure each row in a new process and print the table."""
    print(in_words(describe()))
    print(f"{'':34}{'per second':>12}{'per CPU second':>16}")
    for row in arguments.rows:
        try:
            rates = measure_row(row, arguments.seconds)
        except RunError as error:
            print(f"{row:34}{str(error).splitlines()[-1].strip()}")
            continue
        print(f"{row:34}{rates['wall']:>12,.0f}{rates['cpu']:>16,.0f}")
    return 0


def measure_row(row: str, seconds: float) -> dict[str, float]:
    """Run a row in its own process, and end all its descendants. Raises RunError if it prints no figures."""
    argv, timeout_s = ["-m", "benchmarks.online.throughput", row, str(seconds)], seconds + TIMEOUT_S
    with (
        tempfile.TemporaryDirectory() as folder,
        BenchChild("row", argv, folder=Path(folder), captures_output=True, one_thread=False) as child,
    ):
        end_s, last_line = time.monotonic() + timeout_s, "nothing"
        while (left_s := end_s - time.monotonic()) > 0:
            try:
                line = child.next_line(left_s, threading.Event())
            except RunError:
                break
            if line is None:
                raise RunError(child.log_tail())
            if line.startswith("{"):
                return dict(json.loads(line))
            last_line = line or last_line
    raise RunError(f"no figures after {timeout_s:.0f} s; its last output: {last_line}")


def timed(work: Callable[[], int], seconds: float) -> dict[str, float]:
    """Run `work`, which returns the agent steps it did, once unmeasured and then for some seconds."""
    work()
    wall_s, cpu_s, steps = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - wall_s < seconds:
        steps += work()
    return {"wall": steps / (time.perf_counter() - wall_s), "cpu": steps / (time.process_time() - cpu_s)}


def raw_simulator(seconds: float, *, together: bool) -> dict[str, float]:
    """Step arenas with random controls and read their states."""
    from trainer.envs.rocket.actions import lookup_table
    from trainer.envs.rocket.simulation import Arenas

    arenas, rng = Arenas(ARENAS, 1, 1), np.random.default_rng(0)
    controls = arenas.controls(lookup_table())
    step = type(arenas._arenas[0]).multi_step

    def work() -> int:
        for car, choice in zip(arenas._flat, rng.integers(0, 90, AGENTS).tolist(), strict=True):
            car.set_controls(controls[choice])
        if together:
            step(arenas._arenas, 8)
        else:
            for arena in arenas._arenas:
                arena.step(8)
        for arena in arenas._arenas:
            arena.get_gym_state()
        return AGENTS

    return timed(work, seconds)


def hotlap(seconds: float, *, collects: bool, learns: bool, one_thread: bool = False) -> dict[str, float]:
    """Measure Hotlap's trainer on the batched environment: collecting, learning from one batch repeatedly, or both.

    One thread, so that CPU seconds can be compared.
    """
    import torch

    from trainer.common import threads
    from trainer.envs.rocket.rewards import RewardWeights
    from trainer.envs.rocket.vec_env import GameRules, RocketVecEnv
    from trainer.online.actor import Actor
    from trainer.online.collector import Collector
    from trainer.online.config import OnlineSettings, RunSettings, TrainSettings
    from trainer.online.learners.ppo import OnlineLearner, ScheduledValues

    threads.limit_numpy_to_one_thread()
    torch.set_num_threads(1)
    games = RocketVecEnv(ARENAS, 1, 1, GameRules(weights=RewardWeights().model_dump()))
    if one_thread:
        games.use_one_thread()
    settings = OnlineSettings(
        run=RunSettings(threads=int(one_thread)),
        train=TrainSettings(hidden_sizes=HIDDEN, epochs=EPOCHS, batch_size=MINIBATCH),
    )
    learner, collector = OnlineLearner(games.contract, settings), Collector(games, 0)
    rng, rates, iteration = np.random.default_rng(0), ScheduledValues.at(0, settings), 0
    experiences = None

    def work() -> int:
        nonlocal iteration, experiences
        if collects or experiences is None:
            actor = Actor.of(learner.network, learner.normalisers, learner.contract)
            experiences = collector.collect(actor, STEPS, rng)
        if learns:
            learner.learn(experiences, iteration, rates)
        iteration += 1
        return experiences.size

    return timed(work, seconds)


def sb3(seconds: float) -> dict[str, float]:
    """Measure Stable-Baselines3's PPO with rlgym's environment, observations, lookup actions and rewards."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback

    from benchmarks.online.rlgym_env import RlgymVecEnv

    torch.set_num_threads(1)
    model = PPO(
        "MlpPolicy",
        RlgymVecEnv(ARENAS),
        n_steps=STEPS,
        batch_size=MINIBATCH,
        n_epochs=EPOCHS,
        device="cpu",
        seed=0,
        policy_kwargs={"net_arch": {"pi": list(HIDDEN), "vf": list(HIDDEN)}, "activation_fn": torch.nn.ReLU},
    )
    start: list[float] = []
    rates: dict[str, float] = {}

    class Clock(BaseCallback):
        """Measures whole rounds of collecting and learning, after the first."""

        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            if len(start) == 0 and self.num_timesteps > 0:
                start.extend([time.perf_counter(), time.process_time(), float(self.num_timesteps)])
            elif start and (elapsed_s := time.perf_counter() - start[0]) > seconds:
                steps = self.num_timesteps - start[2]
                rates.update(wall=steps / elapsed_s, cpu=steps / (time.process_time() - start[1]))
                raise StopIteration

    try:
        model.learn(10**9, callback=Clock())
    except StopIteration:
        return rates
    raise RuntimeError("it ended by itself")


def rlgym_learn(seconds: float, processes: int) -> dict[str, float]:
    """Measure rlgym-learn's PPO on the same game, with games in their own processes."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in its examples, for the workers
    from benchmarks.online.rlgym_learn import measure

    return measure(
        seconds, processes=processes, steps=AGENTS * STEPS, minibatch=MINIBATCH, epochs=EPOCHS, hidden=HIDDEN
    )


def racing(seconds: float, cars: int) -> dict[str, float]:
    """Measure collecting in the racing game with a constant policy."""
    from trainer.common import threads
    from trainer.envs.racing.vec_env import RacingVecEnv
    from trainer.online.collector import Collector

    class Straight:
        """Return half throttle, straight ahead."""

        answer_NA = np.tile(np.array([0.0, 0.5, 0.0], dtype=np.float32), (cars, 1))

        def sample(self, observation_NO: object, rng: object) -> np.ndarray:
            del observation_NO, rng
            return self.answer_NA

    threads.limit_numpy_to_one_thread()
    collector, rng = Collector(RacingVecEnv(cars), 0), np.random.default_rng(0)
    return timed(lambda: collector.collect(Straight(), STEPS, rng).size, seconds)  # type: ignore[arg-type]


ROWS: dict[str, Callable[[float], dict[str, float]]] = {
    "raw simulator, one thread": lambda seconds: raw_simulator(seconds, together=False),
    "raw simulator, multi_step": lambda seconds: raw_simulator(seconds, together=True),
    "ours, collecting, one thread": lambda seconds: hotlap(seconds, collects=True, learns=False, one_thread=True),
    "ours, the update, one thread": lambda seconds: hotlap(seconds, collects=False, learns=True, one_thread=True),
    "ours, both, one thread": lambda seconds: hotlap(seconds, collects=True, learns=True, one_thread=True),
    "ours, collecting": lambda seconds: hotlap(seconds, collects=True, learns=False),
    "ours, the update alone": lambda seconds: hotlap(seconds, collects=False, learns=True),
    "ours, collecting and learning": lambda seconds: hotlap(seconds, collects=True, learns=True),
    "Stable-Baselines3 over rlgym": sb3,
    "rlgym-learn, 1 process": lambda seconds: rlgym_learn(seconds, 1),
    "rlgym-learn, 2 processes": lambda seconds: rlgym_learn(seconds, 2),
    "rlgym-learn, 4 processes": lambda seconds: rlgym_learn(seconds, 4),
    "racing, 512 cars, collecting": lambda seconds: racing(seconds, 512),
    "racing, 2048 cars, collecting": lambda seconds: racing(seconds, 2048),
}


if __name__ == "__main__":
    print(json.dumps(ROWS[sys.argv[1]](float(sys.argv[2]))))
