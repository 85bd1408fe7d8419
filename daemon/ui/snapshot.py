"""What the dashboard shows at one moment: plain values, made by the deciding thread, drawn by another."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.status import CycleSummary, Status


@dataclass(frozen=True, slots=True)
class SystemStats:
    """What the machine is busy with."""

    cpu_percent: float  #: in [0, 100], all cores together
    memory_used: int  #: bytes
    memory_total: int  #: bytes
    daemon_memory: int  #: bytes, this process
    trainer_memory: int  #: bytes, the trainer and its children; 0 where none runs
    gpu: str  #: one short line, empty where there is none


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of the daemon."""

    status: Status
    cycles: tuple[CycleSummary, ...]  #: the newest hundred or so, oldest first
    log_lines: tuple[str, ...]  #: the last ones, made safe already
    machine: SystemStats
    project: str  #: the folder's name
    now_s: float  #: s since 1970
