"""The folders of runs: the newest run is in latest_run, older ones are in folders named after their start time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from schemas.errors import ConfigError
from schemas.storage.file_lock import try_acquire
from schemas.storage.files import REAL_DISK, rename_with_retries, write_atomic
from schemas.storage.guarded import guard, require_real
from schemas.storage.windows_paths import shown_path

LATEST = "latest_run"
CONFIG = "config.toml"
_LOCK = "run.lock"
_INFO = "run.json"
_TIME = "%Y%m%d_%H%M%S"


@contextmanager
def open_run(logs: Path, *, config: bytes, resume: bool) -> Iterator[Path]:
    """Provide the folder of this run, and keep other runs out of `logs` until the end of the `with` block.

    A new run first moves the last one to another folder; a resumed run continues in its folder. Raises ConfigError:
    E_NO_RUN if a run to resume does not exist, E_LINK if its folder is a link, E_BUSY if another run uses `logs`.
    """
    folder = logs / LATEST
    guard(logs)
    below = (folder, folder / "checkpoints", folder / "checkpoints" / "pool", folder / "train.log", folder / CONFIG)
    if resume:
        require_real(below, hint="put the folder or file itself there; --logs names another folder of runs")
    if resume and not (folder / "checkpoints").is_dir():
        raise ConfigError(
            f"{shown_path(folder)} does not contain a run", hint="start without --resume", code="E_NO_RUN"
        )
    # The lock is outside of latest_run, which is renamed: Windows does not rename a folder with an open file.
    lock, holder = try_acquire(logs / _LOCK)
    if lock is None:
        hint = "wait until it ends or stop it, or use another folder (--logs)"
        raise ConfigError(f"another run, process {holder}, uses {shown_path(folder)}", hint=hint, code="E_BUSY")
    with lock:
        if not resume:
            _start_folder(folder)
        write_atomic(folder / CONFIG, config)
        yield folder


def _start_folder(folder: Path) -> None:
    if os.path.lexists(folder):
        target = _free_path(folder.parent, _start_time(folder))
        try:
            rename_with_retries(folder, target)
        except PermissionError as error:
            raise ConfigError(
                f"{shown_path(folder)} cannot be renamed to {target.name}: {error.strerror}",
                hint="close the programs that use it, and the consoles whose current folder is in it",
                code="E_BUSY",
            ) from None
    REAL_DISK.make_folder(folder / "checkpoints")
    started = datetime.now().astimezone().strftime(_TIME)
    write_atomic(folder / _INFO, json.dumps({"started": started}).encode())


def _start_time(folder: Path) -> str:
    """Return the start time of a run from its run.json, or the time of the folder if that cannot be used."""
    try:
        started = str(json.loads((folder / _INFO).read_text(encoding="utf-8"))["started"])
    except (OSError, ValueError, LookupError, TypeError):
        started = ""
    if started.replace("_", "").isdigit():
        return started
    return datetime.fromtimestamp(folder.lstat().st_mtime).astimezone().strftime(_TIME)


def _free_path(logs: Path, name: str) -> Path:
    candidates = (logs / (name if i == 0 else f"{name}_{i}") for i in range(10_000))
    return next(path for path in candidates if not os.path.lexists(path))
