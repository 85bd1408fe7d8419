"""The pointer file: write the path of the model to load, read it back, check what it names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from schemas.contract import PolicyContract
from schemas.errors import HotlapError, ModelError
from schemas.model import MAX_MODEL_BYTES, check_probe, read_model
from schemas.storage.files import (
    REAL_DISK,
    Disk,
    read_regular,
    sha256_of,
    write_atomic,
)
from schemas.storage.layout import ProjectPaths

_PUBLISHED_MODEL = re.compile(r"cycle_\d+/model_epoch_\d+\.json")


_POINTER_LIMIT = 64 * 1024


class PublishError(HotlapError):
    """What the trainer left cannot go before the engine."""

    code = "E_PUBLISH"


def set_pointer(
    model: str,
    *,
    contract: PolicyContract | None,
    paths: ProjectPaths,
    disk: Disk = REAL_DISK,
    checked: str | None = None,
) -> str:
    """Read a published model back, probe it and let the pointer name it; give its SHA-256.

    Bytes with the hash `checked` were probed and compared with the contract a moment ago.
    """
    if not _PUBLISHED_MODEL.fullmatch(model):
        raise PublishError(f"{model} is no published model", hint="models lie in Models/cycle_<n>/model_epoch_<k>.json")
    path = paths.models / model
    if path.parent.is_symlink():
        raise PublishError(f"{path.parent.name} is a link", hint="publish a cycle that lies in Models itself")
    data = read_regular(path, limit=MAX_MODEL_BYTES)
    sha256 = sha256_of(data)
    if sha256 != checked:
        loaded = read_model(data)
        check_probe(loaded)
        if contract is not None and (differences := contract.differences(loaded.contract)):
            raise ModelError(f"{model} has {' and '.join(differences)}", hint="publish a model of this project")
    write_atomic(paths.pointer, _as_pointer(path).encode("utf-8"), disk=disk)
    return sha256


def read_pointer(paths: ProjectPaths) -> str | None:
    """Return the model that the pointer names, relative to Models; None where it names none of this very folder.

    It names a place elsewhere once the project was moved or copied.
    """
    try:
        text = read_regular(paths.pointer, limit=_POINTER_LIMIT).decode("utf-8")
    except (OSError, HotlapError, UnicodeDecodeError):
        return None
    model = "/".join(text.split("/")[-2:])
    return model if _PUBLISHED_MODEL.fullmatch(model) and text == _as_pointer(paths.models / model) else None


def _as_pointer(path: Path) -> str:
    return str(path.absolute()).replace(os.sep, "/")
