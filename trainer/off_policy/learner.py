"""Off-policy learning as the learner of one cycle: from rollouts and the parent to replay data and epochs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from schemas.errors import ConfigError
from schemas.job import Job, finite_or_none
from schemas.rollout.rollout import Bools
from trainer.checkpoints.parent import Parent
from trainer.common import device as devices
from trainer.common import threads
from trainer.common.reporting.reporter import Notices
from trainer.networks.critic_inputs import cause_of_misfit, critic_width_of
from trainer.networks.network import ActorCritic
from trainer.networks.normaliser import Normalisers
from trainer.off_policy.make_updater import fastest_device, make_off_policy_updater
from trainer.off_policy.replay_builder import ReplayBuilder
from trainer.off_policy.state import CriticsState, critic_layer_sizes
from trainer.off_policy.td3 import EXPLORATION_DECAY, decay_exploration
from trainer.off_policy.update import BATCH_SIZE, LEARNING_RATE
from trainer.rollouts.experiences import Experiences, by_agent, choose_critic_width, concatenate
from trainer.rollouts.loading import LoadedRollout
from trainer.rollouts.meaning.continuation import find_continuations, with_next_states
from trainer.rollouts.meaning.reward_signal import RewardSignal, report
from trainer.rollouts.meaning.time_limits import continue_episodes, find_time_limit, report_time_limit
from trainer.rollouts.quality import check_critic_observations
from trainer.rollouts.symmetry.check import usable_mirror
from trainer.rollouts.symmetry.mirrored import mirrored_experiences
from trainer.rollouts.training_set import choose_held_out_rows, choose_probe, require_next_states

_CRITICS_ALONE = 0.5
"""Part of the steps in which only the critics learn, if they are new but the policy is not."""


class OffPolicyLearner:
    """The epochs of TD3, or of its sibling for choices; see `trainer.worker.epochs.Learner`."""

    def __init__(self, loaded: Sequence[LoadedRollout], parent: Parent, job: Job, notices: Notices) -> None:
        self._job, self._parent, space = job, parent, job.contract.action_space
        if not isinstance(parent.network, ActorCritic):
            raise ConfigError("trainer.network is not supported by td3", hint='set trainer.algorithm = "ppo"')
        self._network = parent.network
        experiences = _experiences(loaded, critic_width_of(parent.critics_state), notices)
        require_next_states(experiences.can_bootstrap_B)
        new_rollouts = [item.rollout for item in loaded if item.entry.is_new]
        check_critic_observations(new_rollouts, experiences.critic_width, notices)
        self._signal = RewardSignal.of(experiences.reward_B, experiences.terminated_B)
        report(self._signal, steps=experiences.size, keeps_policy=self._signal.is_missing, notices=notices)
        if not self._signal.is_missing:
            decay_exploration(self._network, EXPLORATION_DECAY, least=job.settings.exploration)
        self._state = self._open_state(experiences, notices)
        self.probe = choose_probe(experiences, job)
        self.experiences, self.epochs = int(experiences.can_bootstrap_B.sum()), job.settings.epochs
        new = int((experiences.is_new_B & experiences.can_bootstrap_B).sum())
        held_out_B = choose_held_out_rows(experiences, _held_out_candidates(experiences), job)
        several_steps_B = _is_of_a_trained_policy(loaded, job)
        mirror = usable_mirror(experiences, job, notices)
        if mirror is not None:
            images = mirrored_experiences(experiences, mirror)
            experiences, held_out_B = concatenate([experiences, images]), np.tile(held_out_B, 2)
            several_steps_B = np.tile(several_steps_B, 2)
        settings = job.settings
        self._builder = ReplayBuilder(
            self._network, self._state, parent.normalisers, job.contract,
            gamma=settings.gamma, steps=settings.return_steps, seed=settings.seed,
        )  # fmt: skip
        self._replay = self._builder.build(
            experiences,
            held_out_B,
            is_policy_trained=parent.trained,
            number=job.policy_version,
            keeps_policy=self._signal.is_missing,
            several_steps_B=several_steps_B,
        )
        self._steps = max(settings.epochs, round(settings.updates_per_experience * new))
        self.device = fastest_device(devices.candidates(settings), self._network, self._state, space, self._replay)
        self._updater = make_off_policy_updater(self._network, self._state, space, self.device)

    @property
    def network(self) -> ActorCritic:
        """Return the network as it is now."""
        return self._network

    @property
    def normalisers(self) -> Normalisers:
        """Return the normalisers of the network."""
        return self._builder.normalisers

    @property
    def policy_trained(self) -> bool:
        """Return whether this cycle or an earlier one has trained the policy."""
        return self._parent.trained or not self._signal.is_missing

    def optimizer_state(self) -> dict[str, Any]:
        """Return {}: the optimizers belong to `critics_state`, which PPO does not read."""
        return {}

    def critics_state(self) -> dict[str, Any]:
        """Return the critics, their targets and the optimizers; the next epoch changes the tensors."""
        return self._updater.state().document()

    def run(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield (epoch, losses by name) after each equal part of the gradient steps.

        Ends early if `trainer.seconds` have passed, or if a loss is not finite.
        """
        job, began_s = self._job, time.monotonic()
        threads.set_thread_count(job.settings.threads or threads.count_by_size(BATCH_SIZE, self._updater.parameters))
        replay = self._replay.to(self.device)
        alone = _CRITICS_ALONE * self._steps if self._state.is_new and self._parent.trained else 0.0
        if self._signal.is_missing:
            alone = float(self._steps)
        ends = np.linspace(0, self._steps, self.epochs + 1).round().astype(int)
        limit_s = job.settings.seconds
        for epoch, (start, end) in enumerate(itertools.pairwise(ends), start=1):
            if limit_s is not None and epoch > 1 and time.monotonic() - began_s >= limit_s:
                return
            losses = self._updater.run(
                replay,
                int(end - start),
                seed=job.settings.seed,
                cycle=job.policy_version,
                epoch=epoch,
                is_policy_fixed=start < alone,
            )
            held_out = self._updater.held_out_loss(replay, seed=job.settings.seed, cycle=job.policy_version)
            errors = {"value_loss": held_out.mean, "value_loss_error": held_out.standard_error}
            yield epoch, errors | losses | {"learning_rate": LEARNING_RATE}
            if finite_or_none(losses["critic_loss"]) is None:
                return

    def _open_state(self, experiences: Experiences, notices: Notices) -> CriticsState:
        """Return the parent's critics, or new ones, with statistics that include the new critic observations."""
        state = self._parents_state(experiences.critic_width, notices)
        counted_B = np.ones_like(experiences.is_new_B) if state.is_new else experiences.is_new_B
        critic_observation_BP = experiences.critic_observation_BP[counted_B]
        return state.with_critic_observations(critic_observation_BP, self._job.contract.observation_size)

    def _parents_state(self, critic_width: int, notices: Notices) -> CriticsState:
        settings, document = self._job.settings, self._parent.critics_state
        sizes = critic_layer_sizes(self._job.contract, settings.critic_sizes, critic_width=critic_width)
        if "critics" in document:
            state = CriticsState.from_document(document, sizes, self._network)
            if state is not None:
                return state
            cause = cause_of_misfit(document, critic_width)
            notices.send("W_OPTIMIZER", f"the parent's critics do not fit {cause}: new critics are trained")
        return CriticsState.initial(sizes, seed=settings.seed, critic_width=critic_width)


def _experiences(loaded: Sequence[LoadedRollout], parent_width: int, notices: Notices) -> Experiences:
    """Return the rollouts in agent-major order. Time limits of version 1 do not count as ends.

    An agent's last step in version 1 gets its next state from the file that continues it. Without it, critics would be
    asked for the value of a state that they never learn from, and the maximum over actions would be too high there.
    """
    continuations = find_continuations(loaded)
    parts = [by_agent(item.rollout, is_new=item.entry.is_new) for item in with_next_states(loaded, continuations)]
    experiences = concatenate(parts, critic_width=choose_critic_width(parts, parent=parent_width))
    limit = find_time_limit(loaded, experiences, continuations)
    if limit is None:
        return experiences
    report_time_limit(limit, notices)
    return continue_episodes(experiences, limit.ended_B)


def _is_of_a_trained_policy(loaded: Sequence[LoadedRollout], job: Job) -> Bools:
    """Return which experiences have targets over several steps: new ones, and those after the first cycle's.

    The rewards of several steps are those of the policy that played them. The first cycle's policy was not trained, so
    its actions are noise, and whatever is fast looks dangerous.
    """
    flags = [item.entry.is_new or item.entry.age < job.policy_version - 1 for item in loaded]
    return np.repeat(flags, [item.rollout.size for item in loaded])


def _held_out_candidates(experiences: Experiences) -> Bools:
    """Return which steps may be held out: the new ones. Later cycles learn from them."""
    candidate_B = experiences.can_bootstrap_B & experiences.is_new_B
    return candidate_B if candidate_B.sum() >= 2 else experiences.can_bootstrap_B
