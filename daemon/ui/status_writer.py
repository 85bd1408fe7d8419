"""status.json for engines and users, and snapshots for the dashboard."""

from __future__ import annotations

import os
from typing import Protocol

import psutil

from daemon.ledger.cycle import Cycle, Phase
from daemon.publishing.disk_budget import measure
from daemon.runtime.context import Context
from daemon.runtime.in_the_way import is_folder, report_moved
from daemon.training.progress import CycleProgress
from daemon.ui.snapshot import Snapshot, SystemStats
from schemas import __version__
from schemas.status import CycleSummary, DaemonState, EpochStatus, Status
from schemas.storage.files import write_atomic
from schemas.storage.set_aside import set_aside

HEARTBEAT_S = 5.0
MIN_INTERVAL_S = 0.5
HISTORY_CYCLES = 120
LOG_LINES = 60
"""More than the dashboard shows, because it leaves out lines that it shows elsewhere."""
DISK_INTERVAL_S = 60.0

_STEPS = {
    DaemonState.TRAINING: "[2/5] training",
    DaemonState.SELECTING: "[3/5] selecting the best epoch",
    DaemonState.PUBLISHING: "[4/5] publishing",
}


class SystemStatsSource(Protocol):
    """A source of the use of CPU, memory and GPU. Tests replace it."""

    def sample(self, trainer_pid: int | None) -> SystemStats:
        """Return the newest values. Never raises or waits."""


def state_of(cycle: Cycle | None, *, is_paused: bool) -> DaemonState:
    """Return the daemon's state from its cycle's phase."""
    match cycle.phase if cycle else None:
        case Phase.TRAINING:
            return DaemonState.TRAINING
        case Phase.SELECTING:
            return DaemonState.SELECTING
        case Phase.PUBLISHING:
            return DaemonState.PUBLISHING
        case Phase.PARKED:
            return DaemonState.PARKED
    return DaemonState.PAUSED if is_paused else DaemonState.IDLE


def step_in_words(
    state: DaemonState, cycle: Cycle | None, progress: CycleProgress, *, pending: int, needed: int
) -> str:
    """Return a few words about what the daemon is doing."""
    if state is DaemonState.PARKED:
        return "parked after failures: `hotlap trigger` tries again"
    if state is DaemonState.PAUSED:
        return "paused: `hotlap resume` continues"
    if state in _STEPS:
        step = _STEPS[state]
        if cycle and cycle.kind == "initial":
            return "creating the initial model"
        return f"{step}: {progress.doing}" if state is DaemonState.TRAINING and progress.doing else step
    if cycle and cycle.phase is Phase.CLAIMED:
        return f"waiting to try cycle {cycle.id} again"
    missing = max(0, needed - pending)
    return f"[5/5] waiting for {missing} more rollout{'s' if missing != 1 else ''}"


class DiskUseSampler:
    """Measures what rollouts and caches take, at most once a minute, and less often if that takes long."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._next_s = 0.0
        self._text = ""

    def sample(self) -> str:
        """Return the newest use in a few words. Never raises: a missing number must not stop the daemon."""
        context = self._context
        began_s = context.clock.monotonic()
        if began_s < self._next_s:
            return self._text
        try:
            budget_gb = context.settings.daemon.disk_budget_gb
            self._text = measure(context.paths, context.ledger, context.clock, budget_gb=budget_gb).short()
        except OSError:
            self._text = ""
        self._next_s = began_s + DISK_INTERVAL_S + 200 * (context.clock.monotonic() - began_s)
        return self._text


class StatusWriter:
    """Writes status.json after changes and at every heartbeat, and makes snapshots from the same values."""

    def __init__(self, context: Context, system_stats: SystemStatsSource) -> None:
        self._context = context
        self._system_stats = system_stats
        self._started_at = context.clock.utc_s()
        self._pid = os.getpid()
        self._create_time = psutil.Process().create_time()
        self._written: Status | None = None
        self._written_at = -HEARTBEAT_S
        self._history: tuple[CycleSummary, ...] = ()
        self._history_of: object = self  # different from the key of any cycle, so that the first snapshot reads it
        self._disk = DiskUseSampler(context)

    def status(
        self, cycle: Cycle | None, progress: CycleProgress, *, is_paused: bool, pending: int, elapsed_s: float
    ) -> Status:
        """Return the current status."""
        context = self._context
        needed = context.settings.daemon.auto_train_after_n_rollouts
        state = state_of(cycle, is_paused=is_paused)
        last = context.ledger.last_publication()
        path = None if last is None else context.paths.for_engine(context.paths.models / last.model)
        return Status(
            state=state,
            step=step_in_words(state, cycle, progress, pending=pending, needed=needed),
            cycle=cycle.id if cycle else context.ledger.last_cycle_id(),
            rollouts_pending=pending,
            rollouts_needed=needed,
            policy_version=last.policy_version if last else 0,
            best_model_path=path,
            heartbeat=context.clock.utc_s(),
            heartbeat_interval_s=HEARTBEAT_S,
            pid=self._pid,
            create_time=self._create_time,
            started_at=self._started_at,
            warnings=context.warnings(),
            epochs=tuple(
                EpochStatus(
                    epoch=e.epoch,
                    value_loss=e.losses.get("value_loss"),
                    policy_loss=e.losses.get("policy_loss"),
                    score=e.score,
                    chosen=e.epoch == progress.chosen,
                )
                for e in progress.epochs
            ),
            epochs_total=progress.epochs_total,
            progress=min(1.0, max(0.0, progress.fraction)),
            training_seconds=elapsed_s,
            rollouts_rejected=context.ledger.rejected_count(),
            hotlap_version=__version__,
        )

    def write(self, status: Status, *, force: bool = False) -> None:
        """Write status.json if it is due. A disk error becomes a warning."""
        now = self._context.clock.monotonic()
        age_s = now - self._written_at
        if not force and age_s < (HEARTBEAT_S if self._is_same(status) else MIN_INTERVAL_S):
            return
        try:
            self._clear_place()
            write_atomic(self._context.paths.status, status.to_bytes(), disk=self._context.disk)
            self._context.clear_warning("W_STATUS")
        except OSError as error:
            self._context.warn("W_STATUS", f"status.json cannot be written: {error.strerror}")
        self._written, self._written_at = status, now

    def _clear_place(self) -> None:
        """Move away a folder in the place of status.json. Raises OSError."""
        context = self._context
        if is_folder(context.paths.status):
            report_moved(context, [set_aside(context.paths.status, at_s=context.clock.utc_s(), disk=context.disk)])

    def _is_same(self, status: Status) -> bool:
        if self._written is None:
            return False
        changing = {"heartbeat": 0.0, "training_seconds": 0.0, "progress": 0.0}
        return status.model_copy(update=changing) == self._written.model_copy(update=changing)

    def snapshot(self, status: Status, cycle: Cycle | None, trainer_pid: int | None) -> Snapshot:
        """Return the snapshot for the dashboard."""
        key = (cycle.id, cycle.phase) if cycle else None
        if key != self._history_of:
            self._history, self._history_of = tuple(self._context.ledger.history(HISTORY_CYCLES)), key
        return Snapshot(
            status=status,
            cycles=self._history,
            log_lines=self._context.log.tail(LOG_LINES),
            system_stats=self._system_stats.sample(trainer_pid),
            project=self._context.paths.project.name,
            now_s=self._context.clock.utc_s(),
            disk=self._disk.sample(),
        )
