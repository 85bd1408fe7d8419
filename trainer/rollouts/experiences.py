"""Rollouts as flat columns in agent-major order.

In a file the agents are interleaved. Here the steps of each agent in one file are consecutive, in time order. Three
columns state what follows a step: the next row (`has_next_row_B`), the end of the episode (`terminated_B`), or a final
observation that the engine wrote (`final_B`). A step with none of these has no next state: it is used only as the
bootstrap of the step before it (`can_bootstrap_B` is false).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from schemas.rollout.rollout import Bools, Float32, Numbers, Rollout
from trainer.common.shapes import Float64, Int64, check_shapes
from trainer.envs.vec_env import Observations

_OF_FINALS = ("final_observation_FO", "final_critic_observation_FP")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiences:
    """Experiences of one or more rollouts. Letters: see trainer.common.shapes."""

    observation_BO: Observations  #: float32, float64 if float32 would round too much, uint8 for images
    action_BA: Float32  #: as recorded, after clamping; discrete: the index of the choice
    reward_B: Float32  #: the game's own units
    log_prob_B: Float32  #: nats, as recorded; NaN if the engine recorded none
    terminated_B: Bools  #: the episode ended by the game's rules: the next value is 0
    can_bootstrap_B: Bools  #: the next state is known, so the step can be learned from
    has_next_row_B: Bools  #: the next row is the next state
    trace_continues_B: Bools  #: the next row is the next state and can bootstrap: its advantage is carried over
    final_B: Int64  #: the row of `final_observation_FO` that follows the step; -1 = none
    segment_B: Int64  #: the number of the episode segment
    is_new_B: Bools  #: from a rollout that no earlier cycle used
    final_observation_FO: Observations  #: observations after an agent's last step, if the engine wrote them
    critic_observation_BP: Numbers  #: what only critics see; NaN in a row if the engine did not write it
    final_critic_observation_FP: Float32  #: likewise, after an agent's last step

    def __post_init__(self) -> None:
        check_shapes(self)

    @property
    def size(self) -> int:
        """Return the number of experiences."""
        return len(self.reward_B)

    @property
    def critic_width(self) -> int:
        """Return P, the number of critic observations."""
        return int(self.critic_observation_BP.shape[1])

    def at(self, rows_B: Bools) -> Experiences:
        """Return only these experiences. The columns that refer to the next row are then not valid any more."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        kept = {name: column if name in _OF_FINALS else column[rows_B] for name, column in columns.items()}
        return Experiences(**kept)

    def with_critic_width(self, width: int) -> Experiences:
        """Return the experiences with so many critic observations. If they had another number, none is known."""
        if width == self.critic_width:
            return self
        return replace(
            self,
            critic_observation_BP=_unknown(self.size, width),
            final_critic_observation_FP=_unknown(len(self.final_observation_FO), width),
        )

    def without_critic_observations(self) -> Experiences:
        """Return the experiences as if the engine had not written critic observations; their number stays."""
        return self.with_critic_width(0).with_critic_width(self.critic_width)


def by_agent(rollout: Rollout, *, is_new: bool = True) -> Experiences:
    """Return a rollout in agent-major order, with the columns that state what follows each step."""
    order = np.argsort(rollout.agents, kind="stable")
    agents = rollout.agents[order]
    terminated_B, truncated_B = rollout.terminated[order], rollout.truncated[order] & ~rollout.terminated[order]
    same_agent_B = np.append(agents[1:] == agents[:-1], False)
    gap_next_B = np.append(rollout.after_gap[order][1:], False)
    ended_B = terminated_B | truncated_B
    has_next_row_B = same_agent_B & ~gap_next_B & ~ended_B  # after an end the next row starts an episode
    final_B = _final_rows(agents, ~same_agent_B & ~terminated_B, rollout.final_agents)
    can_bootstrap_B = terminated_B | has_next_row_B | (final_B >= 0)
    critic, final, finals = rollout.critic_observations, rollout.final_critic_observations, len(rollout.final_agents)
    return Experiences(
        observation_BO=rollout.observations[order],
        action_BA=rollout.actions[order],
        reward_B=rollout.rewards[order],
        log_prob_B=rollout.log_probs[order],
        terminated_B=terminated_B,
        can_bootstrap_B=can_bootstrap_B,
        has_next_row_B=has_next_row_B,
        trace_continues_B=has_next_row_B & np.append(can_bootstrap_B[1:], False),
        final_B=final_B,
        segment_B=np.append(0, np.cumsum(~has_next_row_B)[:-1]).astype(np.int64),
        is_new_B=np.full(rollout.size, is_new),
        final_observation_FO=rollout.final_observations.copy(),  # it may be a view of a read-only file
        critic_observation_BP=_unknown(rollout.size, 0) if critic is None else critic[order],
        final_critic_observation_FP=_unknown(finals, rollout.critic_width) if final is None else final.copy(),
    )


def _unknown(rows: int, width: int) -> Float32:
    return np.full((rows, width), np.nan, dtype=np.float32)


def _final_rows(agents: npt.NDArray[np.int32], last_B: Bools, final_agents: npt.NDArray[np.int32]) -> Int64:
    """Return the row of the final observation for each agent's last step, and -1 for all other steps."""
    row_of = {int(agent): row for row, agent in enumerate(final_agents)}
    final_B = np.full(len(agents), -1, dtype=np.int64)
    for row in np.flatnonzero(last_B) if row_of else ():
        final_B[row] = row_of.get(int(agents[row]), -1)
    return final_B


def choose_critic_width(parts: Sequence[Experiences], *, parent: int = 0) -> int:
    """Return how many critic observations the critics of a cycle use, given those of the parent's critics.

    Critics keep their number as long as one new rollout has it, or none has any. Otherwise they use the number that
    most new experiences have. So one rollout without them, or of an older build of the game, does not end critics.
    """
    new = [part for part in parts if part.is_new_B.any()] or parts
    sizes = Counter[int]()
    for part in new:
        sizes[part.critic_width] += part.size if part.critic_width else 0
    if not sizes.total() or (parent and parent in sizes):
        return parent
    return max(sizes, key=lambda width: (sizes[width], width))


def concatenate(parts: Sequence[Experiences], *, critic_width: int | None = None) -> Experiences:
    """Return the experiences of several rollouts as one, with `choose_critic_width` of them if no width is given."""
    width = choose_critic_width(parts) if critic_width is None else critic_width
    parts = [part.with_critic_width(width) for part in parts]
    finals = np.cumsum([0, *(len(part.final_observation_FO) for part in parts)])
    segments = np.cumsum([0, *(int(part.segment_B[-1]) + 1 for part in parts)])
    shifted = [np.where(p.final_B >= 0, p.final_B + int(n), -1) for p, n in zip(parts, finals[:-1], strict=True)]

    def column(name: str) -> npt.NDArray[np.generic]:
        return np.concatenate([getattr(part, name) for part in parts])

    plain = (
        "observation_BO",
        "action_BA",
        "reward_B",
        "log_prob_B",
        "terminated_B",
        "can_bootstrap_B",
        "has_next_row_B",
        "trace_continues_B",
    )
    columns = {name: column(name) for name in (*plain, "critic_observation_BP", "is_new_B", *_OF_FINALS)}
    segment_B = np.concatenate([part.segment_B + int(n) for part, n in zip(parts, segments[:-1], strict=True)])
    return Experiences(**columns, final_B=np.concatenate(shifted), segment_B=segment_B)  # type: ignore[arg-type]


def next_values(experiences: Experiences, value_B: Float64, final_value_F: Float64) -> Float64:
    """Return the value of each step's next state: 0 after an end, otherwise that of the next row or final observation.

    Steps that cannot bootstrap get 0; it must not be used.
    """
    next_B = np.where(experiences.has_next_row_B, np.append(value_B[1:], 0.0), 0.0)
    has_final_B = experiences.final_B >= 0
    next_B[has_final_B] = final_value_F[experiences.final_B[has_final_B]]
    return next_B
