"""`hotlap status` and `hotlap history`: lines for users, JSON for scripts."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from daemon.errors import DaemonError, Exit
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.instance_lock import is_running
from schemas import __version__
from schemas.errors import HotlapError
from schemas.settings.models import Settings
from schemas.status import CycleSummary, Status
from schemas.storage.files import read_with_retries
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import shown_path
from schemas.text import printable

_SPARKS = " .:-=+*#"
_MAX_STATUS_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Report:
    """A report in both forms."""

    lines: tuple[str, ...]
    document: Any
    exit_code: Exit = Exit.DONE


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw values as one line of ASCII characters, the newest on the right."""
    shown = list(values)[-width:]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(_SPARKS[round((value - low) / span * (len(_SPARKS) - 1))] for value in shown)


def status(paths: ProjectPaths, settings: Settings) -> Report:
    """Report what runs now."""
    is_alive = is_running(paths)
    try:
        found = Status.from_bytes(read_with_retries(paths.status, limit=_MAX_STATUS_BYTES))
    except FileNotFoundError:
        document = {"state": "idle", "alive": is_alive, "cycle": 0, "rollouts_pending": 0, "policy_version": 0}
        document |= {"rollouts_needed": settings.daemon.auto_train_after_n_rollouts, "best_model_path": None}
        document |= {"heartbeat": 0.0, "pid": 0, "warnings": [], "hotlap_version": __version__}
        return Report(
            (f"no daemon has run in {shown_path(paths.project)} yet: start it there with `hotlap`",), document
        )
    except (OSError, HotlapError, ValidationError) as error:
        raise DaemonError(
            f"{shown_path(paths.status)} cannot be read: {type(error).__name__}",
            hint="start the daemon again with `hotlap`",
        ) from None
    age_s = max(0.0, REAL_CLOCK.utc_s() - found.heartbeat)
    running = (
        f"pid {found.pid}, heartbeat {age_s:.0f} s ago"
        if is_alive
        else f"no daemon runs now; this is its last status, {age_s:.0f} s old"
    )
    pending = f"{found.rollouts_pending} of {found.rollouts_needed}"
    lines = [
        f"project    {shown_path(paths.project)}",
        f"state      {found.state.value} ({running})",
        f"step       {found.step}",
        f"cycle      {found.cycle}",
        f"rollouts   {pending} toward the next cycle, {found.rollouts_rejected} rejected so far",
        f"model      version {found.policy_version}  {found.best_model_path or 'none yet'}",
        f"version    hotlap {found.hotlap_version or 'before 0.1.0'}",
        *(f"warning    {warning.line()}" for warning in found.warnings),
    ]
    return Report(tuple(lines), found.model_dump(mode="json") | {"alive": is_alive})


def history(paths: ProjectPaths) -> Report:
    """Report what each cycle did."""
    with _without_garbage_collection():
        cycles = _history(paths)
        document = TypeAdapter(list[CycleSummary]).dump_python(cycles, mode="json")
    lines = ["cycle  state      version  rollouts  epoch    score   reward/step  value loss  seconds"]
    lines += [_history_line(cycle) for cycle in cycles]
    if not cycles:
        lines = [f"no cycle has ended yet in {shown_path(paths.project)}"]
    return Report(tuple(lines), document)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Make many objects of which none is garbage: looking for some takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _history(paths: ProjectPaths) -> list[CycleSummary]:
    if not paths.ledger.exists():
        return []
    from daemon.ledger.ledger import Ledger  # `hotlap status` starts faster without it
    from daemon.ledger.sqlite_errors import as_ledger_errors

    with contextlib.closing(Ledger.open(paths.ledger, read_only=True)) as ledger, as_ledger_errors(paths.ledger):
        return ledger.history()


def _history_line(cycle: CycleSummary) -> str:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    line = (
        f"{cycle.cycle:5d}  {cycle.state:9s}  {number(cycle.policy_version, 'd'):>7s}  {len(cycle.rollouts):8d}"
        f"  {number(cycle.best_epoch, 'd'):>5s}  {number(cycle.score, '.4f'):>7s}"
        f"  {number(cycle.reward_mean, '.4f'):>12s}  {number(cycle.value_loss, '.4f'):>10s}"
        f"  {number(cycle.seconds, '.1f'):>7s}"
    )
    remark = cycle.error or (f"adopted from {printable(cycle.adopted)}" if cycle.adopted else "")
    return f"{line}  {remark}" if remark else line
