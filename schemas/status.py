"""The documents of status.json, of `hotlap history --json`, and of receipts."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from schemas.base import StrictModel

_HAS_A_CODE = re.compile(r"\[[EW]_[A-Z_]+\]")


class _Documented(StrictModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class DaemonState(StrEnum):
    """The activity of the daemon."""

    IDLE = "idle"
    TRAINING = "training"
    SELECTING = "selecting"
    PUBLISHING = "publishing"
    PAUSED = "paused"
    PARKED = "parked"


class EpochStatus(_Documented):
    """One epoch of the running or the last cycle."""

    epoch: int
    """Number of the epoch, from 1."""
    value_loss: float | None
    """Held-out value loss."""
    policy_loss: float | None
    """Policy loss."""
    score: float | None
    """The epoch's score; lower is better."""
    chosen: bool = False
    """Whether this epoch is published."""


class StatusWarning(_Documented):
    """Something that a user should look at."""

    code: str
    """A code; `hotlap explain CODE` describes it."""
    message: str
    """The warning in words."""
    at_s: float
    """When it was sent, in seconds since 1970."""

    def line(self) -> str:
        """Return the message with its code; a message that quotes an error has the error's own."""
        return self.message if _HAS_A_CODE.search(self.message) else f"{self.message} [{self.code}]"


class Status(_Documented):
    """status.json. The daemon has ended or is stuck if `heartbeat` is older than three times `heartbeat_interval_s`."""

    schema_name: str = "hotlap.status/1"
    """Name of this format."""
    state: DaemonState
    """The activity of the daemon."""
    step: str
    """The current step in words."""
    cycle: int
    """Number of the running cycle, or of the last one."""
    rollouts_pending: int
    """New rollouts that count toward the next cycle."""
    rollouts_needed: int
    """How many of them start a cycle."""
    policy_version: int
    """Version of the published model; 0 is the initial model."""
    best_model_path: str | None
    """Path of the published model JSON."""
    heartbeat: float
    """When the daemon last wrote this file, in seconds since 1970."""
    heartbeat_interval_s: float
    """Seconds between two heartbeats."""
    pid: int
    """Process id of the daemon."""
    create_time: float
    """When that process started, in seconds since 1970; another process may have the same `pid` later."""
    started_at: float
    """When the daemon started, in seconds since 1970."""
    warnings: tuple[StatusWarning, ...] = ()
    """Warnings that a user should look at."""
    epochs: tuple[EpochStatus, ...] = ()
    """Epochs of the running or the last cycle."""
    epochs_total: int = 0
    """How many epochs the cycle runs."""
    progress: float = 0.0
    """Progress of the running training, 0 to 1."""
    training_seconds: float = 0.0
    """How long the running training has taken."""
    rollouts_rejected: int = 0
    """How many rollouts were rejected so far."""
    hotlap_version: str = ""
    """Version of Hotlap that wrote this."""


class CycleSummary(_Documented):
    """One element of the list that `hotlap history --json` prints."""

    cycle: int
    """Number of the cycle; 0 is the initial model."""
    state: str
    """`published`, `failed` or `parked`."""
    policy_version: int | None
    """Version of the model that the cycle published."""
    rollouts: tuple[str, ...]
    """Names of the rollouts that triggered it."""
    best_epoch: int | None
    """The epoch that was published."""
    score: float | None
    """Its score; lower is better."""
    reward_mean: float | None
    """Reward per step of the new rollouts."""
    value_loss: float | None
    """Held-out value loss of the published epoch."""
    seconds: float | None
    """How long the cycle took."""
    error: str | None
    """Why the cycle failed."""
    adopted: str | None = None
    """The file that `hotlap adopt` took the model from, with its checksum; null for a cycle that trained."""


class RefusedModel(_Documented):
    """A model that a game client has read and does not run."""

    path: str
    """The content of the pointer file."""
    reason: str
    """Why it is not run, in words."""


class Receipt(_Documented):
    """A receipt: what a game client has loaded. It is written after each load, and after a model was refused."""

    model_config = ConfigDict(extra="ignore", strict=False)

    schema_name: Annotated[Literal["hotlap.receipt/1"], Field(alias="schema")]
    """Name of this format."""
    client: str
    """Name of the game client; each running game has its own."""
    engine: str
    """The engine, and perhaps its version, in words."""
    checksum: str | None
    """Checksum of the model that runs; null if no model was loaded yet."""
    policy_version: int | None
    """Its policy version; null if the file has none."""
    loaded_at: float | None
    """When it was loaded, in seconds since 1970."""
    load_ms: float | None
    """How long loading took, in milliseconds."""
    probe_error: float | None
    """Largest difference from the probe, relative to the size of the outputs, of the model that was read last."""
    agents: int
    """How many agents the client has."""
    refused: RefusedModel | None = None
    """The newest model, if the client does not run it."""
