"""The commands of `hotlap`: the only place that prints, and that turns errors into exit codes."""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.arguments import TRAINER_COMMANDS, build_parser, check_combination
from daemon.errors import DaemonError, Exit, LedgerError
from daemon.runtime.project_folder import find_project, project_paths
from schemas.errors import ConfigError, HotlapError
from schemas.program.commands import usable
from schemas.program.streams import open_standard_streams
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import shown_path
from schemas.text import ascii_safe

if TYPE_CHECKING:  # functions here import what only some commands need, so that the others start faster
    from daemon.diagnostics.reports import Report
    from schemas.settings.loading import LoadedSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    open_standard_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] and words[0] in TRAINER_COMMANDS:
        from daemon.trainer_programs import run_trainer

        return run_trainer(words)
    options = build_parser().parse_args(words)
    try:
        check_combination(options)
        code = int(_dispatch(options))
        sys.stdout.flush()
        return code
    except DaemonError as error:
        return _print_error(error, error.exit_code)
    except HotlapError as error:
        return _print_error(error, Exit.USAGE)
    except KeyboardInterrupt:
        return Exit.STOPPED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's flush at exit does not fail
        return Exit.DONE
    except sqlite3.Error as error:
        hint = "`hotlap doctor` shows more"
        return _print_error(LedgerError(f"the ledger cannot be used: {error}", hint=hint), Exit.USAGE)
    except OSError as error:
        what = f"{error.filename or 'a file'}: {error.strerror or error}"
        return _print_error(DaemonError(what, hint="check its rights and the disk", code="E_OS"), Exit.USAGE)


def _print_error(error: HotlapError, code: Exit) -> int:
    sys.stderr.write(f"hotlap: {ascii_safe(usable(error.line()))}\n")
    return int(code)


def _dispatch(options: argparse.Namespace) -> Exit:
    project: Path | None = getattr(options, "project", None)
    match options.command:
        case None:
            return _start(options, project)
        case "docs":
            from daemon.pages import show_page

            return show_page(options.page)
        case "explain":
            from daemon.pages import explain

            return explain(options.code)
        case "doctor":
            return _doctor(options, project_paths(project or Path()))
        case "conformance":
            return _conformance(options, project or Path())
    name = f"publish --epoch {options.epoch}" if options.command == "publish" else options.command
    paths = find_project(project, name)
    match options.command:
        case "status":
            return _status(options, paths)
        case "history":
            from daemon.diagnostics.reports import history

            return _print_report(history(paths), as_json=options.json)
        case "trust":
            return _trust(options, paths)
        case "adopt":
            from daemon.adopt import adopt

            settings = _checked_settings(options, paths).settings
            return adopt(options.file, paths, settings, log_std=options.log_std, dry_run=options.dry_run)
        case "publish":
            return _publish(
                paths, _settings_or_defaults(options, paths.project), cycle=options.cycle, epoch=options.epoch
            )
    return _send(paths, options.command, again=getattr(options, "trigger_again", False))


def _start(options: argparse.Namespace, project: Path | None) -> Exit:
    """Watch and train, run one cycle, or run the demo. Every request to end is an orderly end."""
    from schemas.process.ending import end_in_order

    with end_in_order():
        return _run(options, project)


def _run(options: argparse.Namespace, project: Path | None) -> Exit:
    if options.demo:
        from daemon.demo import run_demo

        loaded = _checked_settings(options, None if project is None else ProjectPaths(project))
        return run_demo(project, loaded.settings, cycles=options.cycles, dashboard=not options.no_dashboard)
    paths = find_project(project, "--once" if options.once else "")
    settings = _checked_settings(options, paths).settings
    from daemon.app import run_once, serve

    if options.once:
        return run_once(paths, settings, again=options.again)
    config: Path | None = getattr(options, "config", None)
    absolute = config.absolute() if config is not None else None
    return serve(paths, settings, dashboard=not options.no_dashboard, config=absolute)


def _settings(options: argparse.Namespace, project: Path) -> LoadedSettings:
    from schemas.settings.loading import load

    flags = {
        "daemon.auto_train_after_n_rollouts": options.after_n_rollouts,
        "trainer.epochs": options.epochs,
        "trainer.device": options.device,
        "trainer.seed": options.seed,
        "daemon.allow_shared": options.allow_shared,
    }
    names = {"daemon.auto_train_after_n_rollouts": "--after-n-rollouts"}
    return load(project, config=getattr(options, "config", None), flags=flags, flag_names=names)


def _checked_settings(options: argparse.Namespace, paths: ProjectPaths | None) -> LoadedSettings:
    """Return the settings if nothing in them needs an approval. `paths` is None for a demo, which makes its folder."""
    from daemon.security.approvals import check_before_running

    project = Path() if paths is None else paths.project
    loaded = _settings(options, project)
    check_before_running(project, loaded, folders=paths is not None)
    return loaded


def _settings_or_defaults(options: argparse.Namespace, project: Path) -> LoadedSettings:
    """Return the settings, or the defaults and a note if they are invalid: the command needs none of them."""
    from schemas.settings.loading import LoadedSettings
    from schemas.settings.models import DaemonSettings, Settings

    try:
        return _settings(options, project)
    except ConfigError as error:
        sys.stderr.write(f"hotlap: the settings are not used: {ascii_safe(usable(error.line()))}\n")
    defaults = Settings(daemon=DaemonSettings(allow_shared=bool(options.allow_shared)))
    return LoadedSettings(defaults, None, frozenset())


def _print_report(report: Report, *, as_json: bool) -> Exit:
    if as_json:
        import orjson

        sys.stdout.write(orjson.dumps(report.document, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{ascii_safe(usable(line))}\n" for line in report.lines))
    return report.exit_code


def _status(options: argparse.Namespace, paths: ProjectPaths) -> Exit:
    """Print the content of status.json. The settings are read only if no daemon has written that file."""
    from daemon.diagnostics.reports import status
    from schemas.settings.models import Settings

    settings = Settings() if paths.status.exists() else _settings_or_defaults(options, paths.project).settings
    return _print_report(status(paths, settings), as_json=options.json)


def _doctor(options: argparse.Namespace, paths: ProjectPaths) -> Exit:
    """Run all checks. If the settings cannot be loaded, that is one of the findings."""
    from daemon.diagnostics.doctor import doctor

    try:
        loaded: LoadedSettings | ConfigError = _settings(options, paths.project)
    except ConfigError as error:
        loaded = error
    return _print_report(doctor(paths, loaded), as_json=options.json)


def _conformance(options: argparse.Namespace, project: Path) -> Exit:
    """Test a client with the policy's shape of `[agent]`."""
    from daemon.conformance.suite import conformance
    from schemas.process.ending import end_in_order

    def show(line: str) -> None:
        sys.stdout.write(f"{ascii_safe(usable(line))}\n")
        sys.stdout.flush()

    agent = _settings(options, project).settings.agent
    with end_in_order():  # so that the client is ended as well
        return conformance(options.client, agent, timeout_s=options.timeout, show=show)


def _trust(options: argparse.Namespace, paths: ProjectPaths) -> Exit:
    from daemon.security import approvals

    commands = approvals.programs_of(_settings(options, paths.project))
    if not commands:
        return _print_message(True, "the settings name no programs, so nothing needs an approval")
    for name, value in commands.items():
        _print_message(True, f"{name} = {value!r}")
    if options.show:
        is_approved = approvals.is_approved(paths.project, commands)
        return _print_message(is_approved, "approved" if is_approved else "not approved")
    if options.revoke:
        was_approved = approvals.revoke(paths.project, commands)
        return _print_message(True, "the approval is withdrawn" if was_approved else "it was not approved")
    path = approvals.approve(paths.project, commands)
    return _print_message(True, f"approved for {shown_path(paths.project)} (stored in {shown_path(path)})")


def _send(paths: ProjectPaths, what: str, *, again: bool) -> Exit:
    """Send a command to the running daemon. Settings are not read: a mistake in daemon.toml must not prevent it."""
    from daemon.runtime.commands import Command, send_command

    reply = send_command(paths, Command.model_validate({"what": what, "again": again}))
    return _print_message(reply.ok, reply.message, failed=Exit(reply.exit_code))


def _publish(paths: ProjectPaths, loaded: LoadedSettings, *, cycle: int | None, epoch: int) -> Exit:
    from daemon.publishing.republish import publish_epoch
    from daemon.security.approvals import check_before_running
    from daemon.ui.log import Log

    check_before_running(paths.project, loaded)
    reply = publish_epoch(
        replace(paths, engine_project=loaded.settings.daemon.engine_path),
        loaded.settings,
        cycle=cycle,
        epoch=epoch,
        open_log=lambda: contextlib.closing(Log(paths.daemon_log, console=None)),
    )
    return _print_message(reply.ok, reply.message)


def _print_message(ok: bool, message: str, *, failed: Exit = Exit.CYCLE_FAILED) -> Exit:
    (sys.stdout if ok else sys.stderr).write(f"{ascii_safe(usable(message))}\n")
    return Exit.DONE if ok else failed
