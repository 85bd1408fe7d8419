"""The run of all cases against one client, and its report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
from pydantic import ValidationError

from daemon.conformance.cases import CASES, OTHER_FOLDER, Case, Patience
from daemon.conformance.rollout_checks import Mistake
from daemon.conformance.session import PROJECT, Session
from daemon.errors import DaemonError, Exit
from schemas.model import weights_checksum
from schemas.settings.models import AgentSettings
from schemas.status import Receipt
from schemas.storage.files import read_regular

SETTLE_S = 1.5
_MAX_RECEIPT_BYTES = 1 << 20
_ASCII_NAME, _OTHER_NAME = "project", "Spiel für alle, 遊び"


def conformance(
    command: Sequence[str],
    agent: AgentSettings,
    *,
    timeout_s: float,
    settle_s: float = SETTLE_S,
    show: Callable[[str], None],
) -> Exit:
    """Run all cases in a temporary folder, and report each mistake in one line. Raises DaemonError."""
    if not any(PROJECT in word for word in command):
        raise DaemonError(
            f"the command does not contain {PROJECT}",
            hint=f"`hotlap conformance -- ./game {PROJECT}`: it stands for the folder that the client works in",
            code="E_USAGE",
        )
    patience = Patience(timeout_s, settle_s)
    mistakes: list[Mistake] = []
    with tempfile.TemporaryDirectory(prefix="hotlap-conformance-", ignore_cleanup_errors=True) as folder:
        first = Session(Path(folder, _ASCII_NAME), command, agent)
        mistakes += _run(first, CASES, patience, show)
        if first.examined:
            mistakes += _run(Session(Path(folder, _OTHER_NAME), command, agent), (OTHER_FOLDER,), patience, show)
    show(f"{len(mistakes)} mistakes" if mistakes else "no mistakes found")
    return Exit.CYCLE_FAILED if mistakes else Exit.DONE


def _run(session: Session, cases: Sequence[Case], patience: Patience, show: Callable[[str], None]) -> list[Mistake]:
    """Run cases with one client process, which is started again if it ends. Return the mistakes."""
    shown = 0
    session.start()
    try:
        for case in cases:
            case.run(session, patience)
            if not session.is_running():
                session.report(case.heading, f"{case.name}: the client ended by itself with {session.ending()}")
                session.kill()
                session.start()
            found = session.mistakes[shown:]
            shown += len(found)
            show(f"{'FAIL' if found else 'ok  '}  {case.name}")
            for mistake in found:
                show(f"      {mistake.line()}")
            if case.name == CASES[1].name and not session.examined:
                break  # nothing else can be tested
    finally:
        session.kill()
    session.check_files()
    _check_receipts(session)
    for mistake in session.mistakes[shown:]:
        show(f"FAIL  {mistake.line()}")
    return session.mistakes


def _check_receipts(session: Session) -> None:
    """Report receipts that cannot be read or name another model than the last one. A client need not write any."""
    folder = session.paths.receipts
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            receipt = Receipt.model_validate(orjson.loads(read_regular(path, limit=_MAX_RECEIPT_BYTES)))
        except (ValidationError, orjson.JSONDecodeError, OSError) as error:
            what = error.errors()[0]["loc"] if isinstance(error, ValidationError) else error
            session.report("Receipts", f"a receipt cannot be read: {what}")
            continue
        is_newest = bool(session.examined) and session.examined[-1].version == session.newest.policy_version
        if is_newest and receipt.checksum != weights_checksum(session.newest):
            session.report("Receipts", "a receipt does not have the checksum of the model that the client runs")
