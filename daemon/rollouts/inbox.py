"""Records the rollouts in Exports in the ledger, each content once, and moves invalid files to Rejected."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from daemon.ledger.records import FileSignature
from daemon.rollouts.pending import UNREADABLE, PendingFile, code_and_reason, natural_key
from daemon.rollouts.reading.reader import Accepted, Incomplete, Rejected, RolloutReader
from daemon.rollouts.reading.reader_process import ReaderProcess
from daemon.rollouts.rejection import RejectedFiles, move_to_rejected
from daemon.rollouts.reports.file_clock import FileClock
from daemon.rollouts.reports.messages import InboxMessages
from daemon.rollouts.rereading import Rereading
from daemon.rollouts.scan import Listing, scan_folder
from daemon.rollouts.suspects import SuspectFiles
from daemon.rollouts.watcher import Watcher
from daemon.runtime.context import Context
from schemas.backoff import backoff_s
from schemas.rollout.meaning.rules import NO_RULES, ReadingRules
from schemas.rollout.repeats import ROLLOUTS_COMPARED
from schemas.text import printable

QUIET_S = 3.0
"""An incomplete file may still grow if it changed this recently."""
_TEMPORARY_CODES = UNREADABLE | {"E_CHANGING", "E_GONE"}
"""These errors may disappear although the file's signature stays the same."""
_MAX_OUTCOMES = 500
_BUDGET_S = 0.25
"""How long one check may reject files, because the service has other work to do."""
_SCAN_SHARE = 4.0
"""After a scan that took t seconds, the next one begins at least this many times t later: large folders are slow."""
_DUE_SHARE = 20.0
_FIRST_UNREACHABLE_S, _LONGEST_UNREACHABLE_S = 0.5, 10.0
"""The first and the longest delay before a folder that could not be listed is listed again."""


class Inbox:
    """Scans Exports when a scan is due or requested. `check` takes little time if nothing has changed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._messages = InboxMessages(context)
        self._file_clock = FileClock(context)
        self._reader_process = ReaderProcess(context.paths)
        self._reader = RolloutReader(
            context.paths,
            context.wake,
            context.disk,
            self._reader_process.ingest,
            context.ledger.newest_rollouts(ROLLOUTS_COMPARED),
        )
        self._watcher = Watcher(context.paths.exports, self.request_scan)
        self._accepted = context.ledger.files()
        self._pending: dict[str, PendingFile] = {}
        self.rereading = Rereading(context, self._accepted, self._pending, self.request_scan)
        self._unreadable: set[str] = set()
        self._to_reject: deque[Rejected] = deque()
        self._ignored: dict[str, FileSignature] = {}  # rejected files that are still in Exports
        self._is_scan_requested = True
        self._next_scan = 0.0
        self._scan_not_before = 0.0
        self._unreachable_scans = 0
        self._rejected_files = RejectedFiles(context)
        self._suspect_files = SuspectFiles(context, self.forget_files, self._messages.report_suspect)
        self._is_empty = False
        self.has_scanned = False

    def request_scan(self) -> None:
        """Scan Exports at the next check. May be called from any thread."""
        if not self._is_scan_requested:
            self._is_scan_requested = True
            self._context.wake()

    @property
    def is_up_to_date(self) -> bool:
        """Return whether every file in Exports was read and no incomplete file has changed recently."""
        now = self._context.clock.monotonic()
        may_grow = any(
            file.is_being_written
            or (file.code not in UNREADABLE and (not file.was_read or now - file.since_s < QUIET_S))
            for file in self._pending.values()
        )
        is_idle = not self._reader.is_busy and not self._to_reject
        return self.has_scanned and is_idle and not may_grow and not self._is_scan_requested

    @property
    def file_count(self) -> int:
        """Return how many accepted files are in Exports."""
        return 0 if self._is_empty else len(self._accepted)

    @property
    def incomplete(self) -> dict[str, str]:
        """Return the files that were not accepted yet: name -> reason."""
        return {name: file.reason for name, file in self._pending.items()}

    @property
    def _has_waiting_files(self) -> bool:
        """Return whether a file waits although it is not queued for reading."""
        return len(self._pending) > self._reader.queued_count

    def check(self) -> float:
        """Scan and handle the files that were read; return the seconds until the next check."""
        now = self._context.clock.monotonic()
        has_more = self._handle_outcomes(now)
        self.rereading.check()
        self._suspect_files.check()
        is_due = now >= self._next_scan
        if is_due:
            self._messages.report_watcher(self._watcher.check())
            self._messages.report_misplaced(now)
            self._rejected_files.check(now)
        if (is_due or self._is_scan_requested or self._has_waiting_files) and now >= self._scan_not_before:
            self._is_scan_requested = False
            self._scan(now)
            scan_s = self._context.clock.monotonic() - now
            self._scan_not_before = now + max(scan_s * (1 + _SCAN_SHARE), self._unreachable_s)
            if is_due:
                wait_s = max(self._context.settings.daemon.scan_interval_s, scan_s * _DUE_SHARE)
                self._next_scan = now + (self._unreachable_s or wait_s)
        self._report_unreadable()
        if has_more:
            return 0.0
        if self._is_scan_requested or self._has_waiting_files:
            return max(0.0 if self._is_scan_requested else 0.1, self._scan_not_before - now)
        return max(0.0, self._next_scan - now)

    def scan_now(self) -> None:
        """Scan for a user's command, even if the last scan was a moment ago."""
        self._is_scan_requested, self._scan_not_before = True, 0.0
        self.check()

    def forget_files(self, names: Iterable[str]) -> None:
        """Record that these files are not in Exports any more."""
        gone = [name for name in names if name in self._accepted]
        if gone:
            self._reader.save_comparison()  # retention removes their arrays
            self._context.ledger.forget_files(gone)
            for name in gone:
                self.rereading.discard(name)
                del self._accepted[name]

    def close(self) -> None:
        """Stop the watcher, the reader process and the reader's thread."""
        self._watcher.stop()
        self._reader_process.stop()
        self._reader.close()

    # Scanning

    @property
    def _unreachable_s(self) -> float:
        """Return the seconds to wait before the folder is listed again after a failure; 0 if it could be listed."""
        if not self._unreachable_scans:
            return 0.0
        return backoff_s(self._unreachable_scans, first_s=_FIRST_UNREACHABLE_S, longest_s=_LONGEST_UNREACHABLE_S)

    def _scan(self, now: float) -> None:
        scan = (now, self._context.clock.utc_s())
        try:
            found = scan_folder(self._context.paths.exports)
        except OSError as error:
            self._unreachable_scans += 1
            self._messages.report_unreachable(error)
            return
        self._unreachable_scans = 0
        self._messages.report_listing(found)
        self._forget_gone(found)
        new, rules = [], self._context.reading_rules()
        for name, signature in found.files.items():
            if self._ignored.get(name) == signature:
                continue
            is_known = name in self._accepted and self._accepted[name][0] == signature
            if is_known and name not in self.rereading:
                continue
            if name in self._pending:
                self._reconsider(name, signature, now, rules)
            else:
                new.append((name, signature))
        self._file_clock.observe({name: signature.mtime_ns / 1e9 for name, signature in new}, scan=scan)
        for name, signature in sorted(new, key=lambda item: (item[1].mtime_ns, natural_key(item[0]))):
            self._pending[name] = PendingFile(signature, now, was_read=False, code="", reason="not read yet")
            self._reader.request(name, signature, rules)
        self.has_scanned = True

    def _forget_gone(self, found: Listing) -> None:
        """Forget files that do not exist any more, unless the folder is empty: a network drive may be disconnected."""
        self._is_empty = not found.files and not found.skipped
        if not self._is_empty:
            self.forget_files(
                [name for name in self._accepted if name not in found.files and name not in found.skipped]
            )
        for table in (self._pending, self._ignored):
            for name in [name for name in table if name not in found.files]:
                del table[name]

    def _reconsider(self, name: str, signature: FileSignature, now: float, rules: ReadingRules) -> None:
        """Read a pending file again if it has changed or its error was temporary; reject it after a timeout."""
        settings, file = self._context.settings.daemon, self._pending[name]
        waited_s = now - file.since_s
        if file.signature != signature:
            self._pending[name] = PendingFile(signature, now, was_read=False, code="", reason=file.reason)
        elif not file.was_read:
            if waited_s >= settings.settle_s or file.failed_reads:
                self._reader.request(name, signature, rules)
        elif file.code in _TEMPORARY_CODES:
            if waited_s >= file.retry_s:
                self._pending[name] = PendingFile(signature, now, False, file.code, file.reason, file.failed_reads)
                self._reader.request(name, signature, rules)
        elif waited_s >= settings.incomplete_timeout_s:
            self._schedule_rejection(Rejected(name, signature, None, file.code, file.reason, may_grow=True))

    # Outcomes of reading

    def _handle_outcomes(self, now: float) -> bool:
        """Accept or reject the files that were read; return whether some are left for the next check."""
        outcomes = self._reader.collect_outcomes(_MAX_OUTCOMES)
        self._accept([outcome for outcome in outcomes if isinstance(outcome, Accepted)], now)
        for outcome in outcomes:
            if isinstance(outcome, Incomplete):
                self._update_pending(outcome, now)
            elif isinstance(outcome, Rejected):
                self._schedule_rejection(outcome)
        while self._to_reject:
            self._reject(self._to_reject.popleft(), now)
            if self._context.clock.monotonic() - now > _BUDGET_S:
                break
        return len(outcomes) == _MAX_OUTCOMES or bool(self._to_reject)

    def _update_pending(self, found: Incomplete, now: float) -> None:
        file = self._pending.get(found.name)
        if file is None:
            return
        is_same = file.signature == found.signature
        failed_reads = file.failed_reads + 1 if found.code in _TEMPORARY_CODES else 0
        since_s = file.since_s if is_same and not failed_reads else now
        code, reason = code_and_reason(found, failed_reads)
        updated = PendingFile(file.signature, since_s, is_same, code, reason, failed_reads)
        self._pending[found.name] = updated
        if updated.deserves_warning:
            self._unreadable.add(found.name)

    def _report_unreadable(self) -> None:
        found = ((name, self._pending.get(name)) for name in self._unreadable)
        unreadable = {name: file for name, file in found if file and file.deserves_warning}
        self._unreadable = set(unreadable)
        self._messages.report_unreadable(unreadable)

    def _accept(self, batch: list[Accepted], now: float) -> None:
        """Record rollouts in one transaction. Those that were read under rules that have changed are read again."""
        context = self._context
        rules = context.reading_rules() if batch else None
        fitting = []
        for accepted in batch:
            if rules is not None and rules.admits(accepted.contract):
                fitting.append(accepted)
            else:
                self._pending[accepted.row.name] = PendingFile(accepted.signature, now, False, "", "not read yet")
                self._reader.request(accepted.row.name, accepted.signature, rules or NO_RULES)
        if not fitting:
            return
        rows = [(accepted.row, accepted.signature) for accepted in fitting]
        are_new = context.ledger.accept_all(rows, at_s=context.clock.utc_s())
        self._messages.report_recovered(fitting)
        for accepted, is_new in zip(fitting, are_new, strict=True):
            row = accepted.row
            self._accepted[row.name] = (accepted.signature, row.sha256)
            self._pending.pop(row.name, None)
            if not self.rereading.accept(accepted, is_new=is_new):
                self._messages.report_accepted(accepted, now, is_new=is_new)

    def _schedule_rejection(self, rejected: Rejected) -> None:
        """Mark a file to be moved to Rejected; it is not read again."""
        self._ignored[rejected.name] = rejected.signature
        self._pending.pop(rejected.name, None)
        self._to_reject.append(rejected)

    def _reject(self, rejected: Rejected, now: float) -> None:
        """Move a file to Rejected. If it cannot be moved, it stays in Exports and is ignored until it changes."""
        context, name = self._context, rejected.name
        is_moved = True
        try:
            source, folder = context.paths.exports / name, context.paths.rejected
            target = move_to_rejected(source, folder, rejected.reason, disk=context.disk)
        except FileNotFoundError:
            self._ignored.pop(name, None)
            return
        except OSError:
            is_moved = False
        else:
            self._ignored.pop(name, None)
            if rejected.may_grow:
                self._rejected_files.watch(target)
        self.rereading.reject(rejected)
        self.forget_files([name])
        context.ledger.reject(
            printable(name), rejected.sha256, rejected.code, rejected.reason, at_s=context.clock.utc_s()
        )
        self._messages.report_rejected(rejected, now, is_moved=is_moved)
