"""Log lines and warnings about the files in Exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from daemon.rollouts.misplaced import find_misplaced
from daemon.rollouts.pending import PendingFile
from daemon.rollouts.reading.reader import Accepted, Rejected
from daemon.rollouts.reports.data_messages import DataMessages
from daemon.rollouts.reports.recoveries import Recoveries
from daemon.rollouts.scan import Listing
from daemon.runtime.context import Context
from daemon.runtime.rate_limit import RateLimit
from schemas.rollout.finite import in_words, remedy
from schemas.text import printable

_SKIPPED = {
    "E_SYMLINK": "is a symbolic link -> write the file itself",
    "E_NOT_REGULAR": "is not a regular file -> remove it",
    "E_NAME": "has white space around its name or a dot after it, so it is not read as a rollout -> rename it",
    "E_UNREADABLE": "cannot be read -> check the rights of the folder",
}
_MISPLACED_S = 60.0
"""Seconds between two searches for rollouts in sub-folders or under other names."""
_SEARCH_SHARE = 20.0
"""After a search that took t seconds, the next one begins at least this many times t later."""
_SKIPPED_NAMED = 5
_UNREADABLE_NAMED = 3


class InboxMessages:
    """Writes the inbox's warnings and log lines."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._limit = RateLimit()
        self._skipped: dict[str, str] = {}
        self._next_search = 0.0
        self._has_reported_encoding = False
        self._reported_causes: set[str] = set()
        self._recoveries = Recoveries(context)
        self._data = DataMessages(context)

    def report_watcher(self, problem: str | None) -> None:
        """Show or clear the warning that file events do not arrive."""
        if problem is None:
            self._context.clear_warning("W_WATCHER")
        else:
            self._context.warn("W_WATCHER", problem)

    def report_unreachable(self, error: OSError) -> None:
        """Warn that the folder cannot be listed."""
        exports = self._context.paths.exports
        if isinstance(error, FileNotFoundError):
            message = f"waiting for the folder Exports: {error.strerror}"
        elif not exports.is_dir():  # the error is another one on each system
            message = "waiting for the folder Exports: there is a file of that name -> move it to another place"
        else:
            message = f"the folder Exports cannot be listed: {error.strerror or error}; trying again"
        self._context.warn("W_EXPORTS", message)

    def report_listing(self, found: Listing) -> None:
        """Clear the warning of `report_unreachable`; warn about skipped files if they changed since the last scan."""
        self._context.clear_warning("W_EXPORTS")
        skipped = found.skipped
        if skipped == self._skipped:
            return
        new = frozenset(name for name, code in skipped.items() if self._skipped.get(name) != code)
        self._skipped = skipped
        if skipped:
            self._context.warn("W_ODD_FILES", describe_skipped(skipped, new=new))
        else:
            self._context.clear_warning("W_ODD_FILES")

    def report_misplaced(self, now: float) -> None:
        """Show or clear the warning about files that are not read because of their place or name, if it is due."""
        if now < self._next_search:
            return
        found = find_misplaced(self._context.paths.exports)
        if found:
            self._context.warn("W_MISPLACED", "; ".join(kind.sentence() for kind in found))
        else:
            self._context.clear_warning("W_MISPLACED")
        search_s = self._context.clock.monotonic() - now
        self._next_search = now + max(_MISPLACED_S, search_s * _SEARCH_SHARE)

    def report_unreadable(self, files: Mapping[str, PendingFile]) -> None:
        """Show or clear the warning about files that cannot be read."""
        if not files:
            self._context.clear_warning("W_UNREADABLE")
            return
        named = sorted(files)[:_UNREADABLE_NAMED]
        parts = [f"{printable(name, limit=300)}: {files[name].reason}" for name in named]
        self._context.warn("W_UNREADABLE", f"{_joined(parts, len(files))}; trying again")

    def report_accepted(self, accepted: Accepted, now: float, *, is_new: bool) -> None:
        """Report what is unusual about an accepted rollout."""
        context, row, name = self._context, accepted.row, printable(accepted.row.name)
        if accepted.has_costly_encoding and not self._has_reported_encoding:
            self._has_reported_encoding = True
            context.log.info(f"{name} is in UTF-16 or UTF-32; ForceUTF8WithoutBOM in Unreal makes files smaller")
        if is_new or self._limit.allows("duplicate", now):
            earlier = None if is_new else context.ledger.other_file(row.sha256, row.name)
            self._data.report(row.name, accepted.findings, experiences=row.experiences, earlier=earlier, is_new=is_new)
        if is_new and row.left_out:
            self._report_left_out(accepted)

    def report_recovered(self, accepted: Sequence[Accepted]) -> None:
        """Warn once if agents share an agent_index; remember the confidence of each file."""
        self._recoveries.add(accepted)

    def _report_left_out(self, accepted: Accepted) -> None:
        """Warn of experiences that were left out, once for each column that causes it."""
        row, causes = accepted.row, accepted.causes
        new = [cause for cause in causes if cause.column not in self._reported_causes]
        if new:
            self._reported_causes |= {cause.column for cause in new}
            found = in_words(new, row.left_out + row.experiences)
            text = f"{printable(row.name)}: {found}: {row.left_out} experiences are left out -> {remedy(new)}"
            self._context.warn("W_NONFINITE", text)

    def report_suspect(self, rejected: Rejected, is_moved: bool) -> None:
        """Warn that a rollout was rejected because a cycle failed because of it."""
        self.report_rejected(rejected, self._context.clock.monotonic(), is_moved=is_moved)

    def report_rejected(self, rejected: Rejected, now: float, *, is_moved: bool) -> None:
        """Warn that a file was rejected. After many such warnings, only their number is reported."""
        if not self._limit.allows("W_REJECTED", now):
            return
        suppressed = self._limit.take_suppressed("W_REJECTED")
        others = f" (and {suppressed} others before it: see Saved/Training/Rejected)" if suppressed else ""
        where = "" if is_moved else " (it cannot be moved and stays in Exports)"
        self._context.warn("W_REJECTED", f"{printable(rejected.name)} was rejected{where}: {rejected.reason}{others}")


def describe_skipped(skipped: Mapping[str, str], *, new: frozenset[str]) -> str:
    """Return a message about the skipped files: the first few names with reasons, those in `new` first."""
    ordered = sorted(skipped, key=lambda name: (name not in new, name))[:_SKIPPED_NAMED]
    parts = [f"{printable(name, limit=300)} {_SKIPPED[skipped[name]]} [{skipped[name]}]" for name in ordered]
    return "skipped in Exports: " + _joined(parts, len(skipped))


def _joined(parts: list[str], total: int) -> str:
    more = total - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more else "")
