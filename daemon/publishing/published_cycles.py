"""Finds published cycles without the ledger: in their folders, and in gone_cycles.jsonl for removed folders.

A lost ledger is rebuilt from them, so that no rollout is trained on twice and no cycle's number is used again.
"""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

import orjson
from pydantic import ValidationError

from daemon.ledger.records import PublishedCycle
from daemon.publishing.pointer import read_pointer
from schemas.errors import HotlapError
from schemas.job import Adoption, Result
from schemas.model import MAX_MODEL_BYTES, Model, is_own_format, read_model
from schemas.storage.careful_open import is_link_at
from schemas.storage.files import REAL_DISK, Disk, read_with_retries, sha256_of
from schemas.storage.guarded import names_in, paths_in
from schemas.storage.layout import ProjectPaths

_NUMBERED = re.compile(r"(?:removed_)?cycle_0*([0-9]{1,9})(?:\.log)?")
_FOLDER = re.compile(r"cycle_([0-9]{6,9})")
_MAX_REMOVED_BYTES = 1 << 30


def find_published_cycles(paths: ProjectPaths) -> list[PublishedCycle]:
    """Return the published cycles that can be found, in order. Raises OSError if Models cannot be listed."""
    found = {published.cycle: published for published in _read_removed_cycles(paths)}
    for folder in paths_in(paths.models):
        cycle = cycle_of_folder(folder.name)
        if cycle is None or not _is_real_folder(folder):
            continue
        if published := _read_folder(folder, cycle, with_result=True):
            found[published.cycle] = published
    return [found[cycle] for cycle in sorted(found)]


def cycle_of_folder(name: str) -> int | None:
    """Return the cycle whose folder has this name, None if Hotlap does not give this name to a folder."""
    match = _FOLDER.fullmatch(name)
    return int(match.group(1)) if match and name == f"cycle_{int(match.group(1)):06d}" else None


def has_published_above(paths: ProjectPaths, cycle: int) -> bool:
    """Return whether Models contains the folder of a cycle of this project with a higher number than `cycle`.

    Folders that another project made or that a user copied do not count: the pointer file names none of them, and
    their parent policy is not in this project.
    """
    folders = (path for path in paths_in(paths.models) if _is_real_folder(path))
    numbered = ((number, path) for path in folders if (number := cycle_of_folder(path.name)) is not None)
    higher = sorted((number, path) for number, path in numbered if number > cycle)
    found = [published for number, path in higher if (published := _read_folder(path, number, with_result=False))]
    if not found:
        return False
    pointer = (read_pointer(paths) or "").partition("/")[0]
    removed = {published.model for published in _read_removed_cycles(paths)}
    return any(
        pointer == published.model.partition("/")[0] or _continues(published, cycle, paths, removed)
        for published in found
    )


def _continues(published: PublishedCycle, cycle: int, paths: ProjectPaths, removed: Container[str]) -> bool:
    """Return whether the parent policy of a cycle is that of cycle `cycle` or an earlier one, or was removed."""
    if published.parent is None:
        return False
    if published.parent in removed:
        return True
    parent = cycle_of_folder(published.parent.partition("/")[0])
    return parent is not None and parent <= cycle and (paths.models / published.parent).with_suffix(".json").is_file()


def highest_number(paths: ProjectPaths) -> int:
    """Return the highest cycle number in the name of a working folder or log, -1 if none exists."""
    names = [name for folder in (paths.staging, paths.logs) for name in names_in(folder)]
    return max((int(match.group(1)) for name in names if (match := _NUMBERED.fullmatch(name))), default=-1)


def record_removed_cycle(paths: ProjectPaths, cycle: int, *, disk: Disk = REAL_DISK) -> None:
    """Append a cycle whose folder will be removed to gone_cycles.jsonl. Raises OSError."""
    published = _read_folder(paths.cycle_folder(cycle), cycle, with_result=False)
    if published is not None:
        disk.append(paths.gone_cycles, b"\n" + published.to_bytes())


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not is_link_at(path)


def _read_removed_cycles(paths: ProjectPaths) -> list[PublishedCycle]:
    """Return the cycles in gone_cycles.jsonl; damaged lines are skipped."""
    try:
        lines = read_with_retries(paths.gone_cycles, limit=_MAX_REMOVED_BYTES).splitlines()
    except (OSError, HotlapError):
        return []
    found = []
    for line in lines:
        try:
            found.append(PublishedCycle.from_bytes(line))
        except ValidationError:
            continue
    return found


def _read_folder(folder: Path, cycle: int, *, with_result: bool) -> PublishedCycle | None:
    """Return the cycle that published the model in a folder, or None if no model can be read."""
    for path in _models_likeliest_first(folder):
        try:
            data = read_with_retries(path, limit=MAX_MODEL_BYTES)
            if not is_own_format(data):
                continue  # another program wrote it
            model = read_model(data)
            if model.lineage.cycle != cycle:
                continue  # a copy of another cycle's folder
            at_s = path.stat().st_mtime
        except (OSError, HotlapError):
            continue
        sha256 = sha256_of(data)
        return PublishedCycle(
            cycle=cycle,
            policy_version=model.policy_version,
            epoch=model.lineage.epoch,
            model=f"{folder.name}/{path.name}",
            sha256=sha256,
            at_s=at_s,
            parent=model.lineage.parent,
            rollouts=model.lineage.rollouts,
            result=_rebuild_result(path, model, sha256) if with_result else None,
            adoption=_adoption(model),
        )
    return None


def _adoption(model: Model) -> Adoption | None:
    name, _, sha256 = (model.lineage.adopted or "").rpartition(" ")
    return Adoption(file=name, sha256=sha256) if name else None


def _models_likeliest_first(folder: Path) -> list[Path]:
    """Return the folder's models; the model that the cycle published is the first.

    Other epochs may have been exported later. The analysis contains the chosen epoch; without it, the oldest file is
    the first.
    """
    models = sorted(folder.glob("model_epoch_*.json"), key=lambda path: (path.lstat().st_mtime_ns, path.name))
    try:
        epoch = orjson.loads(read_with_retries(folder / "model_analysis.json", limit=MAX_MODEL_BYTES)).get(
            "chosen_epoch"
        )
    except (OSError, HotlapError, orjson.JSONDecodeError, AttributeError):
        return models
    return sorted(models, key=lambda path: path.name != f"model_epoch_{epoch}.json")


def _rebuild_result(path: Path, model: Model, sha256: str) -> Result:
    others = [p for p in sorted(path.parent.iterdir()) if p != path and p.is_file() and not p.is_symlink()]
    return Result(
        epoch=model.lineage.epoch,
        score=model.lineage.score,
        model=path.name,
        checkpoint=path.with_suffix(".pt").name,
        files={path.name: sha256}
        | {other.name: sha256_of(read_with_retries(other, limit=MAX_MODEL_BYTES)) for other in others},
        contract=model.contract,
        hidden_sizes=model.hidden_sizes,
    )
