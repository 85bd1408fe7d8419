"""Rollouts as flat columns in agent-major order. Values, advantages and weights are made elsewhere.

In a file the agents are interleaved. Here every agent's steps of one file stand together in time order, and
three facts say what follows a step: the next row (`has_next_row_B`), the end of the episode (`terminated_B`), or a final
observation that the engine wrote for it (`final_B`). A step of which none is known has no next state: it is used
as the bootstrap of the step before it and for nothing else (`can_bootstrap_B` is false).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.rollout.rollout import Bools, Float32, Rollout
from trainer.common.shapes import Float64, Int64, check_shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiences:
    """Experiences of one or more rollouts. Letters: see trainer.common.shapes."""

    observation_BO: Float32
    action_BA: Float32  #: as recorded, that is clamped; discrete: the index of the choice
    reward_B: Float32  #: the game's own units
    log_prob_B: Float32  #: nats, as recorded
    terminated_B: Bools  #: over by the game's rules: worth 0 from here on
    can_bootstrap_B: Bools  #: its next state is known, so it can be learned from
    has_next_row_B: Bools  #: the next row is its next state
    trace_continues_B: Bools  #: the next row is its next state and usable itself: an advantage may be carried over
    final_B: Int64  #: the row of `final_observation_FO` it led to; -1 = none
    segment_B: Int64  #: which part of an episode it belongs to
    is_new_B: Bools  #: from a rollout that no cycle used before
    final_observation_FO: Float32  #: where last steps led to, as far as the engine wrote it

    def __post_init__(self) -> None:
        check_shapes(self)

    @property
    def size(self) -> int:
        """How many experiences there are."""
        return len(self.reward_B)


def by_agent(rollout: Rollout, *, is_new: bool = True) -> Experiences:
    """Put a rollout into agent-major order and mark what follows each step."""
    order = np.argsort(rollout.agents, kind="stable")
    agents = rollout.agents[order]
    terminated_B, truncated_B = rollout.terminated[order], rollout.truncated[order] & ~rollout.terminated[order]
    same_agent_B = np.append(agents[1:] == agents[:-1], False)
    gap_next_B = np.append(rollout.after_gap[order][1:], False)
    ended_B = terminated_B | truncated_B
    has_next_row_B = same_agent_B & ~gap_next_B & ~ended_B  # after an end the next row is a fresh start
    final_B = _final_rows(agents, ~same_agent_B & ~terminated_B, rollout.final_agents)
    can_bootstrap_B = terminated_B | has_next_row_B | (final_B >= 0)
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
        final_observation_FO=rollout.final_observations.copy(),  # it may lie in a read-only file
    )


def _final_rows(agents: npt.NDArray[np.int32], last_B: Bools, final_agents: npt.NDArray[np.int32]) -> Int64:
    """Return for each agent's last step the row of its final observation, -1 where there is none."""
    row_of = {int(agent): row for row, agent in enumerate(final_agents)}
    final_B = np.full(len(agents), -1, dtype=np.int64)
    for row in np.flatnonzero(last_B) if row_of else ():
        final_B[row] = row_of.get(int(agents[row]), -1)
    return final_B


def concatenate(parts: Sequence[Experiences]) -> Experiences:
    """Put several rollouts behind each other."""
    finals = np.cumsum([0, *(len(part.final_observation_FO) for part in parts)])
    pieces = np.cumsum([0, *(int(part.segment_B[-1]) + 1 for part in parts)])
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
    columns = {name: column(name) for name in (*plain, "is_new_B", "final_observation_FO")}
    segment_B = np.concatenate([part.segment_B + int(n) for part, n in zip(parts, pieces[:-1], strict=True)])
    return Experiences(**columns, final_B=np.concatenate(shifted), segment_B=segment_B)  # type: ignore[arg-type]


def next_values(experiences: Experiences, value_B: Float64, final_value_F: Float64) -> Float64:
    """Return the value of each step's next state: 0 after an end, else that of the next row or final observation.

    Steps that are not usable get 0, which nobody may use.
    """
    next_B = np.where(experiences.has_next_row_B, np.append(value_B[1:], 0.0), 0.0)
    has_final_B = experiences.final_B >= 0
    next_B[has_final_B] = final_value_F[experiences.final_B[has_final_B]]
    return next_B
