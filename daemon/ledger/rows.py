"""Conversion between the ledger's rows and plain values, and the statements that several transactions use."""

from __future__ import annotations

import sqlite3

from daemon.errors import StaleCycle
from daemon.ledger.cycle import RUNNING, Cycle, Phase
from daemon.ledger.records import FileSignature, Publication, PublishedCycle, RolloutRow, UsedRollout
from schemas.job import Suspect

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


def to_cycle(row: sqlite3.Row) -> Cycle:
    """Return a row of the table `cycle` as a Cycle."""
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


def adoption_key(cycle_id: int) -> str:
    """Return the key under which the file is stored that a cycle adopts."""
    return f"adoption:{cycle_id}"


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


def insert_published_cycle(db: sqlite3.Connection, published: PublishedCycle) -> None:
    """Add a published cycle with its rollouts, to rebuild a ledger."""
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
    insert_publication(
        db, Publication(published.cycle, version, published.epoch, published.model, published.sha256, published.at_s)
    )
    if result is not None:
        is_adopted = published.adoption is not None
        uses = {"contract": version or is_adopted, "initial_contract": not version or is_adopted}
        for name in (name for name, is_used in uses.items() if is_used):
            write_meta(db, name, result.contract.to_bytes().decode())
    if published.adoption is not None:
        write_meta(db, adoption_key(published.cycle), published.adoption.to_bytes().decode())
    for sha256 in published.rollouts:
        row = RolloutRow(sha256, sha256[:12], 0, 0, 0.0, None, published.at_s)
        insert_rollout(db, row, at_s=published.at_s, cycle_id=published.cycle)


def insert_lost_cycle(db: sqlite3.Connection, cycle_id: int, at_s: float) -> None:
    """Add a failed cycle with this number, so that the number is not used again."""
    db.execute(
        "INSERT INTO cycle (id, kind, cause, phase, why, created_s, ended_s)"
        " VALUES (?, 'train', 'rebuilt', ?, 'what it did was lost with the ledger', ?, ?)",
        (cycle_id, Phase.FAILED, at_s, at_s),
    )
