"""The values that each column of the ledger may have. Every row of an untrusted ledger is read by this module."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daemon.ledger.cycle import Phase
from daemon.ledger.integrity.stored_json import is_file_name, is_result, is_text, meta_problem

Values = tuple[Any, ...]
"""The values of one row, in the order of `TABLES`."""

MAX_NUMBER = 10**12
"""The highest number of a cycle, attempt or epoch: far more than any project has, and far from SQLite's limit."""
_INT64 = 2**63 - 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MODEL = re.compile(r"cycle_(\d{6,19})/model_epoch_(\d{1,19})\.json")
_PACKED_ROWS = re.compile(r"[A-Za-z0-9+/]*={0,2}")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a column accepts, and how a message describes it."""

    accepts: Callable[[Any], bool]
    expected: str


def decode_text(data: bytes) -> str:
    """Return text for SQLite's `text_factory`. Bytes that are not UTF-8 stay in it, and no rule accepts them."""
    return data.decode("utf-8", "surrogateescape")


def _is_model(value: Any) -> bool:
    return type(value) is str and _MODEL.fullmatch(value) is not None


def _is_finite(value: Any) -> bool:
    return type(value) is float and math.isfinite(value)


def _whole(low: int, high: int) -> Rule:
    return Rule(lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high}")


def _one_of(*words: str) -> Rule:
    return Rule(frozenset(words).__contains__, " or ".join(words))


def _matching(pattern: re.Pattern[str], expected: str) -> Rule:
    return Rule(lambda value: type(value) is str and pattern.fullmatch(value) is not None, expected)


def _optional(rule: Rule) -> Rule:
    accepts = rule.accepts
    return Rule(lambda value: value is None or accepts(value), f"empty, or {rule.expected}")


_TEXT = Rule(is_text, "text")
_NAME = Rule(is_file_name, "a file's name")
_NUMBER = Rule(_is_finite, "a finite number")
_COUNT = _whole(0, MAX_NUMBER)
_HASH = _matching(_SHA256, "64 hexadecimal digits")
_PHASE = _one_of(*(phase.value for phase in Phase))
_RESULT = Rule(is_result, "the JSON of a trainer's result")

TABLES: Mapping[str, Mapping[str, Rule]] = {
    "meta": {"key": _TEXT, "value": _TEXT},
    "arrow": {"src": _PHASE, "dst": _PHASE},
    "cycle": {
        "id": _COUNT,
        "kind": _one_of("initial", "train"),
        "cause": _TEXT,
        "phase": _PHASE,
        "attempt": _COUNT,
        "due_s": _NUMBER,
        "why": _TEXT,
        "created_s": _NUMBER,
        "ended_s": _optional(_NUMBER),
        "parent": _optional(_TEXT),
        "result": _optional(_RESULT),
        "best_epoch": _optional(_COUNT),
        "score": _optional(_NUMBER),
        "value_loss": _optional(_NUMBER),
        "reward_mean": _optional(_NUMBER),
        "seconds": _optional(_NUMBER),
    },
    "step": {"seq": _whole(1, _INT64), "cycle_id": _COUNT, "src": _PHASE, "dst": _PHASE, "at_s": _NUMBER, "why": _TEXT},
    "rollout": {
        "id": _whole(1, _INT64 - 1),
        "sha256": _HASH,
        "name": _NAME,
        "experiences": _COUNT,
        "left_out": _COUNT,
        "reward_mean": _NUMBER,
        "policy_version": _optional(_whole(-_INT64 - 1, _INT64)),  # an engine wrote it
        "written_s": _NUMBER,
        "accepted_s": _NUMBER,
        "cycle_id": _optional(_COUNT),
        "repeated": _matching(_PACKED_ROWS, "empty, or base64"),
        "suspect": _TEXT,
    },
    "file": {
        "name": _NAME,
        "size": _whole(0, _INT64),
        "mtime_ns": _whole(-_INT64, _INT64),
        "inode": _whole(0, _INT64),
        "sha256": _HASH,
    },
    "rejection": {
        "seq": _whole(1, _INT64 - 1),
        "name": _TEXT,
        "sha256": _optional(_HASH),
        "code": _TEXT,
        "reason": _TEXT,
        "at_s": _NUMBER,
    },
    "publication": {
        "seq": _whole(1, _INT64 - 1),
        "cycle_id": _COUNT,
        "policy_version": _COUNT,
        "epoch": _COUNT,
        "model": Rule(_is_model, "cycle_<n>/model_epoch_<k>.json"),
        "sha256": _HASH,
        "at_s": _NUMBER,
    },
}
"""Table -> column -> rule, in the order of schema.sql."""


def read_table(db: sqlite3.Connection, table: str, columns: tuple[str, ...] = ()) -> Iterator[Values]:
    """Yield the rows of a table in order, unchecked. Raises sqlite3.Error if a part of the file cannot be read."""
    names = columns or tuple(TABLES[table])
    cursor = db.cursor()
    cursor.row_factory = None
    yield from cursor.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY {names[0]}")


def value_problem(table: str, values: Values) -> str | None:
    """Return what is wrong with a row, or None."""
    for value, (column, rule) in zip(values, TABLES[table].items(), strict=True):
        if not rule.accepts(value):
            return f"{_row(table, values)}: {column} is {value!r:.60}, but must be {rule.expected}"
    return _problem_between_columns(table, values)


def _row(table: str, values: Values) -> str:
    return f"table {table}, row {values[0]!r:.80}"


def _problem_between_columns(table: str, values: Values) -> str | None:
    """Return how the columns of a row contradict each other, or None."""
    if table == "meta":
        return meta_problem(values[0], values[1])
    if table == "cycle":
        row = dict(zip(TABLES[table], values, strict=True))
        if row["phase"] == Phase.PUBLISHING and row["result"] is None:
            return f"cycle {row['id']} is publishing, but has no result"
        if row["result"] is not None and not is_result(row["result"], epoch=row["best_epoch"]):
            return f"cycle {row['id']} has another best epoch than its result"
    if table == "publication" and (match := _MODEL.fullmatch(values[4])) and int(match[1]) != values[1]:
        return f"{_row(table, values)}: cycle {values[1]} published {values[4]}, which is the model of another cycle"
    return None
