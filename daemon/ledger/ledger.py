"""The daemon's memory in one SQLite file: which rollout was used where, what each cycle did.

One connection writes. Every method that changes something is one transaction.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from daemon.errors import LedgerError
from daemon.ledger.cycle import ARROWS, RUNNING, Cycle, Phase
from daemon.ledger.records import FileSignature, Publication, PublishedCycle, RolloutRow, UsedRollout
from daemon.ledger.rows import (
    add_lost_cycle,
    add_publication,
    add_published_cycle,
    add_rollout,
    connected,
    cycle_of,
    move_cycle,
    publication_of,
    put_meta,
    remember_file,
    used_rollout_of,
)
from daemon.ledger.sqlite_errors import LedgerDamaged, explained, is_io_error
from schemas.job import Result
from schemas.status import CycleSummary

VERSION = 1
_RUNNING_SQL = ", ".join(f"'{phase.value}'" for phase in sorted(RUNNING))


class Ledger:
    """Open with `Ledger.open`; close with `close`."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path
        self._is_doubtful = False

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Ledger:
        """Open or create the ledger. Raises LedgerError."""
        db: sqlite3.Connection | None = None
        try:
            db = connected(path, read_only=read_only)
            ledger = cls(db, path)
            ledger._prepare(read_only=read_only)
        except sqlite3.Error as error:
            if db is not None:
                db.close()
            raise explained(error, path) from None
        except LedgerError:
            if db is not None:
                db.close()
            raise
        return ledger

    def _prepare(self, *, read_only: bool) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise LedgerError(
                f"the ledger is of a newer Hotlap (version {version})", hint="update Hotlap", code="E_LEDGER_NEWER"
            )
        if version == 0 and self._db.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None:
            raise LedgerDamaged("the ledger is some other program's file", hint="start the daemon again")
        if version == 0 and read_only:
            raise LedgerError("the ledger is empty", hint="start the daemon once")
        if version == VERSION or read_only:
            return
        script = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
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
        if self._is_doubtful:
            self._reopen()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except BaseException as error:
            self._is_doubtful = is_io_error(error)
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise

    def _reopen(self) -> None:
        """After a failed fsync nobody knows what is on the disk: read it anew. Raises LedgerError."""
        try:
            anew = connected(self._path, read_only=False)
        except sqlite3.Error as error:
            raise explained(error, self._path) from None
        self._db.close()
        self._db = anew
        problem = self.check()
        if problem is not None:
            raise LedgerDamaged(f"the ledger {self._path.name} is not sound: {problem}")
        self._is_doubtful = False

    def meta(self, key: str) -> str | None:
        """Return a remembered value."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str | None) -> None:
        """Remember a value; None forgets it."""
        with self._transaction() as db:
            put_meta(db, key, value)

    def restore(self, found: Sequence[PublishedCycle], *, highest: int, at_s: float) -> None:
        """Fill an empty ledger with the cycles that something still tells of; `highest` was the last number given."""
        with self._transaction() as db:
            for witness in found:
                add_published_cycle(db, witness)
            if highest > max((witness.cycle for witness in found), default=-1):
                add_lost_cycle(db, highest, at_s)

    # Rollouts

    def files(self) -> dict[str, tuple[FileSignature, str]]:
        """Return the names known in Exports with their stamp and content hash."""
        rows = self._db.execute("SELECT name, size, mtime_ns, inode, sha256 FROM file")
        return {r["name"]: (FileSignature(r["size"], r["mtime_ns"], r["inode"]), r["sha256"]) for r in rows}

    def accept(self, row: RolloutRow, signature: FileSignature, *, at_s: float, contract: bytes | None) -> bool:
        """Record a rollout under its content, once; tell whether it is new. `contract` becomes the project's."""
        return self.accept_all([(row, signature)], at_s=at_s, contract=contract)[0]

    def accept_all(
        self, rollouts: Sequence[tuple[RolloutRow, FileSignature]], *, at_s: float, contract: bytes | None
    ) -> list[bool]:
        """Record several rollouts, all or none, in this order; tell which are new."""
        with self._transaction() as db:
            if contract is not None:
                put_meta(db, "contract", contract.decode())
            for row, stamp in rollouts:
                remember_file(db, row.name, stamp, row.sha256)
            return [add_rollout(db, row, at_s=at_s) for row, _ in rollouts]

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
        """Return the newest rejections as (name, code, reason, time)."""
        rows = self._db.execute("SELECT * FROM rejection ORDER BY seq DESC LIMIT ?", (limit,))
        return [(r["name"], r["code"], r["reason"], r["at_s"]) for r in rows]

    def rollouts_of(self, cycle_id: int) -> list[UsedRollout]:
        """Return the rollouts that triggered a cycle, in the order they came."""
        return self._rollouts("WHERE cycle_id = ? ORDER BY id", (cycle_id,))

    def pending_rollouts(self) -> list[UsedRollout]:
        """Return the rollouts that have not counted toward any trigger yet, in the order they came."""
        return self._rollouts("WHERE cycle_id IS NULL ORDER BY id", ())

    def older_rollouts(self, before_cycle: int) -> list[UsedRollout]:
        """Return the rollouts of earlier triggers whose files still lie in Exports, oldest first."""
        present = "sha256 IN (SELECT sha256 FROM file)"
        return self._rollouts(f"WHERE cycle_id < ? AND {present} ORDER BY id", (before_cycle,))

    def used_files(self) -> list[tuple[str, float]]:
        """Return (name, reward per step) of the files whose rollouts have been used by an ended cycle, oldest first."""
        rows = self._db.execute(
            "SELECT file.name, rollout.reward_mean FROM file JOIN rollout USING (sha256)"
            " JOIN cycle ON cycle.id = rollout.cycle_id"
            f" WHERE cycle.phase NOT IN ({_RUNNING_SQL}, 'parked') ORDER BY rollout.id, file.name"
        )
        return [(r[0], r[1]) for r in rows]

    def files_of_cycle(self, cycle_id: int) -> list[tuple[str, FileSignature]]:
        """Return the files in Exports whose rollouts counted toward a cycle."""
        rows = self._db.execute(
            "SELECT file.* FROM file JOIN rollout USING (sha256) WHERE rollout.cycle_id = ? ORDER BY rollout.id",
            (cycle_id,),
        )
        return [(r["name"], FileSignature(r["size"], r["mtime_ns"], r["inode"])) for r in rows]

    def cache_needed(self) -> set[str]:
        """Return the content hashes whose arrays may still be asked for."""
        rows = self._db.execute(
            "SELECT sha256 FROM file UNION SELECT sha256 FROM rollout WHERE cycle_id IS NULL"
            " UNION SELECT sha256 FROM cycle JOIN rollout ON rollout.cycle_id = cycle.id"
            f" WHERE cycle.phase IN ({_RUNNING_SQL}, 'parked')"
        )
        return {r[0] for r in rows}

    def _rollouts(self, where: str, arguments: tuple[object, ...]) -> list[UsedRollout]:
        rows = self._db.execute(f"SELECT * FROM rollout {where}", arguments)
        return [used_rollout_of(row) for row in rows]

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
        """Return a cycle as it stands."""
        row = self._db.execute("SELECT * FROM cycle WHERE id = ?", (cycle_id,)).fetchone()
        if row is None:
            raise LedgerError(f"there is no cycle {cycle_id}", hint="`python -m daemon history` lists them")
        return cycle_of(row)

    def last_cycle_id(self) -> int:
        """Return the number of the newest cycle; 0 where there is none."""
        return int(self._db.execute("SELECT coalesce(max(id), 0) FROM cycle").fetchone()[0])

    def unfinished(self) -> Cycle | None:
        """Return the cycle that runs, or that ran when the daemon last ended; a parked one as well."""
        row = self._db.execute(
            f"SELECT * FROM cycle WHERE phase IN ({_RUNNING_SQL}, 'parked') ORDER BY id DESC LIMIT 1"
        ).fetchone()
        return None if row is None else cycle_of(row)

    def move(self, before: Cycle, after: Cycle, *, at_s: float) -> None:
        """Move a cycle and note the step, both or neither. Raises StaleCycle where `before` is old."""
        with self._transaction() as db:
            move_cycle(db, before, after, at_s)

    def store_result(
        self, before: Cycle, after: Cycle, result: Result, *, value_loss: float | None, at_s: float
    ) -> None:
        """Move a cycle on with what its trainer left."""
        with self._transaction() as db:
            move_cycle(db, before, after, at_s)
            db.execute(
                "UPDATE cycle SET result = ?, best_epoch = ?, score = ?, value_loss = ? WHERE id = ?",
                (result.to_bytes().decode(), result.epoch, result.score, value_loss, before.id),
            )

    def result(self, cycle_id: int) -> Result | None:
        """Return what a cycle's trainer left, where it came that far."""
        row = self._db.execute("SELECT result FROM cycle WHERE id = ?", (cycle_id,)).fetchone()
        return None if row is None or row[0] is None else Result.from_bytes(row[0].encode())

    def commit_publication(
        self, before: Cycle, after: Cycle, publication: Publication, *, seconds: float, contract: bytes
    ) -> None:
        """Close a cycle whose model is before the engine."""
        with self._transaction() as db:
            move_cycle(db, before, after, publication.at_s)
            db.execute("UPDATE cycle SET seconds = ? WHERE id = ?", (seconds, before.id))
            put_meta(db, "contract" if before.kind == "train" else "initial_contract", contract.decode())
            add_publication(db, publication)

    def note_publication(self, publication: Publication) -> None:
        """Note that an older model was put before the engine again."""
        with self._transaction() as db:
            add_publication(db, publication)

    def publications(self, newest: int = -1) -> list[Publication]:
        """Return the newest so many publications, or all, oldest first."""
        rows = self._db.execute("SELECT * FROM publication ORDER BY seq DESC LIMIT ?", (newest,)).fetchall()
        return [publication_of(row) for row in reversed(rows)]

    def last_publication(self) -> Publication | None:
        """Return what is before the engine now."""
        row = self._db.execute("SELECT * FROM publication ORDER BY seq DESC LIMIT 1").fetchone()
        return None if row is None else publication_of(row)

    def has_trained(self) -> bool:
        """Return whether any model but the initial one was ever published."""
        return self._db.execute("SELECT 1 FROM publication WHERE policy_version > 0 LIMIT 1").fetchone() is not None

    def count_trained(self) -> int:
        """How many training cycles have ended, parked ones not counted."""
        sql = "SELECT count(*) FROM cycle WHERE kind = 'train' AND phase IN ('published', 'failed')"
        return int(self._db.execute(sql).fetchone()[0])

    def check(self) -> str | None:
        """Return what SQLite finds wrong with the file; None where it is sound."""
        try:
            answer = str(self._db.execute("PRAGMA quick_check").fetchone()[0])
        except sqlite3.Error as error:
            return f"it is damaged: {error}"
        return None if answer == "ok" else f"it is damaged: {answer}"

    def failures_in_a_row(self) -> int:
        """How many training cycles have failed since the last that did not."""
        count = 0
        for row in self._db.execute("SELECT phase FROM cycle WHERE ended_s IS NOT NULL ORDER BY id DESC"):
            if row[0] == Phase.PUBLISHED:
                break
            count += 1
        return count

    def earned(self, cycles: Iterable[int]) -> dict[int, float]:
        """Return the reward per step that these cycles' models earned: that of the next published cycle's rollouts."""
        found = {}
        for cycle in cycles:
            row = self._db.execute(
                "SELECT reward_mean FROM cycle WHERE phase = 'published' AND id > ? ORDER BY id LIMIT 1", (cycle,)
            ).fetchone()
            if row is not None and row[0] is not None:
                found[cycle] = row[0]
        return found

    def history(self, limit: int = 1_000_000) -> list[CycleSummary]:
        """Return the newest ended cycles, oldest first."""
        rows = self._db.execute(
            # The plus keeps the planner to the order of ids: through the phase's index it would sort all cycles.
            "SELECT * FROM cycle WHERE +phase IN ('published', 'failed', 'parked') ORDER BY id DESC LIMIT ?",
            (limit,),
        ).fetchall()
        return [self._summary(row) for row in reversed(rows)]

    def _summary(self, row: sqlite3.Row) -> CycleSummary:
        names = self._db.execute("SELECT name FROM rollout WHERE cycle_id = ? ORDER BY id", (row["id"],))
        published = row["phase"] == Phase.PUBLISHED
        return CycleSummary(
            cycle=row["id"],
            state=row["phase"],
            policy_version=cycle_of(row).policy_version if published else None,
            rollouts=tuple(r[0] for r in names),
            best_epoch=row["best_epoch"],
            score=row["score"],
            reward_mean=row["reward_mean"],
            value_loss=row["value_loss"],
            seconds=row["seconds"],
            error=None if published else row["why"],
        )
