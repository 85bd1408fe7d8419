"""Every state that a power cut could leave on the disk during one cycle, and whether the promises hold in it.

python -m scripts.faults.powerloss            all states that the bounds allow; prints the counts
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.storage.files import Disk, sha256_of

ROOT = 0
LEDGER = "Saved/Training/State/ledger.sqlite3"
Judge = Callable[[Path, int, bool], list[str]]
"""Finds what is wrong with (a project folder, after how many operations, also after a start of the daemon)."""
MAX_SUBSETS = 6
"""With more unsynced names than this, only some of their subsets are tried: none, all, each one, all but each one."""


@dataclass
class Node:
    """A file or a folder, whatever its name is."""

    is_folder: bool
    data: bytes = b""
    synced_at: int | None = 0  #: since which operation its bytes are safe; None: never
    made_at: int = 0
    names: dict[str, int] = field(default_factory=dict)  #: the names in a folder, all operations done


@dataclass(frozen=True)
class Naming:
    """One change of names: `node` gets a name, loses one, or both."""

    at: int
    node: int
    gains: tuple[int, str] | None  #: folder, name
    loses: tuple[int, str] | None

    @property
    def folder(self) -> int:
        """The folder whose fsync makes this change safe."""
        place = self.gains or self.loses
        assert place is not None
        return place[0]


class DiskRecorder(Disk):
    """Does everything and remembers it; `observe` is called after each operation."""

    def __init__(self, root: Path, observe: Callable[[int], None]) -> None:
        self._root = root
        self._observe = observe
        self.nodes: dict[int, Node] = {}
        self.namings: list[Naming] = []
        self.synced_folders: list[tuple[int, int]] = []  #: (at, folder)
        self.labels: list[str] = []
        self._load(root)
        self.first_names = {node: dict(known.names) for node, known in self.nodes.items()}

    def _load(self, path: Path) -> int:
        node = len(self.nodes)
        self.nodes[node] = Node(path.is_dir(), b"" if path.is_dir() else path.read_bytes())
        if path.is_dir():
            for child in sorted(path.iterdir()):
                self.nodes[node].names[child.name] = self._load(child)
        return node

    def _new(self, *, is_folder: bool, data: bytes = b"") -> int:
        node = len(self.nodes)
        self.nodes[node] = Node(is_folder, data, 0 if is_folder else None, self.count)
        return node

    @property
    def count(self) -> int:
        """How many operations there were."""
        return len(self.labels)

    def _find(self, path: Path) -> int | None:
        node = ROOT
        for part in path.relative_to(self._root).parts:
            found = self.nodes[node].names.get(part)
            if found is None:
                return None
            node = found
        return node

    def _place(self, path: Path) -> tuple[int, str]:
        folder = self._find(path.parent)
        assert folder is not None, f"{path.parent} was made around the seam"
        return folder, path.name

    def _name(self, node: int, gains: Path | None, loses: Path | None) -> None:
        got = None if gains is None else self._place(gains)
        lost = None if loses is None else self._place(loses)
        self.namings.append(Naming(self.count, node, got, lost))
        if lost:
            del self.nodes[lost[0]].names[lost[1]]
        if got:
            self.nodes[got[0]].names[got[1]] = node

    def _done(self, label: str) -> None:
        self.labels.append(label)
        self._observe(self.count)

    def write(self, path: Path, data: bytes) -> None:
        """Write and remember."""
        super().write(path, data)
        self._name(self._new(is_folder=False, data=data), path, None)
        self._done(f"write {path.name}")

    def append(self, path: Path, data: bytes) -> None:
        """Append and remember."""
        super().append(path, data)
        node = self._find(path)
        if node is None:
            node = self._new(is_folder=False)
            self._name(node, path, None)
        self.nodes[node].data += data
        self.nodes[node].synced_at = self.count
        self._done(f"append {path.name}")

    def fsync(self, path: Path) -> None:
        """Remember that the bytes are safe from now on."""
        node = self._find(path)
        assert node is not None
        if self.nodes[node].synced_at is None:
            self.nodes[node].synced_at = self.count
        self._done(f"fsync {path.name}")

    def rename(self, source: Path, target: Path) -> None:
        """Rename and remember."""
        super().rename(source, target)
        node = self._find(source)
        assert node is not None
        self._name(node, target, source)
        self._done(f"rename {target.name}")

    def fsync_all(self, paths: Sequence[Path]) -> None:
        """As `fsync`, one after the other: what is recorded has an order."""
        for path in paths:
            self.fsync(path)

    def fsync_dir(self, path: Path) -> None:
        """Remember that the names in a folder are safe from now on."""
        folder = self._find(path)
        assert folder is not None
        self.synced_folders.append((self.count, folder))
        self._done(f"fsync_dir {path.name}")

    def unlink(self, path: Path) -> None:
        """Unlink and remember."""
        super().unlink(path)
        node = self._find(path)
        if node is not None:
            self._name(node, None, path)
        self._done(f"unlink {path.name}")

    def make_folder(self, path: Path) -> None:
        """Make the folder and remember."""
        super().make_folder(path)
        if self._find(path) is None:
            self._name(self._new(is_folder=True), path, None)
        self._done(f"make_folder {path.name}")

    def remove_folder(self, path: Path) -> None:
        """Remove the folder and remember every name that goes."""
        node = self._find(path)
        if node is not None:
            for name in list(self.nodes[node].names):
                child = self.nodes[node].names[name]
                assert not self.nodes[child].is_folder
                self._name(child, None, path / name)
            self._name(node, None, path)
        super().remove_folder(path)
        self._done(f"remove_folder {path.name}")


@dataclass(frozen=True)
class Cut:
    """One state of the disk after a power cut."""

    at: int  #: operations done before it
    forgotten: frozenset[int]  #: which changes of names (by position in `namings`) never reached the disk
    contents: tuple[tuple[int, str], ...]  #: file -> full, half or empty, where its bytes were not synced

    def tree(self, recorder: DiskRecorder) -> dict[str, bytes | None]:
        """Return what lies there, by path; None for a folder."""
        names = {node: dict(recorder.first_names.get(node, {})) for node in recorder.nodes}
        for position, naming in enumerate(recorder.namings):
            if naming.at >= self.at or position in self.forgotten:
                continue
            if naming.loses and names[naming.loses[0]].get(naming.loses[1]) == naming.node:
                del names[naming.loses[0]][naming.loses[1]]
            if naming.gains:
                names[naming.gains[0]][naming.gains[1]] = naming.node
        return dict(_walk(recorder, names, ROOT, "", dict(self.contents)))


def _walk(
    recorder: DiskRecorder, names: dict[int, dict[str, int]], folder: int, prefix: str, kept: dict[int, str]
) -> Iterator[tuple[str, bytes | None]]:
    for name, node in sorted(names[folder].items()):
        path = f"{prefix}{name}"
        if recorder.nodes[node].is_folder:
            yield path, None
            yield from _walk(recorder, names, node, f"{path}/", kept)
        else:
            data = recorder.nodes[node].data
            yield path, data[: {"full": len(data), "half": len(data) // 2, "empty": 0}[kept.get(node, "full")]]


def cuts(recorder: DiskRecorder) -> Iterator[Cut]:
    """Return the states after each operation: all that is synced, and of the rest any part."""
    for at in range(recorder.count + 1):
        open_names = [
            position
            for position, naming in enumerate(recorder.namings)
            if naming.at < at and not _is_synced(recorder, naming, at)
        ]
        for forgotten in _subsets(open_names):
            for contents in _contents(recorder, at):
                yield Cut(at, frozenset(forgotten), contents)


def _is_synced(recorder: DiskRecorder, naming: Naming, at: int) -> bool:
    return any(naming.at < synced < at and folder == naming.folder for synced, folder in recorder.synced_folders)


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
    """All unsynced files alike, and each one torn by itself."""
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


def lay_out(folder: Path, tree: dict[str, bytes | None]) -> None:
    """Put a state on a real disk, in the place of what lies there."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for path, data in tree.items():
        if data is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(data)


@dataclass
class Explored:
    """What an exploration found."""

    operations: int = 0
    states: int = 0  #: cuts looked at
    different: int = 0  #: of them, states of the disk that are not the same
    restarts: int = 0  #: of them, states that a daemon was started on
    violations: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the counts in words."""
        return (
            f"{self.operations} operations, {self.states} power cuts, {self.different} different states, "
            f"{self.restarts} of them started on, {len(self.violations)} violations"
        )


def explore(
    recorder: DiskRecorder,
    folder: Path,
    ledgers: Sequence[bytes],
    judge: Judge,
    *,
    restart_every: int = 1,
) -> Explored:
    """Lay out every state in `folder`, with the ledger as it was then, and have `judge` find what is wrong with it.

    Each n-th different state is also judged after the next start, n being `restart_every`.
    """
    found = Explored(operations=recorder.count)
    seen: set[str] = set()
    for cut in cuts(recorder):
        found.states += 1
        tree = cut.tree(recorder)
        tree[LEDGER] = ledgers[cut.at]
        print_of = sha256_of(repr(sorted((path, data and sha256_of(data)) for path, data in tree.items())).encode())
        if print_of in seen:
            continue
        seen.add(print_of)
        found.different += 1
        lay_out(folder, tree)
        restarts = found.different % restart_every == 0
        found.restarts += restarts
        told = f"after {cut.at} operations ({recorder.labels[cut.at - 1] if cut.at else 'none'})"
        forgotten = [recorder.labels[recorder.namings[position].at] for position in sorted(cut.forgotten)]
        found.violations += [
            f"{told}, forgotten {forgotten}, torn {dict(cut.contents)}: {wrong}"
            for wrong in judge(folder, cut.at, restarts)
        ]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Explore a cycle and print the counts."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults.powerloss", description=__doc__)
    parser.add_argument("--restart-every", type=int, default=1, metavar="N", help="start a daemon on each N-th state")
    options = parser.parse_args(arguments)
    from tests.faults.support.power import explore_a_cycle
    from tests.faults.support.site import Site

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder).resolve() / "project"
        with Site(project) as site:
            site.until_version(0)
        found = explore_a_cycle(project, restart_every=options.restart_every)
    sys.stdout.write(f"power loss: {found.line()}, {time.monotonic() - started:.0f} s\n")
    sys.stdout.write("".join(f"  {violation}\n" for violation in found.violations))
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main())
