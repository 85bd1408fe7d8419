"""The ledger refuses illegal changes, and is consistent after a kill at any statement."""

from __future__ import annotations

import inspect
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.errors import LedgerError, StaleCycle
from daemon.ledger.cycle import Phase
from daemon.ledger.ledger import Ledger
from daemon.ledger.records import FileSignature, Publication, RolloutRow
from schemas.job import Result
from schemas.settings.models import Settings

CONTRACT = Settings().agent.contract()


def row(i: int, reward: float = 0.5) -> RolloutRow:
    return RolloutRow(f"{i:064x}", f"rollout_{i}.json", 64, 0, reward, None, 1000.0 + i)


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger.open(tmp_path / "ledger.sqlite3")
    yield opened
    opened.close()


def accept(ledger: Ledger, *numbers: int) -> None:
    for i in numbers:
        ledger.accept(row(i, reward=i), FileSignature(1, i, i), at_s=1.0)


def test_the_same_content_counts_once(ledger):
    assert ledger.accept(row(1), FileSignature(1, 1, 1), at_s=1.0)
    assert not ledger.accept(replace(row(1), name="rollout_99.json"), FileSignature(1, 2, 2), at_s=2.0)
    assert ledger.pending_count() == 1
    assert set(ledger.files()) == {"rollout_1.json", "rollout_99.json"}


def test_a_claim_assigns_all_pending_rollouts_and_no_other_claim_gets_them(ledger):
    accept(ledger, 1, 2, 3)
    cycle = ledger.claim(kind="train", cause="count", parent=None, at_s=1.0)
    accept(ledger, 4)
    assert [used.row.name for used in ledger.rollouts_of(cycle.id)] == [f"rollout_{i}.json" for i in (1, 2, 3)]
    assert ledger.pending_count() == 1
    with pytest.raises(sqlite3.IntegrityError, match="one trigger"):
        ledger._db.execute("UPDATE rollout SET cycle_id = 0 WHERE id = 1")


def test_a_claim_includes_rollouts_of_which_experiences_were_left_out(ledger):
    ledger.accept(replace(row(1), left_out=5), FileSignature(1, 1, 1), at_s=1.0)
    cycle = ledger.claim(kind="train", cause="count", parent=None, at_s=1.0)
    assert [used.row.left_out for used in ledger.rollouts_of(cycle.id)] == [5]
    assert ledger.pending_count() == 0


def test_the_mean_reward_of_a_cycle_is_per_experience_not_per_rollout(ledger):
    for i, (experiences, reward) in enumerate([(10, 1.0), (30, 5.0)]):
        rollout = replace(row(i, reward), experiences=experiences)
        ledger.accept(rollout, FileSignature(1, i, i), at_s=1.0)
    cycle = ledger.claim(kind="train", cause="count", parent=None, at_s=1.0)
    ledger.move(cycle, replace(cycle, phase=Phase.FAILED), at_s=2.0)
    assert ledger.history()[-1].reward_mean == pytest.approx(4.0)


def test_arrays_are_needed_until_the_cycle_of_their_rollout_has_ended(ledger):
    accept(ledger, 1, 2)
    ledger.forget_files(["rollout_1.json", "rollout_2.json"])
    hashes = {row(1).sha256, row(2).sha256}
    assert ledger.cache_needed() == hashes
    cycle = ledger.claim(kind="train", cause="count", parent=None, at_s=1.0)
    assert ledger.cache_needed() == hashes
    parked = replace(cycle, phase=Phase.PARKED)
    ledger.move(cycle, parked, at_s=2.0)
    assert ledger.cache_needed() == hashes
    claimed = replace(parked, phase=Phase.CLAIMED)
    ledger.move(parked, claimed, at_s=3.0)
    ledger.move(claimed, replace(claimed, phase=Phase.FAILED), at_s=4.0)
    assert ledger.cache_needed() == set()


def test_two_cycles_never_run_at_once(ledger):
    ledger.claim(kind="train", cause="count", parent=None, at_s=1.0)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.claim(kind="train", cause="count", parent=None, at_s=1.0)


def test_an_illegal_step_cannot_be_recorded(ledger):
    cycle = ledger.claim(kind="train", cause="count", parent=None, at_s=1.0)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.move(cycle, replace(cycle, phase=Phase.PUBLISHED), at_s=2.0)
    assert ledger.cycle(cycle.id).phase is Phase.CLAIMED


def test_a_cycle_that_was_moved_by_another_process_is_stale(ledger):
    cycle = ledger.claim(kind="train", cause="count", parent=None, at_s=1.0)
    ledger.move(cycle, replace(cycle, phase=Phase.TRAINING, attempt=1), at_s=2.0)
    with pytest.raises(StaleCycle):
        ledger.move(cycle, replace(cycle, phase=Phase.FAILED), at_s=3.0)


def test_the_initial_cycle_has_number_0_and_claims_no_rollouts(ledger):
    accept(ledger, 1)
    initial = ledger.claim(kind="initial", cause="initial", parent=None, at_s=1.0)
    assert (initial.id, initial.policy_version, ledger.pending_count()) == (0, 0, 1)


def test_history_has_the_mean_reward_of_the_claimed_rollouts(ledger):
    accept(ledger, 1, 2, 3)
    cycle = ledger.claim(kind="train", cause="count", parent=None, at_s=1.0)
    for phase in (Phase.TRAINING, Phase.SELECTING):
        moved = replace(cycle, phase=phase)
        ledger.move(cycle, moved, at_s=1.0)
        cycle = moved
    result = Result(
        epoch=3, score=0.25, model="m.json", checkpoint="m.pt", files={}, contract=CONTRACT, hidden_sizes=(8,)
    )
    moved = replace(cycle, phase=Phase.PUBLISHING)
    ledger.store_result(cycle, moved, result, value_loss=0.5, at_s=1.0)
    publication = Publication(cycle.id, cycle.id, 3, "cycle_000001/m.json", "ab", 9.0)
    ended = replace(moved, phase=Phase.PUBLISHED)
    ledger.commit_publication(moved, ended, publication, seconds=4.5, contract=b"{}")
    [line] = ledger.history()
    assert (line.state, line.policy_version, line.best_epoch, line.score) == ("published", 1, 3, 0.25)
    assert (line.reward_mean, line.value_loss, line.seconds, line.error) == (2.0, 0.5, 4.5, None)
    assert ledger.last_publication() == publication
    assert ledger.failures_in_a_row() == 0


def test_steps_are_append_only(ledger):
    cycle = ledger.claim(kind="train", cause="count", parent=None, at_s=1.0)
    ledger.move(cycle, replace(cycle, phase=Phase.TRAINING, attempt=1), at_s=2.0)
    for sql in ("UPDATE step SET why = 'x'", "DELETE FROM step"):
        with pytest.raises(sqlite3.IntegrityError, match="append only"):
            ledger._db.execute(sql)


def test_a_ledger_of_a_newer_hotlap_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 999")
    db.close()
    for read_only in (False, True):
        with pytest.raises(LedgerError, match="version 999, which is newer") as caught:
            Ledger.open(path, read_only=read_only)
        assert caught.value.code == "E_LEDGER_NEWER"


def test_a_file_that_is_not_a_ledger_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(LedgerError):
        Ledger.open(path)


def claim_two_rollouts_and_start(path: Path) -> None:
    """Do what is left to do; a process that was killed in the middle is followed by another that does the rest."""
    ledger = Ledger.open(path)
    for i in range(2):
        row = RolloutRow(f"{i:064x}", f"rollout_{i}.json", 64, 0, 0.5, None, 1.0)
        ledger.accept(row, FileSignature(1, i, i), at_s=1.0)
    cycle = ledger.unfinished() or ledger.claim(kind="train", cause="count", parent=None, at_s=1.0)
    if cycle.phase is Phase.CLAIMED:
        ledger.move(cycle, replace(cycle, phase=Phase.TRAINING, attempt=1), at_s=2.0)
    ledger.close()


KILLED = (
    textwrap.dedent(
        """
        import functools, os, sqlite3, sys

        class Mortal(sqlite3.Connection):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                if args[0] == ":memory:":  # no file is at risk
                    return
                left = iter(range(int(sys.argv[2]), -1, -1))
                self.set_trace_callback(lambda sql: next(left) or os._exit(9))

        sqlite3.connect = functools.partial(sqlite3.connect, factory=Mortal)
        from dataclasses import replace
        from pathlib import Path
        from daemon.ledger.cycle import Phase
        from daemon.ledger.ledger import Ledger
        from daemon.ledger.records import FileSignature, RolloutRow
        """
    )
    + inspect.getsource(claim_two_rollouts_and_start)
    + "claim_two_rollouts_and_start(Path(sys.argv[1]))\n"
)


@pytest.mark.slow
def test_the_ledger_is_consistent_after_a_kill_before_any_statement(tmp_path):
    root = Path(__file__).parents[3]
    kills = 0
    for statement in range(1, 500):
        path = tmp_path / f"{statement}.sqlite3"
        command = [sys.executable, "-c", KILLED, str(path), str(statement)]
        code = subprocess.run(command, cwd=root, check=False).returncode
        ledger = Ledger.open(path)
        try:
            assert ledger.check() is None
            cycle = ledger.unfinished()
            claimed = 0 if cycle is None else len(ledger.rollouts_of(cycle.id))
            moves = ledger._db.execute("SELECT count(*) FROM step").fetchone()[0]
            assert moves == (0 if cycle is None or cycle.phase is Phase.CLAIMED else 1)
            assert ledger.pending_count() in {0, 1, 2}
            assert ledger.pending_count() == 0 or claimed == 0
        finally:
            ledger.close()
        if code == 0:
            break
        kills += 1
        claim_two_rollouts_and_start(path)
    assert kills > 15, "the process was killed in too few places"
