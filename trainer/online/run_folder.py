"""The folders of runs. A run without a name is latest_run; an older one is moved to a folder named after its start."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError
from schemas.storage.file_lock import try_acquire
from schemas.storage.files import REAL_DISK, rename_with_retries, write_atomic
from schemas.storage.guarded import guard, require_real
from schemas.storage.windows_paths import is_reserved, shown_path

LATEST = "latest_run"
CONFIG = "config.toml"
CHECKPOINTS = "checkpoints"
CONFIG_FOLDER = "config_folder"  #: its key in run.json
_NAME = re.compile(r"\w[\w.-]{0,99}")
_INFO = "run.json"
_TIME = "%Y%m%d_%H%M%S"


@dataclass(frozen=True, slots=True)
class RunPlace:
    """Where a run is, and whether it continues an earlier one."""

    logs: Path
    name: str = LATEST
    resume: bool = False
    replace: bool = False  #: an earlier run of this name is moved to another folder

    @property
    def folder(self) -> Path:
        """Return the folder of the run."""
        return self.logs / self.name

    def check(self) -> None:
        """Raise ConfigError: E_NO_RUN if a run to resume is missing, E_LINK if it is a link, or E_RUN_EXISTS if a new
        run has the name of an earlier one.
        """
        if not _NAME.fullmatch(self.name) or is_reserved(self.name) or self.name.endswith(".lock"):
            raise ConfigError(f"{self.name} cannot be the name of a run", hint="use letters, digits, - and _")
        if self.resume:
            names = (".", CHECKPOINTS, f"{CHECKPOINTS}/pool", "train.log", CONFIG)
            hint = "put the folder or file itself there; --logs names another folder of runs"
            require_real((self.folder / name for name in names), hint=hint)
        has_run = (self.folder / CHECKPOINTS).is_dir()
        if self.resume and not has_run:
            others = ", ".join(described_runs(self.logs))
            hint = f"--resume RUN with one of: {others}" if others else "start without --resume"
            raise ConfigError(f"{shown_from_here(self.folder)} does not contain a run", hint=hint, code="E_NO_RUN")
        if self.name != LATEST and not self.resume and not self.replace and self.folder.exists():
            hint = f"--resume {self.name} continues it, --force starts again and keeps the old one under another name"
            raise ConfigError(
                f"there is a run {self.name} in {shown_from_here(self.logs)}", hint=hint, code="E_RUN_EXISTS"
            )


@contextmanager
def locked(place: RunPlace) -> Iterator[None]:
    """Keep other runs out of the folder until the end of the `with` block.

    Raises ConfigError: see `RunPlace.check`, and E_BUSY if another run uses the folder.
    """
    guard(place.logs)
    place.check()
    # The lock is outside of the folder, which may be renamed: Windows does not rename a folder with an open file.
    lock, holder = try_acquire(place.logs / ("run.lock" if place.name == LATEST else f"{place.name}.lock"))
    if lock is None:
        hint = "wait until it ends or stop it, or use another name (--run-id) or folder (--logs)"
        raise ConfigError(
            f"another run, process {holder}, uses {shown_from_here(place.folder)}", hint=hint, code="E_BUSY"
        )
    with lock:
        place.check()  # the run before may have made the folder meanwhile
        yield


def begin(place: RunPlace, config: bytes) -> None:
    """Make the folder of a new run, after the last one was moved; or keep that of a resumed run. Write config.toml.

    Call it when everything that can fail at a start has succeeded. Raises ConfigError (E_BUSY).
    """
    if not place.resume:
        _start_folder(place.folder)
    write_atomic(place.folder / CONFIG, config)


def shown_from_here(path: Path) -> str:
    """Return a path as users see it: relative to the current folder if it is below it."""
    with contextlib.suppress(ValueError, OSError):
        return path.relative_to(Path.cwd()).as_posix()
    return path.as_posix()


def described_runs(logs: Path) -> list[str]:
    """Return the runs in a folder, the newest first: name and steps of the last checkpoint."""
    found = [path.parent for path in logs.glob(f"*/{CHECKPOINTS}") if path.is_dir()]
    found.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    return [f"{folder.name} ({_steps(folder):,} steps)" for folder in found[:10]]


def _steps(folder: Path) -> int:
    names = [path.stem.rpartition("_")[2] for path in (folder / CHECKPOINTS).glob("model_step_*.pt")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def run_info(folder: Path) -> dict[str, Any]:
    """Return what run.json contains; {} if it cannot be read."""
    try:
        info = json.loads((folder / _INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def note_in_run_info(folder: Path, **values: Any) -> None:
    """Add values to run.json."""
    write_atomic(folder / _INFO, json.dumps(run_info(folder) | values, indent=1).encode())


def _start_folder(folder: Path) -> None:
    if os.path.lexists(folder):
        name = "" if folder.name == LATEST else f"{folder.name}_"
        target = _free_path(folder.parent, name + _start_time(folder))
        try:
            rename_with_retries(folder, target)
        except PermissionError as error:
            raise ConfigError(
                f"{shown_path(folder)} cannot be renamed to {target.name}: {error.strerror}",
                hint="close the programs that use it, and the consoles whose current folder is in it",
                code="E_BUSY",
            ) from None
    REAL_DISK.make_folder(folder / CHECKPOINTS)
    note_in_run_info(folder, started=datetime.now().astimezone().strftime(_TIME))


def _start_time(folder: Path) -> str:
    """Return the start time of a run from its run.json, or the time of the folder if that cannot be used."""
    started = str(run_info(folder).get("started", ""))
    if started.replace("_", "").isdigit():
        return started
    return datetime.fromtimestamp(folder.lstat().st_mtime).astimezone().strftime(_TIME)


def _free_path(logs: Path, name: str) -> Path:
    candidates = (logs / (name if i == 0 else f"{name}_{i}") for i in range(10_000))
    return next(path for path in candidates if not os.path.lexists(path))
