"""From experiences to replay data. Normalisers, policy and critics are kept in step with the data."""

from __future__ import annotations

import math

import torch

from schemas.contract import ContinuousActions, PolicyContract
from schemas.rollout.rollout import Bools
from trainer.common.rng import rng_for
from trainer.networks.network import Network
from trainer.networks.normaliser import Normalisers, ReturnNormaliser, horizon, popart, rescale_inputs
from trainer.off_policy.critics import CriticPass
from trainer.off_policy.replay import Replay, Transitions, transitions_of
from trainer.off_policy.state import CriticsState
from trainer.rollouts.experiences import Experiences
from trainer.rollouts.training_set import first_return_normaliser, return_deviation

_ROWS_FOR_RETURNS = 4096
"""Transitions whose values determine the return normaliser."""


class ReplayBuilder:
    """The normalisers of a policy and its critics, and replay data in their units."""

    def __init__(
        self,
        network: Network,
        state: CriticsState,
        normalisers: Normalisers,
        contract: PolicyContract,
        *,
        gamma: float,
        steps: int,
        seed: int,
    ) -> None:
        """Build from these networks; targets are over one step, and over `steps` steps."""
        self.normalisers = normalisers
        self._network, self._state, self._contract = network, state, contract
        self._gamma, self._steps, self._seed = gamma, steps, seed

    def build(
        self,
        experiences: Experiences,
        held_out_B: Bools,
        *,
        is_policy_trained: bool,
        number: int,
        keeps_policy: bool = False,
        several_steps_B: Bools | None = None,
    ) -> Replay:
        """Include the new experiences in the normalisers, rescale the networks, and return the replay data.

        An untrained policy is not rescaled, and new critics are not. If critics are new, the returns of the experiences
        decide their units: the parent may be of another script, or of other rewards. `number` is that of the cycle, and
        determines which values are sampled. To keep every bit of the policy, its normaliser is kept as well. Only the
        experiences `several_steps_B`, by default all, have targets over several steps.
        """
        before = self.normalisers
        after = before.observations
        if not keeps_policy:
            after = after.updated(experiences.observation_BO[experiences.is_new_B])
        returns = before.returns.reaching(experiences.reward_B, self._gamma)
        if self._state.is_new:
            returns = first_return_normaliser(experiences, self._gamma)
        if is_policy_trained:
            rescale_inputs(self._network.stacks(), before.observations, after)
            popart(self._network.stacks().value[-1], before.returns, returns)
        if not self._state.is_new:
            self._state.rescale_inputs(before.observations, after)
        self.normalisers = Normalisers(after, returns)
        kinds = self._kinds_of(experiences, several_steps_B)
        replay = Replay.of(experiences, kinds, held_out_B, self.normalisers, self._contract, self._state.inputs)
        if not self._state.is_new:
            self._update_returns(replay, number, return_deviation(experiences, self._gamma))
            replay = replay.in_units_of(self.normalisers.returns, kinds)
        return replay.with_targets_within(self.normalisers.returns, self._entropy())

    def _entropy(self) -> float:
        """Return the most that entropy adds to the values of choices, in normalised units, with room for errors."""
        space = self._contract.action_space
        if isinstance(space, ContinuousActions):
            return 0.0
        return 2.0 * self._state.temperature * math.log(space.n) * horizon(self._gamma)

    def _kinds_of(self, experiences: Experiences, several_steps_B: Bools | None) -> list[Transitions]:
        """Return the transitions over one step, and over several steps."""
        kinds = [transitions_of(experiences, gamma=self._gamma, steps=steps) for steps in sorted({1, self._steps})]
        if several_steps_B is None:
            return kinds
        return [kinds[0], *(kind.restricted_to(several_steps_B) for kind in kinds[1:])]

    @torch.no_grad()
    def _update_returns(self, replay: Replay, number: int, reward_std: float) -> None:
        """Let the return normaliser have the mean and deviation of the target critics' values; rescale the heads."""
        before = self.normalisers.returns
        rows = torch.randint(len(replay.row_N), (_ROWS_FOR_RETURNS,), generator=rng_for(self._seed, "returns", number))
        value_EBK = CriticPass(self._state.targets).forward(replay.batch(rows).input_BI)
        value_B = before.restored(value_EBK.double().mean(dim=(0, 2)).numpy())
        value_B = before.limited(value_B, self._entropy() * before.std)
        after = ReturnNormaliser(reach=before.reach).updated(value_B).not_far_from(before, reward_std)
        self._state.rescale_values(before, after)
        popart(self._network.stacks().value[-1], before, after)
        self.normalisers = Normalisers(self.normalisers.observations, after)
