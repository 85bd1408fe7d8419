"""Rollouts as arrays on disk, named by the hash of the rollout file; safe to delete at any time.

A file contains a mark, a checksum and the length of the remaining bytes, a head in JSON, and the arrays. Reading it
takes a tenth of the time of an .npz file with the same arrays.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from schemas.contract import PolicyContract
from schemas.errors import HotlapError, RolloutError
from schemas.rollout.checks.stored import require_stored_rollout
from schemas.rollout.meaning.rules import NO_RULES, ReadingRules
from schemas.rollout.rollout import LeftOut, Recovered, Rollout
from schemas.storage.files import REAL_DISK, Disk, read_with_retries, write_atomic

_MARK = b"hotlap columns 4\n"
_EARLIER_MARK = b"hotlap columns 3\n"
"""Of files without optional columns, which are still read: the rollout file itself may no longer exist."""
_HEAD = struct.Struct("<II")
_ALIGNMENT = 16
_COLUMNS = (
    "observations",
    "actions",
    "rewards",
    "terminated",
    "truncated",
    "log_probs",
    "values",
    "agents",
    "after_gap",
    "final_observations",
    "final_agents",
)
_OPTIONAL_COLUMNS = ("critic_observations", "final_critic_observations")
_OF_ANOTHER_HEAD = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)
"""What reading a head raises that Hotlap did not write."""
_DTYPES = frozenset({"<f4", "<f8", "<i4", "|b1"})
MAX_BYTES = 1 << 30
"""More than the arrays of the largest rollout file need; a larger file is not read."""


def store_rollout(path: Path, rollout: Rollout, rules: ReadingRules = NO_RULES, *, disk: Disk = REAL_DISK) -> None:
    """Write the arrays of a rollout that was read under these rules, completely or not at all.

    They are not fsynced, because they can be created again.
    """
    optional = [name for name in _OPTIONAL_COLUMNS if getattr(rollout, name) is not None]
    arrays = [getattr(rollout, name) for name in (*_COLUMNS, *optional)] + list(rollout.reward_parts.values())
    head = orjson.dumps(
        {
            "name": path.name,
            "contract": rollout.contract.model_dump(mode="json"),
            "policy_version": rollout.policy_version,
            "noise_std": rollout.noise_std,
            "left_out": rollout.left_out,
            "causes": [list(cause) for cause in rollout.causes],
            "recovered": rollout.recovered and list(rollout.recovered),
            "states_bounds": rollout.states_bounds,
            "options": rules.options,
            "optional": optional,
            "reward_parts": list(rollout.reward_parts),
            "arrays": [(array.dtype.str, array.shape) for array in arrays],
        }
    )
    parts: list[Any] = [len(head).to_bytes(4, "little"), head]
    position = len(_MARK) + _HEAD.size + 4 + len(head)
    for array in arrays:
        gap = bytes(-position % _ALIGNMENT)
        parts += [gap, np.ascontiguousarray(array).reshape(-1).view(np.uint8)]
        position += len(gap) + array.nbytes
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    start = _MARK + _HEAD.pack(checksum, position - len(_MARK) - _HEAD.size)
    write_atomic(path, b"".join([start, *parts]), disk=disk, durable=False)


def load_rollout(path: Path, rules: ReadingRules | None = None) -> Rollout | None:
    """Return a stored rollout with read-only arrays; None if it is missing, damaged or in another format.

    Also return None if its content is not that of a rollout, whatever its checksum, if it belongs to a rollout with
    another name, or if these rules would read the file as other arrays. So callers read the rollout's own file.
    """
    try:
        data = read_with_retries(path, limit=MAX_BYTES)
    except (OSError, HotlapError, MemoryError):
        return None
    begin = len(_MARK) + _HEAD.size
    if not data.startswith((_MARK, _EARLIER_MARK)) or len(data) < begin + 4:
        return None
    if _HEAD.unpack_from(data, len(_MARK)) != (zlib.crc32(memoryview(data)[begin:]), len(data) - begin):
        return None
    try:
        rollout = _rollout_of(data, begin, path.name, rules)
        if rollout is not None:
            require_stored_rollout(rollout)
    except (
        RolloutError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        OverflowError,
    ):  # another program wrote it
        return None
    return rollout


def _rollout_of(data: bytes, begin: int, name: str, rules: ReadingRules | None) -> Rollout | None:
    """Return the rollout in a file's bytes without having checked it; None if it is another one's, or by other rules.

    Raises many exceptions if the head is not the one that `store_rollout` writes.
    """
    end = begin + 4 + int.from_bytes(data[begin : begin + 4], "little")
    head = orjson.loads(data[begin + 4 : end])
    if head.get("name", name) != name:  # missing in a cache of an earlier version
        return None
    contract = PolicyContract.from_json_value(head["contract"])
    if rules is not None and not (rules.options == head["options"] and rules.admits(contract)):
        return None
    arrays = _arrays(data, end, head["arrays"])
    optional = head.get("optional", [])
    if optional not in ([], ["critic_observations"], list(_OPTIONAL_COLUMNS)):
        return None
    names = (*_COLUMNS, *optional)
    columns: dict[str, Any] = dict(zip(names, arrays[: len(names)], strict=True))
    return Rollout(
        contract=contract,
        **columns,
        reward_parts=dict(zip(head["reward_parts"], arrays[len(names) :], strict=True)),
        policy_version=head["policy_version"],
        noise_std=head["noise_std"],
        left_out=head["left_out"],
        causes=tuple(LeftOut(*cause) for cause in head["causes"]),
        states_bounds=head.get("states_bounds", True),  # missing in a cache of an earlier version
        recovered=Recovered(*head["recovered"]) if head["recovered"] else None,
    )


def _arrays(data: bytes, start: int, kinds: Sequence[tuple[str, Sequence[int]]]) -> list[npt.NDArray[Any]]:
    """Return the arrays that are in `data` from `start` on, as views. Raises ValueError if they do not fill it."""
    arrays: list[npt.NDArray[Any]] = []
    for dtype, shape in kinds:
        start += -start % _ALIGNMENT
        if dtype not in _DTYPES or not all(type(length) is int and 0 <= length <= len(data) for length in shape):
            raise ValueError(f"an array is {dtype} {shape}")
        arrays.append(np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape))
        start += arrays[-1].nbytes
    if start != len(data):
        raise ValueError(f"the arrays end at byte {start} of {len(data)}")
    return arrays
