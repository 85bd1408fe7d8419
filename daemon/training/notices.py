"""What later starts need to know: the notices of trainers, and the settings of a parked cycle."""

from __future__ import annotations

import orjson

from daemon.ledger.ledger import Ledger
from daemon.runtime.context import Context
from schemas.storage.files import sha256_of

CYCLES_KEPT = 5
_CODES_KEPT = 20
_KEY = "notices"
_PARKED_SETTINGS = "parked_settings"


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
