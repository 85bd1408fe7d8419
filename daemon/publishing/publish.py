"""Publishes a model: cycle folder, copies, check, pointer file. All steps can be repeated after a crash."""

from __future__ import annotations

import contextlib
import errno
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from daemon.publishing.pointer import PublishError, set_pointer
from schemas.contract import PolicyContract
from schemas.job import Result
from schemas.model import MAX_MODEL_BYTES, check_probe, read_model
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
from schemas.storage.held_open import is_held_open
from schemas.storage.layout import ProjectPaths
from schemas.storage.set_aside import ANALYSIS_NAME

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class OtherFiles(Protocol):
    """The files in Models that other programs wrote. `daemon.publishing.foreign_files` implements it."""

    unreadable: frozenset[str]  #: names of files that a program on Windows has open, after `set_aside`; they must stay

    def set_aside(self) -> frozenset[str]:
        """Move those whose names Hotlap uses; return the names of Hotlap's own models and checkpoints in Models."""

    def remove_copied(self) -> None:
        """Remove the originals that stayed because the pointer file named them."""


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model that the pointer file names."""

    model: str  #: relative to Models, forward slashes
    sha256: str
    old_copies: tuple[str, ...] = ()  #: copies in Models that stay those of an older cycle: a program has them open


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
    Raises PublishError or ModelError if the files do not match the result, and OSError.
    """
    folder = paths.cycle_folder(cycle)
    checked = None
    if _is_complete(folder, result):
        with contextlib.suppress(OSError):
            disk.remove_folder(staging)
    else:
        checked = _check(staging, result, contract)
        _move_into_place(staging, folder, result, keep_checkpoints=keep_checkpoints, disk=disk)
    own = others.set_aside()
    copied, held_open = _refresh_copies(folder, paths, disk, leave=others.unreadable)
    model = f"{folder.name}/{result.model}"
    sha256 = set_pointer(model, contract=contract, paths=paths, disk=disk, checked=checked)
    others.remove_copied()
    surplus = {name: partial(unlink_with_retries, paths.models / name, disk=disk) for name in sorted(own - copied)}
    held_open += [name for name, unlink in surplus.items() if not _done_unless_held_open(unlink)]
    return PublishedModel(model, sha256, tuple(held_open))


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
        if sha256_of(data) != sha256:
            raise PublishError(f"{name} has changed since the trainer wrote it", hint="check the disk")
        if name == result.model:
            model_data = data
    model = read_model(model_data)
    check_probe(model)
    if differences := contract.differences(model.contract):
        raise PublishError(f"the trainer's model has {' and '.join(differences)}", hint="see the cycle's log")
    return result.files[result.model]


def _move_into_place(staging: Path, folder: Path, result: Result, *, keep_checkpoints: bool, disk: Disk) -> None:
    """Flush the staged files to the disk and move their folder to Models in one step."""
    names = set(result.files) if keep_checkpoints else {*_essential(result), ANALYSIS_NAME}
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
    if folder.exists():
        _remove_incomplete(folder, result, disk)
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


def _remove_incomplete(folder: Path, result: Result, disk: Disk) -> None:
    """Remove a cycle's folder that a power cut damaged. Raises PublishError if it contains other files."""
    others = [name for name in names_in(folder) if name not in {*result.files, ANALYSIS_NAME}]
    if others:
        raise PublishError(
            f"the folder {folder.name} exists and contains {others[0]}, which Hotlap did not write",
            hint=f"move {folder.name} out of Models",
        )
    disk.remove_folder(folder)


def _refresh_copies(
    folder: Path, paths: ProjectPaths, disk: Disk, *, leave: frozenset[str]
) -> tuple[frozenset[str], list[str]]:
    """Copy the cycle's files to Models itself; return their names, and those of copies that a program has open.

    Windows does not replace an open file. It stays as it is, because engines read the cycle's folder.
    """
    wanted = {path.name: path for path in paths_in(folder) if stat.S_ISREG(path.lstat().st_mode)}

    def write(*names: str) -> None:
        write_all_atomic(paths.models, {name: partial(_read, wanted[name]) for name in names}, disk=disk)

    names, held_open = sorted(wanted.keys() - leave), sorted(leave)
    if not _done_unless_held_open(partial(write, *names)):
        held_open += [name for name in names if not _done_unless_held_open(partial(write, name))]
    return frozenset(wanted), held_open


def _done_unless_held_open(operation: Callable[[], None]) -> bool:
    """Return False if the operation fails because a program on Windows has the file open."""
    try:
        operation()
    except OSError as error:
        if not is_held_open(error):
            raise
        return False
    return True
