"""What `status`, `history` and `doctor` say: lines for people, a document for scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from daemon.errors import DaemonError, Exit
from daemon.launch import python_for
from daemon.ledger import Ledger
from daemon.lock import is_held
from daemon.publish import pointed_at
from schemas.errors import HotlapError
from schemas.layout import Layout
from schemas.model import check_probe, read_model
from schemas.settings import Settings
from schemas.status import CycleSummary, Status

LOW_DISK_BYTES = 1_000_000_000
_SPARKS = " .:-=+*#"


@dataclass(frozen=True, slots=True)
class Report:
    """An answer in both forms."""

    lines: tuple[str, ...]
    document: Any
    exit_code: Exit = Exit.DONE


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that doctor looked at."""

    level: str  #: ok, note or wrong
    topic: str
    text: str


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw values as a line of ASCII marks, the newest on the right."""
    shown = list(values)[-width:]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(_SPARKS[round((value - low) / span * (len(_SPARKS) - 1))] for value in shown)


def status(layout: Layout, settings: Settings) -> Report:
    """Tell what runs now."""
    is_alive = is_held(layout.lock)
    try:
        found = Status.from_bytes(layout.status.read_bytes())
    except FileNotFoundError:
        document = {"state": "idle", "alive": is_alive, "cycle": 0, "rollouts_pending": 0, "policy_version": 0}
        document |= {"rollouts_needed": settings.daemon.auto_train_after_n_rollouts, "best_model_path": None}
        document |= {"heartbeat": 0.0, "pid": 0, "warnings": []}
        return Report(("no daemon has run here yet: start it with `python -m daemon`",), document)
    except (OSError, ValidationError) as error:
        raise DaemonError(f"status.json cannot be read: {type(error).__name__}", hint="start the daemon anew") from None
    age_s = max(0.0, time.time() - found.heartbeat)
    running = (
        f"pid {found.pid}, heartbeat {age_s:.0f} s ago" if is_alive else "no daemon runs now; this was its last word"
    )
    pending = f"{found.rollouts_pending} of {found.rollouts_needed}"
    lines = [
        f"state      {found.state.value} ({running})",
        f"step       {found.step}",
        f"cycle      {found.cycle}",
        f"rollouts   {pending} toward the next cycle, {found.rollouts_rejected} rejected so far",
        f"model      version {found.policy_version}  {found.best_model_path or 'none yet'}",
        *(f"warning    {warning.message}" for warning in found.warnings),
    ]
    return Report(tuple(lines), found.model_dump(mode="json") | {"alive": is_alive})


def history(layout: Layout, settings: Settings) -> Report:
    """Tell what each cycle did."""
    cycles = _history(layout)
    lines = ["cycle  state      version  rollouts  epoch    score   reward/step  value loss  seconds"]
    lines += [_history_line(cycle) for cycle in cycles]
    if not cycles:
        lines = ["no cycle has ended yet"]
    return Report(tuple(lines), [cycle.model_dump(mode="json") for cycle in cycles])


def _history(layout: Layout) -> list[CycleSummary]:
    if not layout.ledger.exists():
        return []
    ledger = Ledger.open(layout.ledger, read_only=True)
    try:
        return ledger.history()
    finally:
        ledger.close()


def _history_line(cycle: CycleSummary) -> str:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    line = (
        f"{cycle.cycle:5d}  {cycle.state:9s}  {number(cycle.policy_version, 'd'):>7s}  {len(cycle.rollouts):8d}"
        f"  {number(cycle.best_epoch, 'd'):>5s}  {number(cycle.score, '.4f'):>7s}"
        f"  {number(cycle.reward_mean, '.4f'):>12s}  {number(cycle.value_loss, '.4f'):>10s}"
        f"  {number(cycle.seconds, '.1f'):>7s}"
    )
    return f"{line}  {cycle.error}" if cycle.error else line


def doctor(layout: Layout, settings: Settings) -> Report:
    """Tell what is wrong with a project, and what to do about it. Exit code 1 where something is."""
    findings = [*_folders(layout), *_ledger(layout), *_model(layout), _python(settings)]
    marks = {"ok": "[ok]   ", "note": "[note] ", "wrong": "[WRONG]"}
    lines = tuple(f"{marks[f.level]} {f.topic}: {f.text}" for f in findings)
    is_wrong = any(f.level == "wrong" for f in findings)
    document = [{"level": f.level, "topic": f.topic, "text": f.text} for f in findings]
    return Report(lines, document, Exit.CYCLE_FAILED if is_wrong else Exit.DONE)


def _folders(layout: Layout) -> list[Finding]:
    if not layout.training.exists():
        return [Finding("note", "folders", "Saved/Training is not there yet; the daemon makes it at its first start")]
    found = []
    for folder in layout.folders():
        if not folder.is_dir():
            found.append(Finding("note", "folders", f"{folder.name} is missing; the daemon makes it at its next start"))
        elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            found.append(Finding("wrong", "folders", f"{folder} cannot be written: correct its rights"))
    free = shutil.disk_usage(layout.training).free
    level, remedy = ("ok", "") if free >= LOW_DISK_BYTES else ("wrong", ": make room")
    found.append(Finding(level, "disk", f"{free / 1e9:.1f} GB free{remedy}"))
    holder = layout.lock.read_text(encoding="utf-8") if is_held(layout.lock) else ""
    found.append(Finding("ok", "daemon", f"runs, pid {holder}" if holder else "none runs here now"))
    leftovers = sum(1 for path in layout.exports.glob("*.tmp")) if layout.exports.is_dir() else 0
    if leftovers:
        text = f"{leftovers} .tmp files in Exports: an engine was stopped while it wrote; remove them when none runs"
        found.append(Finding("note", "exports", text))
    return found


def _ledger(layout: Layout) -> list[Finding]:
    if not layout.ledger.exists():
        return [Finding("note", "ledger", "no daemon has run here yet")]
    try:
        ledger = Ledger.open(layout.ledger, read_only=True)
    except HotlapError as error:
        return [Finding("wrong", "ledger", error.line())]
    try:
        problem = ledger.check()
        found = [Finding("wrong", "ledger", problem) if problem else Finding("ok", "ledger", "sound")]
        if problem:
            return found
        cycles, rejections = ledger.history(), ledger.rejections(3)
        found.append(Finding("ok", "rollouts", f"{ledger.pending_count()} wait for the next cycle"))
        if ledger.meta("paused") is not None:
            found.append(Finding("note", "paused", "no cycle starts until `python -m daemon resume`"))
    finally:
        ledger.close()
    for name, code, reason, _ in rejections:
        found.append(Finding("note", "rejected", f"{name}: {reason} ({code})"))
    failed = [cycle for cycle in cycles if cycle.error]
    if cycles:
        last = cycles[-1]
        level = "wrong" if last.error else "ok"
        found.append(
            Finding(level, "last cycle", f"{last.cycle} {last.state}{': ' + last.error if last.error else ''}")
        )
    if failed and not cycles[-1].error:
        found.append(Finding("note", "last failure", f"cycle {failed[-1].cycle}: {failed[-1].error}"))
    return found


def _model(layout: Layout) -> list[Finding]:
    named = pointed_at(layout)
    if named is None:
        return [Finding("note", "model", "best_model_path.txt names no model yet")]
    try:
        model = read_model((layout.models / named).read_bytes())
        check_probe(model)
    except OSError:
        return [
            Finding("wrong", "model", f"{named} is not there: restart the daemon, or publish another with `publish`")
        ]
    except HotlapError as error:
        return [Finding("wrong", "model", f"{named}: {error.line()}")]
    return [
        Finding("ok", "model", f"{named} is whole, version {model.policy_version}, and computes what its probe says")
    ]


def _python(settings: Settings) -> Finding:
    try:
        python = python_for(settings.daemon.python_executable)
    except HotlapError as error:
        return Finding("wrong", "python", error.line())
    code = "import torch; print(torch.__version__, 'cuda' if torch.cuda.is_available() else 'cpu')"
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=120, check=False, cwd=Path(python).parent
        )
    except (OSError, subprocess.TimeoutExpired):
        return Finding("wrong", "torch", f"{python} does not answer: correct python_executable")
    if done.returncode != 0:
        return Finding("wrong", "torch", f"{python} has no torch: `pip install torch==2.13.0` there")
    return Finding("ok", "torch", done.stdout.strip())
