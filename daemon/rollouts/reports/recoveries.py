"""Remembers the files whose agents had to be separated: one warning for the project, the confidences for doctor."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from daemon.ledger.ledger import Ledger
from daemon.rollouts.reading.reader import Accepted
from daemon.runtime.context import Context
from schemas.rollout.meaning.separation import REMEDY, in_words
from schemas.rollout.rollout import Recovered
from schemas.text import printable

CODE = "W_AGENTS_MIXED"
FILES_KEPT = 50
_NORMAL_FILES_IN_A_ROW = 10
_KEY = "recovered"


class Recoveries:
    """Warns once, until the exporter writes files that need no recovery."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._is_reported = False
        self._normal_files = 0

    def add(self, accepted: Sequence[Accepted]) -> None:
        """Record new rollouts."""
        found = {one.row.name: one.recovered for one in accepted if one.recovered is not None}
        if not found:
            self._count_normal(len(accepted))
            return
        self._normal_files = 0
        ledger = self._context.ledger
        kept = {**remembered_recoveries(ledger), **found}
        newest = {printable(name): list(kept[name]) for name in list(kept)[-FILES_KEPT:]}
        ledger.set_meta(_KEY, orjson.dumps(newest).decode())
        if not self._is_reported:
            self._is_reported = True
            name, result = next(iter(found.items()))
            text = f"{in_words(result, printable(name))}. `hotlap doctor` shows the confidence of later files"
            self._context.warn(CODE, f"{text} -> {REMEDY}")

    def _count_normal(self, count: int) -> None:
        """Forget earlier files after enough files that needed no recovery."""
        before, self._normal_files = self._normal_files, self._normal_files + count
        if before < _NORMAL_FILES_IN_A_ROW <= self._normal_files:
            self._is_reported = False
            self._context.clear_warning(CODE)
            self._context.ledger.set_meta(_KEY, None)


def remembered_recoveries(ledger: Ledger) -> dict[str, Recovered]:
    """Return the last files whose agents were separated, oldest first: name -> what was recovered."""
    return {name: Recovered(*values) for name, values in orjson.loads(ledger.meta(_KEY) or "{}").items()}
