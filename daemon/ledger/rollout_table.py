"""The ledger's rollouts: which files are in Exports, which rollouts are pending, and which were rejected."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.ledger.connection import LedgerConnection
from daemon.ledger.records import FileSignature, RolloutRow, UsedRollout
from daemon.ledger.rows import (
    COUNTS_SQL,
    UNFINISHED_SQL,
    USABLE_SQL,
    clear_suspect,
    insert_rollout,
    to_used_rollout,
    upsert_file,
)


class RolloutTable(LedgerConnection):
    """The tables `rollout`, `file` and `rejection`."""

    def files(self) -> dict[str, tuple[FileSignature, str]]:
        """Return the known files in Exports: name -> signature and content hash."""
        rows = self._db.execute("SELECT name, size, mtime_ns, inode, sha256 FROM file")
        return {r["name"]: (FileSignature(r["size"], r["mtime_ns"], r["inode"]), r["sha256"]) for r in rows}

    def accept(self, row: RolloutRow, signature: FileSignature, *, at_s: float) -> bool:
        """Record one rollout, as `accept_all` does; return whether its content is new."""
        return self.accept_all([(row, signature)], at_s=at_s)[0]

    def accept_all(self, rollouts: Sequence[tuple[RolloutRow, FileSignature]], *, at_s: float) -> list[bool]:
        """Record all rollouts in one transaction, in this order; return for each whether its content is new."""
        with self._transaction() as db:
            for row, signature in rollouts:
                clear_suspect(db, row.sha256)
                upsert_file(db, row.name, signature, row.sha256)
            return [insert_rollout(db, row, at_s=at_s) for row, _ in rollouts]

    def reject(self, name: str, sha256: str | None, code: str, reason: str, *, at_s: float) -> None:
        """Record that a file could not be used."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO rejection (name, sha256, code, reason, at_s) VALUES (?, ?, ?, ?, ?)",
                (name, sha256, code, reason, at_s),
            )

    def forget_pending(self, sha256: str | None) -> None:
        """Remove a pending rollout, which turned out to be unusable when it was read again."""
        with self._transaction() as db:
            db.execute("DELETE FROM rollout WHERE sha256 = ? AND cycle_id IS NULL", (sha256,))

    def forget_files(self, names: list[str]) -> None:
        """Record that these files are not in Exports any more."""
        with self._transaction() as db:
            db.executemany("DELETE FROM file WHERE name = ?", [(name,) for name in names])

    def pending_count(self) -> int:
        """Return how many rollouts are pending."""
        sql = f"SELECT count(*) FROM rollout WHERE cycle_id IS NULL AND {COUNTS_SQL}"
        return int(self._db.execute(sql).fetchone()[0])

    def other_file(self, sha256: str, name: str) -> str | None:
        """Return the name of another file in Exports with this content, or None."""
        sql = "SELECT name FROM file WHERE sha256 = ? AND name <> ? LIMIT 1"
        row = self._db.execute(sql, (sha256, name)).fetchone()
        return None if row is None else str(row[0])

    def newest_rollouts(self, limit: int) -> list[RolloutRow]:
        """Return the rollouts that were accepted last, oldest first."""
        return [used.row for used in reversed(self._rollouts("ORDER BY id DESC LIMIT ?", (limit,)))]

    def count_same_files(self) -> int:
        """Return how many files in Exports have the same content as another file there."""
        row = self._db.execute("SELECT count(*) - count(DISTINCT sha256) FROM file").fetchone()
        return int(row[0])

    def rejected_count(self) -> int:
        """Return how many files were rejected so far."""
        return int(self._db.execute("SELECT count(*) FROM rejection").fetchone()[0])

    def newest_outcomes(self, limit: int) -> list[bool]:
        """Return for each of the last files whether it was accepted, the newest first."""
        rows = self._db.execute(
            "SELECT accepted_s AS at_s, 1 AS is_accepted FROM rollout UNION ALL SELECT at_s, 0 FROM rejection"
            " ORDER BY at_s DESC LIMIT ?",
            (limit,),
        )
        return [bool(row["is_accepted"]) for row in rows]

    def rejections(self, limit: int) -> list[tuple[str, str, str, float]]:
        """Return the newest rejections as (name, code, reason, time)."""
        rows = self._db.execute("SELECT * FROM rejection ORDER BY seq DESC LIMIT ?", (limit,))
        return [(r["name"], r["code"], r["reason"], r["at_s"]) for r in rows]

    def rollouts_of(self, cycle_id: int) -> list[UsedRollout]:
        """Return the rollouts that a cycle claimed and may train on, in the order in which they were accepted."""
        return self._rollouts(f"WHERE cycle_id = ? AND {USABLE_SQL} ORDER BY id", (cycle_id,))

    def pending_rollouts(self) -> list[UsedRollout]:
        """Return the pending rollouts, in the order in which they were accepted."""
        return self._rollouts(f"WHERE cycle_id IS NULL AND {COUNTS_SQL} ORDER BY id", ())

    def older_rollouts(self, before_cycle: int) -> list[UsedRollout]:
        """Return the rollouts of earlier cycles whose files are still in Exports, oldest first."""
        present = "sha256 IN (SELECT sha256 FROM file)"
        return self._rollouts(f"WHERE cycle_id < ? AND {present} AND {USABLE_SQL} ORDER BY id", (before_cycle,))

    def suspect_files(self) -> list[tuple[str, FileSignature, str, str]]:
        """Return (name, signature, content hash, reason) of the files of suspect rollouts that are still in Exports."""
        rows = self._db.execute(
            "SELECT file.*, rollout.suspect FROM rollout JOIN file USING (sha256) WHERE rollout.suspect <> ''"
        )
        return [
            (r["name"], FileSignature(r["size"], r["mtime_ns"], r["inode"]), r["sha256"], r["suspect"]) for r in rows
        ]

    def used_files(self) -> list[tuple[str, float]]:
        """Return (name, reward per step) of the files that ended cycles have used, oldest first."""
        rows = self._db.execute(
            "SELECT file.name, rollout.reward_mean FROM file JOIN rollout USING (sha256)"
            " JOIN cycle ON cycle.id = rollout.cycle_id"
            f" WHERE cycle.phase NOT IN ({UNFINISHED_SQL}) ORDER BY rollout.id, file.name"
        )
        return [(r[0], r[1]) for r in rows]

    def accepted_since(self, at_s: float) -> tuple[int, float]:
        """Return how many rollouts were accepted since a time, and when the first of them was (s since 1970)."""
        row = self._db.execute(
            "SELECT count(*), coalesce(min(accepted_s), ?) FROM rollout WHERE accepted_s >= ?", (at_s, at_s)
        ).fetchone()
        return int(row[0]), float(row[1])

    def files_of_cycle(self, cycle_id: int) -> list[tuple[str, FileSignature]]:
        """Return the files in Exports whose rollouts a cycle claimed."""
        rows = self._db.execute(
            "SELECT file.* FROM file JOIN rollout USING (sha256) WHERE rollout.cycle_id = ? ORDER BY rollout.id",
            (cycle_id,),
        )
        return [(r["name"], FileSignature(r["size"], r["mtime_ns"], r["inode"])) for r in rows]

    def cache_needed(self) -> set[str]:
        """Return the SHA-256 of the rollouts whose arrays a cycle may still need."""
        rows = self._db.execute(
            "SELECT sha256 FROM file UNION SELECT sha256 FROM rollout WHERE cycle_id IS NULL"
            " UNION SELECT sha256 FROM cycle JOIN rollout ON rollout.cycle_id = cycle.id"
            f" WHERE cycle.phase IN ({UNFINISHED_SQL})"
        )
        return {r[0] for r in rows}

    def _rollouts(self, where: str, arguments: tuple[object, ...]) -> list[UsedRollout]:
        rows = self._db.execute(f"SELECT * FROM rollout {where}", arguments)
        return [to_used_rollout(row) for row in rows]
