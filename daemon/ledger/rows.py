"""Conversion between the ledger's rows and plain values, and the statements that several transactions use."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from daemon.errors import StaleCycle
from daemon.ledger.cycle import RUNNING, Cycle, Phase
from daemon.ledger.integrity.merge import Merged
from daemon.ledger.records import FileSignature, Publication, RolloutRow, UsedRollout
from daemon.ledger.sqlite_errors import LedgerDamaged
from schemas.base import StrictModel
from schemas.job import Adoption, Suspect
from schemas.status import CycleSummary

_PHASES = frozenset(phase.value for phase in Phase)
UNFINISHED_SQL = ", ".join(f"'{phase.value}'" for phase in sorted({*RUNNING, Phase.PARKED}))
"""The phases of cycles that are running or parked, as a list in SQL."""
_ROLLOUT_COLUMNS = (
    "sha256",
    "name",
    "experiences",
    "left_out",
    "reward_mean",
    "policy_version",
    "written_s",
    "repeated",
)
COUNTS_SQL = "(experiences > 0 OR repeated = '')"
"""Whether a rollout counts: not if all its experiences were in earlier ones. A rebuilt ledger has 0 and ''."""
USABLE_SQL = f"({COUNTS_SQL} AND suspect = '')"
"""Whether a cycle may train on a rollout: not if an earlier attempt failed because of it."""
SUSPECT = "E_SUSPECT"
"""The code of rejected rollouts because of which a cycle failed."""


SUMMARY_COLUMNS = ("id", "kind", "phase", "why", "best_epoch", "score", "reward_mean", "value_loss", "seconds")
"""What `to_summaries` needs of the table `cycle`."""
_SUMMARIES = TypeAdapter(list[CycleSummary])

Parsed = TypeVar("Parsed", bound=StrictModel)


def parse_stored(kind: type[Parsed], text: str, what: str) -> Parsed:
    """Return the record of a JSON text in the ledger. Raises LedgerDamaged; `what` describes the text."""
    try:
        return kind.from_bytes(text.encode())
    except ValueError:
        raise LedgerDamaged(f"{what} cannot be read in the ledger") from None


def to_summaries(
    rows: Iterable[sqlite3.Row], rollouts: Mapping[int, tuple[str, ...]], adoptions: Mapping[int, Adoption]
) -> list[CycleSummary]:
    """Return cycles that have ended or are parked, from `SUMMARY_COLUMNS`. Raises LedgerDamaged."""
    found = []
    for cycle_id, kind, phase, why, best_epoch, score, reward_mean, value_loss, seconds in rows:
        is_published = phase == "published"
        found.append(
            {
                "cycle": cycle_id,
                "state": phase,
                "policy_version": (0 if kind == "initial" else cycle_id) if is_published else None,
                "rollouts": rollouts.get(cycle_id, ()),
                "best_epoch": best_epoch,
                "score": score,
                "reward_mean": reward_mean,
                "value_loss": value_loss,
                "seconds": seconds,
                "error": None if is_published else why,
                "adopted": adoptions[cycle_id].origin if cycle_id in adoptions else None,
            }
        )
    try:
        return _SUMMARIES.validate_python(found)
    except ValidationError as error:
        number, column = (*error.errors()[0]["loc"], "a value")[:2]
        raise LedgerDamaged(f"{column} of cycle {found[int(number)]['cycle']} cannot be read in the ledger") from None


def to_cycle(row: sqlite3.Row) -> Cycle:
    """Return a row of the table `cycle` as a Cycle. Raises LedgerDamaged if its phase does not exist."""
    if row["phase"] not in _PHASES:
        raise LedgerDamaged(f"cycle {row['id']} is {row['phase']!r:.60} in the ledger, which is not a phase")
    return Cycle(row["id"], row["kind"], Phase(row["phase"]), row["attempt"], row["due_s"], row["why"], row["cause"])


def to_publication(row: sqlite3.Row) -> Publication:
    """Return a row of the table `publication` as a Publication."""
    return Publication(row["cycle_id"], row["policy_version"], row["epoch"], row["model"], row["sha256"], row["at_s"])


def record_mean_reward(db: sqlite3.Connection, cycle_id: int) -> None:
    """Store the reward per step of the rollouts that a cycle trains on."""
    db.execute(
        "UPDATE cycle SET reward_mean = (SELECT sum(reward_mean * experiences) / sum(experiences)"
        " FROM rollout WHERE cycle_id = cycle.id AND suspect = '') WHERE id = ?",
        (cycle_id,),
    )


def mark_suspect(db: sqlite3.Connection, suspect: Suspect, at_s: float) -> None:
    """Record that a cycle failed because of a rollout, and that its file is rejected. Does nothing the second time."""
    marked = db.execute(
        "UPDATE rollout SET suspect = ? WHERE sha256 = ? AND cycle_id IS NOT NULL AND suspect = ''",
        (suspect.reason, suspect.sha256),
    ).rowcount
    if marked:
        db.execute(
            "INSERT INTO rejection (name, sha256, code, reason, at_s)"
            " SELECT name, sha256, ?, suspect, ? FROM rollout WHERE sha256 = ?",
            (SUSPECT, at_s, suspect.sha256),
        )


def clear_suspect(db: sqlite3.Connection, sha256: str) -> None:
    """Let a suspect rollout be used again if its file is new in Exports: a user has moved it back."""
    db.execute(
        "UPDATE rollout SET suspect = '' WHERE sha256 = ? AND suspect <> ''"
        " AND NOT EXISTS (SELECT 1 FROM file WHERE file.sha256 = rollout.sha256)",
        (sha256,),
    )


def write_meta(db: sqlite3.Connection, key: str, value: str | None) -> None:
    """Store a value; None removes it."""
    if value is None:
        db.execute("DELETE FROM meta WHERE key = ?", (key,))
    else:
        db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )


def upsert_file(db: sqlite3.Connection, name: str, signature: FileSignature, sha256: str) -> None:
    """Record which content a file in Exports has."""
    db.execute(
        "INSERT INTO file (name, size, mtime_ns, inode, sha256) VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
        " SET size = excluded.size, mtime_ns = excluded.mtime_ns, inode = excluded.inode, sha256 = excluded.sha256",
        (name, signature.size, signature.mtime_ns, signature.inode, sha256),
    )


def move_cycle(db: sqlite3.Connection, before: Cycle, after: Cycle, at_s: float) -> None:
    """Move a cycle to its next phase and record the step. Raises StaleCycle if `before` is out of date."""
    ended_s = None if after.phase in RUNNING else at_s
    moved = db.execute(
        "UPDATE cycle SET phase = ?, attempt = ?, due_s = ?, why = ?, ended_s = ?"
        " WHERE id = ? AND phase = ? AND attempt = ?",
        (after.phase, after.attempt, after.due_s, after.why, ended_s, before.id, before.phase, before.attempt),
    ).rowcount
    if moved != 1:
        raise StaleCycle(
            f"cycle {before.id} is not {before.phase} any more", hint="does a second daemon use this ledger?"
        )
    db.execute(
        "INSERT INTO step (cycle_id, src, dst, at_s, why) VALUES (?, ?, ?, ?, ?)",
        (before.id, before.phase, after.phase, at_s, after.why),
    )


def insert_publication(db: sqlite3.Connection, publication: Publication) -> None:
    """Record that a model was published."""
    db.execute(
        "INSERT INTO publication (cycle_id, policy_version, epoch, model, sha256, at_s) VALUES (?, ?, ?, ?, ?, ?)",
        (
            publication.cycle_id,
            publication.policy_version,
            publication.epoch,
            publication.model,
            publication.sha256,
            publication.at_s,
        ),
    )


def to_used_rollout(row: sqlite3.Row) -> UsedRollout:
    """Return a row of the table `rollout` as a UsedRollout."""
    values = (row[name] for name in _ROLLOUT_COLUMNS)
    return UsedRollout(RolloutRow(*values), row["cycle_id"], row["accepted_s"])


def insert_rollout(db: sqlite3.Connection, row: RolloutRow, *, at_s: float, cycle_id: int | None = None) -> bool:
    """Add a rollout unless its content is known; return whether it is new.

    A rebuilt ledger contains only the hash of a used rollout: the other columns are then filled in. A pending rollout
    that was read again, under other rules, gets its new numbers.
    """
    known = tuple(getattr(row, name) for name in _ROLLOUT_COLUMNS)
    added = db.execute(
        f"INSERT INTO rollout ({', '.join(_ROLLOUT_COLUMNS)}, accepted_s, cycle_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sha256) DO NOTHING",
        (*known, at_s, cycle_id),
    ).rowcount
    if added != 1:
        db.execute(
            "UPDATE rollout SET name = ?, experiences = ?, left_out = ?, reward_mean = ?, policy_version = ?,"
            " written_s = ?, repeated = ? WHERE sha256 = ? AND experiences = 0",
            (*known[1:], row.sha256),
        )
        db.execute(
            "UPDATE rollout SET experiences = ?, left_out = ?, reward_mean = ?, repeated = ?"
            " WHERE sha256 = ? AND cycle_id IS NULL",
            (row.experiences, row.left_out, row.reward_mean, row.repeated, row.sha256),
        )
    return added == 1


def insert_row(db: sqlite3.Connection, table: str, row: Mapping[str, object]) -> None:
    """Add a row of a table, column -> value."""
    marks = ", ".join("?" * len(row))
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


def insert_merged(db: sqlite3.Connection, merged: Merged) -> None:
    """Fill an empty ledger with the content of a rebuilt one."""
    for row in merged.cycles:
        insert_row(db, "cycle", row)
        if row["phase"] == Phase.PARKED:  # the steps of a cycle begin when it is claimed
            why, at_s = row["why"], row["created_s"]
            step = {"cycle_id": row["id"], "src": Phase.CLAIMED, "dst": Phase.PARKED, "at_s": at_s, "why": why}
            insert_row(db, "step", step)
    for publication in merged.publications:
        insert_publication(db, publication)
    for table, rows in (("rollout", merged.rollouts), ("file", merged.files), ("rejection", merged.rejections)):
        for row in rows:
            insert_row(db, table, row)
    for key, value in merged.meta.items():
        write_meta(db, key, value)
