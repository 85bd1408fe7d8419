"""Ends the processes that are left from an earlier daemon of the same project."""

from __future__ import annotations

from pathlib import Path

import psutil

from schemas.process.run_token import Token, find_processes, kill_processes, project_fingerprint


def kill_orphans(project: Path) -> tuple[int, list[psutil.Process]]:
    """Kill the processes of this project whose daemon has ended; return their number, and those that still run."""
    fingerprint = project_fingerprint(project)

    def is_orphan(token: Token) -> bool:
        return token.project == fingerprint and not token.owner_lives()

    count = len(find_processes(is_orphan))
    return count, kill_processes(is_orphan) if count else []
