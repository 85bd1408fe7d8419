"""After a restart, the first snapshot shows what the ledger and the log know of earlier cycles."""

from __future__ import annotations

import pytest

from daemon.ui.log import Log
from daemon.ui.status_writer import StatusWriter
from schemas.job import ExitCode, Failure, RankedEpoch
from tests.daemon.ui.snapshots import text_of
from tests.faults.support.harness import InstantHarness, NoSystemStats, train


def with_ranking(job):
    """Do a trainer's work, with the ranking of epochs that the real trainer returns, the best first."""
    *events, result = train(job)
    ranking = [
        RankedEpoch(epoch=k, score=0.1 * k, value_loss=1.0 / k, policy_loss=-0.01 * k, reason="") for k in (2, 1)
    ]
    return [*events, result.model_copy(update={"ranking": tuple(ranking)})]


@pytest.fixture
def restarted(tmp_path):
    with InstantHarness(tmp_path) as harness:
        harness.launcher.answer = with_ranking
        for number in (10, 20):
            harness.run_cycle(number)
    with InstantHarness(tmp_path) as harness:
        yield harness


def snapshot_of(harness: InstantHarness):
    writer = StatusWriter(harness.context, NoSystemStats())
    runner = harness.runner
    status = writer.status(runner.cycle, runner.progress, is_paused=False, pending=0, elapsed_s=0.0)
    return writer.snapshot(status, runner.cycle, None)


def test_charts_and_epochs_are_those_of_the_earlier_cycles(restarted):
    restarted.until(lambda: restarted.inbox.has_scanned)
    snapshot = snapshot_of(restarted)
    assert [cycle.cycle for cycle in snapshot.cycles] == [0, 1, 2]
    assert [(e.epoch, e.value_loss, e.policy_loss, e.chosen) for e in snapshot.status.epochs] == [
        (1, 1.0, -0.01, False),
        (2, 0.5, -0.02, True),
    ]
    screen = "\n".join(text_of(snapshot, 80, 24))
    assert "Cycle 2: epoch 2" in screen
    assert "cycles 0 to 2" in screen
    assert "published in" in screen


def test_a_new_cycle_replaces_them(restarted):
    restarted.run_cycle(30)
    assert [cycle.cycle for cycle in snapshot_of(restarted).cycles] == [0, 1, 2, 3]
    assert len(snapshot_of(restarted).status.epochs) == 2


def test_after_a_failed_cycle_its_error_is_shown_and_no_epochs_of_another(tmp_path):
    with InstantHarness(tmp_path, failures_before_parking=9) as harness:
        harness.run_cycle(10)
        failure = Failure(code="E_DATA", message="too few rows [E_DATA]")
        harness.launcher.answer = lambda job: [*with_ranking(job)[:1], failure]
        count = len(harness.launcher.started)
        harness.write_rollouts(20, 21)
        harness.until(lambda: len(harness.launcher.started) > count)
        harness.launcher.started[-1].end(ExitCode.BAD_DATA)
        harness.until(lambda: not harness.runner.busy)
    with InstantHarness(tmp_path) as harness:
        snapshot = snapshot_of(harness)
        assert snapshot.status.epochs == ()
        screen = " ".join(" ".join(text_of(snapshot, 120, 40)).split())
        assert screen.count("too few rows") == 1


def test_the_log_of_the_daemon_before_is_shown(tmp_path):
    first = Log(tmp_path / "daemon.log")
    first.info("[5/5] done in 3.0 s, waiting for 4 more")
    first.close()
    second = Log(tmp_path / "daemon.log")
    assert second.tail(5)[-1].endswith("waiting for 4 more")
    second.close()
