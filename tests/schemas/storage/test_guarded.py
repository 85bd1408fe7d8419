"""Changes below a guarded folder never go through a link, and never change another name of a file."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from schemas.storage.careful_open import LinkInTheWay, is_link, is_link_at
from schemas.storage.files import REAL_DISK, Disk, write_atomic
from schemas.storage.guarded import detach, guard, names_in, open_own, require_real
from tests.platforms import PATIENCE, make_link, needs_posix


@pytest.fixture
def root(tmp_path) -> Path:
    """Make a guarded folder with a folder and a file in it, and a folder outside that a link in it leads to."""
    for folder in ("root/real", "outside/below"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "root" / "file").write_bytes(b"own")
    (tmp_path / "outside" / "file").write_bytes(b"precious")
    make_link(tmp_path / "root" / "link", tmp_path / "outside")
    guard(tmp_path / "root")
    return tmp_path / "root"


def content_of(folder: Path) -> dict[str, bytes | None]:
    found = folder.rglob("*")
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in found}


CHANGES: dict[str, Callable[[Disk, Path], object]] = {
    "write": lambda disk, root: disk.write(root / "link" / "new", b"x"),
    "write atomically": lambda disk, root: write_atomic(root / "link" / "file", b"x", disk=disk),
    "append": lambda disk, root: disk.append(root / "link" / "file", b"x"),
    "truncate": lambda disk, root: disk.truncate(root / "link" / "file"),
    "fsync": lambda disk, root: disk.fsync(root / "link" / "file"),
    "fsync a folder": lambda disk, root: disk.fsync_dir(root / "link" / "below"),
    "rename from": lambda disk, root: disk.rename(root / "link" / "file", root / "got"),
    "rename to": lambda disk, root: disk.rename(root / "file", root / "link" / "file"),
    "unlink": lambda disk, root: disk.unlink(root / "link" / "file"),
    "make a folder": lambda disk, root: disk.make_folder(root / "link" / "new"),
    "make the link": lambda disk, root: disk.make_folder(root / "link"),
    "remove a folder": lambda disk, root: disk.remove_folder(root / "link" / "below"),
    "copy a time": lambda disk, root: disk.copy_time(root / "file", root / "link" / "file"),
    "list": lambda disk, root: names_in(root / "link"),
    "open": lambda disk, root: open_own(root / "link" / "file", os.O_WRONLY),
}


@pytest.mark.parametrize("name", CHANGES)
def test_no_change_goes_through_a_link(root, name):
    before = content_of(root.parent / "outside")
    with pytest.raises(OSError, match="is a link, which Hotlap does not follow") as caught:
        CHANGES[name](REAL_DISK, root)
    assert isinstance(caught.value, LinkInTheWay) or name == "fsync a folder"
    assert content_of(root.parent / "outside") == before
    assert (root / "file").read_bytes() == b"own"


def test_a_link_itself_is_removed_or_replaced_but_not_its_target(root):
    REAL_DISK.remove_folder(root / "link")
    assert not (root / "link").is_symlink()
    make_link(root / "name", root.parent / "outside" / "file")
    write_atomic(root / "name", b"new")
    assert (root / "name").read_bytes() == b"new"
    make_link(root / "second", root.parent / "outside" / "file")
    REAL_DISK.unlink(root / "second")
    assert content_of(root.parent / "outside") == {"below": None, "file": b"precious"}


@pytest.mark.parametrize("change", [lambda path: REAL_DISK.append(path, b"x"), REAL_DISK.truncate, detach])
def test_a_file_that_is_a_link_is_not_opened(root, change):
    make_link(root / "name", root.parent / "outside" / "file")
    with pytest.raises(OSError):
        change(root / "name")
    assert (root.parent / "outside" / "file").read_bytes() == b"precious"


def test_the_guarded_folder_itself_may_be_a_link_and_others_may_be_allowed(tmp_path, root):
    make_link(tmp_path / "other", root / "real")
    guard(tmp_path / "other")
    write_atomic(tmp_path / "other" / "file", b"x")
    assert (root / "real" / "file").read_bytes() == b"x"
    guard(root, may_be_links=[root / "link"])
    write_atomic(root / "link" / "more", b"y")
    assert (tmp_path / "outside" / "more").read_bytes() == b"y"


@pytest.mark.parametrize("change", [lambda path: REAL_DISK.append(path, b"+"), REAL_DISK.truncate, detach])
def test_another_name_of_a_file_keeps_its_content(root, change):
    other = root.parent / "outside" / "other name"
    os.link(root / "file", other)
    change(root / "file")
    assert other.read_bytes() == b"own"
    assert not (root / "file").samefile(other)
    assert sorted(names_in(root)) == ["file", "link", "real"]


def test_the_copy_is_on_the_disk_before_it_replaces_a_hard_link(root, monkeypatch):
    os.link(root / "file", root.parent / "outside" / "other name")
    calls: list[object] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.fstat(fd).st_ino), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *paths, **folders: (calls.append("rename"), replace(*paths, **folders)))
    detach(root / "file")
    assert calls == [(root / "file").stat().st_ino, "rename"]


@needs_posix("pipes")
def test_a_pipe_is_neither_opened_nor_waited_for(root):
    os.mkfifo(root / "pipe")
    for change in (lambda path: REAL_DISK.append(path, b"x"), REAL_DISK.truncate, detach):
        with pytest.raises(OSError, match="not a regular file"):
            change(root / "pipe")


@needs_posix("descriptors of folders")
def test_a_folder_that_becomes_a_link_at_any_moment_is_not_followed(root):
    """Swap a folder and a link as fast as possible while files in it are removed."""
    outside, real, kept = root.parent / "outside", root / "real", root / "kept"
    (outside / "victim").write_bytes(b"precious")
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            real.rename(kept)
            real.symlink_to(outside)
            real.unlink()
            kept.rename(real)

    thread = threading.Thread(target=swap)
    thread.start()
    refused, deadline = 0, time.monotonic() + 30.0 * PATIENCE
    try:
        while refused < 200 and time.monotonic() < deadline:
            try:
                REAL_DISK.unlink(real / "victim")
            except OSError:
                refused += 1
    finally:
        is_over.set()
        thread.join()
    assert (outside / "victim").read_bytes() == b"precious"
    assert refused > 0, "the link was never met, so nothing was tested"


def test_a_link_is_reported_with_its_path(root):
    with pytest.raises(ConfigError, match="link is a link, which Hotlap does not follow") as caught:
        require_real([root / "real", root / "link"], hint="remove it")
    assert caught.value.code == "E_LINK"
    require_real([root / "real", root / "missing"], hint="remove it")


def test_junctions_are_links_and_files_in_the_cloud_are_not():
    class Info:
        st_mode = 0o040755

    for tag, expected in ((0xA0000003, True), (0xA000000C, True), (0x9000001A, False), (0x80000013, False), (0, False)):
        Info.st_reparse_tag = tag
        assert is_link(Info()) == expected, hex(tag)
    assert not is_link_at(Path("does not exist"))
