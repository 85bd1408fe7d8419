"""Files of State/cache with a right checksum and wrong content, as another program or another project could write."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import orjson

from schemas.rollout import cache
from schemas.rollout.meaning.rules import NO_RULES
from schemas.rollout.rollout import Rollout


def head_of(rollout: Rollout, arrays: list[Any]) -> dict[str, Any]:
    """Return the head that Hotlap writes for a rollout with these arrays."""
    contract = rollout.contract.model_dump(mode="json")
    kinds = [[array.dtype.str, list(array.shape)] for array in arrays]
    head = {"contract": contract, "policy_version": None, "noise_std": None, "left_out": 0, "causes": []}
    head |= {"recovered": None, "states_bounds": True, "options": NO_RULES.options, "optional": [], "reward_parts": []}
    return head | {"arrays": kinds}


def packed(head: bytes, arrays: list[Any]) -> bytes:
    """Return a file with this head and these arrays, and with the checksum of its content."""
    body = len(head).to_bytes(4, "little") + head
    start = len(cache._MARK) + cache._HEAD.size
    for array in arrays:
        body += bytes(-(start + len(body)) % 16) + array.tobytes()
    return cache._MARK + cache._HEAD.pack(zlib.crc32(body), len(body)) + body


def wrong_files(good: Rollout) -> dict[str, bytes]:
    """Return what a cache file of a rollout may contain instead, by a name for the fault."""
    n, width, found = good.size, good.contract.observation_size, {}
    columns = {name: getattr(good, name) for name in cache._COLUMNS}

    def replaced(**changes: Any) -> bytes:
        arrays = list((columns | changes).values())
        return packed(orjson.dumps(head_of(good, arrays)), arrays)

    def with_value(name: str, value: float) -> bytes:
        column = columns[name].copy()
        column.reshape(-1)[3] = value
        return replaced(**{name: column})

    def declared(**changes: Any) -> bytes:
        arrays = list(columns.values())
        return packed(orjson.dumps(head_of(good, arrays) | changes), arrays)

    def shaped(shape: Any, dtype: Any = "<f4") -> bytes:
        arrays = list(columns.values())
        head = head_of(good, arrays)
        head["arrays"][0] = [dtype, shape]
        return packed(orjson.dumps(head), arrays)

    for name, value in (("nan", np.nan), ("inf", np.inf), ("3e38", 3e38)):
        found |= {f"{name} in {column}": with_value(column, value) for column in ("observations", "actions", "rewards")}
    found["inf in log_probs"] = with_value("log_probs", np.inf)
    found["nan in values"] = with_value("values", np.nan)
    found |= {f"short {name}": replaced(**{name: columns[name][: n // 2]}) for name in columns if len(columns[name])}
    found["short, all columns"] = replaced(**{name: column[:0] for name, column in columns.items()})
    found["narrow observations"] = replaced(observations=np.ascontiguousarray(good.observations[:, :-1]))
    found["wide actions"] = replaced(actions=np.concatenate([good.actions, good.actions], axis=1))
    found["flat observations"] = replaced(observations=good.observations.reshape(-1))
    found["float64 rewards"] = replaced(rewards=good.rewards.astype(np.float64))
    found["int64 agents"] = replaced(agents=good.agents.astype(np.int64))
    found["float agents"] = replaced(agents=good.agents.astype(np.float32))
    found["big-endian rewards"] = replaced(rewards=good.rewards.astype(">f4"))
    found["flags of 2"] = replaced(terminated=np.full(n, 2, np.uint8).view(np.bool_))
    found["a final observation of no agent"] = replaced(
        final_observations=good.observations[:1], final_agents=np.array([99], np.int32)
    )
    found["two final observations of an agent"] = replaced(
        final_observations=good.observations[:2], final_agents=good.agents[[0, 0]]
    )
    found["final agents without observations"] = replaced(final_agents=good.agents[:1])
    found["bytes after the arrays"] = packed(
        orjson.dumps(head_of(good, list(columns.values()))), [*columns.values(), good.rewards]
    )
    for shape in (
        [1 << 40, width],
        [-1, width],
        [2**62] * 3,
        [True, width],
        [n, float(width)],
        [[n], 4],
        None,
        "4",
        [1] * 99,
    ):
        found[f"shape {str(shape)[:20]}"] = shaped(shape)
    for dtype in ("|O", "<f8", ">f4", "<U16", "nonsense", ["<f4"], None, "<f4,<f4"):
        found[f"dtype {dtype}"] = shaped([n, width], dtype)
    contract = head_of(good, [])["contract"]
    space = contract["action_space"]
    found["another observation size"] = declared(contract=contract | {"observation_size": width + 1})
    found["bounds of one action"] = declared(contract=contract | {"action_space": space | {"low": [-1.0]}})
    found["bounds the wrong way"] = declared(contract=contract | {"action_space": space | {"low": [2.0, 2.0, 2.0]}})
    found["choices"] = declared(contract=contract | {"action_space": {"type": "discrete", "n": 4}})
    found["no contract"] = declared(contract=None)
    found["too many columns"] = declared(optional=["critic_observations", "final_critic_observations"])
    found["an unknown column"] = declared(optional=["contract"])
    found["a part without an array"] = declared(reward_parts=["speed"])
    for key, value in {
        "policy_version": -1,
        "noise_std": "1",
        "left_out": 1.5,
        "left_out ": None,
        "causes": [["a"]],
        "causes ": [[1, 2, 3]],
        "recovered": [1],
        "recovered ": ["x", "y"],
        "states_bounds": 1,
        "arrays": 7,
        "name": "another.columns",
    }.items():
        found[f"{key} is {value}"] = declared(**{key.strip(): value})
    for head in (b"", b"{{{{", b"[]", b"{}", b"7", b"\xff", b"[" * 100_000, b'{"contract":{}}'):
        found[f"the head is {head[:20]!r}"] = packed(head, list(columns.values()))
    return found
