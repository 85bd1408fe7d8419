"""What later starts need to know: the notices of trainers, and the settings of a parked cycle."""

from __future__ import annotations

import orjson

from daemon.ledger.ledger import Ledger
from daemon.runtime.context import Context
from schemas.job import Notice
from schemas.storage.files import sha256_of
from schemas.text import printable

MAX_NOTICES = 20
"""How many notices of one trainer are shown at most."""
CYCLES_KEPT = 5
_CODES_KEPT = 20
_KEY = "notices"
_PARKED_SETTINGS = "parked_settings"


class ShownNotices:
    """The notices of the running trainer: each is a warning with its own code, until the next trainer starts."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._codes: set[str] = set()
        self._count = 0

    def show(self, cycle_id: int, notice: Notice) -> None:
        """Show a notice, unless there were too many."""
        self._count += 1
        if self._count > MAX_NOTICES:
            return
        code, message = printable(notice.code, limit=40), printable(notice.message)
        self._codes.add(code)
        self._context.warn(code, message)
        remember_notice(self._context.ledger, cycle_id, code, message)

    def clear(self) -> None:
        """Remove the warnings, because another trainer starts."""
        self._count = 0
        self._context.clear_warning(*self._codes)
        self._codes.clear()


def remember_notice(ledger: Ledger, cycle_id: int, code: str, message: str) -> None:
    """Store a notice of a cycle's trainer, and remove the notices of all but the last few cycles."""
    notices = remembered_notices(ledger)
    of_cycle = notices.setdefault(cycle_id, {})
    if code in of_cycle or len(of_cycle) >= _CODES_KEPT:
        return
    of_cycle[code] = message[:500]
    newest = {str(cycle): notices[cycle] for cycle in sorted(notices)[-CYCLES_KEPT:]}
    ledger.set_meta(_KEY, orjson.dumps(newest).decode())


def remembered_notices(ledger: Ledger) -> dict[int, dict[str, str]]:
    """Return the stored notices: cycle -> code -> message."""
    text = ledger.meta(_KEY)
    return {int(cycle): dict(codes) for cycle, codes in orjson.loads(text or "{}").items()}


def remember_settings(context: Context) -> None:
    """Store the current settings in the ledger, as a hash."""
    context.ledger.set_meta(_PARKED_SETTINGS, _hash(context))


def settings_have_changed(context: Context) -> bool:
    """Return whether the settings are not those of the last `remember_settings`; False if none are stored."""
    stored = context.ledger.meta(_PARKED_SETTINGS)
    return stored is not None and stored != _hash(context)


def _hash(context: Context) -> str:
    return sha256_of(orjson.dumps(context.settings.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS))
