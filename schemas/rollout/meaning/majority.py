"""Which contract most rollouts have: it becomes the project's if neither the settings nor a model decide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.contract import ContinuousActions, PolicyContract


@dataclass(frozen=True, slots=True)
class Vote:
    """The contract of one rollout."""

    contract: PolicyContract
    states_bounds: bool  #: false in version 1, whose bounds are only assumed
    experiences: int


@dataclass(frozen=True, slots=True)
class Majority:
    """The contract of most rollouts."""

    contract: PolicyContract
    is_tied: bool  #: another shape has as many rollouts


def majority_of(votes: Sequence[Vote], preferred: PolicyContract | None = None) -> Majority | None:
    """Return the contract of most rollouts, or None without rollouts.

    Rollouts agree if they have the same observation size and the same names, in any order. If several contracts have
    equally many rollouts, the preferred one is first, then the one with most experiences, then the newest.
    """
    groups: dict[object, list[Vote]] = {}
    for vote in votes:
        groups.setdefault(_shape(vote.contract), []).append(vote)
    if not groups:
        return None
    newest = {shape: index for index, vote in enumerate(votes) if (shape := _shape(vote.contract)) is not None}
    wanted = None if preferred is None else _shape(preferred)

    def rank(shape: object) -> tuple[int, bool, int, int]:
        group = groups[shape]
        return len(group), shape == wanted, sum(vote.experiences for vote in group), newest[shape]

    first = max(groups, key=rank)
    is_tied = sum(len(group) == len(groups[first]) for group in groups.values()) > 1
    return Majority(_contract_of(groups[first]), is_tied)


def _shape(contract: PolicyContract) -> object:
    space = contract.action_space
    return contract.observation_size, frozenset(space.names) if isinstance(space, ContinuousActions) else space.n


def _contract_of(group: Sequence[Vote]) -> PolicyContract:
    """Return the contract of rollouts of one shape: the most frequent order, and the bounds that most files state."""
    spaces = [vote.contract.action_space for vote in group if isinstance(vote.contract.action_space, ContinuousActions)]
    if not spaces:
        return group[0].contract
    names = Counter(space.names for space in spaces).most_common(1)[0][0]
    stated = Counter(_bounds(vote.contract) for vote in group if vote.states_bounds)
    bounds = dict(stated.most_common(1)[0][0] if stated else _bounds(group[0].contract))
    low, high = zip(*(bounds[name] for name in names), strict=True)
    space = ContinuousActions(names=names, low=low, high=high)
    return PolicyContract(observation_size=group[0].contract.observation_size, action_space=space)


def _bounds(contract: PolicyContract) -> tuple[tuple[str, tuple[float, float]], ...]:
    space = contract.action_space
    assert isinstance(space, ContinuousActions)
    pairs = zip(space.names, zip(space.low, space.high, strict=True), strict=True)
    return tuple(sorted(pairs))
