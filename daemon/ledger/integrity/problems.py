"""Finds what is wrong with a ledger: its tables, its pages and indices, its rows, and what rows say about each other.

A start rebuilds a ledger with a problem. `hotlap doctor` lists the problems.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from daemon.ledger.cycle import LEGAL_STEPS, RUNNING, Phase
from daemon.ledger.integrity.schema_check import schema_problem
from daemon.ledger.integrity.stored_json import ADOPTION_KEY, BY_SETTINGS_KEY, contract_of, is_possible_contract
from daemon.ledger.integrity.strict_rows import TABLES, Values, decode_text, read_table, value_problem
from daemon.ledger.sqlite_errors import SQLITE_ERRORS, is_damage

MAX_PROBLEMS = 20
"""More are not searched for."""
_RUNNING = frozenset(phase.value for phase in RUNNING)
_STEPS = frozenset((src.value, dst.value) for src, dst in LEGAL_STEPS)


def find_problems(db: sqlite3.Connection) -> list[str]:
    """Return the problems of a ledger of the newest version, at most `MAX_PROBLEMS`, in one read transaction.

    Raises sqlite3.Error if the file cannot be read at the moment.
    """
    factory, has_transaction = db.text_factory, db.in_transaction
    db.text_factory = decode_text
    found: list[str] = []
    try:
        if not has_transaction:
            db.execute("BEGIN")
        found += itertools.islice(_all_problems(db), MAX_PROBLEMS)
    except SQLITE_ERRORS as error:
        if not is_damage(error):
            raise
        found.append(f"it is damaged: {error}")
    finally:
        db.text_factory = factory
        if db.in_transaction and not has_transaction:
            db.execute("ROLLBACK")
    return found


def _all_problems(db: sqlite3.Connection) -> Iterator[str]:
    """Yield all problems. What comes later is read only if what it depends on is sound. Raises sqlite3.Error."""
    problem = schema_problem(db)
    if problem is not None:
        yield problem
        return
    damage = [str(row[0]) for row in db.execute(f"PRAGMA integrity_check({MAX_PROBLEMS})")]
    if damage != ["ok"]:
        yield from (f"it is damaged: {one.splitlines()[-1]}" for one in damage)
        return
    seen, are_rows_sound = _Seen(), True
    for table in TABLES:
        for values in read_table(db, table):
            if (problem := value_problem(table, values)) is not None:
                are_rows_sound = False
                yield problem
            else:
                seen.add(table, values)
    if db.execute("PRAGMA foreign_key_check").fetchone() is not None:
        yield "a row names another row that does not exist"
    if are_rows_sound:
        yield from seen.contradictions()


def decides_contract(*, kind: str, cause: str, phase: str, result: str | None) -> bool:
    """Return whether the publication of a cycle has set the project's contract, and its result is known."""
    return phase == Phase.PUBLISHED and result is not None and (kind == "train" or cause == "adopt")


@dataclass(slots=True)
class _Seen:
    """What the rows say about cycles."""

    phases: dict[int, str] = field(default_factory=dict)
    versions: dict[int, int] = field(default_factory=dict)  #: cycle -> the version that it publishes
    last_steps: dict[int, str] = field(default_factory=dict)
    published: dict[int, int] = field(default_factory=dict)  #: cycle -> the version of its last publication
    arrows: set[tuple[str, str]] = field(default_factory=set)
    adopting: set[int] = field(default_factory=set)
    wrong_steps: list[str] = field(default_factory=list)
    contract: str = ""  #: the project's, as JSON
    by_settings: str = ""  #: the contract that a change of the settings made, as JSON
    newest_result: str = ""  #: of the newest cycle that was trained or adopted and published, as JSON

    def add(self, table: str, values: Values) -> None:
        """Add a row whose values are accepted."""
        match table:
            case "arrow":
                self.arrows.add((values[0], values[1]))
            case "cycle":
                self.phases[values[0]] = values[3]
                self.versions[values[0]] = 0 if values[1] == "initial" else values[0]
                if decides_contract(kind=values[1], cause=values[2], phase=values[3], result=values[10]):
                    self.newest_result = values[10]
            case "publication":
                self.published[values[1]] = values[2]
            case "meta" if values[0] == "contract":
                self.contract = values[1]
            case "meta" if values[0] == BY_SETTINGS_KEY:
                self.by_settings = values[1]
            case "meta" if values[0].startswith(ADOPTION_KEY):
                self.adopting.add(int(values[0].removeprefix(ADOPTION_KEY)))
            case "step":
                self._add_step(values[1], values[2], values[3])

    def _add_step(self, cycle_id: int, src: str, dst: str) -> None:
        before = self.last_steps.get(cycle_id, Phase.CLAIMED.value)
        if (src, dst) not in _STEPS or src != before:
            self.wrong_steps.append(f"cycle {cycle_id} went from {before} to {dst}, recorded as a step from {src}")
        self.last_steps[cycle_id] = dst

    def contradictions(self) -> Iterator[str]:
        """Yield what cannot be true together: phases, steps and publications."""
        if self.arrows != _STEPS:
            yield "the table arrow does not contain the steps that are allowed"
        yield from self.wrong_steps
        for cycle_id, phase in self.phases.items():
            if (last := self.last_steps.get(cycle_id, phase)) != phase:
                yield f"cycle {cycle_id} is {phase}, but its last step led to {last}"
            if (phase == Phase.PUBLISHED) != (cycle_id in self.published):
                yield f"cycle {cycle_id} is {phase}, but has {'a' if cycle_id in self.published else 'no'} publication"
        for cycle_id, version in self.published.items():
            if self.versions.get(cycle_id, version) != version:
                yield f"cycle {cycle_id} published version {version}, but must publish {self.versions[cycle_id]}"
        running = [cycle_id for cycle_id, phase in self.phases.items() if phase in _RUNNING]
        if len(running) > 1:
            yield f"several cycles run at once: {running}"
        if self.contract and self.newest_result:
            newest = contract_of(self.newest_result)
            if not is_possible_contract(self.contract, newest, by_settings=self.by_settings):
                yield "the contract in the table meta is not that of the newest model"
        if unknown := self.adopting - self.phases.keys():
            yield f"cycle {min(unknown)} adopts a file, but does not exist"
