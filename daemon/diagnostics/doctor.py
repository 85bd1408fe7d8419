"""`hotlap doctor`: checks a project and reports problems with their remedies. It changes nothing."""

from __future__ import annotations

import contextlib
import platform
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from daemon.diagnostics.data_health import check_data
from daemon.diagnostics.exporter_health import CHECKS, judge_exporter
from daemon.diagnostics.folder_checks import check_folders_of
from daemon.diagnostics.invariants import Invariant, check_invariants
from daemon.diagnostics.reports import Finding, Report
from daemon.errors import Exit
from daemon.ledger.ledger import Ledger
from daemon.process.interpreter import python_for, require_device, torch_in
from daemon.publishing.disk_budget import measure
from daemon.publishing.pointer import read_pointer
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.instance_lock import holder_of, is_held
from daemon.runtime.project_folder import is_project, note_without_engine_file, other_path_note
from daemon.security.approvals import check_approved, programs_of
from daemon.security.permissions import check_config
from daemon.training.notices import remembered_notices
from schemas import __version__
from schemas.error_codes import remedy_for
from schemas.errors import ConfigError, HotlapError
from schemas.model import MAX_MODEL_BYTES, check_probe, read_model
from schemas.settings.loading import LoadedSettings
from schemas.settings.models import Settings
from schemas.status import Status
from schemas.storage.files import read_with_retries
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import shown_path
from schemas.text import printable

LOW_DISK_BYTES = 1_000_000_000
_NEWEST = 100
"""How many files are counted to find out whether more are rejected than accepted."""
SOON_DAYS = 3.0
_REMEDIES = {
    Invariant.NOTHING_LOST: "it may have been removed while no daemon ran; the cycle continues without it",
    Invariant.COUNTED_ONCE: "please report this with daemon.log and the ledger",
    Invariant.ENGINE_VIEW: "start the daemon, which repairs the pointer file; or use `hotlap publish`",
    Invariant.LEDGER: "start the daemon, which rebuilds a damaged ledger",
    Invariant.NO_LITTER: "start the daemon, which removes it",
    Invariant.NO_PROCESS: "start the daemon, which ends it",
    Invariant.USER_FILES: "please report this with daemon.log",
}


def doctor(paths: ProjectPaths, loaded: LoadedSettings | ConfigError) -> Report:
    """Run all checks. The exit code is 1 if something is wrong."""
    settings = Settings() if isinstance(loaded, ConfigError) else loaded.settings
    paths = replace(paths, engine_project=settings.daemon.engine_path)
    findings = [
        *_installation(paths),
        *_settings(paths, loaded),
        *check_folders_of(paths, allow_shared=settings.daemon.allow_shared),
        *_engine_path(paths),
        _disk(paths),
        *_daemon(paths),
        *_ledger(paths, settings),
        *_model(paths),
        *_invariants(paths),
        *_python(paths, loaded),
    ]
    marks = {"ok": "[ok]   ", "note": "[note] ", "wrong": "[WRONG]"}
    lines = [f"{marks[f.level]} {f.topic}: {f.text}" for f in findings]
    wrong = sum(f.level == "wrong" for f in findings)
    lines.append(f"{wrong} problem{'s' if wrong != 1 else ''} found" if wrong else "no problems found")
    document = [{"level": f.level, "topic": f.topic, "text": f.text} for f in findings]
    return Report(tuple(lines), document, Exit.CYCLE_FAILED if wrong else Exit.DONE)


def _installation(paths: ProjectPaths) -> Iterator[Finding]:
    running = f"hotlap {__version__}, Python {platform.python_version()}, project {shown_path(paths.project)}"
    if is_project(paths.project):
        yield Finding("ok", "version", running)
        if note := note_without_engine_file(paths.project):
            yield Finding("note", "project", note)
        return
    text = f"{running}, which is not a game's project yet -> name the game's folder: `hotlap doctor --project DIR`"
    yield Finding("note", "version", text)


def _settings(paths: ProjectPaths, loaded: LoadedSettings | ConfigError) -> Iterator[Finding]:
    if isinstance(loaded, ConfigError):
        yield Finding("wrong", "settings", loaded.line())
        return
    if loaded.config is None:
        yield Finding("ok", "settings", "daemon.toml does not exist: all settings have their defaults")
        return
    try:
        if not loaded.settings.daemon.allow_shared:
            check_config(loaded.config)
        check_approved(paths.project, loaded)
    except HotlapError as error:
        yield Finding("wrong", "settings", error.line())
        return
    commands = ", ".join(programs_of(loaded))
    yield Finding("ok", "settings", f"{loaded.config.name} is valid{f'; you approved {commands}' if commands else ''}")


def _engine_path(paths: ProjectPaths) -> Iterator[Finding]:
    if paths.engine_project:
        text = f"models are named as the engine sees them; it reads {paths.for_engine(paths.pointer)}"
        yield Finding("ok", "engine path", text)
    elif note := other_path_note(paths.project):
        yield Finding("note", "engine path", note)


def _disk(paths: ProjectPaths) -> Finding:
    free = shutil.disk_usage(paths.project).free
    if free >= LOW_DISK_BYTES:
        return Finding("ok", "disk", f"{free / 1e9:.1f} GB free")
    return Finding("wrong", "disk", f"{free / 1e9:.1f} GB free -> free some space: no cycle starts without it")


def _daemon(paths: ProjectPaths) -> Iterator[Finding]:
    if not is_held(paths.lock):
        yield Finding("ok", "daemon", "not running")
        return
    yield Finding("ok", "daemon", f"running: {holder_of(paths.lock)}")
    try:
        status = Status.from_bytes(read_with_retries(paths.status, limit=1 << 24))
    except (OSError, ValidationError, HotlapError):
        return
    age_s = REAL_CLOCK.utc_s() - status.heartbeat
    if age_s > 3 * status.heartbeat_interval_s:
        text = f"status.json is {age_s:.0f} s old -> the daemon or its disk may hang: see daemon.log"
        yield Finding("wrong", "daemon", text)
    for warning in status.warnings:
        remedy = remedy_for(warning.code)
        text = f"{warning.message}{f' -> {remedy}' if remedy and '->' not in warning.message else ''}"
        yield Finding("note", "warning", f"{text} [{warning.code}]")


def _ledger(paths: ProjectPaths, settings: Settings) -> Iterator[Finding]:
    if not paths.ledger.exists():
        yield Finding("note", "ledger", "it does not exist yet: no daemon has run here")
        return
    try:
        ledger = Ledger.open(paths.ledger, read_only=True)
    except HotlapError as error:
        yield Finding("wrong", "ledger", error.line())
        return
    try:
        problem = ledger.check()
        if problem:
            text = f"{problem} -> start the daemon, which keeps a damaged ledger as a copy and rebuilds it from Models"
            yield Finding("wrong", "ledger", text)
            return
        yield Finding("ok", "ledger", "not damaged")
        yield from _rollouts(ledger)
        yield from _cycles(ledger)
        yield from _exporter(ledger)
        if not is_held(paths.lock):
            yield from (Finding("note", topic, printable(text)) for topic, text in check_data(ledger))
        yield from _disk_use(paths, ledger, settings)
    finally:
        ledger.close()


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


def _disk_use(paths: ProjectPaths, ledger: Ledger, settings: Settings) -> Iterator[Finding]:
    with contextlib.suppress(OSError):  # a missing folder is reported by `_folders`
        use = measure(paths, ledger, REAL_CLOCK, budget_gb=settings.daemon.disk_budget_gb)
        days = use.days_left
        is_soon = use.disk_is_full_first and days is not None and days < SOON_DAYS
        yield Finding("note" if is_soon else "ok", "disk use", use.sentence())


def _model(paths: ProjectPaths) -> Iterator[Finding]:
    model_name = read_pointer(paths)
    if model_name is None:
        yield Finding("note", "model", "best_model_path.txt does not name a model yet")
        return
    try:
        model = read_model(read_with_retries(paths.models / model_name, limit=MAX_MODEL_BYTES))
        check_probe(model)
    except OSError:
        text = f"{model_name} does not exist -> start the daemon again, or publish another model with `hotlap publish`"
        yield Finding("wrong", "model", text)
    except HotlapError as error:
        yield Finding("wrong", "model", f"{model_name}: {error.line()}")
    else:
        text = f"{model_name} is complete, has version {model.policy_version}, and its outputs match its probe"
        yield Finding("ok", "model", text)


def _invariants(paths: ProjectPaths) -> Iterator[Finding]:
    """Return the violations of invariants. `_ledger` already reports a damaged ledger."""
    violations = [
        v
        for v in check_invariants(paths.project, engine_project=paths.engine_project)
        if v.invariant is not Invariant.LEDGER
    ]
    for violation in violations:
        remedy = _REMEDIES[violation.invariant]
        where = violation.path.relative_to(paths.project) if violation.path != paths.project else Path()
        yield Finding("wrong", violation.invariant.value, f"{violation.message} ({where.as_posix()}) -> {remedy}")
    if not violations:
        yield Finding(
            "ok", "invariants", "no rollout is lost or counted twice; no temporary files or processes are left"
        )


def _python(paths: ProjectPaths, loaded: LoadedSettings | ConfigError) -> Iterator[Finding]:
    """Check torch in the trainer's Python; that Python runs only if the user has approved it."""
    settings = Settings() if isinstance(loaded, ConfigError) else loaded.settings
    try:
        python = python_for(settings.daemon.python_executable)
        if not isinstance(loaded, ConfigError):
            check_approved(paths.project, loaded)
        torch = torch_in(python)
        yield Finding("ok", "torch", f"{torch.version} in {shown_path(python)}")
        require_device(torch, python, settings.trainer.device)
    except HotlapError as error:
        topic = {"E_TORCH": "torch", "E_DEVICE": "device"}.get(error.code, "python")
        yield Finding("wrong", topic, error.line())
        return
    yield Finding("ok", "device", f"{torch.device} (trainer.device = {settings.trainer.device})")
