"""TD3, or its sibling for choices, on the experiences of the whole run; see trainer.off_policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from schemas.contract import ContinuousActions, PolicyContract
from trainer.common import threads
from trainer.networks.network import ActorCritic
from trainer.networks.normaliser import Normalisers
from trainer.off_policy.make_updater import fastest_device, make_off_policy_updater
from trainer.off_policy.replay_builder import ReplayBuilder
from trainer.off_policy.state import CriticsState, critic_layer_sizes
from trainer.off_policy.td3 import EXPLORATION_DECAY, decay_exploration
from trainer.off_policy.update import BATCH_SIZE, OffPolicyUpdater
from trainer.online.config import OnlineSettings
from trainer.online.learners.history import History
from trainer.online.learners.ppo import CHECKED_BATCHES, OnlineLearner, ScheduledValues
from trainer.rollouts.experiences import Experiences, concatenate
from trainer.rollouts.outliers.search import Usual, find, without_outliers
from trainer.rollouts.symmetry.mirrored import mirrored_experiences

_DECAY_STEPS = 5000
"""Agent steps in which the noise decays as in a cycle."""


class ReplayLearner(OnlineLearner):
    """Critics, policy and the experiences of the run; one `learn` call per batch."""

    network: ActorCritic

    def __init__(self, contract: PolicyContract, settings: OnlineSettings) -> None:
        super().__init__(contract, settings)
        train, run = settings.train, settings.run
        sizes = critic_layer_sizes(contract, train.critic_sizes)
        self.history = History(train.replay_experiences)
        self._state = CriticsState.initial(sizes, seed=run.seed)
        self._off_policy: OffPolicyUpdater | None = None

    def learn(self, experiences: Experiences, iteration: int, scheduled: ScheduledValues) -> dict[str, float]:
        """Update critics and policy, for each new step `updates_per_experience` times; return losses by name."""
        del scheduled
        experiences = self._limit_outliers(experiences)
        if iteration < CHECKED_BATCHES:
            self._check_mirror(experiences)
        train, seed = self.settings.train, self.settings.run.seed
        self.history.append(experiences)
        data = self.history.experiences()
        if self.mirror is not None:
            data = concatenate([data, mirrored_experiences(data, self.mirror)])
        builder = ReplayBuilder(
            self.network, self._state, self.normalisers, self.contract,
            gamma=train.gamma, steps=train.return_steps, seed=seed,
        )  # fmt: skip
        nothing_B = np.zeros(data.size, dtype=bool)
        replay = builder.build(data, nothing_B, is_policy_trained=self.trained, number=iteration)
        self.normalisers = builder.normalisers
        factor = EXPLORATION_DECAY ** (experiences.size / _DECAY_STEPS)
        decay_exploration(self.network, factor, least=train.exploration)
        if self._off_policy is None:
            space = self.contract.action_space
            self.device = fastest_device(self._candidates, self.network, self._state, space, replay)
            self._off_policy = make_off_policy_updater(self.network, self._state, space, self.device)
            count = threads.count_by_size(BATCH_SIZE, self._off_policy.parameters)
            threads.set_thread_count(self.settings.run.threads or count)
        steps = max(1, round(train.updates_per_experience * experiences.size))
        losses = self._off_policy.run(replay.to(self.device), steps, seed=seed, cycle=iteration, epoch=0)
        self.trained, self._state = True, self._off_policy.state()
        if not isinstance(self.contract.action_space, ContinuousActions):
            return losses
        return losses | {"exploration": float(self.network.action_log_std.detach().exp().mean())}

    def _restart_from(self, normalisers: Normalisers) -> None:
        """Use other statistics. The policy computes what it did; the critics start from scratch."""
        super()._restart_from(normalisers)
        self._state = CriticsState.initial(self._state.critics.sizes, seed=self.settings.run.seed)

    def optimizer_state(self) -> dict[str, Any]:
        """Return {}: the optimizers belong to `critics_state`."""
        return {}

    def critics_state(self) -> dict[str, Any]:
        """Return the critics, their targets and the optimizers."""
        return self._state.document()

    def restore_critics(self, document: dict[str, Any]) -> None:
        """Continue with the critics of a checkpoint; those that do not fit are replaced by new ones, with a note."""
        state = CriticsState.from_document(document, self._state.critics.sizes, self.network)
        if state is not None:
            self._state = state
        elif document:
            self._note("W_OPTIMIZER", "the checkpoint's critics do not fit the config: new critics are trained")

    def save_history(self, path: Path) -> None:
        """Write the experiences beside a checkpoint, so that a resumed run continues exactly."""
        self.history.save(path)

    def load_history(self, path: Path) -> None:
        """Read the experiences beside a checkpoint; without them, learning continues with new ones, with a note.

        Outliers that an earlier version has stored are limited.
        """
        if not self.history.load(path):
            self._note("W_REPLAY", f"{path.name} cannot be read: the run continues with new experiences only")
        elif not self.normalisers.returns.reach:
            usual = Usual.of(Normalisers.identity(self.contract.observation_size), self.settings.train.gamma)
            self.history.change(lambda one: without_outliers(one, find(one, self.contract.action_space, usual)))
