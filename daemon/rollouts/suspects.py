"""Moves the files of suspect rollouts, because of which a cycle failed, from Exports to Rejected."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from daemon.ledger.records import FileSignature
from daemon.ledger.rows import SUSPECT
from daemon.rollouts.reading.reader import Rejected
from daemon.rollouts.rejection import move_to_rejected
from daemon.runtime.context import Context
from schemas.storage.windows_paths import for_system


class SuspectFiles:
    """The files of suspect rollouts that are still in Exports, also after a crash. The ledger has the reasons.

    A file that cannot be moved stays there, is not trained on, and is moved at a later check.
    """

    def __init__(
        self,
        context: Context,
        forget: Callable[[Iterable[str]], None],
        report: Callable[[Rejected, bool], None],
    ) -> None:
        """`forget` is called with the names of moved files, `report` with each rejection and whether it was moved."""
        self._context, self._forget, self._report = context, forget, report
        self._reported: set[str] = set()

    def check(self) -> None:
        """Move the files, if there are any. If there are none, this takes a few microseconds."""
        for name, signature, sha256, reason in self._context.ledger.suspect_files():
            self._move(Rejected(name, signature, sha256, SUSPECT, reason))

    def _move(self, suspect: Rejected) -> None:
        context = self._context
        path = context.paths.exports / suspect.name
        is_moved = True
        try:
            if FileSignature.of(os.lstat(for_system(path))) != suspect.signature:
                return  # it was written again: the next scan reads it
            move_to_rejected(path, context.paths.rejected, suspect.reason, disk=context.disk)
        except FileNotFoundError:
            self._forget([suspect.name])
            return
        except OSError:
            is_moved = False
        else:
            self._forget([suspect.name])
        if is_moved or suspect.name not in self._reported:
            self._report(suspect, is_moved)
        (self._reported.discard if is_moved else self._reported.add)(suspect.name)
