"""One training cycle as a pure state machine: no clock, no disk, no process.

claimed -> training -> selecting -> publishing -> published
   ^          |            |            |
   |          v            v            v
   +------ (retry, restart) or failed or parked;  parked -> claimed by `trigger`
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from daemon.errors import DaemonError
from schemas.backoff import backoff_s
from schemas.job import ExitCode, JobKind, Suspect

_LONGEST_DELAY_S = 3600.0


class Phase(StrEnum):
    """The phase of a cycle."""

    CLAIMED = "claimed"
    TRAINING = "training"
    SELECTING = "selecting"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    FAILED = "failed"
    PARKED = "parked"


LEGAL_STEPS: frozenset[tuple[Phase, Phase]] = frozenset(
    {
        (Phase.CLAIMED, Phase.TRAINING),
        (Phase.TRAINING, Phase.SELECTING),
        (Phase.SELECTING, Phase.PUBLISHING),
        (Phase.PUBLISHING, Phase.PUBLISHED),
        (Phase.PARKED, Phase.CLAIMED),
        *((running, Phase.CLAIMED) for running in (Phase.TRAINING, Phase.SELECTING, Phase.PUBLISHING)),
        *(
            (running, end)
            for running in (Phase.CLAIMED, Phase.TRAINING, Phase.SELECTING, Phase.PUBLISHING)
            for end in (Phase.FAILED, Phase.PARKED)
        ),
    }
)
"""The allowed steps from one phase to another. The ledger has the same table and refuses all other steps."""

RUNNING = frozenset({Phase.CLAIMED, Phase.TRAINING, Phase.SELECTING, Phase.PUBLISHING})


class IllegalTransition(DaemonError):
    """The event is not allowed in the cycle's phase."""

    code = "E_ILLEGAL_STEP"


@dataclass(frozen=True, slots=True)
class Cycle:
    """A cycle, as it is stored in the ledger."""

    id: int
    kind: Literal["initial", "train"]
    phase: Phase
    attempt: int = 0
    due_s: float = 0.0  #: not before this time, s since 1970
    why: str = ""
    cause: str = ""  #: what started it: count, once, trigger, initial, adopt, rebuilt

    @property
    def is_adoption(self) -> bool:
        """Return whether the cycle publishes a model that was trained elsewhere."""
        return self.cause == "adopt"

    @property
    def job_kind(self) -> JobKind:
        """Return the kind of job that the cycle's trainer gets."""
        return "adopt" if self.is_adoption else self.kind

    @property
    def policy_version(self) -> int:
        """Return the policy version that this cycle publishes."""
        return 0 if self.kind == "initial" else self.id


@dataclass(frozen=True, slots=True)
class Launching:
    """A trainer is about to start."""


@dataclass(frozen=True, slots=True)
class Trained:
    """All epochs are done; the trainer ranks the checkpoints."""


@dataclass(frozen=True, slots=True)
class Selected:
    """The trainer has chosen an epoch; its files are in the staging folder."""


@dataclass(frozen=True, slots=True)
class Published:
    """The pointer file names the model."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The trainer or the publish failed. `code` is the trainer's exit code if it has one."""

    why: str
    code: int = ExitCode.TEMPORARY
    max_attempts: int | None = None  #: for this kind of failure, if fewer than in the retry policy
    is_setup: bool = False  #: settings or the installation caused it, not the rollouts
    is_memory: bool = False  #: memory ran out
    is_crash: bool = False  #: the trainer ended without a reason of its own
    suspects: tuple[Suspect, ...] = ()  #: rollouts that caused it, as far as the trainer knows
    blames_parent: bool = False  #: the trainer has found out that the parent caused it

    @property
    def is_final(self) -> bool:
        """Return whether another attempt with the same inputs would certainly fail."""
        return self.code != ExitCode.TEMPORARY and self.code >= 0


@dataclass(frozen=True, slots=True)
class CauseRemoved:
    """An attempt failed, but its cause was found and will not be in the next one, which starts at once."""

    why: str
    has_rollouts: bool = True  #: false: all rollouts of the cycle caused it, so the cycle has failed


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The daemon ended while the cycle was running. This does not count as an attempt."""


@dataclass(frozen=True, slots=True)
class RetryRequested:
    """A user has requested another attempt at a parked cycle."""


Event = Launching | Trained | Selected | Published | Failed | CauseRemoved | Interrupted | RetryRequested


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failed attempt is repeated, and after which delay."""

    attempts: int  #: per cycle, for failures that may be temporary
    failures_before_parking: int  #: in a row; failed attempts of the current cycle are included
    retry_delay_s: float

    def delay_s(self, attempt: int) -> float:
        """Return the seconds to wait after failed attempt number `attempt` (the first is 1)."""
        return backoff_s(attempt, first_s=self.retry_delay_s, longest_s=_LONGEST_DELAY_S)


def advance(
    cycle: Cycle, event: Event, *, now_s: float, retry_policy: RetryPolicy, failures_in_a_row: int = 0
) -> Cycle:
    """Return the cycle after `event`. Raises IllegalTransition.

    `failures_in_a_row` is the number of cycles that failed directly before this one.
    """
    match cycle.phase, event:
        case Phase.CLAIMED, Launching():
            return replace(cycle, phase=Phase.TRAINING, attempt=cycle.attempt + 1, why="trainer launched")
        case Phase.TRAINING, Trained():
            return replace(cycle, phase=Phase.SELECTING, why="epochs done")
        case Phase.SELECTING, Selected():
            return replace(cycle, phase=Phase.PUBLISHING, why="epoch chosen")
        case Phase.PUBLISHING, Published():
            return replace(cycle, phase=Phase.PUBLISHED, why="published")
        case Phase.TRAINING | Phase.SELECTING | Phase.PUBLISHING, Interrupted():
            return replace(cycle, phase=Phase.CLAIMED, attempt=max(0, cycle.attempt - 1), why="daemon restarted")
        case Phase.TRAINING | Phase.SELECTING | Phase.PUBLISHING, CauseRemoved() as removed:
            phase = Phase.CLAIMED if removed.has_rollouts else Phase.FAILED
            return replace(cycle, phase=phase, attempt=max(0, cycle.attempt - 1), due_s=0.0, why=removed.why)
        case Phase.PARKED, RetryRequested():
            return replace(cycle, phase=Phase.CLAIMED, attempt=0, due_s=0.0, why="triggered again")
        case ((Phase.CLAIMED | Phase.TRAINING | Phase.SELECTING | Phase.PUBLISHING), Failed() as failed):
            return _after_failure(cycle, failed, now_s, retry_policy, failures_in_a_row)
        case _:
            raise IllegalTransition(f"cycle {cycle.id} is {cycle.phase}: {type(event).__name__} is not allowed")


def may_retry(cycle: Cycle, failed: Failed, retry_policy: RetryPolicy) -> bool:
    """Return whether a failed attempt is repeated with the same inputs."""
    attempts = min(failed.max_attempts or retry_policy.attempts, retry_policy.attempts)
    return not failed.is_final and cycle.attempt < attempts and cycle.phase is not Phase.CLAIMED


def _after_failure(
    cycle: Cycle, failed: Failed, now_s: float, retry_policy: RetryPolicy, failures_in_a_row: int
) -> Cycle:
    if may_retry(cycle, failed, retry_policy):
        due_s = now_s + retry_policy.delay_s(cycle.attempt)
        return replace(cycle, phase=Phase.CLAIMED, due_s=due_s, why=failed.why)
    failed_attempts = 1 if failed.is_final else max(1, cycle.attempt)
    is_setup = failed.is_setup or failed.code == ExitCode.BAD_CONFIG
    # A parked cycle keeps its rollouts. Every other cycle would fail in the same way, and would lose its own.
    parks = failures_in_a_row + failed_attempts >= retry_policy.failures_before_parking or (
        is_setup and cycle.kind == "train"
    )
    return replace(cycle, phase=Phase.PARKED if parks else Phase.FAILED, why=failed.why)
