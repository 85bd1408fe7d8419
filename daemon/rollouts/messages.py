"""Log lines and warnings about the files in Exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from daemon.rollouts.misplaced import Misplaced
from daemon.rollouts.pending import PendingFile
from daemon.rollouts.reader import Accepted, Rejected
from daemon.rollouts.scan import Listing
from daemon.runtime.context import Context
from daemon.runtime.rate_limit import RateLimit
from schemas.text import printable

_SKIPPED = {
    "E_SYMLINK": "is a symbolic link -> write the file itself",
    "E_NOT_REGULAR": "is not a regular file -> remove it",
    "E_NAME": "has white space around its name, so it is not read as a rollout -> rename it",
    "E_UNREADABLE": "cannot be read -> check the rights of the folder",
}
_SKIPPED_NAMED = 5
_UNREADABLE_NAMED = 3


class InboxMessages:
    """Writes the inbox's warnings and log lines."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._limit = RateLimit()
        self._skipped: dict[str, str] = {}
        self._has_reported_encoding = False

    def report_watcher(self, problem: str | None) -> None:
        """Show or clear the warning that file events do not arrive."""
        if problem is None:
            self._context.clear_warning("W_WATCHER")
        else:
            self._context.warn("W_WATCHER", problem)

    def report_unreachable(self, error: OSError) -> None:
        """Warn that the folder cannot be listed."""
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            message = f"waiting for the folder Exports: {error.strerror}"
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

    def report_misplaced(self, found: Sequence[Misplaced]) -> None:
        """Show or clear the warning about files that are not read because of their place or name."""
        if found:
            self._context.warn("W_MISPLACED", "; ".join(kind.sentence() for kind in found))
        else:
            self._context.clear_warning("W_MISPLACED")

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
        if not is_new:
            if self._limit.allows("duplicate", now):
                context.log.info(f"{name} has the same content as an earlier rollout: counted once")
        elif row.left_out and self._limit.allows("W_NONFINITE", now):
            context.warn(
                "W_NONFINITE",
                f"{name}: {row.left_out} of {row.left_out + row.experiences} experiences were not finite and are left"
                " out -> check the engine for a division by zero [E_NONFINITE]",
            )

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
