"""The updater for the built-in network and loss on a CPU, without autograd.

A minibatch of 64 needs so little arithmetic that most of an autograd step's time is overhead. A step here allocates
almost nothing and records no graph.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from schemas.model import LOG_STD_MAX, LOG_STD_MIN
from trainer.common import threads
from trainer.common.rng import rng_for
from trainer.networks.distributions import ActionDistribution
from trainer.networks.network import ActorCritic, Network
from trainer.ppo.analytic.adam import FlatAdam
from trainer.ppo.analytic.gradient import AnalyticGradient
from trainer.ppo.analytic.network import StackedNetwork
from trainer.ppo.loss import LossTerms, ppo_loss
from trainer.ppo.update import UpdateConfig
from trainer.rollouts.batch import Batch, minibatch_sizes

_MAX_TRIAL_STEPS, _MIN_TRIAL_STEPS = 12, 2
"""Steps that measure one number of threads: an eighth of an epoch, between these."""
_MIN_MINIBATCHES_TO_TUNE = 8
"""Of an epoch. With fewer, the number of threads depends on the size of the work."""
_STEPS_PER_CHECK = 16
"""Steps between two checks of how long they take."""
_COMPARED_STEPS = 2
"""Steps after which a different order of additions would show."""
_LOG_STD_MIN, _LOG_STD_MAX = np.float32(LOG_STD_MIN), np.float32(LOG_STD_MAX)


class AnalyticUpdater:
    """Computes the same as AutogradUpdater for the built-in network and loss, up to rounding.

    Sets the number of CPU threads of the process, and limits numpy to one thread.
    """

    def __init__(
        self,
        network: ActorCritic,
        distribution: ActionDistribution,
        config: UpdateConfig,
        batch: Batch,
        moments: dict[str, Any],
    ) -> None:
        threads.limit_numpy_to_one_thread()
        self.network: Network = network
        self._distribution, self._stacked = distribution, StackedNetwork(network)
        self._adam = FlatAdam(self._stacked.flat, network, config, moments)
        self._norms: list[float] = []
        self._entropies: list[float] = []
        self._threads: threads.ThreadCount | None = None
        self._epochs_done = self._next_trial = (
            0  # epochs; `_next_trial`: a trial of more threads begins after so many epochs
        )
        self._has_same_result: dict[int, bool] = {}
        self.set_batch(config, batch)

    def set_batch(self, config: UpdateConfig, batch: Batch) -> None:
        """Continue with another training set and other settings; parameters, moments and the thread count stay."""
        self.config, self._batch = config, batch
        self._gradient = AnalyticGradient(self._stacked, self._distribution, config.loss, batch)
        self._adam.set_learning_rate(config.learning_rate)
        self._adam.set_trains_policy(config.trains_policy)
        ends = list(itertools.accumulate(minibatch_sizes(batch.size, config.batch_size), initial=0))
        self._minibatches = [slice(start, end) for start, end in itertools.pairwise(ends)]
        self._threads = self._threads or self._threads_without_trial()

    def optimizer_state(self) -> dict[str, Any]:
        """Return Adam's state dict in torch's layout. The next step changes its tensors."""
        return self._adam.state_dict()

    def epoch(self, epoch: int) -> dict[str, float]:
        """Use all experiences once; return the means of the loss terms and of the gradient's norm, by name."""
        rng = rng_for(self.config.seed, "shuffle", self.config.cycle, epoch)
        order = torch.randperm(self._batch.size, generator=rng)
        self._gradient.shuffle(order)
        self._norms, self._entropies = [], []
        with np.errstate(all="ignore"):  # values that are not finite show in the terms
            self._take_all_steps(iter(self._minibatches))
        threads.set_thread_count(self.config.threads or 1)  # the work after this is too small for more
        evaluation = self._gradient.evaluation(order, float(np.mean(self._entropies)))
        terms = ppo_loss(self._batch, evaluation, self.config.loss)
        means = {name: float(value) for name, value in zip(LossTerms._fields, terms, strict=True)}
        return means | {"grad_norm": float(np.mean(self._norms))}

    def _take_all_steps(self, minibatches: Iterator[slice]) -> None:
        """Take an epoch's steps. If the number of threads is not known yet, the first steps are a trial."""
        if self._threads is None or self._is_trial_due(self._threads):
            # The interval grows: the other cores may have been in use only during the last trial.
            self._next_trial = 2 * self._epochs_done + 1
            self._threads = self._tune_threads(minibatches)
        self._epochs_done += 1
        while (before := len(self._norms)) < len(self._minibatches):
            threads.set_thread_count(self._threads.current)
            seconds = _seconds(lambda: self._take_steps(itertools.islice(minibatches, _STEPS_PER_CHECK)))
            self._threads = self._threads.checked(seconds / (len(self._norms) - before))

    def _is_trial_due(self, count: threads.ThreadCount) -> bool:
        return count.is_measured and count.tuned == 1 and self._epochs_done >= self._next_trial

    def _tune_threads(self, minibatches: Iterator[slice]) -> threads.ThreadCount:
        trial_steps = max(_MIN_TRIAL_STEPS, min(_MAX_TRIAL_STEPS, len(self._minibatches) // 8))
        fastest_s = math.inf

        def step_seconds(count: int) -> float:
            nonlocal fastest_s
            threads.set_thread_count(count)
            self._take_steps(itertools.islice(minibatches, 1))  # starts the threads
            step_s = self._median_step_s(minibatches, trial_steps, limit_s=trial_steps * fastest_s)
            fastest_s = min(fastest_s, step_s)
            return step_s

        trials = len(self._minibatches) // (1 + trial_steps) - 1  # a further trial would have no steps left to time
        return threads.tune_thread_count(step_seconds, self._is_same_with, threads.counts_to_try()[:trials])

    def _median_step_s(self, minibatches: Iterator[slice], steps: int, limit_s: float) -> float:
        """Take `steps` steps, fewer if they take longer than `limit_s`; return the median seconds of a step."""
        began, measured = time.perf_counter(), list[float]()
        while not measured or (len(measured) < steps and time.perf_counter() - began < limit_s):
            measured.append(_seconds(lambda: self._take_steps(itertools.islice(minibatches, 1))))
        return statistics.median_low(measured)

    def _take_steps(self, minibatches: Iterable[slice]) -> None:
        log_std_A = self._gradient.log_std_A
        for rows in minibatches:
            self._entropies.append(self._gradient.compute(rows))
            self._norms.append(self._adam.step())
            np.maximum(log_std_A, _LOG_STD_MIN, out=log_std_A)
            np.minimum(log_std_A, _LOG_STD_MAX, out=log_std_A)

    def _threads_without_trial(self) -> threads.ThreadCount | None:
        """Return the number in the settings, or one by size if an epoch is too short for a trial; otherwise None."""
        if self.config.threads:
            return threads.ThreadCount(self.config.threads, math.inf)
        if len(self._minibatches) < _MIN_MINIBATCHES_TO_TUNE:
            count = threads.count_by_size(self.config.batch_size, self._gradient.flat.vector.numel())
            return threads.ThreadCount(count, math.inf)
        return None

    def _is_same_with(self, count: int) -> bool:
        """Return whether `count` threads lead to the same bits as one thread. Afterwards all state is as before."""
        if count not in self._has_same_result:
            self._has_same_result[count] = self._result_with(count) == self._result_with(1)
        return self._has_same_result[count]

    def _result_with(self, count: int) -> list[bytes]:
        """Return the bits of all state after a few steps with `count` threads, and undo the steps."""
        state, norms, entropies = self._adam.copy_state(), list(self._norms), list(self._entropies)
        threads.set_thread_count(count)
        self._take_steps(self._minibatches[:_COMPARED_STEPS])
        result = [tensor.numpy().tobytes() for tensor in self._adam.copy_state()]
        self._adam.restore_state(state)
        self._norms, self._entropies = norms, entropies
        return result


def _seconds(work: Callable[[], None]) -> float:
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s
