"""The contenders: Hotlap, Stable-Baselines3, a plain eager loop, and the matrix products, on one training set."""

from __future__ import annotations

import copy
import gc
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Protocol

import torch

from benchmarks.learning.sb3_in_process import RacingVecEnv, make_ppo
from benchmarks.lib.samples import Samples
from benchmarks.update import eager_ppo as eager
from benchmarks.update import matmul_floor as products
from trainer.common import threads
from trainer.envs.racing.simulation import RacingSimulation
from trainer.ppo.loss import ppo_loss
from trainer.ppo.make_updater import make_updater
from trainer.worker.ppo_learner import update_config_for

TRIALS, TRIAL_STEPS = 5, 20
"""Trials of each number of threads, to choose the fastest one, and the steps of a trial."""
MAX_TIMES_FASTEST = 4.0
"""A trial that takes this many times the fastest one is not repeated: too many threads can be 100 times slower."""


class Contender(Protocol):
    """An implementation that can repeat the same update."""

    name: str

    def reset(self) -> None:
        """Reset to the state before the update; not timed."""

    def run(self) -> None:
        """Run the whole update."""


@lru_cache(maxsize=1)
def usual_threads() -> int:
    """Return torch's default number of threads; must be called before it is set."""
    return torch.get_num_threads()


def seconds(contender: Contender, device: torch.device) -> float:
    """Return the time of one complete update."""
    contender.reset()
    gc.collect()
    _finish(device)
    began = time.perf_counter()
    contender.run()
    _finish(device)
    return time.perf_counter() - began


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class HotlapUpdate:
    """The update of a cycle, from the creation of the updater."""

    def __init__(self, samples: Samples, device: torch.device) -> None:
        self.name = "ours"
        self._samples, self._device = samples, device
        self._network = samples.network
        self._plan = update_config_for(samples.job, device, samples.prepared)

    def reset(self) -> None:
        """Restore the first network."""
        self._network = copy.deepcopy(self._samples.network)
        threads.set_thread_count(self._samples.job.settings.threads or 1)
        threads.limit_numpy_to_one_thread()

    def run(self) -> None:
        """Create the updater and run all epochs."""
        samples, plan, device = self._samples, self._plan, self._device
        updater = make_updater(
            self._network,
            samples.distribution,
            ppo_loss,
            plan,
            samples.batch,
            optimizer_state={},
            device=device,
            notify=lambda code, message: print(f"{message} [{code}]"),
        )
        for epoch in range(1, plan.epochs + 1):
            updater.epoch(epoch)


class StableBaselines3:
    """PPO.train() of Stable-Baselines3 on a filled rollout buffer."""

    def __init__(self, samples: Samples, device: torch.device, count: int) -> None:
        self.name = f"Stable-Baselines3, {_in_threads(count)}"
        self._threads, batch, s = count, samples.batch, samples.job.settings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about minibatches that do not divide the buffer, and about GPUs
            env = RacingVecEnv(RacingSimulation(1, seed=0))
            self._ppo = make_ppo(
                env, steps=batch.size, seed=0, batch_size=s.batch_size, epochs=s.epochs, device=device.type
            )
        self._fill(samples)
        policy = self._ppo.policy
        self._first = copy.deepcopy((policy.state_dict(), policy.optimizer.state_dict()))

    @torch.no_grad()
    def _fill(self, samples: Samples) -> None:
        ppo, batch, actions = self._ppo, samples.batch, samples.actions
        buffer, device = ppo.rollout_buffer, ppo.device
        values, log_probs, _ = ppo.policy.evaluate_actions(batch.observation_BO.to(device), actions.to(device))
        buffer.observations[:, 0] = batch.observation_BO.numpy()
        buffer.actions[:, 0] = actions.numpy()
        buffer.values[:] = values.cpu().numpy()
        buffer.log_probs[:, 0] = log_probs.cpu().numpy()
        buffer.advantages[:, 0] = batch.advantage_B.numpy()
        buffer.returns[:, 0] = batch.target_B.numpy()
        buffer.pos, buffer.full = buffer.buffer_size, True

    def reset(self) -> None:
        """Restore the first weights, and create a new optimizer."""
        torch.set_num_threads(self._threads)
        policy = self._ppo.policy
        weights, optimizer = copy.deepcopy(self._first)
        policy.load_state_dict(weights)
        policy.optimizer.load_state_dict(optimizer)

    def run(self) -> None:
        """Call train()."""
        self._ppo.train()


class EagerLoop:
    """The plain loop of `benchmarks.update.eager_ppo`."""

    def __init__(self, samples: Samples, device: torch.device, count: int) -> None:
        self.name = f"plain eager loop, {_in_threads(count)}"
        self._threads, self._settings = count, samples.job.settings
        job, batch = samples.job, samples.batch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            agent = eager.Agent(job.contract.observation_size, job.hidden_sizes, samples.actions.shape[1])
        self._agent, self._now = agent.to(device), agent
        observations, actions = batch.observation_BO.to(device), samples.actions.contiguous().to(device)
        with torch.no_grad():
            log_probs = agent.evaluate(observations, actions)[0]
        self._storage = eager.Storage(
            observations, actions, log_probs, batch.advantage_B.to(device), batch.target_B.to(device)
        )
        self.reset()

    def reset(self) -> None:
        """Restore the first weights, and create a new optimizer."""
        torch.set_num_threads(self._threads)
        self._now = copy.deepcopy(self._agent)
        self._adam = eager.make_optimizer(self._now, self._settings)

    def run(self) -> None:
        """Run the update."""
        eager.update(self._now, self._adam, self._storage, self._settings)


class MatrixProducts:
    """The matrix products of the update and nothing else."""

    def __init__(self, samples: Samples, device: torch.device, count: int, form: products.Form) -> None:
        self.name = f"matrix products, {_in_threads(count)}"
        self._threads, job = count, samples.job
        sizes = (job.contract.observation_size, *job.hidden_sizes)
        outputs = (job.contract.action_space.output_size, 1)
        self._products = form(sizes, outputs, job.settings.batch_size, device)
        self._steps = round(samples.batch.size / job.settings.batch_size) * job.settings.epochs

    def reset(self) -> None:
        """Set the threads."""
        torch.set_num_threads(self._threads)

    def run(self) -> None:
        """Run the products."""
        for _ in range(self._steps):
            for product in self._products:
                product()


def contenders(samples: Samples, device: torch.device) -> list[Contender]:
    """Return Hotlap, the others with their fastest number of threads, and the floor with one and with all threads."""
    counts, forms = sorted({1, usual_threads()}), (products.one_by_one, products.stacked)
    hotlap = HotlapUpdate(samples, device)
    sb3 = _fastest([partial(StableBaselines3, device=device, count=n) for n in counts], samples, device)
    loop = _fastest([partial(EagerLoop, device=device, count=n) for n in counts], samples, device)
    floors = [
        _fastest([partial(MatrixProducts, device=device, count=n, form=form) for form in forms], samples, device)
        for n in counts
    ]
    seconds(HotlapUpdate(samples.settings(epochs=1), device), device)
    return [hotlap, sb3, loop, *floors]


def _fastest(makers: Sequence[Callable[[Samples], Contender]], samples: Samples, device: torch.device) -> Contender:
    """Return the contender that is fastest over a few minibatches, by medians of alternating trials."""
    few = samples.first(TRIAL_STEPS * samples.job.settings.batch_size).settings(epochs=1)
    trials = [make(few) for make in makers]
    seconds(trials[0], device)  # warm-up
    times = [[seconds(trial, device)] for trial in trials]
    candidates = [i for i, trial_s in enumerate(times) if trial_s[0] < MAX_TIMES_FASTEST * min(times)[0]]
    for _ in range(TRIALS - 1):
        for i in candidates:
            times[i].append(seconds(trials[i], device))
    return makers[min(candidates, key=lambda i: statistics.median(times[i]))](samples)


def _in_threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"
