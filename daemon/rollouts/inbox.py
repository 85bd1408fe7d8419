"""From the listing of Exports to accepted rollouts in the ledger: whole files count once, bad ones go to Rejected."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from daemon.ledger.records import FileSignature
from daemon.rollouts.pending import UNREADABLE, PendingFile, natural_key
from daemon.rollouts.reader import Accepted, Incomplete, Rejected, RolloutReader
from daemon.rollouts.reader_process import ReaderProcess
from daemon.rollouts.rejection import move_to_rejected
from daemon.rollouts.scan import Listing, describe_skipped, scan_folder
from daemon.rollouts.watcher import Watcher
from daemon.runtime.context import Context
from daemon.runtime.rate_limit import RateLimit
from schemas.text import printable

QUIET_S = 3.0
"""A file that is not whole may still grow as long as it changed this recently."""
_STALLING = UNREADABLE | {"E_CHANGING", "E_GONE"}
"""Reasons that may pass although the file's stamp stays the same."""
_MOST_OUTCOMES = 500
_BUDGET_S = 0.25
"""How long one look may take with what has been read: the trainer wants to be listened to as well."""
_SCAN_SHARE = 4.0
"""After a scan that took t seconds there is none for this many times t: listing a huge folder is not free."""
_DUE_SHARE = 20.0
_FIRST_UNREACHABLE_S, _LONGEST_UNREACHABLE_S = 0.5, 10.0
"""A folder that cannot be listed is listed again after a while that doubles."""


class Inbox:
    """Looks at Exports when due or nudged; `look` is cheap when nothing changed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._aside = ReaderProcess(context.paths)
        self._reader = RolloutReader(context.paths, context.wake, context.disk, self._aside.ingest)
        self._watcher = Watcher(context.paths.exports, self.request_scan)
        self._known = context.ledger.files()
        self._waiting: dict[str, PendingFile] = {}
        self._unreadable: set[str] = set()
        self._refused: deque[Rejected] = deque()
        self._stuck: dict[str, FileSignature] = {}
        self._odd: dict[str, str] = {}
        self._limiter = RateLimit()
        self._has_told_encoding = False
        self._nudged = True
        self._next_scan = 0.0
        self._scan_not_before = 0.0
        self._unreachable_s = 0.0
        self._is_empty = False
        self.has_scanned = False

    def request_scan(self) -> None:
        if not self._nudged:
            self._nudged = True
            self._context.wake()

    @property
    def is_up_to_date(self) -> bool:
        """Return whether all in Exports has been looked at, and what is not whole has held still for a while."""
        now = self._context.clock.monotonic()
        open_ones = any(
            w.code not in UNREADABLE and (not w.was_read or now - w.since_s < QUIET_S) for w in self._waiting.values()
        )
        is_idle = not self._reader.is_busy and not self._refused
        return self.has_scanned and is_idle and not open_ones and not self._nudged

    @property
    def file_count(self) -> int:
        """How many accepted files lie in Exports."""
        return 0 if self._is_empty else len(self._known)

    @property
    def incomplete(self) -> dict[str, str]:
        """The files that are not whole yet, with the reason."""
        return {name: waiting.reason for name, waiting in self._waiting.items()}

    @property
    def _has_open_ones(self) -> bool:
        """Return whether a file waits for something else than its turn to be read."""
        return len(self._waiting) > self._reader.queued_count

    def check(self) -> float:
        """Do what is due; give the seconds until the next look."""
        now = self._context.clock.monotonic()
        is_more = self._absorb(now)
        is_due = now >= self._next_scan
        if is_due:
            self._check_watcher()
        if (is_due or self._nudged or self._has_open_ones) and now >= self._scan_not_before:
            self._nudged = False
            self._scan(now)
            took_s = self._context.clock.monotonic() - now
            self._scan_not_before = now + max(took_s * (1 + _SCAN_SHARE), self._unreachable_s)
            if is_due:
                wait_s = max(self._context.settings.daemon.scan_interval_s, took_s * _DUE_SHARE)
                self._next_scan = now + (self._unreachable_s or wait_s)
        self._tell_unreadable()
        if is_more:
            return 0.0
        if self._nudged or self._has_open_ones:
            return max(0.0 if self._nudged else 0.1, self._scan_not_before - now)
        return max(0.0, self._next_scan - now)

    def close(self) -> None:
        """End the threads."""
        self._watcher.stop()
        self._aside.stop()
        self._reader.close()

    def _check_watcher(self) -> None:
        trouble = self._watcher.check()
        if trouble is None:
            self._context.clear_warning("W_WATCHER")
        else:
            self._context.warn("W_WATCHER", trouble)

    def _scan(self, now: float) -> None:
        try:
            found = scan_folder(self._context.paths.exports)
        except (FileNotFoundError, NotADirectoryError) as error:
            self._wait_for_folder(f"waiting for folder Exports: {error.strerror}")
            return
        except OSError as error:
            self._wait_for_folder(f"the folder Exports is unreachable: {error.strerror or error}; looking again")
            return
        self._context.clear_warning("W_EXPORTS")
        self._unreachable_s = 0.0
        self._forget_gone(found)
        self._tell_odd(found.skipped)
        news = []
        for name, stamp in found.files.items():
            if self._stuck.get(name) == stamp or (name in self._known and self._known[name][0] == stamp):
                continue
            if name in self._waiting:
                self._reconsider(name, stamp, now)
            else:
                news.append((name, stamp))
        for name, stamp in sorted(news, key=lambda item: (item[1].mtime_ns, natural_key(item[0]))):
            self._waiting[name] = PendingFile(stamp, now, was_read=False, code="", reason="not read yet")
            self._reader.request(name, stamp)
        self.has_scanned = True

    def _wait_for_folder(self, reason: str) -> None:
        self._context.warn("W_EXPORTS", reason)
        longer_s = max(_FIRST_UNREACHABLE_S, 2.0 * self._unreachable_s)
        self._unreachable_s = min(_LONGEST_UNREACHABLE_S, longer_s)

    def forget_files(self, names: Iterable[str]) -> None:
        """Note that these files are gone from Exports for good."""
        gone = [name for name in names if name in self._known]
        if gone:
            self._context.ledger.forget_files(gone)
            for name in gone:
                del self._known[name]

    def _forget_gone(self, found: Listing) -> None:
        """Forget what is not there any more. A folder without anything is no proof: a share may just be away."""
        self._is_empty = not found.files and not found.skipped
        if not self._is_empty:
            self.forget_files([name for name in self._known if name not in found.files and name not in found.skipped])
        for table in (self._waiting, self._stuck):
            for name in [name for name in table if name not in found.files]:
                del table[name]

    def _tell_odd(self, odd: dict[str, str]) -> None:
        if odd == self._odd:
            return
        new = frozenset(name for name, code in odd.items() if self._odd.get(name) != code)
        self._odd = odd
        if odd:
            self._context.warn("W_ODD_FILES", describe_skipped(odd, new=new))
        else:
            self._context.clear_warning("W_ODD_FILES")

    def _reconsider(self, name: str, signature: FileSignature, now: float) -> None:
        """Have a file read again when it has changed and then held still, or after a while where that may help."""
        settings, waiting = self._context.settings.daemon, self._waiting[name]
        waited_s = now - waiting.since_s
        if waiting.signature != signature:
            self._waiting[name] = PendingFile(signature, now, was_read=False, code="", reason=waiting.reason)
        elif not waiting.was_read:
            if waited_s >= settings.settle_s or waiting.failed_reads:
                self._reader.request(name, signature)
        elif waiting.code in _STALLING:
            if waited_s >= waiting.retry_s:
                self._waiting[name] = PendingFile(signature, now, False, waiting.code, waiting.reason, waiting.failed_reads)
                self._reader.request(name, signature)
        elif waited_s >= settings.incomplete_timeout_s:
            self._refuse(Rejected(name, signature, None, waiting.code, waiting.reason))

    def _absorb(self, now: float) -> bool:
        """Take over what has been read; tell whether there is more than one look has time for."""
        outcomes = self._reader.collect_outcomes(_MOST_OUTCOMES)
        self._accept([outcome for outcome in outcomes if isinstance(outcome, Accepted)], now)
        for outcome in outcomes:
            if isinstance(outcome, Incomplete):
                self._note_unfinished(outcome, now)
            elif isinstance(outcome, Rejected):
                self._refuse(outcome)
        while self._refused:
            self._reject(self._refused.popleft(), now)
            if self._context.clock.monotonic() - now > _BUDGET_S:
                break
        return len(outcomes) == _MOST_OUTCOMES or bool(self._refused)

    def _note_unfinished(self, found: Incomplete, now: float) -> None:
        waiting = self._waiting.get(found.name)
        if waiting is None:
            return
        is_same = waiting.signature == found.signature
        tries = waiting.failed_reads + 1 if found.code in _STALLING else 0
        since = waiting.since_s if is_same and not tries else now
        self._waiting[found.name] = PendingFile(waiting.signature, since, is_same, found.code, found.reason, tries)
        if self._waiting[found.name].deserves_warning:
            self._unreadable.add(found.name)

    def _tell_unreadable(self) -> None:
        candidates = ((name, self._waiting.get(name)) for name in self._unreadable)
        told = {name: waiting for name, waiting in candidates if waiting and waiting.deserves_warning}
        self._unreadable = set(told)
        if not told:
            self._context.clear_warning("W_UNREADABLE")
            return
        parts = [f"{printable(name, limit=300)}: {told[name].reason}" for name in sorted(told)[:3]]
        more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
        self._context.warn("W_UNREADABLE", f"{'; '.join(parts)}{more}; trying again")

    def _accept(self, batch: list[Accepted], now: float) -> None:
        """Record rollouts of the project's shape, all in one transaction; the first of all sets the shape."""
        context, fitting, first = self._context, [], None
        contract = context.contract if batch else None
        for taken in batch:
            if contract is None:
                contract, first = taken.contract, taken.contract.to_bytes()
            if differences := contract.differences(taken.contract):
                remedy = "a project has one shape; use another --project for a new agent [E_CONTRACT]"
                reason = f"it has {' and '.join(differences)} -> {remedy}"
                self._refuse(Rejected(taken.row.name, taken.signature, taken.row.sha256, "E_CONTRACT", reason))
            else:
                fitting.append(taken)
        if not fitting:
            return
        rows = [(taken.row, taken.signature) for taken in fitting]
        are_new = context.ledger.accept_all(rows, at_s=context.clock.utc_s(), contract=first)
        for taken, is_new in zip(fitting, are_new, strict=True):
            self._known[taken.row.name] = (taken.signature, taken.row.sha256)
            self._waiting.pop(taken.row.name, None)
            self._tell_taken(taken, now, is_new=is_new)

    def _tell_taken(self, taken: Accepted, now: float, *, is_new: bool) -> None:
        context, row, name = self._context, taken.row, printable(taken.row.name)
        if taken.has_costly_encoding and not self._has_told_encoding:
            self._has_told_encoding = True
            context.log.info(f"{name} is in UTF-16 or UTF-32, which works; shorter: ForceUTF8WithoutBOM in Unreal")
        if not is_new:
            if self._limiter.allows("duplicate", now):
                context.log.info(f"{name} has the same content as an earlier rollout: counted once")
        elif row.left_out and self._limiter.allows("W_NONFINITE", now):
            context.warn(
                "W_NONFINITE",
                f"{name}: {row.left_out} of {row.left_out + row.experiences} experiences were not finite and are left"
                " out -> look for a division by zero in the engine [E_NONFINITE]",
            )

    def _refuse(self, refused: Rejected) -> None:
        """Have a file moved to Rejected; until then nothing else happens to it."""
        self._stuck[refused.name] = refused.signature
        self._waiting.pop(refused.name, None)
        self._refused.append(refused)

    def _reject(self, refused: Rejected, now: float) -> None:
        """Move a file to Rejected beside its reason; one that cannot be moved is not looked at again."""
        context, name = self._context, refused.name
        is_moved = True
        try:
            move_to_rejected(context.paths.exports / name, context.paths.rejected, refused.reason, disk=context.disk)
        except FileNotFoundError:
            self._stuck.pop(name, None)
            return
        except OSError:
            is_moved = False
        else:
            self._stuck.pop(name, None)
        self._known.pop(name, None)
        shown_name = printable(name)
        context.ledger.reject(shown_name, refused.sha256, refused.code, refused.reason, at_s=context.clock.utc_s())
        if not self._limiter.allows("W_REJECTED", now):
            return
        held_back = self._limiter.held_back("W_REJECTED")
        others = f" (and {held_back} others before it: see Rejected)" if held_back else ""
        where = "" if is_moved else " (it cannot be moved and stays where it is)"
        context.warn("W_REJECTED", f"{shown_name} was rejected{where}: {refused.reason}{others}")
