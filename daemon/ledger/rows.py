"""The ledger's rows as values, and the statements that several of its transactions share."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from daemon.errors import StaleCycle
from daemon.ledger.cycle import RUNNING, Cycle, Phase
from daemon.ledger.records import FileSignature, Publication, PublishedCycle, RolloutRow, UsedRollout

LOCK_TIMEOUT_S = 10.0
"""How long another program may hold the ledger before a change to it fails."""


def connected(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Connect as the one writer does: a rollback journal, every commit synced. Raises sqlite3.Error."""
    target = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    db = sqlite3.connect(target, uri=True, timeout=LOCK_TIMEOUT_S, isolation_level=None)
    try:
        db.row_factory = sqlite3.Row
        if not read_only:
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error:
        db.close()
        raise
    return db


def cycle_of(row: sqlite3.Row) -> Cycle:
    """Return a row of the table `cycle` as a value."""
    return Cycle(row["id"], row["kind"], Phase(row["phase"]), row["attempt"], row["due_s"], row["why"])


def publication_of(row: sqlite3.Row) -> Publication:
    """Return a row of the table `publication` as a value."""
    return Publication(row["cycle_id"], row["policy_version"], row["epoch"], row["model"], row["sha256"], row["at_s"])


def put_meta(db: sqlite3.Connection, key: str, value: str | None) -> None:
    """Remember a value; None forgets it."""
    if value is None:
        db.execute("DELETE FROM meta WHERE key = ?", (key,))
    else:
        db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )


def remember_file(db: sqlite3.Connection, name: str, signature: FileSignature, sha256: str) -> None:
    """Note which content lies under a name in Exports."""
    db.execute(
        "INSERT INTO file (name, size, mtime_ns, inode, sha256) VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
        " SET size = excluded.size, mtime_ns = excluded.mtime_ns, inode = excluded.inode, sha256 = excluded.sha256",
        (name, signature.size, signature.mtime_ns, signature.inode, sha256),
    )


def move_cycle(db: sqlite3.Connection, before: Cycle, after: Cycle, at_s: float) -> None:
    """Move a cycle and note the step. Raises StaleCycle where `before` is old."""
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


def add_publication(db: sqlite3.Connection, publication: Publication) -> None:
    """Note what was put before the engine."""
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


def used_rollout_of(row: sqlite3.Row) -> UsedRollout:
    """Return a row of the table `rollout` as a value."""
    values = (row[name] for name in _ROLLOUT_COLUMNS)
    return UsedRollout(RolloutRow(*values), row["cycle_id"])


_ROLLOUT_COLUMNS = ("sha256", "name", "experiences", "left_out", "reward_mean", "policy_version", "written_s")


def add_rollout(db: sqlite3.Connection, row: RolloutRow, *, at_s: float, cycle_id: int | None = None) -> bool:
    """Add a rollout under its content, once; tell whether it is new. What a rebuild did not know is filled in."""
    known = tuple(getattr(row, name) for name in _ROLLOUT_COLUMNS)
    added = db.execute(
        f"INSERT INTO rollout ({', '.join(_ROLLOUT_COLUMNS)}, accepted_s, cycle_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sha256) DO NOTHING",
        (*known, at_s, cycle_id),
    ).rowcount
    if added != 1:
        db.execute(
            "UPDATE rollout SET name = ?, experiences = ?, left_out = ?, reward_mean = ?, policy_version = ?,"
            " written_s = ? WHERE sha256 = ? AND experiences = 0",
            (*known[1:], row.sha256),
        )
    return added == 1


def add_published_cycle(db: sqlite3.Connection, published: PublishedCycle) -> None:
    """Add a published cycle with its rollouts as something beside the ledger tells of it."""
    result, kind = published.result, "train" if published.policy_version else "initial"
    db.execute(
        "INSERT INTO cycle (id, kind, cause, phase, why, created_s, ended_s, parent, result, best_epoch, score)"
        " VALUES (?, ?, 'rebuilt', ?, 'rebuilt', ?, ?, ?, ?, ?, ?)",
        (
            published.cycle,
            kind,
            Phase.PUBLISHED,
            published.at_s,
            published.at_s,
            published.parent,
            None if result is None else result.to_bytes().decode(),
            published.epoch,
            None if result is None else result.score,
        ),
    )
    version = published.policy_version
    add_publication(
        db, Publication(published.cycle, version, published.epoch, published.model, published.sha256, published.at_s)
    )
    if result is not None:
        put_meta(db, "contract" if version else "initial_contract", result.contract.to_bytes().decode())
    for sha256 in published.rollouts:
        row = RolloutRow(sha256, sha256[:12], 0, 0, 0.0, None, published.at_s)
        add_rollout(db, row, at_s=published.at_s, cycle_id=published.cycle)


def add_lost_cycle(db: sqlite3.Connection, cycle_id: int, at_s: float) -> None:
    """Add a cycle of which only the number is known, so that it is not given again."""
    db.execute(
        "INSERT INTO cycle (id, kind, cause, phase, why, created_s, ended_s)"
        " VALUES (?, 'train', 'rebuilt', ?, 'what it did was lost with the ledger', ?, ?)",
        (cycle_id, Phase.FAILED, at_s, at_s),
    )
