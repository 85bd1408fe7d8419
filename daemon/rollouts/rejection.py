"""Moves a file to Rejected and writes the reason next to it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from schemas.storage.files import Disk, write_atomic

LONGEST_NAME_BYTES = 200
"""File systems allow 255 bytes. `.reason.txt` and the ending of a temporary name must still fit."""


def move_to_rejected(source: Path, rejected: Path, reason: str, *, disk: Disk) -> Path:
    """Write the reason, move the file, and return its new path. Never overwrites another rejected file.

    Raises FileNotFoundError if the file does not exist any more, another OSError if it cannot be moved.
    """
    os.lstat(source)
    disk.make_folder(rejected)
    target = _free_name(rejected, source.name)
    note = target.with_name(f"{target.name}.reason.txt")
    write_atomic(note, f"{reason}\n".encode("utf-8", "backslashreplace"), disk=disk)
    try:
        disk.rename(source, target)
    except OSError:
        disk.unlink(note)
        raise
    return target


def _free_name(folder: Path, name: str) -> Path:
    short = _shortened(name)
    candidate, n = folder / short, 1
    while os.path.lexists(candidate) or os.path.lexists(f"{candidate}.reason.txt"):
        n += 1
        candidate = folder / f"{short}.{n}"
    return candidate


def _shortened(name: str) -> str:
    """Return the name, shortened if no suffix fits. A hash makes different shortened names differ."""
    raw = os.fsencode(name)
    if len(raw) <= LONGEST_NAME_BYTES:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:8]
    return raw[: LONGEST_NAME_BYTES - 20].decode("utf-8", "ignore") + f"~{digest}.json"
