"""From the listing of Exports to accepted rollouts in the ledger: whole files count once, bad ones go to Rejected."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from daemon.intake import Intake, NotWhole, Refused, Taken
from daemon.project import Project
from daemon.records import Stamp
from daemon.watch import Watcher, listing
from schemas.files import write_atomic
from schemas.text import shown

QUIET_S = 3.0
"""A file that is not whole may still grow as long as it changed this recently."""
_RETRY_UNREADABLE_S = 2.0
_STALLING = frozenset({"E_UNREADABLE", "E_CHANGING"})
"""Reasons that may pass although the file's stamp stays the same."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A file that is not whole yet."""

    stamp: Stamp
    since: float  #: monotonic s, when this stamp was first seen
    tried: bool  #: whether this stamp has been read
    code: str
    reason: str


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Order names as people do: rollout_9 before rollout_10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))


class Inbox:
    """Looks at Exports when due or nudged; `look` is cheap when nothing changed."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._intake = Intake(project.layout, project.wake)
        self._watcher = Watcher(project.layout.exports, self._nudge)
        self._known = project.ledger.files()
        self._waiting: dict[str, _Waiting] = {}
        self._stuck: dict[str, Stamp] = {}
        self._nudged = True
        self._next_scan = 0.0
        self.has_looked = False

    def _nudge(self) -> None:
        self._nudged = True
        self._project.wake()

    @property
    def is_settled(self) -> bool:
        """Tell whether all in Exports has been looked at, and what is not whole has held still for a while."""
        now = self._project.clock.monotonic()
        open_ones = any(
            w.code != "E_UNREADABLE" and (not w.tried or now - w.since < QUIET_S) for w in self._waiting.values()
        )
        return self.has_looked and not self._intake.busy and not open_ones and not self._nudged

    @property
    def present(self) -> int:
        """How many accepted files lie in Exports."""
        return len(self._known)

    @property
    def unfinished(self) -> dict[str, str]:
        """The files that are not whole yet, with the reason."""
        return {name: waiting.reason for name, waiting in self._waiting.items()}

    def look(self) -> float:
        """Do what is due; give the seconds until the next look."""
        now = self._project.clock.monotonic()
        self._absorb(now)
        if self._nudged or now >= self._next_scan or self._waiting:
            self._nudged = False
            if now >= self._next_scan:
                self._check_watcher()
                self._next_scan = now + self._project.settings.daemon.scan_interval_s
            self._scan(now)
        if not any(waiting.code == "E_UNREADABLE" for waiting in self._waiting.values()):
            self._project.settle("W_UNREADABLE")
        return 0.1 if self._waiting else max(0.0, self._next_scan - now)

    def close(self) -> None:
        """End the threads."""
        self._watcher.stop()
        self._intake.close()

    def _check_watcher(self) -> None:
        trouble = self._watcher.check()
        if trouble is None:
            self._project.settle("W_WATCHER")
        else:
            self._project.warn("W_WATCHER", trouble)

    def _scan(self, now: float) -> None:
        try:
            found = listing(self._project.layout.exports)
        except OSError as error:
            self._project.warn("W_EXPORTS", f"Exports cannot be listed: {error.strerror}; looking again")
            return
        self._project.settle("W_EXPORTS")
        self._forget_gone(found)
        fresh = [
            (name, stamp)
            for name, stamp in found.items()
            if self._stuck.get(name) != stamp and (name not in self._known or self._known[name][0] != stamp)
        ]
        for name, stamp in sorted(fresh, key=lambda item: (item[1].mtime_ns, natural_key(item[0]))):
            self._consider(name, stamp, now)
        self.has_looked = True

    def _forget_gone(self, found: dict[str, Stamp]) -> None:
        gone = [name for name in self._known if name not in found]
        if gone:
            self._project.ledger.forget_files(gone)
            for name in gone:
                del self._known[name]
        for name in [name for name in self._waiting if name not in found]:
            del self._waiting[name]

    def _consider(self, name: str, stamp: Stamp, now: float) -> None:
        """Have a file read at first sight; later only when it has changed and then held still."""
        settings = self._project.settings.daemon
        waiting = self._waiting.get(name)
        if waiting is None:
            self._waiting[name] = _Waiting(stamp, now, tried=False, code="", reason="not read yet")
            self._intake.want(name, stamp)
        elif waiting.stamp != stamp:
            self._waiting[name] = _Waiting(stamp, now, tried=False, code="", reason=waiting.reason)
        elif not waiting.tried and now - waiting.since >= settings.settle_s:
            self._intake.want(name, stamp)
        elif waiting.tried and waiting.code in _STALLING and now - waiting.since >= _RETRY_UNREADABLE_S:
            self._waiting[name] = _Waiting(stamp, now, tried=False, code=waiting.code, reason=waiting.reason)
        elif waiting.tried and waiting.code not in _STALLING and now - waiting.since >= settings.incomplete_timeout_s:
            self._reject(Refused(name, stamp, None, waiting.code, waiting.reason))

    def _absorb(self, now: float) -> None:
        for outcome in self._intake.outcomes():
            match outcome:
                case Taken():
                    self._accept(outcome)
                case NotWhole(name, stamp, code, reason):
                    self._note_unfinished(name, stamp, code, reason, now)
                case Refused():
                    self._reject(outcome)

    def _note_unfinished(self, name: str, stamp: Stamp, code: str, reason: str, now: float) -> None:
        waiting = self._waiting.get(name)
        if waiting is None:
            return
        since = waiting.since if waiting.stamp == stamp else now
        self._waiting[name] = _Waiting(waiting.stamp, since, waiting.stamp == stamp, code, reason)
        if code == "E_UNREADABLE":
            self._project.warn("W_UNREADABLE", f"{shown(name)}: {reason}; trying again")

    def _accept(self, taken: Taken) -> None:
        project, row = self._project, taken.row
        contract = project.contract
        if contract is not None and (differences := contract.differences(taken.contract)):
            reason = (
                f"it has {' and '.join(differences)} -> a project has one shape; use another --project for a new agent"
            )
            self._reject(Refused(row.name, taken.stamp, row.sha256, "E_CONTRACT", reason))
            return
        first = taken.contract.to_bytes() if contract is None else None
        is_new = project.ledger.accept(row, taken.stamp, at_s=project.clock.utc_s(), contract=first)
        self._known[row.name] = (taken.stamp, row.sha256)
        self._waiting.pop(row.name, None)
        name = shown(row.name)
        if not is_new:
            project.log.info(f"{name} has the same content as an earlier rollout: counted once")
        elif row.left_out:
            total = row.left_out + row.experiences
            project.warn(
                "W_NONFINITE", f"{name}: {row.left_out} of {total} experiences were not finite and are left out"
            )

    def _reject(self, refused: Refused) -> None:
        """Move a file to Rejected beside its reason; one that cannot be moved is not looked at again."""
        project, name = self._project, refused.name
        target = _free_name(project.layout.rejected, name)
        try:
            os.replace(project.layout.exports / name, target)
            reason = f"{refused.reason}\n".encode("utf-8", "backslashreplace")
            write_atomic(target.with_name(f"{target.name}.reason.txt"), reason)
        except FileNotFoundError:
            self._waiting.pop(name, None)
            return
        except OSError:
            self._stuck[name] = refused.stamp
        self._waiting.pop(name, None)
        self._known.pop(name, None)
        shown_name = shown(name)
        project.ledger.reject(shown_name, refused.sha256, refused.code, refused.reason, at_s=project.clock.utc_s())
        project.warn("W_REJECTED", f"{shown_name} was rejected: {refused.reason}")


def _free_name(folder: Path, name: str) -> Path:
    candidate, n = folder / name, 1
    while candidate.exists() or candidate.with_name(f"{candidate.name}.reason.txt").exists():
        n += 1
        candidate = folder / f"{name}.{n}"
    return candidate
