"""Which published models may have generated a rollout, the most probable first.

The ledger's order limits them: a model that was published after a cycle claimed a rollout cannot have generated it.
Clocks only decide the order in which models are tried, because they can be wrong: the file's time, the time stamp in
its name, and the time at which the daemon first saw it. The trainer decides by the recorded log_probs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from daemon.ledger.records import Publication, UsedRollout
from schemas.storage.layout import time_stamp_of

MAX_CANDIDATES = 24
"""Candidates of a rollout; about as many as there are models that retention keeps."""
FEW_CANDIDATES = 4
"""Candidates of a rollout that was used before, and of each rollout if there are very many."""
TIME_ZONES_S = 14 * 3600.0
"""A time stamp in a file's name is local time, which differs by at most this much from other local times."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The models that may have generated a rollout."""

    models: tuple[str, ...]  #: relative to Models, the most probable first
    outdated: tuple[int, ...]  #: positions in `models` of those that are older than the newest of the rollout's time
    is_older_than_models: bool  #: the rollout was recorded before the first of the publications


def behaviour_candidates(
    publications: Sequence[Publication],
    *,
    written_s: float,
    policy_version: int | None,
    first_seen_s: float | None = None,
    name: str = "",
    limit: int = MAX_CANDIDATES,
) -> Candidates:
    """Return the models that may have generated a rollout; `publications` are those before its cycle's, in order.

    First is the version that the engine wrote into the rollout, then the newest at each of the rollout's times, the
    newest of all, and the others, the newest first.
    """
    if not publications:
        return Candidates((), (), is_older_than_models=False)
    seen_s = written_s if first_seen_s is None else first_seen_s
    stamp_s = time_stamp_of(name)
    is_copied = stamp_s is not None and stamp_s < min(written_s, seen_s) - TIME_ZONES_S
    recorded_s = min(written_s, seen_s, stamp_s if is_copied and stamp_s is not None else seen_s)
    times = (written_s, seen_s) if stamp_s is None else (written_s, seen_s, stamp_s)
    probable = [_newest_at(publications, at_s) for at_s in times]
    named = [k for k, p in enumerate(publications) if policy_version is not None and p.policy_version == policy_version]
    last = len(publications) - 1
    positions = dict.fromkeys((*reversed(named), *probable[:2], last, *probable[2:], *range(last, -1, -1)))
    newest_position: dict[str, int] = {}
    for position in positions:
        model = publications[position].model
        newest_position[model] = max(position, newest_position.get(model, position))
    models = tuple(newest_position)[:limit]
    expected = _newest_at(publications, recorded_s)
    outdated = tuple(k for k, model in enumerate(models) if newest_position[model] < expected)
    return Candidates(models, outdated, is_older_than_models=recorded_s < min(p.at_s for p in publications))


def publications_before(publications: Sequence[Publication], cycle_id: int | None) -> Sequence[Publication]:
    """Return the publications that were made before a cycle's own; all of them for a pending rollout."""
    if cycle_id is None:
        return publications
    return publications[: next((k for k, p in enumerate(publications) if p.cycle_id >= cycle_id), len(publications))]


class CandidateFinder:
    """Finds the candidates of many rollouts. `clock_offset_s` is how far file times are ahead of the daemon's clock."""

    def __init__(self, publications: Iterable[Publication], *, clock_offset_s: float) -> None:
        self._publications = tuple(publications)
        self._clock_offset_s = clock_offset_s
        self._before: dict[int | None, Sequence[Publication]] = {}

    def candidates_of(self, used: UsedRollout, *, limit: int) -> Candidates:
        """Return the candidates of a rollout."""
        if used.cycle_id not in self._before:
            self._before[used.cycle_id] = publications_before(self._publications, used.cycle_id)
        row = used.row
        return behaviour_candidates(
            self._before[used.cycle_id],
            written_s=row.written_s - self._clock_offset_s,
            policy_version=row.policy_version,
            first_seen_s=used.accepted_s,
            name=row.name,
            limit=limit,
        )


def _newest_at(publications: Sequence[Publication], at_s: float) -> int:
    """Return the position of the last publication that was made before a time, or of the first one.

    The last one in the ledger's order counts: after the clock was set back, times are not in order.
    """
    return next((k for k in range(len(publications) - 1, -1, -1) if publications[k].at_s <= at_s), 0)
