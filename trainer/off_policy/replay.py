"""The replay data of a cycle: transitions from all rollouts, as indices into one matrix of observations and actions.

A transition is a step, the discounted rewards of its next n steps, and the observation after them. All policies count
alike: what an action led to does not depend on who chose it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from schemas.contract import ContinuousActions, PolicyContract
from schemas.rollout.rollout import Bools
from trainer.common.shapes import Float64, Int64, check_shapes
from trainer.networks.critic_inputs import NO_CRITIC_INPUTS, CriticInputs
from trainer.networks.normaliser import Normalisers, ReturnNormaliser
from trainer.rollouts.experiences import Experiences


@dataclass(frozen=True, slots=True, kw_only=True)
class Transitions:
    """The transitions of experiences, as rows of them. Letters: see trainer.common.shapes."""

    reward_B: Float64  #: sum of gamma^i r_i over the steps of the transition, reward units
    discount_B: Float64  #: gamma^steps; 0 if the episode ended within them
    next_row_B: Int64  #: row of the next observation; from B on, a row of the final observations
    is_usable_B: Bools  #: the step has a next state

    def __post_init__(self) -> None:
        check_shapes(self)

    def restricted_to(self, chosen_B: Bools) -> Transitions:
        """Return the transitions of which only the chosen steps are used."""
        return replace(self, is_usable_B=self.is_usable_B & chosen_B)


def transitions_of(experiences: Experiences, *, gamma: float, steps: int) -> Transitions:
    """Return the transition of each step over up to `steps` steps (Sutton and Barto 2018, eq. 7.1).

    A transition is shorter if the episode ends, is cut, or continues in another file.
    """
    e, n = experiences, experiences.size
    reward_B = e.reward_B.astype(np.float64)
    own_reward_B, last_B, discount_B = reward_B.copy(), np.arange(n), np.full(n, gamma)
    continues_B = e.trace_continues_B.copy()
    for _ in range(steps - 1):
        if not continues_B.any():
            break
        rows = np.flatnonzero(continues_B)
        last_B[rows] += 1
        reward_B[rows] += discount_B[rows] * own_reward_B[last_B[rows]]
        discount_B[rows] *= gamma
        continues_B[rows] = e.trace_continues_B[last_B[rows]]
    ended_B = e.terminated_B[last_B]
    next_row_B = np.where(e.final_B[last_B] >= 0, n + e.final_B[last_B], np.minimum(last_B + 1, n - 1))
    return Transitions(
        reward_B=reward_B,
        discount_B=np.where(ended_B, 0.0, discount_B),
        next_row_B=np.where(ended_B, last_B, next_row_B),
        is_usable_B=e.can_bootstrap_B,
    )


class ReplayBatch(NamedTuple):
    """Transitions of one gradient step. I: observations, what only critics see, continuous actions."""

    input_BI: Tensor
    next_input_BI: Tensor  #: the actions in it have no meaning
    choice_B: Tensor
    reward_B: Tensor
    discount_B: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a gradient step draws from. P: all observations, the final ones too. N: usable transitions."""

    packed_PI: Tensor  #: float32: normalised observations, what only critics see, continuous actions
    choice_P: Tensor  #: int64: the choice of each row, if the actions are choices; otherwise 0
    row_N: Tensor  #: int64
    next_row_N: Tensor  #: int64
    reward_N: Tensor  #: float32: so that target = reward + discount * next value, all in units of the return normaliser
    discount_N: Tensor  #: float32
    is_held_out_N: Tensor  #: of bool; stays on the CPU
    target_range: Tensor = field(default_factory=lambda: torch.tensor([-math.inf, math.inf]))
    """The range of targets: what is beyond it is an error of the critics, see `ReturnNormaliser.reach`."""

    def batch(self, row_B: Tensor) -> ReplayBatch:
        """Return copies of some transitions; `row_B` are places in the columns N."""
        first_B = self.row_N[row_B]
        return ReplayBatch(
            self.packed_PI.index_select(0, first_B),
            self.packed_PI.index_select(0, self.next_row_N[row_B]),
            self.choice_P[first_B],
            self.reward_N[row_B],
            self.discount_N[row_B],
        )

    def to(self, device: torch.device) -> Replay:
        """Return the columns on a device."""
        moved = {one.name: getattr(self, one.name).to(device) for one in fields(self)}
        return Replay(**{**moved, "is_held_out_N": self.is_held_out_N})

    @classmethod
    def of(
        cls,
        experiences: Experiences,
        kinds: Sequence[Transitions],
        held_out_B: Bools,
        normalisers: Normalisers,
        contract: PolicyContract,
        critic_inputs: CriticInputs = NO_CRITIC_INPUTS,
    ) -> Replay:
        """Pack transitions of one or more kinds; actions beyond their bounds count as at the bound."""
        observation_PO = torch.cat(
            [
                normalisers.observations(experiences.observation_BO),
                normalisers.observations(experiences.final_observation_FO),
            ]
        )
        critic_PV = torch.cat(
            [critic_inputs(experiences.critic_observation_BP), critic_inputs(experiences.final_critic_observation_FP)]
        )
        finals = len(experiences.final_observation_FO)
        choice_P = torch.zeros(len(observation_PO), dtype=torch.int64)
        packed_PI = torch.cat([observation_PO, critic_PV], dim=1)
        if isinstance(space := contract.action_space, ContinuousActions):
            action_BA = np.clip(
                experiences.action_BA, np.array(space.low, np.float32), np.array(space.high, np.float32)
            )
            action_PA = np.concatenate([action_BA, np.zeros((finals, len(space.names)), np.float32)])
            packed_PI = torch.cat([packed_PI, torch.from_numpy(action_PA)], dim=1)
        else:
            choice_P[: experiences.size] = torch.from_numpy(experiences.action_BA[:, 0].astype(np.int64))
        usable = [np.flatnonzero(transitions.is_usable_B) for transitions in kinds]
        rows, pairs = np.concatenate(usable), list(zip(kinds, usable, strict=True))
        discount_N = np.concatenate([kind.discount_B[rows] for kind, rows in pairs])
        return cls(
            packed_PI=packed_PI.contiguous(),
            choice_P=choice_P,
            row_N=torch.from_numpy(rows),
            next_row_N=torch.from_numpy(np.concatenate([kind.next_row_B[rows] for kind, rows in pairs])),
            reward_N=_rewards(kinds, normalisers.returns),
            discount_N=torch.from_numpy(discount_N.astype(np.float32)),
            is_held_out_N=torch.from_numpy(held_out_B[rows]),
        )

    def in_units_of(self, returns: ReturnNormaliser, kinds: Sequence[Transitions]) -> Replay:
        """Return the same replay data in the units of another return normaliser; `kinds` as in `of`."""
        return replace(self, reward_N=_rewards(kinds, returns))

    def with_targets_within(self, returns: ReturnNormaliser, entropy: float) -> Replay:
        """Return the replay data with a range of targets. `entropy` is what targets have besides rewards."""
        if not returns.reach:
            return self
        ends = [(end - returns.mean) / returns.std for end in (-returns.reach, returns.reach)]
        return replace(self, target_range=torch.tensor([ends[0] - entropy, ends[1] + entropy], dtype=torch.float32))


def _rewards(kinds: Sequence[Transitions], returns: ReturnNormaliser) -> Tensor:
    """Return `Replay.reward_N`: target = (r + d (std v + mean) - mean) / std, so that v and target have one unit."""
    reward_N = [(k.reward_B + (k.discount_B - 1.0) * returns.mean)[k.is_usable_B] / returns.std for k in kinds]
    return torch.from_numpy(np.concatenate(reward_N).astype(np.float32))
