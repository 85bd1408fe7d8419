"""Moving a file to Rejected, beside the reason."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from schemas.storage.files import Disk, write_atomic

LONGEST_NAME_BYTES = 200
"""Room for `.reason.txt` and a temporary name's ending within the 255 bytes that file systems take."""


def move_to_rejected(source: Path, rejected: Path, reason: str, *, disk: Disk) -> Path:
    """Move a file, the reason first; give where it lies now. What was rejected before is never overwritten.

    Raises FileNotFoundError where the file is gone, another OSError where it cannot be moved: then it stays.
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
    while os.path.lexists(candidate):
        n += 1
        candidate = folder / f"{short}.{n}"
    return candidate


def _shortened(name: str) -> str:
    """Cut a name that leaves no room for an ending; a hash keeps two of them apart."""
    raw = os.fsencode(name)
    if len(raw) <= LONGEST_NAME_BYTES:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:8]
    return raw[: LONGEST_NAME_BYTES - 20].decode("utf-8", "ignore") + f"~{digest}.json"
