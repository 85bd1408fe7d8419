"""Put a cycle's model before the engine: folder, copies, read back and probe, pointer; each step may be repeated."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from schemas.contract import PolicyContract
from schemas.errors import HotlapError, ModelError
from schemas.files import REAL_DISK, Disk, read_regular, rename_patiently, sha256_of, write_atomic
from schemas.job import Result
from schemas.layout import Layout
from schemas.model import MAX_MODEL_BYTES, check_probe, read_model

ANALYSIS_NAME = "model_analysis.json"
_COPY_NAME = re.compile(r"model_epoch_\d+\.(pt|json)")
_PUBLISHED_MODEL = re.compile(r"cycle_\d+/model_epoch_\d+\.json")
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class PublishError(HotlapError):
    """What the trainer left cannot go before the engine."""

    code = "E_PUBLISH"


@dataclass(frozen=True, slots=True)
class Placed:
    """A model that the pointer names."""

    model: str  #: relative to Models, forward slashes
    sha256: str


def publish(
    result: Result,
    *,
    staging: Path,
    cycle: int,
    contract: PolicyContract,
    layout: Layout,
    keep_checkpoints: bool,
    disk: Disk = REAL_DISK,
) -> Placed:
    """Publish what lies in `staging`. May be called again after a crash anywhere in it.

    Raises PublishError or ModelError where the files are not what the result says, OSError where the disk refuses.
    """
    folder = layout.cycle_folder(cycle)
    if _is_whole(folder, result):
        shutil.rmtree(staging, ignore_errors=True)
    else:
        _check(staging, result, contract)
        _place_folder(staging, folder, result, keep_checkpoints=keep_checkpoints, disk=disk)
    _refresh_copies(folder, layout, disk)
    model = f"{folder.name}/{result.model}"
    sha256 = point_at(model, contract=contract, layout=layout, disk=disk)
    return Placed(model, sha256)


def point_at(model: str, *, contract: PolicyContract | None, layout: Layout, disk: Disk = REAL_DISK) -> str:
    """Read a published model back, probe it and let the pointer name it; give its SHA-256."""
    if not _PUBLISHED_MODEL.fullmatch(model):
        raise PublishError(f"{model} is no published model", hint="models lie in Models/cycle_<n>/model_epoch_<k>.json")
    path = layout.models / model
    data = read_regular(path, limit=MAX_MODEL_BYTES)
    loaded = read_model(data)
    check_probe(loaded)
    if contract is not None and (differences := contract.differences(loaded.contract)):
        raise ModelError(f"{model} has {' and '.join(differences)}", hint="publish a model of this project")
    disk_path = str(path.absolute()).replace(os.sep, "/")
    write_atomic(layout.pointer, disk_path.encode("utf-8"), disk=disk)
    return sha256_of(data)


def pointed_at(layout: Layout) -> str | None:
    """Give the model that the pointer names, relative to Models; None where there is none of ours."""
    try:
        text = layout.pointer.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    match = re.search(r"(cycle_\d+/model_epoch_\d+\.json)$", text.replace("\\", "/"))
    return match.group(1) if match else None


def _is_whole(folder: Path, result: Result) -> bool:
    """Tell whether the cycle's folder already holds the chosen model as the trainer left it."""
    try:
        return all(sha256_of((folder / name).read_bytes()) == result.files[name] for name in _essential(result))
    except (OSError, KeyError):
        return False


def _essential(result: Result) -> tuple[str, ...]:
    return (result.model, result.checkpoint)


def _check(staging: Path, result: Result, contract: PolicyContract) -> None:
    for name, sha256 in result.files.items():
        if not _SAFE_NAME.fullmatch(name):
            raise PublishError(f"the trainer names a file {name!r}", hint="plain names only")
        try:
            found = sha256_of((staging / name).read_bytes())
        except FileNotFoundError:
            raise PublishError(f"the trainer's {name} is not there", hint="see the cycle's log") from None
        if found != sha256:
            raise PublishError(f"{name} is not what the trainer wrote", hint="is the disk sound?")
    if result.model not in result.files or result.checkpoint not in result.files:
        raise PublishError("the trainer left no model", hint="see the cycle's log")
    model = read_model((staging / result.model).read_bytes())
    check_probe(model)
    if differences := contract.differences(model.contract):
        raise PublishError(f"the trainer's model has {' and '.join(differences)}", hint="see the cycle's log")


def _place_folder(staging: Path, folder: Path, result: Result, *, keep_checkpoints: bool, disk: Disk) -> None:
    """Make the staged files durable and give the folder its name in one step."""
    keep = set(result.files) if keep_checkpoints else {*_essential(result), ANALYSIS_NAME}
    for path in staging.iterdir():
        if path.name in keep:
            disk.fsync(path)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            disk.unlink(path)
    disk.fsync_dir(staging)
    if folder.exists():
        shutil.rmtree(folder)
    rename_patiently(staging, folder, disk=disk)
    disk.fsync_dir(folder.parent)


def _refresh_copies(folder: Path, layout: Layout, disk: Disk) -> None:
    """Copy the newest cycle's files to Models itself; drop the copies of names that it does not have."""
    wanted = {path.name: path for path in folder.iterdir() if path.is_file()}
    for path in layout.models.iterdir():
        if _COPY_NAME.fullmatch(path.name) and path.name not in wanted:
            disk.unlink(path)
    for name, source in sorted(wanted.items()):
        write_atomic(layout.models / name, source.read_bytes(), disk=disk)
