"""Records all disk operations of a run, and when files and names were synced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.storage.files import Disk

ROOT = 0


@dataclass
class Node:
    """A file or a folder, independent of its name."""

    is_folder: bool
    data: bytes = b""
    synced_at: int | None = 0  #: the operation that made its bytes durable; None if they are not durable yet
    made_at: int = 0
    names: dict[str, int] = field(default_factory=dict)  #: the names in a folder after all operations


@dataclass(frozen=True)
class NameChange:
    """One change of names: `node` gets a name, loses one, or both."""

    at: int
    node: int
    gains: tuple[int, str] | None  #: folder, name
    loses: tuple[int, str] | None

    @property
    def folder(self) -> int:
        """Return the folder whose fsync makes this change durable."""
        place = self.gains or self.loses
        assert place is not None
        return place[0]


class DiskRecorder(Disk):
    """Executes and records every operation; `observe` is called after each."""

    def __init__(self, root: Path, observe: Callable[[int], None]) -> None:
        self._root = root
        self._observe = observe
        self.nodes: dict[int, Node] = {}
        self.name_changes: list[NameChange] = []
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
        """Return the number of operations so far."""
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
        assert folder is not None, f"{path.parent} was not created through this disk"
        return folder, path.name

    def _change_name(self, node: int, gains: Path | None, loses: Path | None) -> None:
        got = None if gains is None else self._place(gains)
        lost = None if loses is None else self._place(loses)
        self.name_changes.append(NameChange(self.count, node, got, lost))
        if lost:
            del self.nodes[lost[0]].names[lost[1]]
        if got:
            self.nodes[got[0]].names[got[1]] = node

    def _record(self, label: str) -> None:
        self.labels.append(label)
        self._observe(self.count)

    def write(self, path: Path, data: bytes) -> None:
        """Write and record."""
        super().write(path, data)
        self._change_name(self._new(is_folder=False, data=data), path, None)
        self._record(f"write {path.name}")

    def append(self, path: Path, data: bytes) -> None:
        """Append and record."""
        super().append(path, data)
        node = self._find(path)
        if node is None:
            node = self._new(is_folder=False)
            self._change_name(node, path, None)
        self.nodes[node].data += data
        self.nodes[node].synced_at = self.count
        self._record(f"append {path.name}")

    def fsync(self, path: Path) -> None:
        """Record that the bytes are durable from now on."""
        node = self._find(path)
        assert node is not None
        if self.nodes[node].synced_at is None:
            self.nodes[node].synced_at = self.count
        self._record(f"fsync {path.name}")

    def rename(self, source: Path, target: Path) -> None:
        """Rename and record."""
        super().rename(source, target)
        node = self._find(source)
        assert node is not None
        self._change_name(node, target, source)
        self._record(f"rename {target.name}")

    def fsync_all(self, paths: Sequence[Path]) -> None:
        """Sync one file after the other, so that each sync has a number."""
        for path in paths:
            self.fsync(path)

    def fsync_dir(self, path: Path) -> None:
        """Record that the names in a folder are durable from now on."""
        folder = self._find(path)
        assert folder is not None
        self.synced_folders.append((self.count, folder))
        self._record(f"fsync_dir {path.name}")

    def unlink(self, path: Path) -> None:
        """Unlink and record."""
        super().unlink(path)
        node = self._find(path)
        if node is not None:
            self._change_name(node, None, path)
        self._record(f"unlink {path.name}")

    def make_folder(self, path: Path) -> None:
        """Create the folder and record it."""
        super().make_folder(path)
        if self._find(path) is None:
            self._change_name(self._new(is_folder=True), path, None)
        self._record(f"make_folder {path.name}")

    def remove_folder(self, path: Path) -> None:
        """Remove the folder and record every removed name."""
        node = self._find(path)
        if node is not None:
            for name in list(self.nodes[node].names):
                child = self.nodes[node].names[name]
                assert not self.nodes[child].is_folder
                self._change_name(child, None, path / name)
            self._change_name(node, None, path)
        super().remove_folder(path)
        self._record(f"remove_folder {path.name}")
