"""`hotlap doctor`: checks a project and reports problems with their remedies. It changes nothing."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import ValidationError

from daemon.diagnostics.folder_checks import check_engine_path, check_project_folders
from daemon.diagnostics.invariants import Invariant, check_invariants
from daemon.diagnostics.ledger_checks import check_ledger
from daemon.diagnostics.reports import Report
from daemon.diagnostics.violation import Finding, Violation
from daemon.errors import Exit
from daemon.process.interpreter import python_for, require_device, torch_in
from daemon.publishing.pointer import read_pointer
from daemon.runtime.instance_lock import heartbeat_age_s, holder_of, is_held, is_running
from daemon.runtime.project_folder import is_project, note_without_engine_file
from daemon.runtime.state_folder import with_state_setting
from daemon.security.approvals import check_approved, programs_of
from daemon.security.permissions import check_config
from schemas import __version__
from schemas.contract import PolicyContract
from schemas.error_codes import remedy_for
from schemas.errors import ConfigError, HotlapError
from schemas.model import MAX_MODEL_BYTES, check_probe, read_model
from schemas.settings.loading import LoadedSettings
from schemas.settings.models import Settings
from schemas.status import Status
from schemas.storage.files import read_with_retries
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import shown_path

_REMEDIES = {
    Invariant.NOTHING_LOST: "it may have been removed while no daemon ran; the cycle continues without it",
    Invariant.COUNTED_ONCE: "please report this with daemon.log and the ledger",
    Invariant.ENGINE_VIEW: "start the daemon, which repairs the pointer file; or use `hotlap publish`",
    Invariant.NO_LITTER: "start the daemon, which removes it",
    Invariant.NO_PROCESS: "start the daemon, which ends it",
    Invariant.USER_FILES: "please report this with daemon.log",
}


_START = re.compile(r"\bstart the daemon\b( again\b)?")
"""The remedy of several findings. Beside a running daemon it would start a second one."""


def doctor(paths: ProjectPaths, loaded: LoadedSettings | ConfigError) -> Report:
    """Run all checks. The exit code is 1 if something is wrong."""
    settings = Settings() if isinstance(loaded, ConfigError) else loaded.settings
    paths = replace(paths, engine_project=settings.daemon.engine_path)
    state_problem: list[Finding] = []
    try:
        paths = with_state_setting(paths, settings.daemon)
    except HotlapError as error:
        state_problem = [Finding("wrong", "state", error.line())]
    violations = check_invariants(paths.project, engine_project=paths.engine_project)
    ledger_problems = tuple(v.message for v in violations if v.invariant is Invariant.LEDGER)
    findings = [
        *_installation(paths),
        *state_problem,
        *_settings(paths, loaded),
        *_mirror(paths, settings),
        *check_project_folders(paths, settings),
        *check_engine_path(paths),
        *_daemon(paths),
        *check_ledger(paths, settings, ledger_problems),
        *_model(paths),
        *_invariants(paths, violations),
        *_python(paths, loaded),
    ]
    if is_running(paths):
        findings = [
            replace(finding, text=_START.sub("restart the running daemon", finding.text)) for finding in findings
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


def _mirror(paths: ProjectPaths, settings: Settings) -> Iterator[Finding]:
    """Check that a declared mirror fits the game's observations and actions, and that it is its own inverse."""
    agent = settings.agent
    if not agent.mirror.is_set:
        return
    contract = _published_contract(paths)
    if contract is None and not agent.decides_contract:
        text = "[agent.mirror] is checked when the first rollouts show how many observations and which actions exist"
        yield Finding("note", "mirror", text)
        return
    try:
        mirror = agent.mirror_for(contract or agent.contract())
    except ValueError as error:
        yield Finding("wrong", "mirror", f"agent.{error} -> correct or remove [agent.mirror]")
        return
    if mirror is None or not mirror.is_own_inverse():
        text = "the mirror image of a mirror image is not the original -> correct the pairs and signs of [agent.mirror]"
        yield Finding("wrong", "mirror", text)
        return
    yield Finding("ok", "mirror", f"[agent.mirror] fits the game and is its own inverse: {mirror.in_words()}")


def _published_contract(paths: ProjectPaths) -> PolicyContract | None:
    """Return the contract of the published model; None if there is none that can be read."""
    model_name = read_pointer(paths)
    try:
        data = read_with_retries(paths.models / model_name, limit=MAX_MODEL_BYTES) if model_name else None
        return read_model(data).contract if data else None
    except (OSError, HotlapError):
        return None


def _daemon(paths: ProjectPaths) -> Iterator[Finding]:
    if not is_running(paths):
        yield Finding("ok", "daemon", "not running")
        return
    if is_held(paths.lock):
        yield Finding("ok", "daemon", f"running: {holder_of(paths.lock)}")
    else:
        text = f"its lock is free, but its heartbeat is new, so a daemon seems to run: {holder_of(paths.lock)}"
        yield Finding("note", "daemon", text)
    try:
        status = Status.from_bytes(read_with_retries(paths.status, limit=1 << 24))
    except (OSError, ValidationError, HotlapError):
        return
    age_s = heartbeat_age_s(paths, status)
    if age_s > 3 * status.heartbeat_interval_s:
        text = f"status.json is {age_s:.0f} s old -> the daemon or its disk may hang: see daemon.log"
        yield Finding("wrong", "daemon", text)
    for warning in status.warnings:
        remedy = remedy_for(warning.code)
        text = f"{warning.message}{f' -> {remedy}' if remedy and '->' not in warning.message else ''}"
        yield Finding("note", "warning", f"{text} [{warning.code}]")


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


def _invariants(paths: ProjectPaths, violations: Sequence[Violation]) -> Iterator[Finding]:
    """Return the violations of invariants. `check_ledger` reports those of the ledger."""
    others = [violation for violation in violations if violation.invariant is not Invariant.LEDGER]
    for violation in others:
        remedy = _REMEDIES[violation.invariant]
        is_inside = violation.path.is_relative_to(paths.project)
        where = violation.path.relative_to(paths.project).as_posix() if is_inside else shown_path(violation.path)
        yield Finding("wrong", violation.invariant.value, f"{violation.message} ({where}) -> {remedy}")
    if len(others) < len(violations):
        text = "whether rollouts are lost or counted twice is not known, because the ledger cannot be used"
        yield Finding("note", "invariants", text)
    elif not others:
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
