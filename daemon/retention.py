"""What may be removed, and when: decided by pure functions, done by thin ones."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

from daemon.records import Stamp
from schemas.layout import Layout
from schemas.status import CycleSummary

HOUR_S = 3600.0
_CYCLE_FOLDER = re.compile(r"cycle_(\d{6,})")


def surplus_exports(
    used: Sequence[tuple[str, float]], *, present: int, limit: int, by: Literal["age", "quality"]
) -> list[str]:
    """Give the names to remove so that at most `limit` files stay of the `present`; only used ones ever go.

    `used` holds (name, reward per step), oldest first; `limit` 0 means no limit.
    """
    too_many = present - limit if limit else 0
    if too_many <= 0:
        return []
    candidates = list(used) if by == "age" else sorted(used, key=lambda item: item[1])
    return [name for name, _ in candidates[:too_many]]


def best_cycle(cycles: Sequence[CycleSummary]) -> int | None:
    """Give the cycle whose model earned the most reward per step: the rollouts of a cycle were played before it."""
    published = [c for c in cycles if c.state == "published"]
    earned = [
        (player.cycle, judged.reward_mean) for player, judged in pairwise(published) if judged.reward_mean is not None
    ]
    if not earned:
        return None
    return max(earned, key=lambda pair: pair[1])[0]


def surplus_cycles(
    ages_s: Mapping[int, float], *, keep_newest: int, always: Collection[int], younger_than_s: float = HOUR_S
) -> list[int]:
    """Give the cycle folders to remove: not the newest, not those in `always`, none younger than an hour.

    `ages_s` maps each cycle that has a folder to the folder's age in seconds.
    """
    old_ones = sorted(ages_s)[:-keep_newest]
    return [cycle for cycle in old_ones if cycle not in always and ages_s[cycle] > younger_than_s]


def cycle_folder_ages(models: Path, *, now_s: float) -> dict[int, float]:
    """Give the age of each cycle's folder; a clock that went back makes them young, never old."""
    ages = {}
    for path in models.iterdir():
        match = _CYCLE_FOLDER.fullmatch(path.name)
        if match and path.is_dir():
            ages[int(match.group(1))] = now_s - path.stat().st_mtime
    return ages


def remove_cycle_folders(layout: Layout, cycles: Sequence[int]) -> None:
    """Remove published folders; a file that someone holds open stays until the next time."""
    for cycle in cycles:
        shutil.rmtree(layout.cycle_folder(cycle), ignore_errors=True)


def remove_if_unchanged(folder: Path, name: str, stamp: Stamp | None) -> bool:
    """Remove a rollout from Exports unless it is another file by now; tell whether it is gone."""
    path = folder / name
    try:
        if stamp is not None and Stamp.of(path.lstat()) != stamp:
            return False
        path.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def prune_cache(layout: Layout, needed: Collection[str]) -> None:
    """Drop the arrays that nobody will ask for."""
    for path in layout.cache.glob("*.npz"):
        if path.stem not in needed:
            path.unlink(missing_ok=True)
