"""Run a project's inbox until PENDING rollouts are pending and REJECTED files rejected; print the result as JSON.

Usage: inbox_run.py PROJECT PENDING REJECTED
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from daemon.rollouts.inbox import Inbox
from tests.helpers import open_context

TIMEOUT_S = 30.0


def main() -> None:
    folder, pending, rejected = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    context = open_context(folder)
    inbox = Inbox(context)
    codes: set[str] = set()
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        delay_s = inbox.check()
        codes |= {warning.code for warning in context.warnings()}
        if (context.ledger.pending_count(), context.ledger.rejected_count()) == (pending, rejected):
            break
        time.sleep(min(delay_s, 0.05))
    found = {"pending": context.ledger.pending_count(), "rejected": context.ledger.rejected_count()}
    print(json.dumps(found | {"codes": sorted(codes), "log": context.log.lines}))
    inbox.close()
    context.ledger.close()


if __name__ == "__main__":
    main()
