"""The ledger's cycles: their phases, their trainers' results, and which models were published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from daemon.errors import LedgerError
from daemon.ledger.connection import LedgerConnection
from daemon.ledger.cycle import Cycle, Phase
from daemon.ledger.integrity.stored_json import adoption_key
from daemon.ledger.records import Publication
from daemon.ledger.rows import (
    SUMMARY_COLUMNS,
    UNFINISHED_SQL,
    USABLE_SQL,
    insert_publication,
    mark_suspect,
    move_cycle,
    parse_stored,
    record_mean_reward,
    to_cycle,
    to_publication,
    to_summaries,
    write_meta,
)
from schemas.job import Adoption, Result, Suspect
from schemas.status import CycleSummary


class CycleTable(LedgerConnection):
    """The tables `cycle`, `step` and `publication`."""

    def claim(
        self,
        *,
        kind: str,
        cause: str,
        parent: str | None,
        at_s: float,
        first: int = 0,
        adoption: Adoption | None = None,
    ) -> Cycle:
        """Open a cycle with a number of at least `first`, in one transaction.

        All pending rollouts are assigned to a cycle that trains. One with an `adoption` gets none.
        """
        with self._transaction() as db:
            first = max(first, 0 if kind == "initial" else 1)
            row = db.execute("SELECT max(?, coalesce(max(id) + 1, 0)) FROM cycle", (first,)).fetchone()
            cycle_id = int(row[0])
            db.execute(
                "INSERT INTO cycle (id, kind, cause, phase, created_s, parent) VALUES (?, ?, ?, ?, ?, ?)",
                (cycle_id, kind, cause, Phase.CLAIMED, at_s, parent),
            )
            if adoption is not None:
                write_meta(db, adoption_key(cycle_id), adoption.to_bytes().decode())
            elif kind == "train":
                db.execute("UPDATE rollout SET cycle_id = ? WHERE cycle_id IS NULL", (cycle_id,))
                record_mean_reward(db, cycle_id)
        return self.cycle(cycle_id)

    def cycle(self, cycle_id: int) -> Cycle:
        """Return a cycle. Raises LedgerError if it does not exist."""
        row = self._db.execute("SELECT * FROM cycle WHERE id = ?", (cycle_id,)).fetchone()
        if row is None:
            raise LedgerError(f"cycle {cycle_id} does not exist", hint="`hotlap history` lists the cycles")
        return to_cycle(row)

    def last_cycle_id(self) -> int:
        """Return the number of the newest cycle; 0 if no training cycle exists."""
        return int(self._db.execute("SELECT coalesce(max(id), 0) FROM cycle").fetchone()[0])

    def unfinished(self) -> Cycle | None:
        """Return the running or parked cycle, which may be from an earlier daemon; None if all cycles have ended."""
        row = self._db.execute(
            f"SELECT * FROM cycle WHERE phase IN ({UNFINISHED_SQL}) ORDER BY id DESC LIMIT 1"
        ).fetchone()
        return None if row is None else to_cycle(row)

    def move(self, before: Cycle, after: Cycle, *, at_s: float) -> None:
        """Move a cycle to its next phase and record the step. Raises StaleCycle if `before` is out of date."""
        with self._transaction() as db:
            move_cycle(db, before, after, at_s)

    def mark_suspects(self, before: Cycle, after: Cycle, suspects: Sequence[Suspect], *, at_s: float) -> None:
        """Move a cycle to its next phase, without the rollouts that made its last attempt fail."""
        with self._transaction() as db:
            move_cycle(db, before, after, at_s)
            for suspect in suspects:
                mark_suspect(db, suspect, at_s)
            record_mean_reward(db, before.id)

    def change_parent(
        self, before: Cycle, after: Cycle, parent: str | None, *, meta: tuple[str, str], at_s: float
    ) -> None:
        """Move a cycle to its next phase, in which it has another parent, and store a value."""
        with self._transaction() as db:
            move_cycle(db, before, after, at_s)
            db.execute("UPDATE cycle SET parent = ? WHERE id = ?", (parent, before.id))
            write_meta(db, *meta)

    def restore_parent(self, cycle_id: int, parent: str | None, *, key: str) -> None:
        """Record that a cycle continues from its first parent again; remove what `change_parent` stored."""
        with self._transaction() as db:
            db.execute("UPDATE cycle SET parent = ? WHERE id = ?", (parent, cycle_id))
            write_meta(db, key, None)

    def count_steps(self, cycle_id: int, *, why: str) -> int:
        """Return how many of a cycle's steps have a reason that begins with `why`."""
        sql = "SELECT count(*) FROM step WHERE cycle_id = ? AND substr(why, 1, ?) = ?"
        return int(self._db.execute(sql, (cycle_id, len(why), why)).fetchone()[0])

    def parent(self, cycle_id: int) -> str | None:
        """Return the checkpoint that a cycle continues from, relative to Models, or None."""
        row = self._db.execute("SELECT parent FROM cycle WHERE id = ?", (cycle_id,)).fetchone()
        return None if row is None else row[0]

    def failed_before(self, cycle_id: int) -> int | None:
        """Return the cycle directly before this one if it has failed, or None."""
        row = self._db.execute("SELECT id, phase FROM cycle WHERE id < ? ORDER BY id DESC LIMIT 1", (cycle_id,))
        found = row.fetchone()
        return int(found["id"]) if found is not None and found["phase"] == Phase.FAILED else None

    def store_result(
        self, before: Cycle, after: Cycle, result: Result, *, value_loss: float | None, at_s: float
    ) -> None:
        """Move a cycle to its next phase and store its trainer's result."""
        with self._transaction() as db:
            move_cycle(db, before, after, at_s)
            db.execute(
                "UPDATE cycle SET result = ?, best_epoch = ?, score = ?, value_loss = ? WHERE id = ?",
                (result.to_bytes().decode(), result.epoch, result.score, value_loss, before.id),
            )

    def result(self, cycle_id: int) -> Result | None:
        """Return the result of a cycle's trainer, or None if it has not been stored."""
        row = self._db.execute("SELECT result FROM cycle WHERE id = ?", (cycle_id,)).fetchone()
        return (
            None if row is None or row[0] is None else parse_stored(Result, row[0], f"the result of cycle {cycle_id}")
        )

    def has_result(self, cycle_id: int) -> bool:
        """Return whether the result of a cycle's trainer was stored."""
        sql = "SELECT 1 FROM cycle WHERE id = ? AND result IS NOT NULL"
        return self._db.execute(sql, (cycle_id,)).fetchone() is not None

    def adoption(self, cycle_id: int) -> Adoption | None:
        """Return the file that a cycle adopts or has adopted, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (adoption_key(cycle_id),)).fetchone()
        return None if row is None else parse_stored(Adoption, row[0], f"what cycle {cycle_id} adopts")

    def knows_file(self, sha256: str) -> bool:
        """Return whether a trainer wrote a file with this content for some cycle."""
        sql = "SELECT 1 FROM cycle WHERE instr(result, ?) > 0 ORDER BY id DESC LIMIT 1"
        return self._db.execute(sql, (sha256,)).fetchone() is not None

    def commit_publication(
        self, before: Cycle, after: Cycle, publication: Publication, *, seconds: float, contract: bytes
    ) -> None:
        """Record a publication and move its cycle to `published`. The pointer file names the model already."""
        with self._transaction() as db:
            move_cycle(db, before, after, publication.at_s)
            db.execute("UPDATE cycle SET seconds = ? WHERE id = ?", (seconds, before.id))
            if before.kind == "train" or before.is_adoption:
                write_meta(db, "contract", contract.decode())
            if before.kind == "initial":
                write_meta(db, "initial_contract", contract.decode())
            insert_publication(db, publication)

    def add_publication(self, publication: Publication) -> None:
        """Record another publication of a cycle that has ended."""
        with self._transaction() as db:
            insert_publication(db, publication)

    def publications(self, newest: int | None = None) -> list[Publication]:
        """Return the `newest` last publications, or all of them, oldest first."""
        sql = "SELECT * FROM publication ORDER BY seq DESC LIMIT ifnull(?, -1)"
        rows = self._db.execute(sql, (newest,)).fetchall()
        return [to_publication(row) for row in reversed(rows)]

    def last_publication(self) -> Publication | None:
        """Return the last publication: that of the model that engines load now."""
        row = self._db.execute("SELECT * FROM publication ORDER BY seq DESC LIMIT 1").fetchone()
        return None if row is None else to_publication(row)

    def published_cycles(self) -> frozenset[int]:
        """Return the numbers of all cycles that have published a model."""
        return frozenset(row[0] for row in self._db.execute("SELECT DISTINCT cycle_id FROM publication"))

    def has_trained(self) -> bool:
        """Return whether any model other than an untrained version 0 was published."""
        sql = (
            "SELECT 1 FROM publication WHERE policy_version > 0"
            " OR EXISTS (SELECT 1 FROM meta WHERE key = 'adoption:' || publication.cycle_id) LIMIT 1"
        )
        return self._db.execute(sql).fetchone() is not None

    def count_trained(self) -> int:
        """Return how many training cycles have been published or have failed."""
        sql = "SELECT count(*) FROM cycle WHERE kind = 'train' AND phase IN ('published', 'failed')"
        return int(self._db.execute(sql).fetchone()[0])

    def failures_in_a_row(self) -> int:
        """Return how many cycles have failed since the last one that was published."""
        count = 0
        for row in self._db.execute("SELECT phase FROM cycle WHERE ended_s IS NOT NULL ORDER BY id DESC"):
            if row[0] == Phase.PUBLISHED:
                break
            count += 1
        return count

    def rewards_earned(self, cycles: Iterable[int]) -> dict[int, float]:
        """Return the reward per step that the models of these cycles earned.

        It is the mean reward of the next published cycle: its rollouts were recorded with the model.
        """
        found = {}
        for cycle in cycles:
            row = self._db.execute(
                "SELECT reward_mean FROM cycle WHERE phase = 'published' AND id > ? ORDER BY id LIMIT 1", (cycle,)
            ).fetchone()
            if row is not None and row[0] is not None:
                found[cycle] = row[0]
        return found

    def history(self, limit: int | None = None) -> list[CycleSummary]:
        """Return the last `limit` cycles that are published, failed or parked, or all of them, oldest first.

        Raises LedgerDamaged for a value that Hotlap does not write, because a command reads a ledger without checking
        all of it.
        """
        rows = self._db.execute(
            # The plus makes SQLite read the cycles in the order of their ids. With the index it would sort all of them.
            f"SELECT {', '.join(SUMMARY_COLUMNS)} FROM cycle WHERE +phase IN ('published', 'failed', 'parked')"
            " ORDER BY id DESC LIMIT ifnull(?, -1)",
            (limit,),
        ).fetchall()[::-1]
        if not rows:
            return []
        names = self._names_by_cycle(rows[0]["id"])
        stored = {row[0] for row in self._db.execute("SELECT key FROM meta WHERE key GLOB 'adoption:*'")}
        adopting = (row["id"] for row in rows if stored and adoption_key(row["id"]) in stored)
        adoptions = {cycle_id: adoption for cycle_id in adopting if (adoption := self.adoption(cycle_id)) is not None}
        return to_summaries(rows, names, adoptions)

    def _names_by_cycle(self, first: int) -> dict[int, tuple[str, ...]]:
        """Return the names of the rollouts that each cycle from this one on claimed, in their order."""
        found = self._db.execute(
            # In the order of this index, rollouts of a cycle have the order of their ids. A file's name has no slash.
            "SELECT cycle_id, group_concat(name, '/') FROM rollout INDEXED BY rollout_of_cycle"
            f" WHERE cycle_id >= ? AND {USABLE_SQL} GROUP BY cycle_id",
            (first,),
        )
        return {cycle_id: tuple(names.split("/")) for cycle_id, names in found}
