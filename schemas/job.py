"""The protocol between daemon and trainer: a job on stdin, events as JSON lines on stdout, exit codes."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import Annotated, Literal

import orjson
from pydantic import Field, TypeAdapter

from schemas.base import StrictModel
from schemas.contract import PolicyContract
from schemas.settings.mirror import MirrorSettings
from schemas.settings.models import TrainerSettings
from schemas.storage.files import sha256_of


class ExitCode(IntEnum):
    """The exit codes of a trainer. The numbers are those of sysexits(3) if it has a suitable one."""

    OK = 0
    USAGE = 2  #: bad arguments
    NOTHING_TO_DO = 3  #: no usable rollout
    BAD_DATA = 65  #: these inputs cannot be used; another attempt would fail as well
    BUG = 70  #: an unexpected exception
    TEMPORARY = 75  #: out of memory or disk space: another attempt may work
    BAD_CONFIG = 78  #: these settings cannot be used; another attempt would fail as well


class RolloutInput(StrictModel):
    """One rollout that a cycle may train on."""

    name: str
    sha256: str
    source: str  #: the file that the engine wrote; it may have been removed
    cache: str  #: the file with its arrays; may be missing
    is_new: bool  #: whether it counted in this cycle's trigger
    behaviours: tuple[str, ...] = ()  #: model JSONs that may be its behaviour policy, the most likely first
    outdated: tuple[int, ...] = ()  #: positions in `behaviours` of models older than the newest of the rollout's time
    is_older_than_models: bool = False  #: recorded before the oldest model that still exists was published
    age: int = 0  #: how many cycles ago it was new
    repeated: str | None = None  #: experiences that were in earlier rollouts; None: the trainer has to compare them


LogStdForm = Literal["auto", "natural", "log-of-log"]
"""How a model JSON stores the deviations of its actions; `auto`: see trainer/checkpoints/adopted_json.py."""


class Adoption(StrictModel):
    """A file whose model becomes the project's next version."""

    file: str
    sha256: str
    log_std: LogStdForm = "auto"
    is_contract_fixed: bool = False  #: false: nothing but defaults describes the project's agents yet
    are_hidden_sizes_fixed: bool = False

    @property
    def origin(self) -> str:
        """Return the file's name and the beginning of its checksum, for messages."""
        return f"{Path(self.file).name} (sha256 {self.sha256[:16]})"


JobKind = Literal["initial", "train", "select", "export", "prefetch", "adopt"]
"""`prefetch`: the next job will be similar to this one, so the trainer can read its inputs ahead of time."""


class Job(StrictModel):
    """All inputs of a trainer, which does not read settings from files or variables."""

    kind: JobKind
    policy_version: int  #: of the model that the job creates; 0 for the initial model
    output: str  #: folder for checkpoints, model JSON and analysis; exists, and is empty except for "select"
    contract: PolicyContract
    hidden_sizes: tuple[int, ...]
    settings: TrainerSettings
    rollouts: tuple[RolloutInput, ...] = ()
    choice_names: tuple[str, ...] = ()  #: agent.choices, if they have names
    observation_limit: float | None = None  #: agent.observation_limit
    mirror: MirrorSettings | None = None  #: agent.mirror, if it is set
    parent: str | None = None  #: checkpoint of the parent policy
    parent_sha256: str | None = None
    fresh_statistics: bool = False  #: keep the parent's policy, but neither its normalisers nor its optimizer
    use_epoch: int = 0  #: the epoch to choose; 0 = the best
    export_epoch: int = 0  #: for "export": which checkpoint of `output`
    adoption: Adoption | None = None  #: for "adopt"
    busy_cores: int = 0  #: cores that another process is about to need; the result does not depend on it


class Ready(StrictModel):
    """The trainer has started: torch is imported, and it waits for its job or has read it."""

    event: Literal["ready"] = "ready"
    versions: dict[str, str]
    device: str = ""


class Heartbeat(StrictModel):
    """The trainer is alive and works on `doing`."""

    event: Literal["heartbeat"] = "heartbeat"
    doing: str
    progress: float = 0.0  #: of the whole job, in [0, 1]


class Notice(StrictModel):
    """A message about data or settings for the user. The job continues."""

    event: Literal["notice"] = "notice"
    code: str
    message: str


class EpochDone(StrictModel):
    """An epoch has ended. Its checkpoint is complete at the latest when the result is sent."""

    event: Literal["epoch"] = "epoch"
    epoch: int
    epochs: int
    losses: dict[str, float | None]  #: None for a value that is not finite
    score: float | None  #: lower is better; None if the epoch cannot be chosen
    seconds: float


class Selecting(StrictModel):
    """Training has ended, and the checkpoints are being ranked."""

    event: Literal["selecting"] = "selecting"


class RankedEpoch(StrictModel):
    """One checkpoint in the ranking, with the reason for its place."""

    epoch: int
    score: float | None
    value_loss: float | None
    reason: str
    policy_loss: float | None = None


class Result(StrictModel):
    """The output of a job."""

    event: Literal["result"] = "result"
    epoch: int  #: the chosen epoch
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
    notes: tuple[str, ...] = ()  #: for "adopt": lines that describe the adopted file
    algorithm: str = ""  #: for "train": its name and, if trainer.algorithm is auto, the reason for it


class Suspect(StrictModel):
    """A rollout without which a failed training works."""

    sha256: str
    name: str
    reason: str  #: in words: the column and the value, if they are known


class Failure(StrictModel):
    """The reason why a job failed. The exit code shows whether another attempt may work."""

    event: Literal["error"] = "error"
    code: str
    message: str
    suspects: tuple[Suspect, ...] = ()  #: rollouts that caused it, if the trainer has found them
    blames_parent: bool = False  #: training works from an untrained network, so the parent caused it


Event = Annotated[Ready | Heartbeat | Notice | EpochDone | Selecting | Result | Failure, Field(discriminator="event")]
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def event_from_line(line: bytes) -> Event:
    """Return the event on a line of a trainer's stdout. Raises pydantic's ValidationError."""
    return _EVENT.validate_json(line)


def finite_or_none(value: float) -> float | None:
    """Return None for a value that is not finite, which JSON cannot contain."""
    return value if abs(value) < float("inf") else None


def config_hash(settings: TrainerSettings) -> str:
    """Return a short hash over the settings."""
    return sha256_of(orjson.dumps(settings.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS))[:16]
