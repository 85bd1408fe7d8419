"""The content of a rebuilt ledger: the published cycles in Models, and what could be read of the damaged ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from daemon.ledger.cycle import RUNNING, Phase
from daemon.ledger.integrity.problems import decides_contract
from daemon.ledger.integrity.salvage import Rows
from daemon.ledger.integrity.stored_json import (
    ADOPTION_KEY,
    BY_SETTINGS_KEY,
    adoption_key,
    contract_of,
    is_possible_contract,
)
from daemon.ledger.integrity.strict_rows import MAX_NUMBER, TABLES, value_problem
from daemon.ledger.records import Publication, PublishedCycle

Row = Mapping[str, Any]
"""A row of a table: column -> value."""

_UNFINISHED = frozenset(phase.value for phase in (*RUNNING, Phase.PARKED))
_LOST = "what it did was lost with the ledger"
_LARGEST_GAP = 1000
"""A number of a cycle that is so much higher than all others is an error in a row."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The rows of a rebuilt ledger."""

    cycles: tuple[Row, ...]
    publications: tuple[Publication, ...]
    rollouts: tuple[Row, ...]  #: without ids, in the order in which they were accepted
    files: tuple[Row, ...]
    rejections: tuple[Row, ...]
    meta: Mapping[str, str]


def merge(found: Sequence[PublishedCycle], salvaged: Rows, *, highest: int, at_s: float) -> Merged:
    """Return the content of a rebuilt ledger. `highest` is the highest cycle number in use, -1 if none is.

    If a cycle's model is in Models, that model decides what the cycle published and which rollouts it claimed.
    """
    highest = max((number for number in (highest, *(one.cycle for one in found)) if number <= MAX_NUMBER), default=-1)
    found = [one for one in found if _is_usable(one)]
    rows = {table: [dict(zip(TABLES[table], values, strict=True)) for values in salvaged[table]] for table in salvaged}
    recorded = [Publication(*values[1:]) for values in salvaged.get("publication", ())]
    cycles, is_last_new = _cycles(found, rows, recorded)
    known = max([highest, *cycles, *(one.cycle for one in found)])
    used = _used_rollouts(found, rows.get("rollout", ()), highest=known)
    numbers = {row["cycle_id"] for row in used if row["cycle_id"] is not None} | ({highest} if highest >= 0 else set())
    lost = numbers - cycles.keys()
    if highest in lost and highest < known:
        lost.discard(highest)
    cycles |= {number: _lost_cycle(number, at_s) for number in lost}
    return Merged(
        cycles=tuple(cycles[number] for number in sorted(cycles)),
        publications=tuple(_publications(found, recorded, cycles)),
        rollouts=tuple(used),
        files=tuple(rows.get("file", ())),
        rejections=tuple(rows.get("rejection", ())),
        meta=_meta(found, rows.get("meta", ()), cycles, are_models_newer=is_last_new),
    )


def _cycles(
    found: Sequence[PublishedCycle], rows: Mapping[str, Sequence[Row]], recorded: Sequence[Publication]
) -> tuple[dict[int, Row], bool]:
    """Return the cycles by number, and whether the newest model in Models was not in the damaged ledger."""
    published = {(publication.cycle_id, publication.sha256) for publication in recorded}
    has_published = {publication.cycle_id for publication in recorded}
    stored = {row["key"] for row in rows.get("meta", ())}
    kept: dict[int, Row] = {row["id"]: row for row in rows.get("cycle", ())}
    newer = [
        one
        for one in found
        if (one.cycle, one.sha256) not in published
        or one.cycle not in kept
        or kept[one.cycle]["phase"] != Phase.PUBLISHED
        or _has_other_contract(kept[one.cycle], one)
    ]
    for one in newer:
        kept.pop(one.cycle, None)
    unfinished = max((number for number, row in kept.items() if row["phase"] in _UNFINISHED), default=None)
    settled: dict[int, Row] = {
        number: _settled(
            row,
            is_known=number in has_published if row["phase"] == Phase.PUBLISHED else number == unfinished,
            is_adoption_known=adoption_key(number) in stored,
        )
        for number, row in kept.items()
    }
    settled |= {one.cycle: _published_cycle(one) for one in newer}
    return settled, bool(newer) and newer[-1] is found[-1]


def _has_other_contract(row: Row, one: PublishedCycle) -> bool:
    """Return whether the contract in a cycle's result is not that of its model, because of an error in the row."""
    if row["result"] is None or one.result is None:
        return False
    return contract_of(row["result"]) != one.result.contract


def _settled(row: Row, *, is_known: bool, is_adoption_known: bool) -> Row:
    """Return a cycle of the damaged ledger as the next start can continue it. The steps before are not known."""
    phase = row["phase"]
    is_complete = is_known and (phase == Phase.PUBLISHED or row["cause"] != "adopt" or is_adoption_known)
    if phase == Phase.FAILED or (is_complete and phase in {Phase.PUBLISHED, Phase.PARKED}):
        return row
    cleared = dict.fromkeys(("result", "best_epoch", "score", "value_loss"))
    if is_complete:
        return {**row, **cleared, "phase": Phase.CLAIMED.value, "due_s": 0.0, "ended_s": None}
    return {**row, "phase": Phase.FAILED.value, "why": _LOST, "ended_s": row["created_s"]}


def _is_usable(one: PublishedCycle) -> bool:
    """Return whether a ledger accepts the values of a cycle in Models, which may be from another program."""
    publication = (1, one.cycle, one.policy_version, one.epoch, one.model, one.sha256, one.at_s)
    problems = value_problem("cycle", tuple(_published_cycle(one).values())), value_problem("publication", publication)
    return problems == (None, None) and all(map(TABLES["rollout"]["sha256"].accepts, one.rollouts))


def _row(**values: object) -> Row:
    return {**dict.fromkeys(TABLES["cycle"]), "attempt": 0, "due_s": 0.0, **values}


def _published_cycle(one: PublishedCycle) -> Row:
    """Return the row of a cycle that is known from Models."""
    result = one.result
    return _row(
        id=one.cycle,
        kind="train" if one.policy_version else "initial",
        cause="rebuilt",
        phase=Phase.PUBLISHED.value,
        why="rebuilt",
        created_s=one.at_s,
        ended_s=one.at_s,
        parent=one.parent,
        result=None if result is None else result.to_bytes().decode(),
        best_epoch=one.epoch,
        score=None if result is None else result.score,
    )


def _lost_cycle(number: int, at_s: float) -> Row:
    """Return the row of a failed cycle with this number, so that the number is not used again."""
    return _row(
        id=number,
        kind="train",
        cause="rebuilt",
        phase=Phase.FAILED.value,
        why=_LOST,
        created_s=at_s,
        ended_s=at_s,
    )


def _used_rollouts(found: Sequence[PublishedCycle], rows: Iterable[Row], *, highest: int) -> list[Row]:
    """Return each rollout once, with the cycle that claimed it, in the order of the cycles."""
    by_content: dict[str, Row] = {}
    for row in rows:
        is_wrong = row["cycle_id"] is not None and row["cycle_id"] > highest + _LARGEST_GAP
        by_content.setdefault(row["sha256"], {**row, "cycle_id": highest + 1} if is_wrong else row)
    for one in found:
        for sha256 in one.rollouts:
            unknown = dict.fromkeys(TABLES["rollout"], 0) | {"sha256": sha256, "name": sha256[:12]}
            unknown |= {"repeated": "", "suspect": ""}
            times = {"reward_mean": 0.0, "policy_version": None, "written_s": one.at_s, "accepted_s": one.at_s}
            row = by_content.get(sha256, {**unknown, **times})
            by_content[sha256] = {**row, "cycle_id": one.cycle}
    pending = 1 << 62
    ordered = sorted(by_content.values(), key=lambda row: pending if row["cycle_id"] is None else row["cycle_id"])
    return [{column: row[column] for column in TABLES["rollout"] if column != "id"} for row in ordered]


def _publications(
    found: Sequence[PublishedCycle], recorded: Sequence[Publication], cycles: Mapping[int, Row]
) -> list[Publication]:
    """Return the publications of published cycles. Each cycle was first published after all earlier ones."""
    is_published = {number for number, row in cycles.items() if row["phase"] == Phase.PUBLISHED}
    sound = [
        replace(one, policy_version=0 if cycles[one.cycle_id]["kind"] == "initial" else one.cycle_id)
        for one in recorded
        if one.cycle_id in is_published
    ]
    known = {(one.cycle_id, one.sha256) for one in sound}
    only_found = [one for one in found if (one.cycle, one.sha256) not in known]
    replaced = {one.cycle for one in only_found}
    merged: list[Publication] = []
    for publication in (one for one in sound if one.cycle_id not in replaced):
        _insert(merged, publication)
    for one in only_found:
        _insert(merged, Publication(one.cycle, one.policy_version, one.epoch, one.model, one.sha256, one.at_s))
    return merged


def _insert(merged: list[Publication], one: Publication) -> None:
    """Add a publication: the first one of its cycle before those of later cycles, any other at the end."""
    is_first = all(other.cycle_id != one.cycle_id for other in merged)
    later = (place for place, other in enumerate(merged) if is_first and other.cycle_id > one.cycle_id)
    merged.insert(next(later, len(merged)), one)


def _meta(
    found: Sequence[PublishedCycle], rows: Iterable[Row], cycles: Mapping[int, Row], *, are_models_newer: bool
) -> dict[str, str]:
    """Return the values of the table `meta`. The newer source decides on the contracts."""
    from_models: dict[str, str] = {}
    for one in found:
        if one.result is not None:
            is_adopted = one.adoption is not None
            contract = one.result.contract.to_bytes().decode()
            from_models |= {"contract": contract} if one.policy_version or is_adopted else {}
            from_models |= {"initial_contract": contract} if not one.policy_version or is_adopted else {}
        if one.adoption is not None:
            from_models[adoption_key(one.cycle)] = one.adoption.to_bytes().decode()
    salvaged = {
        row["key"]: row["value"]
        for row in rows
        if not row["key"].startswith(ADOPTION_KEY) or int(row["key"].removeprefix(ADOPTION_KEY)) in cycles
    }
    values = {**salvaged, **from_models} if are_models_newer else {**from_models, **salvaged}
    columns = ("kind", "cause", "phase", "result")
    deciding = (number for number, row in cycles.items() if decides_contract(**{name: row[name] for name in columns}))
    newest = max(deciding, default=None)
    if newest is not None and "contract" in values:
        of_newest, by_settings = contract_of(str(cycles[newest]["result"])), values.get(BY_SETTINGS_KEY, "")
        if not is_possible_contract(values["contract"], of_newest, by_settings=by_settings):
            values["contract"] = of_newest.to_bytes().decode()
    return values
