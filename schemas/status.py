"""What the daemon says of itself in status.json, and what `history` says of its cycles."""

from __future__ import annotations

from enum import StrEnum

from schemas.base import StrictModel


class DaemonState(StrEnum):
    """What the daemon is doing."""

    IDLE = "idle"
    TRAINING = "training"
    SELECTING = "selecting"
    PUBLISHING = "publishing"
    PAUSED = "paused"
    PARKED = "parked"


class EpochStatus(StrictModel):
    """One epoch of the running or the last cycle."""

    epoch: int
    value_loss: float | None
    policy_loss: float | None
    score: float | None
    chosen: bool = False


class StatusWarning(StrictModel):
    """Something that people should look at."""

    code: str
    message: str
    at_s: float  #: s since 1970, UTC


class Status(StrictModel):
    """status.json. Stale when `heartbeat` is older than three times `heartbeat_interval_s`."""

    schema_name: str = "hotlap.status/1"
    state: DaemonState
    step: str  #: what is going on, in words
    cycle: int  #: the running or the last one
    rollouts_pending: int
    rollouts_needed: int
    policy_version: int
    best_model_path: str | None
    heartbeat: float  #: s since 1970, UTC
    heartbeat_interval_s: float
    pid: int
    create_time: float  #: of the process, so that a reused pid is no mistake
    started_at: float
    warnings: tuple[StatusWarning, ...] = ()
    epochs: tuple[EpochStatus, ...] = ()
    epochs_total: int = 0
    progress: float = 0.0
    training_seconds: float = 0.0
    rollouts_rejected: int = 0
    hotlap_version: str = ""  #: of the daemon that wrote this


class CycleSummary(StrictModel):
    """One line of `history --json`."""

    cycle: int
    state: str
    policy_version: int | None
    rollouts: tuple[str, ...]
    best_epoch: int | None
    score: float | None
    reward_mean: float | None
    value_loss: float | None
    seconds: float | None
    error: str | None
