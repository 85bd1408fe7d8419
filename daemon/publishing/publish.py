"""Publishes a model: cycle folder, copies, check, pointer file. All steps can be repeated after a crash."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from daemon.publishing.pointer import PublishError, set_pointer
from schemas.contract import PolicyContract
from schemas.errors import HotlapError
from schemas.job import Result
from schemas.model import MAX_MODEL_BYTES, check_probe, read_model
from schemas.storage.careful_open import is_link_at
from schemas.storage.files import (
    REAL_DISK,
    Disk,
    read_with_retries,
    rename_with_retries,
    sha256_of,
    temporary_name,
    unlink_with_retries,
    write_all_atomic,
)
from schemas.storage.guarded import names_in, paths_in
from schemas.storage.held_open import is_held_open, may_be_held_open
from schemas.storage.layout import ProjectPaths
from schemas.storage.set_aside import ANALYSIS_NAME
from schemas.storage.windows_paths import error_text

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class OtherFiles(Protocol):
    """The files in Models that other programs wrote. `daemon.publishing.foreign_files` implements it."""

    unreadable: frozenset[str]  #: names of files that cannot be moved or read, after `set_aside`; they must stay

    def set_aside(self) -> frozenset[str]:
        """Move those whose names Hotlap uses; return the names of Hotlap's own models and checkpoints in Models."""

    def set_aside_folder(self, folder: Path) -> None:
        """Move what is in the place of a cycle's folder. Raises OSError."""

    def remove_copied(self) -> None:
        """Remove the originals that stayed because the pointer file named them."""


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model that the pointer file names."""

    model: str  #: relative to Models, forward slashes
    sha256: str
    old_copies: tuple[str, ...] = ()  #: copies in Models that could not be replaced or removed
    copy_error: str = ""  #: why the first of them could not; "" if a program has it open


def publish(
    result: Result,
    *,
    staging: Path,
    cycle: int,
    contract: PolicyContract,
    paths: ProjectPaths,
    keep_checkpoints: bool,
    others: OtherFiles,
    disk: Disk = REAL_DISK,
) -> PublishedModel:
    """Publish the files in `staging`. After a crash at any point, it can be called again.

    Files of other programs are moved out of the way, those that the pointer file names after it names another model.
    Copies in Models are for tools. If they cannot be made, the model is published without them.
    Raises PublishError or ModelError if the files do not match the result, and OSError.
    """
    folder = paths.cycle_folder(cycle)
    checked = None
    if _is_complete(folder, result):
        with contextlib.suppress(OSError):
            disk.remove_folder(staging)
    else:
        checked = _check(staging, result, contract)
        _move_into_place(staging, folder, result, keep_checkpoints=keep_checkpoints, others=others, disk=disk)
    own = others.set_aside()
    copies = _Copies()
    copied = copies.refresh(folder, paths, disk, leave=others.unreadable)
    model = f"{folder.name}/{result.model}"
    sha256 = set_pointer(model, contract=contract, paths=paths, disk=disk, checked=checked)
    others.remove_copied()
    for name in sorted(own - copied):
        copies.attempt(partial(unlink_with_retries, paths.models / name, disk=disk), name)
    return PublishedModel(model, sha256, tuple(copies.failed), copies.error)


def _is_complete(folder: Path, result: Result) -> bool:
    """Return whether the cycle's folder already contains the chosen model as the trainer wrote it."""
    try:
        return all(sha256_of(_read(folder / name)) == result.files[name] for name in _essential(result))
    except (OSError, KeyError):
        return False


def _read(path: Path) -> bytes:
    return read_with_retries(path, limit=MAX_MODEL_BYTES)


def _essential(result: Result) -> tuple[str, ...]:
    return (result.model, result.checkpoint)


def _check(staging: Path, result: Result, contract: PolicyContract) -> str:
    """Compare the files with their hashes and check the model; return the model's hash."""
    require_folder(staging)
    if any(name not in result.files for name in _essential(result)):
        raise PublishError(
            "the trainer's result does not contain a model and its checkpoint", hint="see the cycle's log"
        )
    model_data = b""
    for name, sha256 in result.files.items():
        if not _SAFE_NAME.fullmatch(name):
            raise PublishError(
                f"the trainer's file has the name {name!r}", hint="use letters, digits, '_', '-' and '.'"
            )
        try:
            data = _read(staging / name)
        except FileNotFoundError:
            raise PublishError(f"the trainer's file {name} is missing", hint="see the cycle's log") from None
        except HotlapError as error:  # a link, a folder, a pipe, or too large
            raise PublishError(f"the trainer's file {error.message}", hint="see the cycle's log") from None
        except PermissionError as error:
            if may_be_held_open(error):
                raise
            raise PublishError(
                f"the trainer's file {name} cannot be read: {error.strerror}", hint="see the log"
            ) from None
        if sha256_of(data) != sha256:
            raise PublishError(f"{name} has changed since the trainer wrote it", hint="check the disk")
        if name == result.model:
            model_data = data
    model = read_model(model_data)
    check_probe(model)
    differences = list(contract.differences(model.contract))
    if model.hidden_sizes != result.hidden_sizes:
        differences.append(f"hidden layers {list(model.hidden_sizes)} instead of {list(result.hidden_sizes)}")
    if differences:
        raise PublishError(f"the trainer's model has {' and '.join(differences)}", hint="see the cycle's log")
    return result.files[result.model]


def require_folder(staging: Path) -> None:
    """Raise PublishError if something else is in the place of the folder that the trainer wrote to."""
    if is_link_at(staging) or not staging.is_dir():
        raise PublishError(f"the trainer's folder {staging.name} is missing or a link", hint="see the cycle's log")


def _move_into_place(
    staging: Path, folder: Path, result: Result, *, keep_checkpoints: bool, others: OtherFiles, disk: Disk
) -> None:
    """Flush the staged files to the disk and move their folder to Models in one step."""
    names = set(result.files) if keep_checkpoints else {*_essential(result), ANALYSIS_NAME} & set(result.files)
    staged = []
    for path in paths_in(staging):
        if path.name in names:
            staged.append(path)
        elif stat.S_ISDIR(path.lstat().st_mode):
            disk.remove_folder(path)
        else:
            unlink_with_retries(path, disk=disk)
    disk.fsync_all(staged)
    disk.fsync_dir(staging)
    if os.path.lexists(folder):
        _clear_place(folder, result, others, disk)
    try:
        rename_with_retries(staging, folder, disk=disk)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_to_other_disk(staging, folder, disk)
    disk.fsync_dir(folder.parent)


def _copy_to_other_disk(staging: Path, folder: Path, disk: Disk) -> None:
    """Do what a rename does, if State and Models are on different disks. The folder appears in one step."""
    temporary = temporary_name(folder)
    try:
        disk.make_folder(temporary)
        write_all_atomic(temporary, {name: partial(_read, staging / name) for name in names_in(staging)}, disk=disk)
        disk.rename(temporary, folder)
    except BaseException:
        with contextlib.suppress(OSError):
            disk.remove_folder(temporary)
        raise
    with contextlib.suppress(OSError):
        disk.remove_folder(staging)


def _clear_place(folder: Path, result: Result, others: OtherFiles, disk: Disk) -> None:
    """Remove a cycle's folder that a power cut damaged; move away anything else with its name. Raises OSError."""
    if is_link_at(folder) or not folder.is_dir():
        is_own = False
    else:
        is_own = all(path.name in {*result.files, ANALYSIS_NAME} and path.is_file() for path in paths_in(folder))
    if is_own:
        disk.remove_folder(folder)
    else:
        others.set_aside_folder(folder)


class _Copies:
    """The copies of the newest cycle directly in Models. A copy that cannot be made is counted and left out."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.error = ""

    def refresh(self, folder: Path, paths: ProjectPaths, disk: Disk, *, leave: frozenset[str]) -> frozenset[str]:
        """Copy the cycle's files, except the names in `leave`; return the names of all its files.

        Windows does not replace an open file. It stays as it is, because engines read the cycle's folder.
        """
        self.failed += sorted(leave)
        wanted = {path.name: path for path in paths_in(folder) if stat.S_ISREG(path.lstat().st_mode)}

        def write(*names: str) -> None:
            write_all_atomic(paths.models, {name: partial(_read, wanted[name]) for name in names}, disk=disk)

        names = sorted(wanted.keys() - leave)
        try:
            write(*names)
        except (OSError, HotlapError):
            for name in names:
                self.attempt(partial(write, name), name)
        return frozenset(wanted)

    def attempt(self, operation: Callable[[], None], name: str) -> None:
        """Do the operation on the copy of this name. If it fails, remember the name and the reason."""
        try:
            operation()
        except (OSError, HotlapError) as error:
            self.failed.append(name)
            if not (isinstance(error, OSError) and is_held_open(error)):
                self.error = self.error or error_text(error)
