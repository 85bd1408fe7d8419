"""Any order of new files, crashes, disk errors and failing trainers: no invariant is violated, and it recovers."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings

from daemon.diagnostics.invariants import Invariant, Violation
from scripts.faults.state_machine_run import RunBatch, run_batch
from tests.faults.support import machine
from tests.faults.support.machine import DaemonMachine

pytestmark = [pytest.mark.slow, pytest.mark.fault(37), pytest.mark.fault(40), pytest.mark.fault(43)]

TestAnyOrder = DaemonMachine.TestCase
TestAnyOrder.settings = settings(
    max_examples=30,
    stateful_step_count=50,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.generate,),  # to shrink a failure takes minutes: `python -m scripts.faults.state_machine_run` does
    suppress_health_check=list(HealthCheck),
)


def test_the_command_counts_its_runs_and_reports_a_violation(monkeypatch, tmp_path):
    few = RunBatch(runs=2, steps=5, seed=0, shrinks=False)
    counts, broken = run_batch(few)
    assert broken == ""
    assert counts["runs"] >= few.runs
    assert counts["invariant checks"] > counts["runs"]
    assert counts["models published"] >= counts["runs"]
    wrong = Violation(Invariant.COUNTED_ONCE, "twice", tmp_path)
    monkeypatch.setattr(machine, "check_invariants", lambda *folder, **how: (wrong,))
    counts, broken = run_batch(few)
    assert str(wrong.message) in broken
