"""Stores the trainers' notices of the last cycles in the ledger, for `hotlap doctor`."""

from __future__ import annotations

import orjson

from daemon.ledger.ledger import Ledger

CYCLES_KEPT = 5
_CODES_KEPT = 20
_KEY = "notices"


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
