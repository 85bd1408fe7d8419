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
from schemas.rollout.meaning.rules import NO_RULES, ReadingRules
from schemas.rollout.rollout import LeftOut, Recovered, Rollout
from schemas.storage.files import REAL_DISK, Disk, write_atomic
from schemas.storage.held_open import retry_while_held_open

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


def store_rollout(path: Path, rollout: Rollout, rules: ReadingRules = NO_RULES, *, disk: Disk = REAL_DISK) -> None:
    """Write the arrays of a rollout that was read under these rules, completely or not at all.

    They are not fsynced, because they can be created again.
    """
    optional = [name for name in _OPTIONAL_COLUMNS if getattr(rollout, name) is not None]
    arrays = [getattr(rollout, name) for name in (*_COLUMNS, *optional)] + list(rollout.reward_parts.values())
    head = orjson.dumps(
        {
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
    parts = [len(head).to_bytes(4, "little"), head]
    position = len(_MARK) + _HEAD.size + 4 + len(head)
    for array in arrays:
        data = array.tobytes()
        gap = bytes(-position % _ALIGNMENT)
        parts += [gap, data]
        position += len(gap) + len(data)
    body = b"".join(parts)
    write_atomic(path, _MARK + _HEAD.pack(zlib.crc32(body), len(body)) + body, disk=disk, durable=False)


def load_rollout(path: Path, rules: ReadingRules | None = None) -> Rollout | None:
    """Return a stored rollout with read-only arrays; None if it is missing, damaged or in another format.

    Also return None if these rules would read the file as other arrays.
    """
    try:
        data = retry_while_held_open(path.read_bytes, pause=REAL_DISK.pause)
    except OSError:
        return None
    begin = len(_MARK) + _HEAD.size
    if not data.startswith((_MARK, _EARLIER_MARK)) or len(data) < begin + 4:
        return None
    if _HEAD.unpack_from(data, len(_MARK)) != (zlib.crc32(memoryview(data)[begin:]), len(data) - begin):
        return None
    end = begin + 4 + int.from_bytes(data[begin : begin + 4], "little")
    head = orjson.loads(data[begin + 4 : end])
    contract = PolicyContract.from_json_value(head["contract"])
    if rules is not None and not (rules.options == head["options"] and rules.admits(contract)):
        return None
    arrays = _arrays(data, end, head["arrays"])
    names = (*_COLUMNS, *head.get("optional", ()))
    columns: dict[str, Any] = dict(zip(names, arrays, strict=False))
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
    """Return the arrays that are in `data` from `start` on, as views."""
    arrays: list[npt.NDArray[Any]] = []
    for dtype, shape in kinds:
        start += -start % _ALIGNMENT
        count = math.prod(shape)
        arrays.append(np.frombuffer(data, dtype, count, start).reshape(shape))
        start += arrays[-1].nbytes
    return arrays
