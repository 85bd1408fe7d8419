"""Commands to a running daemon: each is a small file, and the reply is another one."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import orjson
from pydantic import ValidationError

from daemon.errors import DaemonError, Exit
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.instance_lock import is_running
from schemas.base import StrictModel
from schemas.errors import HotlapError
from schemas.job import Adoption
from schemas.storage.careful_open import LinkInTheWay
from schemas.storage.files import REAL_DISK, Disk, read_with_retries, unlink_with_retries, write_atomic
from schemas.storage.guarded import paths_in
from schemas.storage.held_open import may_be_held_open
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import shown_path

if TYPE_CHECKING:  # the command line does not need a context, and starts faster without its imports
    from daemon.runtime.context import Context

REPLY_TIMEOUT_S = 15.0
_POLL_S = 0.05
_MAX_COMMAND_BYTES = 64 * 1024
_HELD_OPEN_TIMEOUT_S = 0.2
"""How long one pass of the daemon waits for a command that another program has open."""
_COMMAND, _REPLY = ".command", ".reply"
NAME = re.compile(r"[0-9]+(\.[0-9]+)?_[0-9]+\.(command|reply)")
"""The names of commands and replies. Other files are not commands: they are neither read nor removed."""


class Command(StrictModel):
    """A request to a running daemon."""

    what: Literal["trigger", "pause", "resume", "publish", "adopt"]
    epoch: int = 0
    cycle: int | None = None
    adoption: Adoption | None = None
    again: bool = False  #: for trigger: also if no rollout is new


class Reply(StrictModel):
    """The daemon's reply to a command."""

    ok: bool
    message: str
    exit_code: int = Exit.CYCLE_FAILED  #: of `hotlap`, if the command was refused
    cycle: int | None = None  #: the cycle that the command has started


def send_command(paths: ProjectPaths, command: Command, *, timeout_s: float = REPLY_TIMEOUT_S) -> Reply:
    """Send a command to the running daemon and return the reply. Raises DaemonError if no daemon runs or replies."""
    if not is_running(paths):
        raise DaemonError(
            f"no daemon runs on {shown_path(paths.project)}",
            hint="start it with `hotlap`, or train once with `hotlap --once`",
            code="E_NO_DAEMON",
            exit_code=Exit.USAGE,
        )
    command_path = paths.commands / f"{REAL_CLOCK.utc_s():.6f}_{os.getpid()}{_COMMAND}"
    reply_path = command_path.with_suffix(_REPLY)
    write_atomic(command_path, command.to_bytes(), durable=False)
    until = REAL_CLOCK.monotonic() + timeout_s
    while REAL_CLOCK.monotonic() < until:
        if reply_path.exists():
            reply = Reply.from_bytes(read_with_retries(reply_path, limit=_MAX_COMMAND_BYTES))
            with contextlib.suppress(OSError):  # the next start of the daemon removes it
                unlink_with_retries(reply_path)
            return reply
        REAL_CLOCK.sleep(_POLL_S)
    with contextlib.suppress(OSError):
        unlink_with_retries(command_path)
    raise DaemonError(
        f"the daemon did not reply within {timeout_s:.0f} s",
        hint=f"see {shown_path(paths.daemon_log)}, or run `hotlap status`",
        code="E_NO_ANSWER",
        exit_code=Exit.CYCLE_FAILED,
    )


def waiting_commands(paths: ProjectPaths) -> list[tuple[Path, Command | None]]:
    """Return the files of the waiting commands, oldest first, with the command; None if a file cannot be read."""
    found: list[tuple[Path, Command | None]] = []
    for path in _files(paths, _COMMAND):
        try:
            data = read_with_retries(path, limit=_MAX_COMMAND_BYTES, timeout_s=_HELD_OPEN_TIMEOUT_S)
            found.append((path, Command.from_bytes(data)))
        except (OSError, HotlapError, ValidationError, orjson.JSONDecodeError) as error:
            if not (isinstance(error, OSError) and may_be_held_open(error)):  # else the next pass reads it
                found.append((path, None))
    return found


def handle_commands(context: Context, execute: Callable[[Command], Reply]) -> None:
    """Execute the waiting commands and write their replies."""
    for path, command in waiting_commands(context.paths):
        try:
            unlink_with_retries(path, disk=context.disk, timeout_s=_HELD_OPEN_TIMEOUT_S)
            # before it is executed: a remaining file would be executed again at every pass
        except OSError as error:
            context.warn("W_ORDER", f"the command file {path.name} cannot be removed: {error.strerror}")
            continue
        unreadable = Reply(ok=False, message=f"the command file {path.name} cannot be read")
        reply = unreadable if command is None else execute(command)
        with contextlib.suppress(OSError):
            write_reply(path, reply, disk=context.disk)


def write_reply(path: Path, reply: Reply, *, disk: Disk = REAL_DISK) -> None:
    """Write the reply to the command with this path. Raises OSError."""
    write_atomic(path.with_suffix(_REPLY), reply.to_bytes(), disk=disk, durable=False)


def clear_commands(paths: ProjectPaths, *, disk: Disk = REAL_DISK) -> None:
    """Remove the commands and replies of an earlier daemon. Nobody waits for them any more."""
    for suffix in (_COMMAND, _REPLY):
        for path in _files(paths, suffix):
            unlink_with_retries(path, disk=disk)


def _files(paths: ProjectPaths, suffix: str) -> list[Path]:
    """Return the files with names that `send_command` makes, oldest first; none if their folder is a link."""
    try:
        found = [path for path in paths_in(paths.commands) if path.suffix == suffix and NAME.fullmatch(path.name)]
    except LinkInTheWay:
        return []
    return [path for path in found if path.is_symlink() or not path.is_dir()]
