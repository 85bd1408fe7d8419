"""Computes the states of the disk that a power cut can leave, from recorded operations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scripts.faults.lib.disk_recorder import ROOT, DiskRecorder, NameChange

MAX_SUBSETS = 6
"""With more unsynced names than this, only some subsets are tried: none, all, each alone, and all except each."""


@dataclass(frozen=True)
class Cut:
    """One state of the disk after a power cut."""

    at: int  #: number of operations before it
    forgotten: frozenset[int]  #: changes of names (positions in `name_changes`) that did not reach the disk
    contents: tuple[tuple[int, str], ...]  #: file -> full, half or empty, for unsynced bytes

    def tree(self, recorder: DiskRecorder) -> dict[str, bytes | None]:
        """Return the content of each path; None for a folder."""
        names = {node: dict(recorder.first_names.get(node, {})) for node in recorder.nodes}
        for position, change in enumerate(recorder.name_changes):
            if change.at >= self.at or position in self.forgotten:
                continue
            if change.loses and names[change.loses[0]].get(change.loses[1]) == change.node:
                del names[change.loses[0]][change.loses[1]]
            if change.gains:
                names[change.gains[0]][change.gains[1]] = change.node
        return dict(_walk(recorder, names, ROOT, "", dict(self.contents)))


def _walk(
    recorder: DiskRecorder, names: dict[int, dict[str, int]], folder: int, prefix: str, contents: dict[int, str]
) -> Iterator[tuple[str, bytes | None]]:
    for name, node in sorted(names[folder].items()):
        path = f"{prefix}{name}"
        if recorder.nodes[node].is_folder:
            yield path, None
            yield from _walk(recorder, names, node, f"{path}/", contents)
        else:
            data = recorder.nodes[node].data
            yield path, data[: {"full": len(data), "half": len(data) // 2, "empty": 0}[contents.get(node, "full")]]


def cuts(recorder: DiskRecorder) -> Iterator[Cut]:
    """Return the possible states after each operation: everything synced, and any part of the rest."""
    for at in range(recorder.count + 1):
        open_names = [
            position
            for position, change in enumerate(recorder.name_changes)
            if change.at < at and not _is_synced(recorder, change, at)
        ]
        for forgotten in _subsets(open_names):
            for contents in _contents(recorder, at):
                yield Cut(at, frozenset(forgotten), contents)


def _is_synced(recorder: DiskRecorder, change: NameChange, at: int) -> bool:
    return any(change.at < synced < at and folder == change.folder for synced, folder in recorder.synced_folders)


def _subsets(positions: Sequence[int]) -> Iterator[Sequence[int]]:
    if len(positions) <= MAX_SUBSETS:
        for size in range(len(positions) + 1):
            yield from itertools.combinations(positions, size)
        return
    yield from ((), positions)
    for position in positions:
        yield (position,)
        yield [other for other in positions if other != position]


def _contents(recorder: DiskRecorder, at: int) -> Iterator[tuple[tuple[int, str], ...]]:
    """Return the incomplete contents to try: those of all unsynced files at once, and of each alone."""
    unsynced = [
        number
        for number, node in recorder.nodes.items()
        if not node.is_folder and node.made_at < at and (node.synced_at is None or node.synced_at >= at)
    ]
    yield ()
    for how in ("half", "empty"):
        if unsynced:
            yield tuple((number, how) for number in unsynced)
        if len(unsynced) > 1:
            yield from (((number, how),) for number in unsynced)
