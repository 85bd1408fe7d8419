"""Find processes by a token in their environment, which all descendants of a child inherit."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

TOKEN_VARIABLE = "HOTLAP_RUN_TOKEN"
KILL_TIMEOUT_S = 2.0
"""Time that killed processes have to end before they count as stuck."""
_BIRTH_TOLERANCE_S = 2.0
"""psutil derives a process's start time from the machine's boot time, which changes if the clock is adjusted."""


@dataclass(frozen=True, slots=True)
class Token:
    """The folder that a process works for, and the process that started it."""

    project: str  #: `project_fingerprint` of the folder
    owner_pid: int
    owner_born_s: int  #: s since 1970; the system reuses pids
    run: str

    def __str__(self) -> str:
        return f"{self.project}-{self.owner_pid}-{self.owner_born_s}-{self.run}"

    @classmethod
    def parse(cls, text: str) -> Token | None:
        """Return the token in a text that `str` returned; None for any other text."""
        project, _, rest = text.partition("-")
        pid, _, rest = rest.partition("-")
        born, _, run = rest.partition("-")
        if not (project and run and pid.isdecimal() and born.isdecimal()):
            return None
        return cls(project, int(pid), int(born), run)

    def owner_lives(self) -> bool:
        """Return whether the process that started it still runs, and not another process with the same pid."""
        try:
            return abs(psutil.Process(self.owner_pid).create_time() - self.owner_born_s) <= _BIRTH_TOLERANCE_S
        except psutil.Error:
            return False


def project_fingerprint(project: Path) -> str:
    """Return a hash that identifies a folder on this machine; a copy of the folder has another one."""
    try:
        resolved = project.resolve()
    except OSError:  # on Windows, of a path that is too long
        resolved = project.absolute()
    try:
        info = resolved.stat()
        place = f"{info.st_dev}:{info.st_ino}"
    except OSError:
        place = ""
    return hashlib.sha256(f"{place}:{resolved}".encode("utf-8", "surrogateescape")).hexdigest()[:12]


def new_token(project: Path) -> Token:
    """Return a new token for a child of this process that works for a folder."""
    return Token(project_fingerprint(project), os.getpid(), int(psutil.Process().create_time()), secrets.token_hex(8))


def find_processes(matches: Callable[[Token], bool]) -> list[psutil.Process]:
    """Return the living processes whose token matches; not this one, its ancestors, or those of other users."""
    own = psutil.Process()
    excluded = {own.pid, *(parent.pid for parent in own.parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in excluded:
            continue
        try:
            token = Token.parse(process.environ().get(TOKEN_VARIABLE, ""))
            is_alive = process.status() != psutil.STATUS_ZOMBIE
            if token is not None and is_alive and _is_same_user(process, own) and matches(token):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def shares_pids(process: psutil.Process) -> bool:
    """Return whether pids mean the same for another process as for this one. In a container on Linux they do not."""
    try:
        return os.readlink(f"/proc/{process.pid}/ns/pid") == os.readlink("/proc/self/ns/pid")  # noqa: PTH115  not a file
    except OSError:
        return True


def _is_same_user(process: psutil.Process, me: psutil.Process) -> bool:
    if sys.platform == "win32":
        return process.username() == me.username()
    return process.uids().real == me.uids().real


def kill_processes(matches: Callable[[Token], bool], *, timeout_s: float = KILL_TIMEOUT_S) -> list[psutil.Process]:
    """Kill the processes whose token matches until none remains; return those that do not end in time.

    psutil compares the start time before it signals, so a process that reuses a pid is not killed.
    """
    until = time.monotonic() + timeout_s
    while left := find_processes(matches):
        for process in left:
            try:
                process.kill()
            except psutil.Error:
                continue
        if time.monotonic() >= until:
            return left
        psutil.wait_procs(left, timeout=0.1)
    return []
