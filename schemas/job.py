"""What daemon and trainer say to each other: one job on stdin, events as JSON lines on stdout, exit codes."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal

import orjson
from pydantic import Field, TypeAdapter

from schemas.base import StrictModel
from schemas.contract import PolicyContract
from schemas.settings.models import TrainerSettings
from schemas.storage.files import sha256_of


class ExitCode(IntEnum):
    """A trainer's verdict on itself. Numbers follow sysexits(3) where it has one."""

    OK = 0
    USAGE = 2  #: bad arguments
    NOTHING_TO_DO = 3  #: no usable rollout
    BAD_DATA = 65  #: these inputs will be wrong again
    BUG = 70  #: an exception nobody expected
    TEMPORARY = 75  #: out of memory, disk full: another try may work
    BAD_CONFIG = 78  #: these settings will be wrong again


class RolloutInput(StrictModel):
    """One rollout that a cycle may learn from."""

    name: str
    sha256: str
    source: str  #: the file the engine wrote; may be gone by now
    cache: str  #: its arrays; may be missing
    is_new: bool  #: counted toward this cycle's trigger
    behaviours: tuple[str, ...] = ()  #: model JSONs that may have played it, the likeliest first
    age: int = 0  #: cycles since it was new


JobKind = Literal["initial", "train", "select", "export", "prefetch"]
"""`expect`: nothing to do yet; the next job will be much like this one."""


class Job(StrictModel):
    """All that a trainer needs to know; it reads no environment and no config file."""

    kind: JobKind
    policy_version: int  #: of the model that the job makes; 0 for the initial model
    output: str  #: folder for checkpoints, model JSON and analysis; exists and is empty, but for "select"
    contract: PolicyContract
    hidden_sizes: tuple[int, ...]
    settings: TrainerSettings
    rollouts: tuple[RolloutInput, ...] = ()
    parent: str | None = None  #: checkpoint to go on from
    parent_sha256: str | None = None
    use_epoch: int = 0  #: 0 = the best, k = that epoch
    export_epoch: int = 0  #: for "export": which checkpoint of `output`


class Ready(StrictModel):
    """The trainer is up: torch is imported and it waits for, or has read, its job."""

    event: Literal["ready"] = "ready"
    versions: dict[str, str]
    device: str = ""


class Heartbeat(StrictModel):
    """Still alive and working on `doing`."""

    event: Literal["heartbeat"] = "heartbeat"
    doing: str
    progress: float = 0.0  #: in [0, 1], within the whole job


class Notice(StrictModel):
    """Something that people should know, in plain words; no failure."""

    event: Literal["notice"] = "notice"
    code: str
    message: str


class EpochDone(StrictModel):
    """One epoch is over; its checkpoint is whole when the result comes, at the latest."""

    event: Literal["epoch"] = "epoch"
    epoch: int
    epochs: int
    losses: dict[str, float | None]  #: None where not finite
    score: float | None  #: Contract 6; None where it can never win
    seconds: float


class Selecting(StrictModel):
    """Training is over; checkpoints are being ranked."""

    event: Literal["selecting"] = "selecting"


class RankedEpoch(StrictModel):
    """One checkpoint's place and the reason for it."""

    epoch: int
    score: float | None
    value_loss: float | None
    reason: str


class Result(StrictModel):
    """What a job left in its output folder."""

    event: Literal["result"] = "result"
    epoch: int  #: the chosen one
    score: float | None
    model: str  #: file name of the model JSON
    checkpoint: str  #: file name of its checkpoint
    files: dict[str, str]  #: file name -> SHA-256
    contract: PolicyContract
    hidden_sizes: tuple[int, ...]
    ranking: tuple[RankedEpoch, ...] = ()
    experiences: int = 0
    reward_mean: float | None = None  #: reward per step of the new rollouts
    losses: dict[str, float | None] = Field(default_factory=dict)
    device: str = ""
    seconds: float = 0.0


class Failure(StrictModel):
    """Why a job could not be done; the exit code says whether to try again."""

    event: Literal["error"] = "error"
    code: str
    message: str


Event = Annotated[Ready | Heartbeat | Notice | EpochDone | Selecting | Result | Failure, Field(discriminator="event")]
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def event_from_line(line: bytes) -> Event:
    """Read one line of a trainer's stdout. Raises pydantic's ValidationError."""
    return _EVENT.validate_json(line)


def finite_or_none(value: float) -> float | None:
    """JSON has no NaN: give None for it."""
    return value if abs(value) < float("inf") else None


def config_hash(settings: TrainerSettings) -> str:
    """Return a short hash over settings."""
    return sha256_of(orjson.dumps(settings.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS))[:16]
