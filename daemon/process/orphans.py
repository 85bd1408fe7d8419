"""Which processes are ours: a token in the environment, which everything that a trainer starts inherits, tells."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from daemon.runtime.clock import REAL_CLOCK

TOKEN_VARIABLE = "HOTLAP_RUN_TOKEN"
KILL_TIMEOUT_S = 2.0
"""How long killed processes may take to go before they count as stuck."""
_BIRTH_TOLERANCE_S = 2.0
"""A process's start is counted from the machine's, which a step of the clock shifts."""


@dataclass(frozen=True, slots=True)
class Token:
    """Says of a process which project it works for, and which daemon started it."""

    project: str  #: `project_fingerprint` of its folder
    owner_pid: int
    owner_born_s: int  #: s since 1970; a pid alone is used again
    run: str

    def __str__(self) -> str:
        return f"{self.project}-{self.owner_pid}-{self.owner_born_s}-{self.run}"

    @classmethod
    def parse(cls, text: str) -> Token | None:
        """Read a token back; None where it is none of ours."""
        project, _, rest = text.partition("-")
        pid, _, rest = rest.partition("-")
        born, _, run = rest.partition("-")
        if not (project and run and pid.isdecimal() and born.isdecimal()):
            return None
        return cls(project, int(pid), int(born), run)

    def owner_lives(self) -> bool:
        """Return whether the daemon that started it still runs; another process under its pid is not it."""
        try:
            return abs(psutil.Process(self.owner_pid).create_time() - self.owner_born_s) <= _BIRTH_TOLERANCE_S
        except psutil.Error:
            return False


def project_fingerprint(project: Path) -> str:
    """Return what names a project folder on this machine: neither a copy of it nor a namesake elsewhere has the same."""
    resolved = project.resolve()
    try:
        info = resolved.stat()
        place = f"{info.st_dev}:{info.st_ino}"
    except OSError:
        place = ""
    return hashlib.sha256(f"{place}:{resolved}".encode("utf-8", "surrogateescape")).hexdigest()[:12]


def new_token(project: Path) -> Token:
    """Return the token of one more process of this one."""
    return Token(project_fingerprint(project), os.getpid(), int(psutil.Process().create_time()), secrets.token_hex(8))


def find_processes(is_meant: Callable[[Token], bool]) -> list[psutil.Process]:
    """Return the living processes whose token is meant; never this one, its ancestors, or another user's."""
    me = psutil.Process()
    spared = {me.pid, *(parent.pid for parent in me.parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in spared:
            continue
        try:
            token = Token.parse(process.environ().get(TOKEN_VARIABLE, ""))
            is_alive = process.status() != psutil.STATUS_ZOMBIE
            if token is not None and is_alive and _is_same_user(process, me) and is_meant(token):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _is_same_user(process: psutil.Process, me: psutil.Process) -> bool:
    if sys.platform == "win32":
        return process.username() == me.username()
    return process.uids().real == me.uids().real


def kill_processes(is_meant: Callable[[Token], bool], *, timeout_s: float = KILL_TIMEOUT_S) -> list[psutil.Process]:
    """Kill the processes whose token is meant until there are none; give those that do not die.

    psutil compares the time of birth before it signals: a pid that was used again is left alone.
    """
    until = REAL_CLOCK.monotonic() + timeout_s
    while left := find_processes(is_meant):
        for process in left:
            try:
                process.kill()
            except psutil.Error:
                continue
        if REAL_CLOCK.monotonic() >= until:
            return left
        psutil.wait_procs(left, timeout=0.1)
    return []


def kill_orphans(project: Path) -> tuple[int, list[psutil.Process]]:
    """End what daemons of this project that are gone have left; give how many there were, and those that do not die."""
    mark = project_fingerprint(project)

    def is_orphan(token: Token) -> bool:
        return token.project == mark and not token.owner_lives()

    count = len(find_processes(is_orphan))
    return count, kill_processes(is_orphan) if count else []
