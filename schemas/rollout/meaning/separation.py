"""Separate the agents of a rollout that share an agent_index, or reject the rollout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from schemas.errors import RolloutError
from schemas.rollout.rollout import Recovered, Rollout
from schemas.tracks.detection import indices_of_several
from schemas.tracks.recovery import Tracks, recovered

LEAST_CONFIDENCE = 0.8
"""A rollout is rejected if the expected share of the steps whose next row is known is smaller."""
REMEDY = "set AgentIndex in the exporter, a different number for each agent; see `hotlap docs unreal`"


def has_shared_index(rollout: Rollout) -> bool:
    """Return whether several agents share an agent_index."""
    return bool(_shared_indices(rollout))


def separate_agents(rollout: Rollout) -> Rollout:
    """Return the rollout with an agent number for each track, if several agents share an agent_index.

    Raises RolloutError (E_AGENTS) if the tracks cannot be recovered well enough.
    """
    shared = _shared_indices(rollout)
    if not shared:
        return rollout
    agents = rollout.agents.copy()
    others = agents[~np.isin(agents, shared)]
    unused = np.setdiff1d(np.arange(2 * rollout.size, dtype=np.int32), others)
    found: list[Tracks] = []
    for index in shared:
        rows = np.flatnonzero(rollout.agents == index)
        ended = (rollout.terminated | rollout.truncated)[rows]
        tracks = recovered(rollout.observations[rows], rollout.actions[rows], ended)
        agents[rows] = unused[tracks.track]
        unused = unused[int(tracks.track.max()) + 1 :]
        found.append(tracks)
    result = Recovered(agents=sum(tracks.agents for tracks in found), confidence=min(t.confidence for t in found))
    if result.confidence < LEAST_CONFIDENCE:
        raise RolloutError(
            f"several agents share {_in_words(shared)}, and which row belongs to which cannot be "
            f"recovered (confidence {result.confidence:.2f}, needed {LEAST_CONFIDENCE:g})",
            hint=REMEDY,
            code="E_AGENTS",
        )
    kept = ~np.isin(rollout.final_agents, shared)  # a final observation of a shared index is that of an unknown agent
    critic_finals = rollout.final_critic_observations
    return replace(
        rollout,
        agents=agents,
        after_gap=rollout.after_gap & ~np.isin(rollout.agents, shared),
        final_observations=rollout.final_observations[kept],
        final_agents=rollout.final_agents[kept],
        final_critic_observations=None if critic_finals is None else critic_finals[kept],
        recovered=result,
    )


def in_words(result: Recovered, name: str) -> str:
    """Return what was recovered in a file, for a message."""
    return (
        f"{name}: several agents share one agent_index, about {result.agents} at a time; which row belongs to which"
        f" was recovered from the observations (confidence {result.confidence:.2f})"
    )


def _shared_indices(rollout: Rollout) -> list[int]:
    ended = rollout.terminated | rollout.truncated
    return indices_of_several(rollout.observations, rollout.actions, ended, rollout.agents)


def _in_words(shared: list[int]) -> str:
    return f"agent_index {shared[0]}" if len(shared) == 1 else f"{len(shared)} agent indices"
