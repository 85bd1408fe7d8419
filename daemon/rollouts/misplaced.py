"""Finds rollouts that the scan does not read: in sub-folders of Exports, or under another name."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.storage.layout import is_rollout_name
from schemas.text import printable

MAX_ENTRIES = 5000
"""How many entries of sub-folders are looked at, so that a large tree does not stop the daemon."""
MAX_DEPTH = 3
RIGHT_NAME = "rollout_<i>_<YYYYMMDD_HHMMSS>.json"
_JSON = re.compile(r".*\.json[a-z]?(\.(txt|gz|zip|bz2|xz|zst|bak|\d+))?", re.IGNORECASE | re.DOTALL)
_TEMPORARY = (".", "~", "$")


@dataclass(frozen=True, slots=True)
class Misplaced:
    """Files of one kind that may be rollouts and are not read."""

    count: int
    example: str  #: relative to Exports, with forward slashes
    what: str  #: how they are misplaced
    remedy: str

    def sentence(self) -> str:
        """Return it in words, with the remedy."""
        files = "a file" if self.count == 1 else f"{self.count:,} files"
        return f"{files} {self.what} ({printable(self.example, limit=120)}) -> {self.remedy}"


def may_be_a_rollout(name: str) -> bool:
    """Return whether a file that is not named like a rollout may be one: it ends in .json, .json.txt, .json.gz ..."""
    return not name.startswith(_TEMPORARY) and not is_rollout_name(name) and _JSON.fullmatch(name) is not None


def find_misplaced(exports: Path) -> tuple[Misplaced, ...]:
    """Return what the scan of Exports does not read. Never raises: a folder that cannot be listed has nothing."""
    nested, misnamed = [], []
    for depth, entry in _walk(exports):
        if depth and (is_rollout_name(entry.name) or may_be_a_rollout(entry.name)):
            nested.append(entry.path)
        elif not depth and may_be_a_rollout(entry.name):
            misnamed.append(entry.path)
    found = []
    if nested:
        remedy = "let the engine write to Exports itself, or move them there"
        found.append(Misplaced(len(nested), _first(nested, exports), "in sub-folders of Exports are not read", remedy))
    if misnamed:
        what, remedy = f"in Exports are not named {RIGHT_NAME} and are not read", "rename them, or correct the exporter"
        found.append(Misplaced(len(misnamed), _first(misnamed, exports), what, remedy))
    return tuple(found)


def _walk(exports: Path) -> Iterator[tuple[int, os.DirEntry[str]]]:
    """Return the files in Exports (depth 0) and in its sub-folders, but not behind links; at most `MAX_ENTRIES`."""
    folders, left = [(os.fspath(exports), 0)], MAX_ENTRIES
    while folders and left > 0:
        folder, depth = folders.pop()
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                left -= depth > 0
                if left < 0:
                    break
                if not entry.is_dir(follow_symlinks=False):
                    yield depth, entry
                elif depth < MAX_DEPTH and not (entry.name.startswith(_TEMPORARY) or is_rollout_name(entry.name)):
                    folders.append((entry.path, depth + 1))


def _first(paths: list[str], exports: Path) -> str:
    return os.path.relpath(min(paths), exports).replace(os.sep, "/")
