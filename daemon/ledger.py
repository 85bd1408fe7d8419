"""The daemon's memory in one SQLite file: which rollout was used where, what each cycle did.

One connection writes. Every method that changes something is one transaction.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from daemon.cycle import ARROWS, RUNNING, Cycle, Phase
from daemon.errors import LedgerError, StaleCycle
from daemon.records import Publication, RolloutRow, Stamp, UsedRollout
from schemas.job import Result
from schemas.status import CycleSummary

VERSION = 1
_RUNNING_SQL = ", ".join(f"'{phase.value}'" for phase in sorted(RUNNING))


class Ledger:
    """Open with `Ledger.open`; close with `close`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Ledger:
        """Open or create the ledger. Raises LedgerError."""
        try:
            target = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
            db = sqlite3.connect(target, uri=True, timeout=10.0, isolation_level=None)
            db.row_factory = sqlite3.Row
            ledger = cls(db)
            if not read_only:
                db.execute("PRAGMA journal_mode = DELETE")
                db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            ledger._prepare(read_only=read_only)
        except sqlite3.Error as error:
            raise LedgerError(
                f"the ledger {path.name} cannot be used: {error}",
                hint="is the disk full or the folder write-protected? `python -m daemon doctor` looks closer",
            ) from None
        return ledger

    def _prepare(self, *, read_only: bool) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise LedgerError(f"the ledger is of a newer Hotlap (version {version})", hint="update Hotlap")
        if version == 0 and read_only:
            raise LedgerError("the ledger is empty", hint="start the daemon once")
        if version == VERSION or read_only:
            return
        script = Path(__file__).with_name("ledger.sql").read_text(encoding="utf-8")
        arrows = ", ".join(f"('{src.value}', '{dst.value}')" for src, dst in sorted(ARROWS))
        self._db.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nINSERT INTO arrow (src, dst) VALUES {arrows};\n"
            f"PRAGMA user_version = {VERSION};\nCOMMIT;"
        )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def meta(self, key: str) -> str | None:
        """Give a remembered value."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str | None) -> None:
        """Remember a value; None forgets it."""
        with self._transaction() as db:
            _set_meta(db, key, value)

    # Rollouts

    def files(self) -> dict[str, tuple[Stamp, str]]:
        """Give the names known in Exports with their stamp and content hash."""
        rows = self._db.execute("SELECT name, size, mtime_ns, inode, sha256 FROM file")
        return {r["name"]: (Stamp(r["size"], r["mtime_ns"], r["inode"]), r["sha256"]) for r in rows}

    def accept(self, row: RolloutRow, stamp: Stamp, *, at_s: float, contract: bytes | None) -> bool:
        """Record a rollout under its content, once; tell whether it is new. `contract` becomes the project's."""
        with self._transaction() as db:
            _remember_file(db, row.name, stamp, row.sha256)
            if contract is not None:
                _set_meta(db, "contract", contract.decode())
            added = db.execute(
                "INSERT INTO rollout (sha256, name, experiences, left_out, reward_mean, policy_version, written_s,"
                " accepted_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sha256) DO NOTHING",
                (
                    row.sha256,
                    row.name,
                    row.experiences,
                    row.left_out,
                    row.reward_mean,
                    row.policy_version,
                    row.written_s,
                    at_s,
                ),
            ).rowcount
        return added == 1

    def reject(self, name: str, sha256: str | None, code: str, reason: str, *, at_s: float) -> None:
        """Record that a file could not be used."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO rejection (name, sha256, code, reason, at_s) VALUES (?, ?, ?, ?, ?)",
                (name, sha256, code, reason, at_s),
            )

    def forget_files(self, names: list[str]) -> None:
        """Note that these names are gone from Exports."""
        with self._transaction() as db:
            db.executemany("DELETE FROM file WHERE name = ?", [(name,) for name in names])

    def pending_count(self) -> int:
        """How many rollouts have not counted toward any trigger yet."""
        return int(self._db.execute("SELECT count(*) FROM rollout WHERE cycle_id IS NULL").fetchone()[0])

    def rejected_count(self) -> int:
        """How many files could not be used so far."""
        return int(self._db.execute("SELECT count(*) FROM rejection").fetchone()[0])

    def rejections(self, limit: int) -> list[tuple[str, str, str, float]]:
        """Give the newest rejections as (name, code, reason, time)."""
        rows = self._db.execute("SELECT * FROM rejection ORDER BY seq DESC LIMIT ?", (limit,))
        return [(r["name"], r["code"], r["reason"], r["at_s"]) for r in rows]

    def rollouts_of(self, cycle_id: int) -> list[UsedRollout]:
        """Give the rollouts that triggered a cycle, in the order they came."""
        return self._rollouts("WHERE cycle_id = ? ORDER BY id", (cycle_id,))

    def older_rollouts(self, before_cycle: int) -> list[UsedRollout]:
        """Give the rollouts of earlier triggers whose files still lie in Exports, oldest first."""
        present = "sha256 IN (SELECT sha256 FROM file)"
        return self._rollouts(f"WHERE cycle_id < ? AND {present} ORDER BY id", (before_cycle,))

    def used_files(self) -> list[tuple[str, float]]:
        """Give (name, reward per step) of the files whose rollouts have been used by an ended cycle, oldest first."""
        rows = self._db.execute(
            "SELECT file.name, rollout.reward_mean FROM file JOIN rollout USING (sha256)"
            " JOIN cycle ON cycle.id = rollout.cycle_id"
            f" WHERE cycle.phase NOT IN ({_RUNNING_SQL}, 'parked') ORDER BY rollout.id, file.name"
        )
        return [(r[0], r[1]) for r in rows]

    def files_of_cycle(self, cycle_id: int) -> list[tuple[str, Stamp]]:
        """Give the files in Exports whose rollouts counted toward a cycle."""
        rows = self._db.execute(
            "SELECT file.* FROM file JOIN rollout USING (sha256) WHERE rollout.cycle_id = ? ORDER BY rollout.id",
            (cycle_id,),
        )
        return [(r["name"], Stamp(r["size"], r["mtime_ns"], r["inode"])) for r in rows]

    def cache_needed(self) -> set[str]:
        """Give the content hashes whose arrays may still be asked for."""
        rows = self._db.execute(
            "SELECT sha256 FROM file UNION SELECT sha256 FROM rollout LEFT JOIN cycle ON cycle.id = cycle_id"
            f" WHERE cycle_id IS NULL OR cycle.phase IN ({_RUNNING_SQL}, 'parked')"
        )
        return {r[0] for r in rows}

    def _rollouts(self, where: str, arguments: tuple[object, ...]) -> list[UsedRollout]:
        rows = self._db.execute(f"SELECT * FROM rollout {where}", arguments)
        return [
            UsedRollout(
                RolloutRow(
                    r["sha256"],
                    r["name"],
                    r["experiences"],
                    r["left_out"],
                    r["reward_mean"],
                    r["policy_version"],
                    r["written_s"],
                ),
                r["cycle_id"],
            )
            for r in rows
        ]

    # Cycles

    def claim(self, *, kind: str, cause: str, parent: str | None, at_s: float) -> Cycle:
        """Open a cycle; all pending rollouts count toward it, in the same transaction."""
        with self._transaction() as db:
            first = 0 if kind == "initial" else 1
            row = db.execute("SELECT max(?, coalesce(max(id) + 1, 0)) FROM cycle", (first,)).fetchone()
            cycle_id = int(row[0])
            db.execute(
                "INSERT INTO cycle (id, kind, cause, phase, created_s, parent) VALUES (?, ?, ?, ?, ?, ?)",
                (cycle_id, kind, cause, Phase.CLAIMED, at_s, parent),
            )
            if kind == "train":
                db.execute("UPDATE rollout SET cycle_id = ? WHERE cycle_id IS NULL", (cycle_id,))
                db.execute(
                    "UPDATE cycle SET reward_mean = (SELECT sum(reward_mean * experiences) / sum(experiences)"
                    " FROM rollout WHERE cycle_id = cycle.id) WHERE id = ?",
                    (cycle_id,),
                )
        return self.cycle(cycle_id)

    def cycle(self, cycle_id: int) -> Cycle:
        """Give a cycle as it stands."""
        row = self._db.execute("SELECT * FROM cycle WHERE id = ?", (cycle_id,)).fetchone()
        if row is None:
            raise LedgerError(f"there is no cycle {cycle_id}", hint="`python -m daemon history` lists them")
        return _cycle(row)

    def last_cycle_id(self) -> int:
        """Give the number of the newest cycle; 0 where there is none."""
        return int(self._db.execute("SELECT coalesce(max(id), 0) FROM cycle").fetchone()[0])

    def unfinished(self) -> Cycle | None:
        """Give the cycle that runs, or that ran when the daemon last ended; a parked one as well."""
        row = self._db.execute(
            f"SELECT * FROM cycle WHERE phase IN ({_RUNNING_SQL}, 'parked') ORDER BY id DESC LIMIT 1"
        ).fetchone()
        return None if row is None else _cycle(row)

    def move(self, before: Cycle, after: Cycle, *, at_s: float) -> None:
        """Move a cycle and note the step, both or neither. Raises StaleCycle where `before` is old."""
        with self._transaction() as db:
            _move(db, before, after, at_s)

    def store_result(
        self, before: Cycle, after: Cycle, result: Result, *, value_loss: float | None, at_s: float
    ) -> None:
        """Move a cycle on with what its trainer left."""
        with self._transaction() as db:
            _move(db, before, after, at_s)
            db.execute(
                "UPDATE cycle SET result = ?, best_epoch = ?, score = ?, value_loss = ? WHERE id = ?",
                (result.to_bytes().decode(), result.epoch, result.score, value_loss, before.id),
            )

    def result(self, cycle_id: int) -> Result | None:
        """Give what a cycle's trainer left, where it came that far."""
        row = self._db.execute("SELECT result FROM cycle WHERE id = ?", (cycle_id,)).fetchone()
        return None if row is None or row[0] is None else Result.from_bytes(row[0].encode())

    def commit_publication(
        self, before: Cycle, after: Cycle, publication: Publication, *, seconds: float, contract: bytes
    ) -> None:
        """Close a cycle whose model is before the engine."""
        with self._transaction() as db:
            _move(db, before, after, publication.at_s)
            db.execute("UPDATE cycle SET seconds = ? WHERE id = ?", (seconds, before.id))
            _set_meta(db, "contract" if before.kind == "train" else "initial_contract", contract.decode())
            _publish(db, publication)

    def note_publication(self, publication: Publication) -> None:
        """Note that an older model was put before the engine again."""
        with self._transaction() as db:
            _publish(db, publication)

    def publications(self) -> list[Publication]:
        """Give all publications, oldest first."""
        rows = self._db.execute("SELECT * FROM publication ORDER BY seq")
        return [_publication(row) for row in rows]

    def last_publication(self) -> Publication | None:
        """Give what is before the engine now."""
        row = self._db.execute("SELECT * FROM publication ORDER BY seq DESC LIMIT 1").fetchone()
        return None if row is None else _publication(row)

    def has_trained(self) -> bool:
        """Tell whether any model but the initial one was ever published."""
        return self._db.execute("SELECT 1 FROM publication WHERE policy_version > 0 LIMIT 1").fetchone() is not None

    def count_trained(self) -> int:
        """How many training cycles have ended, parked ones not counted."""
        sql = "SELECT count(*) FROM cycle WHERE kind = 'train' AND phase IN ('published', 'failed')"
        return int(self._db.execute(sql).fetchone()[0])

    def check(self) -> str | None:
        """Give what SQLite finds wrong with the file; None where it is sound."""
        try:
            answer = str(self._db.execute("PRAGMA quick_check").fetchone()[0])
        except sqlite3.Error as error:
            return f"it is damaged: {error}"
        return None if answer == "ok" else f"it is damaged: {answer}"

    def failures_in_a_row(self) -> int:
        """How many training cycles have failed since the last that did not."""
        count = 0
        for row in self._db.execute("SELECT phase FROM cycle WHERE ended_s IS NOT NULL ORDER BY ended_s DESC, id DESC"):
            if row[0] == Phase.PUBLISHED:
                break
            count += 1
        return count

    def history(self, limit: int = 1_000_000) -> list[CycleSummary]:
        """Give the newest ended cycles, oldest first."""
        rows = self._db.execute(
            "SELECT * FROM cycle WHERE phase IN ('published', 'failed', 'parked') ORDER BY id DESC LIMIT ?", (limit,)
        ).fetchall()
        return [self._summary(row) for row in reversed(rows)]

    def _summary(self, row: sqlite3.Row) -> CycleSummary:
        names = self._db.execute("SELECT name FROM rollout WHERE cycle_id = ? ORDER BY id", (row["id"],))
        published = row["phase"] == Phase.PUBLISHED
        return CycleSummary(
            cycle=row["id"],
            state=row["phase"],
            policy_version=_cycle(row).policy_version if published else None,
            rollouts=tuple(r[0] for r in names),
            best_epoch=row["best_epoch"],
            score=row["score"],
            reward_mean=row["reward_mean"],
            value_loss=row["value_loss"],
            seconds=row["seconds"],
            error=None if published else row["why"],
        )


def _cycle(row: sqlite3.Row) -> Cycle:
    return Cycle(row["id"], row["kind"], Phase(row["phase"]), row["attempt"], row["due_s"], row["why"])


def _publication(row: sqlite3.Row) -> Publication:
    return Publication(row["cycle_id"], row["policy_version"], row["epoch"], row["model"], row["sha256"], row["at_s"])


def _set_meta(db: sqlite3.Connection, key: str, value: str | None) -> None:
    if value is None:
        db.execute("DELETE FROM meta WHERE key = ?", (key,))
    else:
        db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )


def _remember_file(db: sqlite3.Connection, name: str, stamp: Stamp, sha256: str) -> None:
    db.execute(
        "INSERT INTO file (name, size, mtime_ns, inode, sha256) VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
        " SET size = excluded.size, mtime_ns = excluded.mtime_ns, inode = excluded.inode, sha256 = excluded.sha256",
        (name, stamp.size, stamp.mtime_ns, stamp.inode, sha256),
    )


def _move(db: sqlite3.Connection, before: Cycle, after: Cycle, at_s: float) -> None:
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


def _publish(db: sqlite3.Connection, publication: Publication) -> None:
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
