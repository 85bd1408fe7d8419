"""Orders from the command line to a running daemon: small files that appear whole, each with an answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import orjson
from pydantic import ValidationError

from daemon.errors import DaemonError, Exit
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.instance_lock import is_held
from schemas.base import StrictModel
from schemas.errors import HotlapError
from schemas.storage.files import REAL_DISK, Disk, read_regular, write_atomic
from schemas.storage.layout import ProjectPaths

REPLY_TIMEOUT_S = 15.0
_LIMIT = 64 * 1024


class Command(StrictModel):
    """What a person wants a running daemon to do."""

    what: Literal["trigger", "pause", "resume", "publish"]
    epoch: int = 0
    cycle: int | None = None


class Reply(StrictModel):
    """What came of it."""

    ok: bool
    message: str


def send_command(paths: ProjectPaths, command: Command, *, timeout_s: float = REPLY_TIMEOUT_S) -> Reply:
    """Hand an order to the running daemon and wait for its answer. Raises DaemonError where none runs or answers."""
    if not is_held(paths.lock):
        raise DaemonError(
            "no daemon runs on this project",
            hint="start it with `python -m daemon`, or train once with `python -m daemon --once`",
            code="E_NO_DAEMON",
            exit_code=Exit.USAGE,
        )
    name = f"{REAL_CLOCK.utc_s():.6f}_{os.getpid()}"
    answer_path = paths.commands / f"{name}.answer"
    write_atomic(paths.commands / f"{name}.order", command.to_bytes(), durable=False)
    until = REAL_CLOCK.monotonic() + timeout_s
    while REAL_CLOCK.monotonic() < until:
        if answer_path.exists():
            answer = Reply.from_bytes(answer_path.read_bytes())
            REAL_DISK.unlink(answer_path)
            return answer
        REAL_CLOCK.sleep(0.05)
    REAL_DISK.unlink(paths.commands / f"{name}.order")
    raise DaemonError(
        f"the daemon did not answer within {timeout_s:.0f} s",
        hint="is it stopped or very busy? see Saved/Training/Logs/daemon.log",
        code="E_NO_ANSWER",
        exit_code=Exit.CYCLE_FAILED,
    )


def waiting_commands(paths: ProjectPaths) -> list[tuple[Path, Command | None]]:
    """Return the orders that wait, oldest first; None for a file that is none."""
    found: list[tuple[Path, Command | None]] = []
    for path in sorted(paths.commands.glob("*.order")):
        try:
            found.append((path, Command.from_bytes(read_regular(path, limit=_LIMIT))))
        except (OSError, HotlapError, ValidationError, orjson.JSONDecodeError):
            found.append((path, None))
    return found


def write_reply(path: Path, reply: Reply, *, disk: Disk = REAL_DISK) -> None:
    """Answer an order that was taken off the list. Raises OSError."""
    write_atomic(path.with_suffix(".answer"), reply.to_bytes(), disk=disk, durable=False)


def clear_commands(paths: ProjectPaths, *, disk: Disk = REAL_DISK) -> None:
    """Drop what an earlier daemon left unanswered: nobody waits for it any more."""
    for path in (*paths.commands.glob("*.order"), *paths.commands.glob("*.answer")):
        disk.unlink(path)
