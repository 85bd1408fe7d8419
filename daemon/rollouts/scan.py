"""Lists the files in Exports with their signatures, without opening them. File events only trigger a scan."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from daemon.ledger.records import FileSignature
from schemas.storage.held_open import may_be_held_open
from schemas.storage.layout import is_rollout_name
from schemas.storage.windows_paths import for_system


@dataclass(frozen=True, slots=True)
class Listing:
    """The files in Exports that are named like rollouts."""

    files: dict[str, FileSignature]  #: regular files
    skipped: dict[str, str]  #: files that are never opened: name -> code of the reason


def scan_folder(folder: Path) -> Listing:
    """List the folder. Raises OSError if it cannot be listed."""
    files, skipped = {}, {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if not is_rollout_name(name):
                if is_rollout_name(name.strip().rstrip(". ")):
                    skipped[name] = "E_NAME"
                continue
            try:
                info = os.lstat(for_system(Path(entry.path)))  # the information in `entry` may be out of date on NTFS
            except FileNotFoundError:
                continue
            except OSError as error:
                if not may_be_held_open(error):
                    skipped[name] = "E_UNREADABLE"
                    continue
                info = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(info.st_mode):
                files[name] = FileSignature.of(info)
            else:
                skipped[name] = "E_SYMLINK" if stat.S_ISLNK(info.st_mode) else "E_NOT_REGULAR"
    return Listing(files, skipped)
