"""The checks of `hotlap doctor` on the ledger: rollouts, cycles, what exporters write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from daemon.diagnostics.data_health import check_data
from daemon.diagnostics.exporter_health import CHECKS, judge_agents, judge_exporter
from daemon.diagnostics.folder_checks import check_disk_use
from daemon.diagnostics.violation import Finding
from daemon.ledger.ledger import Ledger
from daemon.ledger.sqlite_errors import as_ledger_errors
from daemon.rollouts.reports.recoveries import remembered_recoveries
from daemon.runtime.instance_lock import is_running
from daemon.training.notices import remembered_notices
from schemas.error_codes import remedy_for
from schemas.errors import HotlapError
from schemas.settings.models import Settings
from schemas.storage.layout import ProjectPaths
from schemas.text import printable

_REBUILD = "start the daemon, which keeps a damaged ledger as a copy and rebuilds it from it and from Models"
_NEWEST = 100
"""How many files are counted to find out whether more are rejected than accepted."""


def check_ledger(paths: ProjectPaths, settings: Settings, problems: Sequence[str]) -> Iterator[Finding]:
    """Report the problems of the ledger that the invariant check found, or else what it knows."""
    for problem in problems:
        text = problem if "->" in problem else f"{problem} -> {_REBUILD}"
        yield Finding("wrong", "ledger", printable(text))
    if problems:
        return
    if not paths.ledger.exists():
        yield Finding("note", "ledger", "it does not exist yet: no daemon has run here")
        return
    try:
        with contextlib.closing(Ledger.open(paths.ledger, read_only=True)) as ledger, as_ledger_errors(paths.ledger):
            yield Finding("ok", "ledger", "not damaged")
            yield from _content(paths, settings, ledger)
    except HotlapError as error:  # a daemon that runs now has changed it in the meantime
        yield Finding("wrong", "ledger", error.line())


def _content(paths: ProjectPaths, settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    yield from _rollouts(ledger)
    yield from _cycles(ledger)
    yield from _exporter(ledger)
    if not is_running(paths):
        yield from (Finding("note", topic, printable(text)) for topic, text in check_data(ledger))
    yield from check_disk_use(paths, ledger, settings)


def _rollouts(ledger: Ledger) -> Iterator[Finding]:
    yield Finding("ok", "rollouts", f"{ledger.pending_count()} pending for the next cycle")
    outcomes = ledger.newest_outcomes(_NEWEST)
    rejected = outcomes.count(False)
    if 2 * rejected > len(outcomes):
        text = f"{rejected} of the last {len(outcomes)} files were rejected; the newest reasons are below"
        yield Finding("wrong", "rejected", f"{text} -> correct the exporter, or [agent] in daemon.toml")
    if ledger.meta("paused") is not None:
        yield Finding("note", "paused", "no cycle starts until `hotlap resume`")
    for name, code, reason, _ in ledger.rejections(3):
        remedy = remedy_for(code)
        text = reason if "->" in reason or not remedy else f"{reason} -> {remedy}"
        yield Finding("note", "rejected", f"{name}: {text}{'' if f'[{code}]' in text else f' [{code}]'}")


def _cycles(ledger: Ledger) -> Iterator[Finding]:
    cycles = ledger.history()
    if not cycles:
        yield Finding("note", "last cycle", "no cycle has ended yet")
        return
    last = cycles[-1]
    failed = [cycle for cycle in cycles if cycle.error]
    seconds = "" if last.seconds is None else f" in {last.seconds:.1f} s"
    if last.error:
        remedy = "`hotlap trigger` tries again" if last.state == "parked" else "the next rollouts start another cycle"
        text = f"{last.cycle} {last.state}: {last.error} -> see Saved/Training/Logs/cycle_{last.cycle}.log; {remedy}"
        yield Finding("wrong", "last cycle", text)
        return
    yield Finding("ok", "last cycle", f"{last.cycle} published{seconds}, epoch {last.best_epoch}")
    if failed:
        text = f"cycle {failed[-1].cycle}: {failed[-1].error} (Saved/Training/Logs/cycle_{failed[-1].cycle}.log)"
        yield Finding("note", "last failure", text)


def _exporter(ledger: Ledger) -> Iterator[Finding]:
    notices = remembered_notices(ledger)
    cycles = [cycle.cycle for cycle in ledger.history(50) if cycle.rollouts and cycle.state == "published"][-5:]
    for check in CHECKS:
        judged = judge_exporter(check, cycles, notices)
        if judged is not None:
            yield Finding(judged[0], f"exporter, {check.topic}", judged[1])
    level, text = judge_agents(remembered_recoveries(ledger))
    yield Finding(level, "exporter, agents", text)
