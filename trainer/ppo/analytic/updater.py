"""The gradient work for the built-in network and loss on a CPU, without autograd: the derivatives are written out.

A minibatch of 64 is so little arithmetic that most of a usual step's time goes into what stands around it. Here a step
makes next to no tensor, records nothing and waits for nothing.
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

_MOST_STEPS, _FEWEST_STEPS = 12, 2
"""Steps that tell how fast a number of threads is: an eighth of an epoch, between these."""
_FEWEST_MINIBATCHES = 8
"""Of an epoch in which threads are tried."""
_GLANCE = 16
"""Steps between two looks at how long they take."""
_SAME_STEPS = 2
"""Steps after which a difference would show."""
_LOG_STD_MIN, _LOG_STD_MAX = np.float32(LOG_STD_MIN), np.float32(LOG_STD_MAX)


class AnalyticUpdater:
    """Does what AutogradUpdater does with the built-in network and loss, to rounding."""

    def __init__(
        self,
        network: ActorCritic,
        distribution: ActionDistribution,
        config: UpdateConfig,
        batch: Batch,
        moments: dict[str, Any],
    ) -> None:
        threads.keep_numpy_to_one()
        self.network: Network = network
        self._distribution, self._twin = distribution, StackedNetwork(network)
        self._adam = FlatAdam(self._twin.flat, network, config, moments)
        self._norms: list[float] = []
        self._entropies: list[float] = []
        self._pace: threads.Pace | None = None
        self._epochs = self._trial_at = 0  # gone through; the one that begins with the next trial
        self._same: dict[int, bool] = {}
        self.renew(config, batch)

    def renew(self, config: UpdateConfig, batch: Batch) -> None:
        """Go on with other experiences and other rates; parameters, moments and the measured pace stay."""
        self.config, self._batch = config, batch
        self._gradient = AnalyticGradient(self._twin, self._distribution, config.loss, batch)
        self._adam.set_rate(config.learning_rate)
        ends = list(itertools.accumulate(minibatch_sizes(batch.size, config.batch_size), initial=0))
        self._minibatches = [slice(start, end) for start, end in itertools.pairwise(ends)]
        self._pace = self._pace or self._known_pace()

    def optimizer_state(self) -> dict[str, Any]:
        """Return Adam's state dict, as torch lays it out; its tensors change with the next step."""
        return self._adam.state_dict()

    def epoch(self, epoch: int) -> dict[str, float]:
        """Go over all experiences once; give the means of the terms by name."""
        rng = rng_for(self.config.seed, "shuffle", self.config.cycle, epoch)
        order = torch.randperm(self._batch.size, generator=rng)
        self._gradient.shuffle(order)
        self._norms, self._entropies = [], []
        with np.errstate(all="ignore"):  # what is not finite shows in the terms
            self._walk(iter(self._minibatches))
        torch.set_num_threads(self.config.threads or 1)  # what follows is too small to share
        terms = ppo_loss(self._batch, self._gradient.seen(order, float(np.mean(self._entropies))), self.config.loss)
        means = {name: float(value) for name, value in zip(LossTerms._fields, terms, strict=True)}
        return means | {"grad_norm": float(np.mean(self._norms))}

    def _walk(self, minibatches: Iterator[slice]) -> None:
        """Take all steps; the first ones tell how many threads the others get, where that is not known yet."""
        if self._pace is None or (self._pace.is_measured and self._pace.best == 1 and self._epochs >= self._trial_at):
            self._trial_at = 2 * self._epochs + 1  # ever later: the other core may have been wanted just then
            self._pace = self._measured(minibatches)
        self._epochs += 1
        while (before := len(self._norms)) < len(self._minibatches):
            torch.set_num_threads(self._pace.threads)
            took_s = _timed(lambda: self._steps(itertools.islice(minibatches, _GLANCE)))
            self._pace = self._pace.after(took_s / (len(self._norms) - before))

    def _measured(self, minibatches: Iterator[slice]) -> threads.Pace:
        stretch = max(_FEWEST_STEPS, min(_MOST_STEPS, len(self._minibatches) // 8))
        one_s = math.inf

        def seconds(n: int) -> float:
            nonlocal one_s
            torch.set_num_threads(n)
            self._steps(itertools.islice(minibatches, 1))  # wakes the threads
            took_s = self._seconds_a_step(minibatches, stretch, limit_s=stretch * one_s)
            one_s = min(one_s, took_s)
            return took_s

        fitting = len(self._minibatches) // (1 + stretch) - 1  # a trial without steps left would take no time
        return threads.fastest(seconds, self._is_same, threads.more_than_one()[:fitting])

    def _seconds_a_step(self, minibatches: Iterator[slice], steps: int, limit_s: float) -> float:
        """Take `steps` steps, fewer where they take longer than `limit_s`; give the seconds of the median one."""
        began, taken = time.perf_counter(), list[float]()
        while len(taken) < steps and time.perf_counter() - began < limit_s:
            taken.append(_timed(lambda: self._steps(itertools.islice(minibatches, 1))))
        return statistics.median_low(taken)

    def _steps(self, minibatches: Iterable[slice]) -> None:
        log_std_A = self._gradient.log_std_A
        for rows in minibatches:
            self._entropies.append(self._gradient.compute(rows))
            self._norms.append(self._adam.step())
            np.maximum(log_std_A, _LOG_STD_MIN, out=log_std_A)
            np.minimum(log_std_A, _LOG_STD_MAX, out=log_std_A)

    def _known_pace(self) -> threads.Pace | None:
        """Return the pace that needs no measuring: as set, or by rule where an epoch is too short to measure in."""
        if self.config.threads:
            return threads.Pace(self.config.threads, math.inf)
        if len(self._minibatches) < _FEWEST_MINIBATCHES:
            return threads.Pace(threads.by_rule(self.config.batch_size, self._gradient.flat.vector.numel()), math.inf)
        return None

    def _is_same(self, n: int) -> bool:
        """Return whether `n` threads and one lead to the same bits; takes no step in the end."""
        if n not in self._same:
            self._same[n] = self._end_alike(n)
        return self._same[n]

    def _end_alike(self, n: int) -> bool:
        kept, norms, entropies = self._adam.keep(), list(self._norms), list(self._entropies)
        ends = []
        for count in (1, n):
            torch.set_num_threads(count)
            self._steps(self._minibatches[:_SAME_STEPS])
            ends.append([tensor.numpy().tobytes() for tensor in self._adam.keep()])
            self._adam.put_back(kept)
        self._norms, self._entropies = norms, entropies
        return ends[0] == ends[1]


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
