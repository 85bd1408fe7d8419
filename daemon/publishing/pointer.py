"""The pointer file best_model_path.txt, which names the model that the engine loads."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from schemas.contract import PolicyContract
from schemas.errors import HotlapError, ModelError
from schemas.model import MAX_MODEL_BYTES, check_probe, read_model
from schemas.storage.careful_open import is_link_at
from schemas.storage.files import REAL_DISK, Disk, read_with_retries, sha256_of, write_atomic
from schemas.storage.layout import ProjectPaths

_PUBLISHED_MODEL = re.compile(r"cycle_[0-9]{6,9}/model_epoch_[0-9]+\.json")
_MAX_POINTER_BYTES = 64 * 1024


class PublishError(HotlapError):
    """The model cannot be published."""

    code = "E_PUBLISH"


def set_pointer(
    model: str,
    *,
    contract: PolicyContract | None,
    paths: ProjectPaths,
    disk: Disk = REAL_DISK,
    checked: str | None = None,
) -> str:
    """Read a published model, check it and write its path to the pointer file; return its SHA-256.

    `checked` is the hash of a model whose probe and contract were already checked.
    Raises PublishError, ModelError or OSError.
    """
    if not _PUBLISHED_MODEL.fullmatch(model):
        raise PublishError(
            f"{model} is not a published model", hint="published models are Models/cycle_<n>/model_epoch_<k>.json"
        )
    path = paths.models / model
    if is_link_at(path.parent):
        raise PublishError(
            f"{path.parent.name} is a symbolic link", hint="publish a cycle whose folder is in Models itself"
        )
    data = read_with_retries(path, limit=MAX_MODEL_BYTES)
    sha256 = sha256_of(data)
    if sha256 != checked:
        loaded = read_model(data)
        check_probe(loaded)
        if contract is not None and (differences := contract.differences(loaded.contract)):
            raise ModelError(f"{model} has {' and '.join(differences)}", hint="publish a model of this project")
    write_atomic(paths.pointer, paths.for_engine(path).encode("utf-8"), disk=disk)
    return sha256


def read_pointer(paths: ProjectPaths) -> str | None:
    """Return the model that the pointer file names, relative to Models; None if it names no model of this project.

    After a project was moved or copied, the pointer file still contains the old path.
    """
    try:
        text = read_with_retries(paths.pointer, limit=_MAX_POINTER_BYTES).decode("utf-8")
    except (OSError, HotlapError, UnicodeDecodeError):
        return None
    return model_named_by(text, paths)


def model_named_by(text: str, paths: ProjectPaths) -> str | None:
    """Return the model of this project that a pointer file with this text names, relative to Models, or None."""
    model = "/".join(text.split("/")[-2:])
    if not _PUBLISHED_MODEL.fullmatch(model):
        return None
    path = paths.models / model
    is_other_name = not paths.engine_project and _is_other_name(text, path)
    return model if text == paths.for_engine(path) or is_other_name else None


def _is_other_name(text: str, path: Path) -> bool:
    """Return whether the text is another path of the same file, as of a drive of `subst`, or in another case.

    Only on Windows, and only with a drive letter: opening `//server/share` would send a server this user's login.
    """
    if sys.platform != "win32" or not re.match(r"[A-Za-z]:/", text):
        return False
    try:
        return path.samefile(text)
    except OSError:
        return False


def names_a_cycle(data: bytes) -> bool:
    """Return whether the content of a pointer file is one that Hotlap wrote, perhaps before the project was moved."""
    text = data.decode("utf-8", "replace")
    return _PUBLISHED_MODEL.fullmatch("/".join(text.split("/")[-2:])) is not None
