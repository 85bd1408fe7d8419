"""What lies beside the ledger tells once more what each published cycle did: its folder, or a line once that is gone.

A lost or damaged ledger is rebuilt from these, so that no rollout is trained on twice and no number is used again.
"""

from __future__ import annotations

import re
from pathlib import Path

import orjson
from pydantic import ValidationError

from daemon.ledger.records import PublishedCycle
from schemas.errors import HotlapError
from schemas.job import Result
from schemas.model import MAX_MODEL_BYTES, Model, read_model
from schemas.storage.files import REAL_DISK, Disk, read_regular, sha256_of
from schemas.storage.layout import ProjectPaths

_FOLDER = re.compile(r"cycle_(\d{6,})")
_NUMBERED = re.compile(r"(?:removed_)?cycle_0*(\d+)(?:\.log)?")
_LINES_LIMIT = 1 << 30


def find_published_cycles(paths: ProjectPaths) -> list[PublishedCycle]:
    """Return every cycle that something still tells of, in order. Raises OSError where Models cannot be listed."""
    found = {witness.cycle: witness for witness in _gone(paths)}
    for folder in paths.models.iterdir() if paths.models.is_dir() else ():
        match = _FOLDER.fullmatch(folder.name)
        if match and folder.is_dir() and (witness := _of_folder(folder, int(match.group(1)))):
            found[witness.cycle] = witness
    return [found[cycle] for cycle in sorted(found)]


def highest_published(paths: ProjectPaths) -> int:
    """Return the highest number of a published cycle's folder; -1 where there is none."""
    names = [path.name for path in paths.models.iterdir()] if paths.models.is_dir() else []
    return max((int(match.group(1)) for name in names if (match := _FOLDER.fullmatch(name))), default=-1)


def highest_number(paths: ProjectPaths) -> int:
    """Return the highest cycle number that any log or folder bears; -1 where none does."""
    names = [
        path.name
        for folder in (paths.models, paths.staging, paths.logs)
        if folder.is_dir()
        for path in folder.iterdir()
    ]
    return max((int(match.group(1)) for name in names if (match := _NUMBERED.fullmatch(name))), default=-1)


def record_removed_cycle(paths: ProjectPaths, cycle: int, *, disk: Disk = REAL_DISK) -> None:
    """Keep in one line what a cycle's folder tells, before it is removed. Raises OSError."""
    witness = _of_folder(paths.cycle_folder(cycle), cycle)
    if witness is not None:
        disk.append(paths.gone_cycles, b"\n" + witness.model_copy(update={"result": None}).to_bytes())


def _gone(paths: ProjectPaths) -> list[PublishedCycle]:
    """Read the lines; a torn one costs that line only."""
    try:
        lines = read_regular(paths.gone_cycles, limit=_LINES_LIMIT).splitlines()
    except (OSError, HotlapError):
        return []
    found = []
    for line in lines:
        try:
            found.append(PublishedCycle.from_bytes(line))
        except ValidationError:
            continue
    return found


def _of_folder(folder: Path, cycle: int) -> PublishedCycle | None:
    """Read the model that the cycle published; None where there is no whole one."""
    for path in _models_likeliest_first(folder):
        try:
            data = read_regular(path, limit=MAX_MODEL_BYTES)
            model = read_model(data)
            at_s = path.stat().st_mtime
        except (OSError, HotlapError):
            continue
        return PublishedCycle(
            cycle=cycle,
            policy_version=model.policy_version,
            epoch=model.lineage.epoch,
            model=f"{folder.name}/{path.name}",
            sha256=sha256_of(data),
            at_s=at_s,
            parent=model.lineage.parent,
            rollouts=model.lineage.rollouts,
            result=_result(folder, path, model),
        )
    return None


def _models_likeliest_first(folder: Path) -> list[Path]:
    """Epochs may have been exported later beside the chosen one: the analysis names that, else it is the oldest."""
    models = sorted(folder.glob("model_epoch_*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    try:
        epoch = orjson.loads(read_regular(folder / "model_analysis.json", limit=MAX_MODEL_BYTES)).get("chosen_epoch")
    except (OSError, HotlapError, orjson.JSONDecodeError, AttributeError):
        return models
    return sorted(models, key=lambda path: path.name != f"model_epoch_{epoch}.json")


def _result(folder: Path, path: Path, model: Model) -> Result:
    files = {p.name: sha256_of(p.read_bytes()) for p in sorted(folder.iterdir()) if p.is_file() and not p.is_symlink()}
    return Result(
        epoch=model.lineage.epoch,
        score=model.lineage.score,
        model=path.name,
        checkpoint=path.with_suffix(".pt").name,
        files=files,
        contract=model.contract,
        hidden_sizes=model.hidden_sizes,
    )
