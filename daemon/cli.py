"""`python -m daemon`: the only place that prints, and that turns errors into exit codes."""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson

from daemon.diagnostics import reports as tell
from daemon.errors import DaemonError, Exit, LedgerError
from daemon.security.approvals import check_before_running
from schemas.errors import ConfigError, HotlapError
from schemas.settings.loading import LoadedSettings, load
from schemas.settings.models import Settings
from schemas.storage.layout import ProjectPaths
from schemas.text import ascii_safe

EPILOG = """\
examples:
  python -m daemon --project C:/MyGame          beside Play Mode: train after every 10 rollouts, until Ctrl-C
  python -m daemon --demo                       the same with a simulated engine: no game needed
  python -m daemon --once --project C:/MyGame   one cycle on what is there now
  python -m daemon status --json                what runs now, for scripts
  python -m daemon publish --epoch 3 --cycle 7  put an older model before the engine again

Settings come from daemon.toml in the project folder, then HOTLAP_... variables, then flags.
Exit codes: 0 done, 1 the cycle failed, 2 bad arguments or config, 3 nothing to train on, 4 another daemon runs.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--project",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="the game's folder (default: the current one)",
    )
    common.add_argument(
        "--config",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="settings file (default: daemon.toml in the project)",
    )
    parser = argparse.ArgumentParser(
        prog="python -m daemon",
        parents=[common],
        description="Trains a game's agents while the game runs: rollouts in, models out, in Saved/Training.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--once", action="store_true", help="one cycle on what is there now, however few, then exit")
    mode.add_argument("--demo", action="store_true", help="play with a simulated engine; no game needed")
    parser.add_argument("--cycles", type=_positive, metavar="N", help="with --demo: stop after N cycles with a summary")
    parser.add_argument("--after-n-rollouts", type=int, metavar="N", help="a cycle starts after N new rollouts (10)")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs a cycle (10)")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:1")
    parser.add_argument("--seed", type=int, metavar="N", help="all randomness comes from it (0)")
    parser.add_argument(
        "--allow-shared",
        action="store_true",
        default=None,
        help="work in a folder that other users can write or own; all of them are trusted then",
    )
    parser.add_argument("--no-dashboard", action="store_true", help="plain log lines, also on a terminal")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, text in (
        ("status", "what runs now"),
        ("history", "what each cycle did"),
        ("doctor", "what is wrong here, and what to do about it"),
    ):
        sub = commands.add_parser(name, parents=[common], help=text, description=f"Tell {text}.")
        sub.add_argument("--json", action="store_true", help="for scripts")
    trust = commands.add_parser(
        "trust", parents=[common], help="approve what daemon.toml has run: a Python, a script, a network, a loss"
    )
    asked = trust.add_mutually_exclusive_group()
    asked.add_argument("--show", action="store_true", help="only tell what it is, and whether it is approved")
    asked.add_argument("--revoke", action="store_true", help="take the approval back")
    commands.add_parser("trigger", parents=[common], help="train now; also tries a parked cycle again")
    commands.add_parser("pause", parents=[common], help="stop triggering; rollouts are still counted")
    commands.add_parser("resume", parents=[common], help="go on triggering")
    publish = commands.add_parser("publish", parents=[common], help="put a model before the engine, also an older one")
    publish.add_argument("--epoch", type=int, required=True, metavar="K", help="which epoch")
    publish.add_argument("--cycle", type=int, metavar="C", help="of which cycle (default: the last)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; give the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        return int(_dispatch(options))
    except ConfigError as error:
        return _complain(error, Exit.USAGE)
    except DaemonError as error:
        return _complain(error, error.exit_code)
    except HotlapError as error:
        return _complain(error, Exit.USAGE)
    except KeyboardInterrupt:
        return Exit.CYCLE_FAILED
    except BrokenPipeError:
        return Exit.DONE
    except sqlite3.Error as error:
        return _complain(
            LedgerError(f"the ledger cannot be used: {error}", hint="`python -m daemon doctor`"), Exit.USAGE
        )
    except OSError as error:
        what = f"{error.filename or 'a file'}: {error.strerror or error}"
        return _complain(DaemonError(what, hint="check its rights and the disk", code="E_OS"), Exit.USAGE)


def _complain(error: HotlapError, code: Exit) -> int:
    sys.stderr.write(f"hotlap: {ascii_safe(error.line())}\n")
    return int(code)


def _dispatch(options: argparse.Namespace) -> Exit:
    from daemon.app import project_layout

    given: Path | None = getattr(options, "project", None)
    if options.command == "doctor":
        return _doctor(options, project_layout(given or Path()))
    loaded = _loaded(options, given or Path())
    settings = loaded.settings
    if options.command == "trust":
        return _trust(options, project_layout(given or Path()), loaded)
    if options.command in {None, "publish"}:
        is_own_folder = bool(options.demo) and given is None
        check_before_running(given or Path(), loaded, folders=not is_own_folder)
    if options.demo:
        from daemon.demo import run_demo

        return run_demo(given, settings, cycles=options.cycles, dashboard=not options.no_dashboard)
    if options.cycles is not None:
        raise DaemonError("--cycles goes with --demo", hint="python -m daemon --demo --cycles 12", code="E_USAGE")
    layout = project_layout(given or Path())
    reports: dict[str, Callable[[ProjectPaths, Settings], tell.Report]] = {
        "status": tell.status,
        "history": tell.history,
    }
    if options.command in reports:
        return _tell(reports[options.command](layout, settings), as_json=options.json)
    if options.command == "publish":
        return _publish(layout, settings, cycle=options.cycle, epoch=options.epoch)
    if options.command is not None:
        return _order(layout, options.command)
    from daemon.app import run_once, serve

    if options.once:
        return run_once(layout, settings)
    config: Path | None = getattr(options, "config", None)
    return serve(layout, settings, dashboard=not options.no_dashboard, config=config)


def _loaded(options: argparse.Namespace, project: Path) -> LoadedSettings:
    flags = {
        "daemon.auto_train_after_n_rollouts": options.after_n_rollouts,
        "trainer.epochs": options.epochs,
        "trainer.device": options.device,
        "trainer.seed": options.seed,
        "daemon.allow_shared": options.allow_shared,
    }
    names = {"daemon.auto_train_after_n_rollouts": "--after-n-rollouts"}
    return load(project, config=getattr(options, "config", None), flags=flags, flag_names=names)


def _tell(report: tell.Report, *, as_json: bool) -> Exit:
    if as_json:
        sys.stdout.write(orjson.dumps(report.document, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{ascii_safe(line)}\n" for line in report.lines))
    return report.exit_code


def _doctor(options: argparse.Namespace, paths: ProjectPaths) -> Exit:
    """Settings that cannot be used are one more finding, not the end."""
    from daemon.diagnostics.doctor import doctor

    try:
        loaded: LoadedSettings | ConfigError = _loaded(options, paths.project)
    except ConfigError as error:
        loaded = error
    return _tell(doctor(paths, loaded), as_json=options.json)


def _trust(options: argparse.Namespace, paths: ProjectPaths, loaded: LoadedSettings) -> Exit:
    from daemon.security import approvals as trust

    commands = trust.programs_of(loaded)
    if not commands:
        return _say(True, "the settings have nothing run but our own trainer: there is nothing to approve")
    for name, value in commands.items():
        _say(True, f"{name} = {value!r}")
    if options.show:
        is_approved = trust.is_approved(paths.project, commands)
        return _say(is_approved, "approved" if is_approved else "not approved")
    if options.revoke:
        was_there = trust.revoke(paths.project, commands)
        return _say(True, "the approval is taken back" if was_there else "it was not approved")
    path = trust.approve(paths.project, commands)
    return _say(True, f"approved for {paths.project} (kept in {path})")


def _order(paths: ProjectPaths, what: str) -> Exit:
    from daemon.runtime.commands import Command, send_command

    answer = send_command(paths, Command.model_validate({"what": what}))
    return _say(answer.ok, answer.message)


def _publish(paths: ProjectPaths, settings: Settings, *, cycle: int | None, epoch: int) -> Exit:
    from daemon.publishing.republish import publish_epoch
    from daemon.ui.log import Log

    reply = publish_epoch(
        paths,
        settings,
        cycle=cycle,
        epoch=epoch,
        open_log=lambda: contextlib.closing(Log(paths.daemon_log, console=None)),
    )
    return _say(reply.ok, reply.message)


def _say(ok: bool, message: str) -> Exit:
    (sys.stdout if ok else sys.stderr).write(f"{ascii_safe(message)}\n")
    return Exit.DONE if ok else Exit.CYCLE_FAILED
