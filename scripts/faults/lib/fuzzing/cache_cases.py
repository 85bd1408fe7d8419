"""Changed files of State/cache, most of them with the right checksum, as another program could write them."""

from __future__ import annotations

import random
import time
import traceback
import zlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from schemas.rollout import cache
from schemas.rollout.meaning.rules import NO_RULES
from schemas.rollout.reader import read_rollout
from schemas.rollout.rollout import Rollout
from scripts.faults.lib.fuzzing.project import Case
from scripts.faults.lib.mutations import mutated, seeds

_NUMBERS = (float("nan"), float("inf"), float("-inf"), 3e38, 1e13, -1e13, 1e12, 0.0, -0.0, 5e-324)
_MAX_S = 2.0
_HEAD_AT = len(cache._MARK) + cache._HEAD.size


class CacheCases:
    """Changes files of the cache, and reads them."""

    unit = "cache files"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._copy = folder / f"{'0' * 64}.columns", folder / f"{'1' * 64}.columns"
        self._files = []
        rollouts = [read_rollout(data) for data in seeds()]
        clock = rollouts[0].observations.astype(np.float64) + 1.7e9
        for rollout in (*rollouts, replace(rollouts[0], observations=clock)):
            cache.store_rollout(self._path, rollout)
            self._files.append(self._path.read_bytes())

    def check(self, rng: random.Random) -> Case:
        """Check one changed file."""
        from scripts.faults.fuzz import wrong_with_rollout

        data = rng.choice(self._files)
        what = "bytes, with their checksum"
        if rng.random() < 0.15:
            what, data = "bytes", mutated(rng, [data])
        else:
            data = _with_checksum(*_changed(rng, data))
        self._path.write_bytes(data)
        began = time.monotonic()
        try:
            rollout = cache.load_rollout(self._path, rng.choice((None, NO_RULES)))
        except Exception:  # noqa: BLE001  any exception is a finding
            return Case("raised", [traceback.format_exc()], what)
        broken = [f"it took {time.monotonic() - began:.1f} s"] if time.monotonic() - began > _MAX_S else []
        if rollout is None:
            return Case("missing", broken, what)
        return Case("ok", broken + wrong_with_rollout(rollout) + self._broken_by_storing(rollout), what)

    def _broken_by_storing(self, rollout: Rollout) -> list[str]:
        """Check that an accepted rollout is the same after it was stored again."""
        cache.store_rollout(self._copy, rollout)
        again = cache.load_rollout(self._copy)
        if again is None:
            return ["stored again, it is not accepted"]
        names = [field.name for field in fields(Rollout)]
        return [f"stored again, {n} differs" for n in names if not _is_same(getattr(rollout, n), getattr(again, n))]


def _is_same(first: object, second: object) -> bool:
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    if isinstance(first, dict) and isinstance(second, dict):
        return list(first) == list(second) and all(_is_same(first[name], second[name]) for name in first)
    return first == second


def _changed(rng: random.Random, data: bytes) -> tuple[bytes, bytes]:
    """Return the head and the arrays of a file after some changes."""
    end = _HEAD_AT + 4 + int.from_bytes(data[_HEAD_AT : _HEAD_AT + 4], "little")
    head, arrays = data[_HEAD_AT + 4 : end], bytearray(data[end + -end % cache._ALIGNMENT :])
    for _ in range(rng.choice((1, 1, 2, 4))):
        if rng.random() < 0.5:
            head = mutated(rng, [head])
        else:
            _change_arrays(rng, arrays)
    return head, bytes(arrays)


def _change_arrays(rng: random.Random, arrays: bytearray) -> None:
    """Change a number, some bytes, or the length."""
    if not arrays:
        return
    place = rng.randrange(len(arrays))
    match rng.randrange(4):
        case 0 | 1:
            number = np.float32(rng.choice(_NUMBERS)).tobytes()
            place -= place % 4
            arrays[place : place + 4] = number
        case 2:
            arrays[place] = rng.randrange(256)
        case _:
            if rng.random() < 0.5:
                del arrays[place : place + rng.choice((1, 4, 16, 64))]
            else:
                arrays[place:place] = rng.randbytes(rng.choice((1, 4, 16, 64)))


def _with_checksum(head: bytes, arrays: bytes) -> bytes:
    body = len(head).to_bytes(4, "little") + head
    body += bytes(-(_HEAD_AT + len(body)) % cache._ALIGNMENT) + arrays
    return cache._MARK + cache._HEAD.pack(zlib.crc32(body), len(body)) + body
