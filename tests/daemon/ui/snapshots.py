"""Snapshots of a daemon in many states, for the dashboard's tests."""

from __future__ import annotations

import time
from pathlib import Path

from daemon.ui.glyphs import BLOCKS
from daemon.ui.layout import lines
from daemon.ui.snapshot import Snapshot, SystemStats
from schemas.status import CycleSummary, DaemonState, EpochStatus, Status, StatusWarning

NOW_S = 1_795_262_401.0
SIZES = [(60, 15), (80, 24), (120, 40), (200, 60)]
ROOT = Path(__file__).resolve().parents[3]


def status(state=DaemonState.IDLE, **changes):
    usual = {
        "step": "[5/5] waiting for 6 more rollouts",
        "cycle": 30,
        "rollouts_pending": 4,
        "rollouts_needed": 10,
        "policy_version": 30,
        "best_model_path": "C:/Games/Racing/Saved/Training/Models/cycle_000030/model_epoch_9.json",
        "heartbeat": NOW_S,
        "heartbeat_interval_s": 5.0,
        "pid": 1,
        "create_time": 1.0,
        "started_at": NOW_S - 8060,
    }
    return Status(state=state, **(usual | changes))


def epochs(count, chosen=None):
    return tuple(
        EpochStatus(epoch=k, value_loss=0.5 / k, policy_loss=-0.01 * k, score=abs(k - 9) / 10 + 0.1, chosen=k == chosen)
        for k in range(1, count + 1)
    )


def cycle(k, error=None):
    good = error is None
    return CycleSummary(
        cycle=k,
        state="published" if good else "failed",
        policy_version=k if good else None,
        rollouts=("rollout_1_20261121_120000.json",),
        best_epoch=9 if good else None,
        score=0.2 if good else None,
        reward_mean=0.1 * k if good else None,
        value_loss=9.0 / k if good else None,
        seconds=41.0,
        error=error,
    )


def warning(message, age_s=20.0, code="W_TEST"):
    return StatusWarning(code=code, message=message, at_s=NOW_S - age_s)


MACHINE = SystemStats(34.2, 5_100_000_000, 16_700_000_000, 62_000_000, 612_000_000, " 41 %   5.1 of 24.0 GB RTX 4090")
BARE = SystemStats(0.0, 0, 0, 0, 0, "")
LOG = tuple(f"2026-11-21 12:00:{k:02} INFO  [2/5] training: line {k}" for k in range(60))
LONG = "The recorded log_probs do not fit the published policy: the exporter is probably broken. " * 3


def view(shown_status, cycles=(), log_lines=LOG, machine=MACHINE, project="RacingGame"):
    return Snapshot(shown_status, tuple(cycles), tuple(log_lines), machine, project, NOW_S)


IDLE = view(status(epochs=epochs(10, chosen=9), epochs_total=10), [cycle(k) for k in range(1, 31)])
VIEWS = {
    "nothing yet": view(
        status(cycle=0, rollouts_pending=0, policy_version=0, best_model_path=None), log_lines=(), machine=BARE
    ),
    "initial model": view(status(DaemonState.TRAINING, step="creating the initial model", cycle=0)),
    "idle": IDLE,
    "training": view(
        status(DaemonState.TRAINING, cycle=31, epochs=epochs(4), epochs_total=10, progress=0.4, training_seconds=17.0),
        [cycle(k) for k in range(1, 31)],
    ),
    "selecting": view(status(DaemonState.SELECTING, cycle=31, epochs=epochs(10), epochs_total=10, progress=1.0)),
    "publishing": view(status(DaemonState.PUBLISHING, cycle=31, epochs=epochs(10, chosen=9), epochs_total=10)),
    "paused": view(status(DaemonState.PAUSED, cycle=1234, epochs=epochs(1000, chosen=9), epochs_total=1000)),
    "parked": view(
        status(DaemonState.PARKED, step=LONG, cycle=14, rollouts_pending=12345, rollouts_rejected=999),
        [cycle(k) for k in range(1, 12)] + [cycle(k, error=LONG) for k in (12, 13, 14)],
    ),
    "failed late": view(
        status(cycle=3, epochs=epochs(7), epochs_total=10), [cycle(1), cycle(2), cycle(3, error="it ended with 1")]
    ),
    "many warnings": view(
        status(warnings=tuple(warning(LONG, age_s=10.0**k) for k in range(9)), rollouts_rejected=2),
        [cycle(k) for k in range(1, 121)],
    ),
    "extreme numbers": view(
        status(
            epochs=(
                EpochStatus(epoch=1, value_loss=-1.7e308, policy_loss=4.9e-324, score=99999.99),
                EpochStatus(epoch=2, value_loss=None, policy_loss=None, score=None),
            ),
            progress=7.0,
            started_at=NOW_S + 50,
            training_seconds=1e9,
        ),
        [cycle(1).model_copy(update={"reward_mean": x, "value_loss": -x}) for x in (1.7e308, -1.7e308, 0.0)],
        machine=SystemStats(100.0, 10**13, 10**13, 10**12, 10**12, "an accelerator with a very long name " * 9),
    ),
}


def text_of(shown_view, width, height, glyphs=BLOCKS):
    return ["".join(piece for piece, _ in row) for row in lines(shown_view, width=width, height=height, glyphs=glyphs)]


def until(happened, limit_s=10.0):
    """Wait until a condition is true; fail after a timeout."""
    end = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
