"""Folders of Hotlap below which no link is followed when something is changed.

A link below such a folder, that someone made or that came with a copied project, would let Hotlap write or remove files
in another place. `ProjectPaths` guards the folders of its project. On POSIX, the folder of a changed file is opened
component by component without following links, and the change is made relative to it, so a link that appears at the
same moment is not followed either. On Windows, which has no such calls, the components are checked just before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from schemas.errors import ConfigError
from schemas.storage.careful_open import LinkInTheWay, is_link_at, open_regular
from schemas.storage.windows_paths import for_system, shown_path

_roots: set[str] = set()
_may_be_links: set[str] = set()
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_REAL_FOLDER = _FOLDER | getattr(os, "O_NOFOLLOW", 0)


def guard(folder: Path, *, may_be_links: Iterable[Path] = ()) -> None:
    """From now on, follow no link below `folder` to change something, except those in `may_be_links`.

    The folder itself may be a link, or be reached through one.
    """
    _roots.add(str(folder))
    _may_be_links.update(map(str, may_be_links))


def _root_of(folder: Path) -> Path | None:
    """Return the guarded folder that a folder is, or is in; None if none is guarded."""
    return next((path for path in (folder, *folder.parents) if str(path) in _roots), None)


def _components(root: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Return the names below `root` on the way to `folder`, with their paths."""
    here = root
    for name in folder.relative_to(root).parts:
        here /= name
        yield name, here


@contextlib.contextmanager
def place_of(path: Path) -> Iterator[tuple[str, int | None]]:
    """Provide what `os` functions need to change a file: its name, and the open folder as `dir_fd`; or path and None.

    Raises LinkInTheWay if a link is on the way to a file below a guarded folder. OSErrors contain the whole path.
    """
    with opened_folder(path.parent) as descriptor, _whole_path(path):
        yield str(for_system(path)) if descriptor is None else path.name, descriptor


@contextlib.contextmanager
def opened_folder(folder: Path) -> Iterator[int | None]:
    """Provide the descriptor of a folder below a guarded one, opened without following links.

    Provide None if it is not guarded, and on Windows. Raises LinkInTheWay.
    """
    root = _root_of(folder)
    if root is None:
        yield None
        return
    if sys.platform == "win32":
        for _, here in _components(root, folder):
            if str(here) not in _may_be_links and is_link_at(here):
                raise LinkInTheWay(here)
        yield None
        return
    descriptor = _open_below(root, folder, make=False)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_guarded_folder(folder: Path) -> None:
    """Create a folder and its parents if they do not exist. Raises LinkInTheWay, or FileExistsError for a file."""
    root = _root_of(folder)
    if root is None or sys.platform == "win32":
        with opened_folder(folder):
            for_system(folder).mkdir(parents=True, exist_ok=True)
        return
    root.mkdir(parents=True, exist_ok=True)
    os.close(_open_below(root, folder, make=True))


def _open_below(root: Path, folder: Path, *, make: bool) -> int:
    descriptor = os.open(root, _FOLDER)
    for name, here in _components(root, folder):
        flags = _FOLDER if str(here) in _may_be_links else _REAL_FOLDER
        try:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=descriptor)
            below = os.open(name, flags, dir_fd=descriptor)
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP} and is_link_at(here):
                raise LinkInTheWay(here) from None
            if error.errno == errno.ENOTDIR and make:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(here)) from None
            error.filename = str(here)
            raise
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


@contextlib.contextmanager
def _whole_path(path: Path) -> Iterator[None]:
    """Replace the name in an OSError by the whole path."""
    try:
        yield
    except OSError as error:
        if error.filename == path.name:
            error.filename = str(path)
        raise


def require_real(paths: Iterable[Path], *, hint: str) -> None:
    """Raise ConfigError (E_LINK) if one of these folders or files is a link."""
    for path in paths:
        if is_link_at(path):
            text = f"{shown_path(path)} is a link, which Hotlap does not follow"
            raise ConfigError(text, hint=hint, code="E_LINK")


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none if it does not exist. Raises LinkInTheWay or another OSError."""
    try:
        with opened_folder(folder) as descriptor:
            return sorted(os.listdir(for_system(folder) if descriptor is None else descriptor))  # noqa: PTH208  a descriptor
    except FileNotFoundError:
        return []


def paths_in(folder: Path) -> list[Path]:
    """Return the paths of what is in a folder, as `names_in`."""
    return [folder / name for name in names_in(folder)]


def open_own(path: Path, flags: int, mode: int = 0o644) -> int:
    """Open a file of Hotlap's own to write to it in place, and return its descriptor.

    If the file has another name as well (a hard link), it is replaced by a copy first, so that the other name keeps its
    content. Raises LinkInTheWay, or another OSError, also if it is not a regular file.
    """
    with place_of(path) as (name, descriptor):
        with contextlib.suppress(FileNotFoundError):
            info = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if is_link_at(path):
                raise LinkInTheWay(path)
            if not stat.S_ISREG(info.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file", name)
            if info.st_nlink > 1:
                _replace_by_copy(name, descriptor, stat.S_IMODE(info.st_mode))
        return open_regular(name, flags, mode, dir_fd=descriptor)


def detach(path: Path) -> None:
    """Replace a file that has another name as well (a hard link) by a copy. A missing file stays missing."""
    with contextlib.suppress(FileNotFoundError):
        os.close(open_own(path, os.O_RDONLY))


def _replace_by_copy(name: str, descriptor: int | None, mode: int) -> None:
    parent, base = os.path.split(name)
    copy = os.path.join(parent, f".{base}.{secrets.token_hex(4)}.tmp")  # noqa: PTH118  it may be relative to a descriptor
    source = open_regular(name, os.O_RDONLY, dir_fd=descriptor)
    with os.fdopen(source, "rb") as old:
        target = open_regular(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode, dir_fd=descriptor)
        with os.fdopen(target, "wb") as new:
            while block := old.read(1 << 20):
                new.write(block)
            new.flush()
            os.fsync(new.fileno())
    os.replace(copy, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
