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
from schemas.job import ExitCode


class Phase(StrEnum):
    """Where a cycle stands."""

    CLAIMED = "claimed"
    TRAINING = "training"
    SELECTING = "selecting"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    FAILED = "failed"
    PARKED = "parked"


ARROWS: frozenset[tuple[Phase, Phase]] = frozenset(
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
"""The legal steps; the ledger holds the same table and refuses every other."""

RUNNING = frozenset({Phase.CLAIMED, Phase.TRAINING, Phase.SELECTING, Phase.PUBLISHING})


class IllegalTransition(DaemonError):
    """An event that does not fit the phase."""

    code = "E_ILLEGAL_STEP"


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle as the ledger has it."""

    id: int
    kind: Literal["initial", "train"]
    phase: Phase
    attempt: int = 0
    due_s: float = 0.0  #: not before this time, s since 1970
    why: str = ""

    @property
    def policy_version(self) -> int:
        """The version that this cycle publishes."""
        return 0 if self.kind == "initial" else self.id


@dataclass(frozen=True, slots=True)
class Launching:
    """A trainer is about to be started."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The epochs are over; the checkpoints are being ranked."""


@dataclass(frozen=True, slots=True)
class Selected:
    """The trainer left a whole result in staging."""


@dataclass(frozen=True, slots=True)
class Published:
    """The engine's pointer names the model."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The trainer or the publish failed; `code` is the trainer's exit code where there is one."""

    why: str
    code: int = ExitCode.TEMPORARY
    tries: int = 1_000_000  #: how many tries of one cycle this failure is worth, if patience allows as many

    @property
    def is_final(self) -> bool:
        """Return whether the same inputs will fail again for sure."""
        return self.code != ExitCode.TEMPORARY and self.code >= 0


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The daemon itself was gone meanwhile; nobody is at fault."""


@dataclass(frozen=True, slots=True)
class RetryRequested:
    """A person asks to try a parked cycle again."""


Event = Launching | Trained | Selected | Published | Failed | Interrupted | RetryRequested


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How failures are answered."""

    attempts: int  #: tries of one cycle where another may help
    failures_before_parking: int  #: failed cycles in a row, this one included
    retry_delay_s: float

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number `attempt` (counted from 1): doubles, at most an hour."""
        return min(3600.0, self.retry_delay_s * 2.0 ** min(attempt - 1, 16))


def advance(
    cycle: Cycle, event: Event, *, now_s: float, retry_policy: RetryPolicy, failures_in_a_row: int = 0
) -> Cycle:
    """Return the cycle as it stands after `event`. Raises IllegalTransition; changes nothing.

    `failures_in_a_row` counts the cycles that failed directly before this one; the tries of this one count as well.
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
        case Phase.PARKED, RetryRequested():
            return replace(cycle, phase=Phase.CLAIMED, attempt=0, due_s=0.0, why="triggered again")
        case ((Phase.CLAIMED | Phase.TRAINING | Phase.SELECTING | Phase.PUBLISHING), Failed() as broken):
            return _after_failure(cycle, broken, now_s, retry_policy, failures_in_a_row)
        case _:
            raise IllegalTransition(f"cycle {cycle.id} is {cycle.phase}: {type(event).__name__} does not fit")


def _after_failure(
    cycle: Cycle, failed: Failed, now_s: float, retry_policy: RetryPolicy, failures_in_a_row: int
) -> Cycle:
    tries = min(failed.tries, retry_policy.attempts)
    may_retry = not failed.is_final and cycle.attempt < tries and cycle.phase is not Phase.CLAIMED
    if may_retry:
        due_s = now_s + retry_policy.delay_s(cycle.attempt)
        return replace(cycle, phase=Phase.CLAIMED, due_s=due_s, why=failed.why)
    failed_tries = 1 if failed.is_final else max(1, cycle.attempt)
    parks = failures_in_a_row + failed_tries >= retry_policy.failures_before_parking
    return replace(cycle, phase=Phase.PARKED if parks else Phase.FAILED, why=failed.why)
