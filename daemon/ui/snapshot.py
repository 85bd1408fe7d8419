"""The content of the dashboard at one moment: plain values from one thread, which another thread draws."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.status import CycleSummary, Status


@dataclass(frozen=True, slots=True)
class SystemStats:
    """The use of CPU, memory and GPU."""

    cpu_percent: float  #: in [0, 100], all cores together
    memory_used: int  #: bytes
    memory_total: int  #: bytes
    daemon_memory: int  #: bytes, this process
    trainer_memory: int  #: bytes, the trainer and its children; 0 if none runs
    gpu: str  #: one short line; empty without a GPU


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the daemon at one moment."""

    status: Status
    cycles: tuple[CycleSummary, ...]  #: the newest hundred or so, oldest first
    log_lines: tuple[str, ...]  #: the last ones, safe to print
    system_stats: SystemStats
    project: str  #: the folder's name
    now_s: float  #: s since 1970
    disk: str = ""  #: what rollouts take of the disk, in a few words; empty if unknown
