"""The cycle's state machine: the phases after sequences of events, and illegal steps are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.ledger.cycle import (
    LEGAL_STEPS,
    Cycle,
    Failed,
    IllegalTransition,
    Interrupted,
    Launching,
    Phase,
    Published,
    RetryPolicy,
    RetryRequested,
    Selected,
    Trained,
    advance,
)
from schemas.job import ExitCode

RETRY_POLICY = RetryPolicy(attempts=3, failures_before_parking=3, retry_delay_s=10.0)
OOM = Failed("killed", -9, max_attempts=2)
HUNG = Failed("sent no event")
HISTORIES = {
    "published": ([Launching(), Trained(), Selected(), Published()], 0, Phase.PUBLISHED),
    "bad data is final": ([Launching(), Failed("bad", ExitCode.BAD_DATA)], 0, Phase.FAILED),
    "a bug is final": ([Launching(), Failed("bug", 1)], 0, Phase.FAILED),
    "a kill for memory is tried again": ([Launching(), OOM], 0, Phase.CLAIMED),
    "a second kill for memory is final": ([Launching(), OOM] * 2, 0, Phase.FAILED),
    "three failed attempts in a row park": ([Launching(), HUNG] * 3, 0, Phase.PARKED),
    "the third failed cycle in a row parks": ([Launching(), Failed("bug", 1)], 2, Phase.PARKED),
    "a parked cycle can be tried again": (
        [Launching(), Failed("bug", 1), RetryRequested(), Launching()],
        2,
        Phase.TRAINING,
    ),
    "interrupted in training": ([Launching(), Interrupted()], 0, Phase.CLAIMED),
    "interrupted in publishing": ([Launching(), Trained(), Selected(), Interrupted()], 0, Phase.CLAIMED),
    "python not found": ([Failed("no python", ExitCode.BAD_CONFIG)], 0, Phase.PARKED),
    "a bad model is not published": ([Launching(), Trained(), Selected(), Failed("x", 65)], 0, Phase.FAILED),
}
EVENTS = [Launching(), Trained(), Selected(), Published(), OOM, Failed("bug", 1), Interrupted(), RetryRequested()]


@pytest.mark.parametrize(("events", "failures", "end"), HISTORIES.values(), ids=HISTORIES)
def test_a_sequence_of_events_ends_in_the_expected_phase(events, failures, end):
    cycle = Cycle(1, "train", Phase.CLAIMED)
    for event in events:
        cycle = advance(cycle, event, now_s=1000.0, retry_policy=RETRY_POLICY, failures_in_a_row=failures)
    assert cycle.phase is end


@given(st.sampled_from(Phase), st.integers(0, 5), st.sampled_from(EVENTS), st.integers(0, 5))
def test_every_step_is_legal_or_refused(phase, attempt, event, failures):
    cycle = Cycle(1, "train", phase, attempt)
    try:
        after = advance(cycle, event, now_s=0.0, retry_policy=RETRY_POLICY, failures_in_a_row=failures)
    except IllegalTransition:
        return
    assert (phase, after.phase) in LEGAL_STEPS


def test_every_legal_step_can_happen():
    taken = set()
    for phase in Phase:
        for event in EVENTS:
            for attempt in (1, 3):
                for failures in (0, 2):
                    try:
                        cycle = Cycle(1, "train", phase, attempt)
                        after = advance(cycle, event, now_s=0.0, retry_policy=RETRY_POLICY, failures_in_a_row=failures)
                    except IllegalTransition:
                        continue
                    taken.add((phase, after.phase))
    assert taken == set(LEGAL_STEPS)


def test_the_delay_after_a_failure_doubles_up_to_an_hour():
    assert [RETRY_POLICY.delay_s(n) for n in (1, 2, 3)] == [10.0, 20.0, 40.0]
    assert RETRY_POLICY.delay_s(10_000) == 3600.0


def test_a_restart_does_not_count_as_an_attempt():
    cycle = Cycle(1, "train", Phase.CLAIMED)
    for _ in range(10):
        cycle = advance(cycle, Launching(), now_s=0.0, retry_policy=RETRY_POLICY)
        cycle = advance(cycle, Interrupted(), now_s=0.0, retry_policy=RETRY_POLICY)
    assert cycle.attempt == 0
