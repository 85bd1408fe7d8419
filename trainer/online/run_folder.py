"""Where runs live: the present one in latest_run, earlier ones under the time they began."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from schemas.errors import ConfigError
from schemas.storage.files import rename_with_retries, write_atomic

LATEST = "latest_run"
CONFIG = "config.toml"
_ABOUT = "run.json"
_TIME = "%Y%m%d_%H%M%S"


def open_run(logs: Path, *, config: bytes, resume: bool) -> Path:
    """Return the folder of this run. A new run moves the last one aside; a resumed one goes on in its folder.

    Raises ConfigError (E_NO_RUN) where there is nothing to resume, (E_BUSY) where the last run is still going on.
    """
    folder = logs / LATEST
    about = _about(folder)
    _refuse_company(folder, about)
    if resume:
        if not (folder / "checkpoints").is_dir():
            raise ConfigError(f"there is no run in {folder}", hint="start without --resume", code="E_NO_RUN")
        started = _began(folder, about)
    else:
        if folder.exists():
            rename_with_retries(folder, _free(logs, _began(folder, about)))
        (folder / "checkpoints").mkdir(parents=True)
        started = datetime.now().astimezone().strftime(_TIME)
    write_atomic(folder / CONFIG, config)
    mine = {"started": started, "pid": os.getpid(), "since": psutil.Process().create_time()}
    write_atomic(folder / _ABOUT, json.dumps(mine).encode())
    return folder


def _about(folder: Path) -> dict[str, Any]:
    """Read what the last run said of itself; {} where it said nothing that can be read."""
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _refuse_company(folder: Path, about: dict[str, Any]) -> None:
    """Two runs in one folder would take each other's checkpoints. A process is known by its number and its start."""
    try:
        other = psutil.Process(int(about["pid"]))
        goes_on = other.pid != os.getpid() and abs(other.create_time() - float(about["since"])) < 1.0
    except (KeyError, TypeError, ValueError, psutil.Error):
        return
    if goes_on:
        hint = "wait for it or stop it, or use another folder (--logs)"
        raise ConfigError(f"a run in {folder} is still going on, process {other.pid}", hint=hint, code="E_BUSY")


def _began(folder: Path, about: dict[str, Any]) -> str:
    """Return the time a run began, by its own word; else by its folder's date."""
    started = str(about.get("started", ""))
    if started.replace("_", "").isdigit():
        return started
    return datetime.fromtimestamp(folder.stat().st_mtime).astimezone().strftime(_TIME)


def _free(logs: Path, name: str) -> Path:
    candidates = (logs / (name if i == 0 else f"{name}_{i}") for i in range(10_000))
    return next(path for path in candidates if not path.exists())
