"""Earlier work of a milestone is never removed: it is moved to `work/<ID>.old-<time>` or `.unreadable-<time>`."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from schemas.errors import HotlapError
from schemas.storage.files import REAL_DISK
from schemas.storage.held_open import is_held_open, retry_while_held_open
from schemas.storage.windows_paths import shown_path


class ProgressError(HotlapError):
    """Progress that cannot be read or moved now. Nothing was changed."""

    code = "E_OS"


def keep_work(folder: Path, kind: str) -> Path:
    """Rename a work folder to `<ID>.<kind>-<time>` and return the new path. Raises ProgressError."""
    target = _new_path(folder, kind)
    _rename(folder, target)
    return target


def keep_results(output_dir: Path, milestone_id: str) -> Path | None:
    """Move a milestone's work and models to a folder of their own, which is returned; None if it has neither.

    Raises ProgressError.
    """
    work, models = (output_dir / kind / milestone_id for kind in ("work", "models"))
    if not os.path.lexists(work) and not os.path.lexists(models):
        return None
    if os.path.lexists(work):
        kept = keep_work(work, "old")
    else:
        kept = _new_path(work, "old")
        REAL_DISK.make_folder(kept)
    if os.path.lexists(models):
        _rename(models, kept / "models")
    return kept


def _new_path(folder: Path, kind: str) -> Path:
    stem = f"{folder.name}.{kind}-{datetime.now(UTC):%Y%m%d_%H%M%S}"
    names = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
    return next(path for path in map(folder.with_name, names) if not os.path.lexists(path))


def _rename(folder: Path, target: Path) -> None:
    try:
        retry_while_held_open(lambda: folder.rename(target), is_temporary=is_held_open, pause=REAL_DISK.pause)
    except OSError as error:
        raise ProgressError(
            f"{shown_path(folder)} cannot be renamed to {target.name}: {error.strerror or error}",
            hint="rename or remove it, then run the command again",
        ) from None
