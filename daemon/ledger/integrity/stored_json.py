"""The JSON texts in the ledger: trainers' results, and the values of the table `meta`."""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from schemas.contract import ContinuousActions, PolicyContract
from schemas.job import Adoption, Result
from schemas.storage.set_aside import PREFIX

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_Digits = Annotated[str, Field(pattern=r"^\d{1,18}$")]
_NOTICES: TypeAdapter[dict[str, dict[str, str]]] = TypeAdapter(dict[_Digits, dict[str, str]], config=_STRICT)
_RECOVERED: TypeAdapter[dict[str, tuple[int, float]]] = TypeAdapter(dict[str, tuple[int, float]], config=_STRICT)
_NOT_IN_NAMES = frozenset("/\0\\:" if sys.platform == "win32" else "/\0")
_HASH = re.compile(r"[0-9a-f]{64}")
ADOPTION_KEY = "adoption:"
BY_SETTINGS_KEY = "contract_by_settings"
"""The key of the last contract whose bounds were changed in the settings after a model was published."""
_ADOPTION = re.compile(ADOPTION_KEY + r"\d{1,12}")


def is_text(value: object) -> bool:
    """Return whether it is text without bytes that are not UTF-8."""
    return type(value) is str and (value.isascii() or _is_utf8(value))


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # `decode_text` has kept bytes that are not UTF-8
        return False
    return True


def is_file_name(value: object) -> bool:
    """Return whether it is the name of a file in some folder, and not a path."""
    if type(value) is not str or not is_text(value):
        return False
    return 0 < len(value) <= 1024 and value not in {".", ".."} and _NOT_IN_NAMES.isdisjoint(value)


def adoption_key(cycle_id: int) -> str:
    """Return the key under which the file is stored that a cycle adopts."""
    return f"{ADOPTION_KEY}{cycle_id}"


def is_result(text: object, *, epoch: int | None = None) -> bool:
    """Return whether it is the JSON of a trainer's result, of this epoch if one is named."""
    if type(text) is not str:
        return False
    try:
        result = _parsed(text)
    except ValidationError:
        return False
    is_safe = all(map(is_file_name, (result.model, result.checkpoint, *result.files)))
    hashes = all(map(_HASH.fullmatch, result.files.values()))
    return is_safe and hashes and _is_contract(result.contract) and (epoch is None or result.epoch == epoch)


def contract_of(result: str) -> PolicyContract:
    """Return the contract in the JSON of a result, which `is_result` has accepted."""
    return _parsed(result).contract


def is_possible_contract(text: str, newest: PolicyContract, *, by_settings: str) -> bool:
    """Return whether a project whose newest model has the contract `newest` may have this one, as JSON.

    They differ only if a change of the settings, which is stored under BY_SETTINGS_KEY, has changed the bounds.
    """
    contract = PolicyContract.from_bytes(text.encode())
    return contract == newest or (text == by_settings and _shape(contract) == _shape(newest))


def _shape(contract: PolicyContract) -> tuple[object, ...]:
    space = contract.action_space
    return contract.observation_size, space.names if isinstance(space, ContinuousActions) else space.n


@functools.lru_cache(maxsize=2)
def _parsed(text: str) -> Result:
    """Parse a result. A row's two checks need it one after the other."""
    return Result.from_bytes(text.encode("utf-8", "surrogateescape"))


def meta_problem(key: str, value: str) -> str | None:
    """Return what is wrong with a value of the table `meta`, or None. Keys that are not known are not checked."""
    kind = "adoption" if key.startswith(ADOPTION_KEY) else key
    accepts = _META.get(kind)
    try:
        is_accepted = (accepts is None or accepts(value)) and (kind == key or _ADOPTION.fullmatch(key) is not None)
    except (ValidationError, ValueError):
        is_accepted = False
    return None if is_accepted else f"table meta, row {key!r:.60}: its value {value!r:.60} cannot be read"


def _is_contract(contract: PolicyContract) -> bool:
    space = contract.action_space
    if not isinstance(space, ContinuousActions):
        return True
    return len(space.names) == len(space.low) == len(space.high)


def _is_finite(value: str) -> bool:
    return math.isfinite(float(value))


_META: Mapping[str, Callable[[str], bool]] = {
    "contract": lambda value: _is_contract(PolicyContract.from_bytes(value.encode())),
    "initial_contract": lambda value: _is_contract(PolicyContract.from_bytes(value.encode())),
    "paused": _is_finite,
    "file_clock_offset_s": _is_finite,
    "notices": lambda value: _NOTICES.validate_json(value) is not None,
    "recovered": lambda value: _RECOVERED.validate_json(value) is not None,
    "adoption": lambda value: Adoption.from_bytes(value.encode()) is not None,
    "parked_settings": lambda value: _HASH.fullmatch(value) is not None,
    "reading_rules": lambda value: _HASH.fullmatch(value) is not None,
    "set_aside": lambda value: value.startswith(PREFIX) and is_file_name(value),
}
"""Key -> whether a value can be read. The modules that write a key read it without further checks."""
