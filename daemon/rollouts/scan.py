"""What lies in Exports, by names and stamps alone: nothing is opened. The listing is the truth."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from daemon.ledger.records import FileSignature
from schemas.storage.layout import is_rollout_name
from schemas.text import printable

_REMEDIES = {
    "E_SYMLINK": "is a link -> write the file itself",
    "E_NOT_REGULAR": "is no regular file -> remove it",
    "E_NAME": "is no rollout to us: its name has white space around it -> rename it",
    "E_UNREADABLE": "cannot be looked at -> check the folder's rights",
}
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Listing:
    """The names in Exports that are meant as rollouts."""

    files: dict[str, FileSignature]  #: regular files
    skipped: dict[str, str]  #: what is never opened: name -> code of the reason


def scan_folder(folder: Path) -> Listing:
    """Look at the folder. Raises OSError where it cannot be listed."""
    files, odd = {}, {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if not is_rollout_name(name):
                if is_rollout_name(name.strip()):
                    odd[name] = "E_NAME"
                continue
            try:
                info = os.lstat(entry.path)  # the folder's own entry may be stale on NTFS
            except FileNotFoundError:
                continue
            except OSError:
                odd[name] = "E_UNREADABLE"
                continue
            if stat.S_ISREG(info.st_mode):
                files[name] = FileSignature.of(info)
            else:
                odd[name] = "E_SYMLINK" if stat.S_ISLNK(info.st_mode) else "E_NOT_REGULAR"
    return Listing(files, odd)


def describe_skipped(odd: dict[str, str], *, new: frozenset[str]) -> str:
    """Say what is left alone and why; the first few names, those in `new` before the others."""
    ordered = sorted(odd, key=lambda name: (name not in new, name))
    parts = [f"{printable(name, limit=300)} {_REMEDIES[odd[name]]} [{odd[name]}]" for name in ordered[:_NAMED]]
    more = len(odd) - len(parts)
    return "left alone in Exports: " + "; ".join(parts) + (f"; and {more} more" if more else "")
