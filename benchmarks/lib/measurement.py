"""Measurements: values taken in rounds, their median and spread, floors and limits."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from benchmarks.lib.doc_tables import table


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, measured once per round."""

    name: str
    unit: str
    values: tuple[float, ...]
    floor: str = ""  #: name of the figure in the same section to compare with
    more: tuple[str, ...] = ()  #: cells of the section's additional columns

    @property
    def median(self) -> float:
        """Return the median of all rounds."""
        return statistics.median(self.values)

    def in_words(self) -> str:
        """Return the median with its unit."""
        return in_words(self.median, self.unit)

    def spread(self) -> str:
        """Return the smallest and the largest value."""
        if len(self.values) == 1:
            return ""
        return f"{number(min(self.values))} to {number(max(self.values))}"


class Sense(StrEnum):
    """The comparison of a value with a limit."""

    AT_LEAST = "at least"
    AT_MOST = "at most"
    UNDER = "under"


@dataclass(frozen=True, slots=True)
class Claim:
    """A limit and the measured value. A limit without a value is not met."""

    text: str
    sense: Sense
    bound: float
    measured: float | None
    unit: str = ""
    spread: str = ""

    @property
    def holds(self) -> bool:
        """Return whether the measured value is within the limit."""
        if self.measured is None:
            return False
        match self.sense:
            case Sense.AT_LEAST:
                return self.measured >= self.bound
            case Sense.AT_MOST:
                return self.measured <= self.bound
        return self.measured < self.bound

    def cells(self) -> list[str]:
        """Return the row of the table of limits."""
        measured = "not measured" if self.measured is None else in_words(self.measured, self.unit)
        spread = f" ({self.spread})" if self.spread else ""
        limit = f"{self.sense.value} {in_words(self.bound, self.unit)}"
        return [self.text, limit, f"{measured}{spread}", "yes" if self.holds else "**no**"]


@dataclass(frozen=True, slots=True)
class Section:
    """The results of one benchmark."""

    name: str  #: as on the command line
    title: str
    figures: tuple[Figure, ...] = ()
    claims: tuple[Claim, ...] = ()
    heads: tuple[str, ...] = ()  #: of the figures' additional cells
    notes: tuple[str, ...] = ()  #: notes above the table
    error: str = ""  #: why it failed

    @property
    def holds(self) -> bool:
        """Return whether it was measured and all its limits are met."""
        return not self.error and all(claim.holds for claim in self.claims)

    def markdown(self, *, heading: str = "##") -> list[str]:
        """Return heading, notes and table."""
        lines = [f"{heading} {self.title}", "", f"`python -m benchmarks {self.name}`"]
        if self.notes:
            lines[-1] += f". {' '.join(self.notes)}"
        if self.error:
            return [*lines, "", f"**It failed**: {self.error.splitlines()[0]}"]
        heads = ["", "median", "min to max", "floor", "times its floor", *self.heads]
        has_floors = any(figure.floor for figure in self.figures)
        rows = [self._row(figure) for figure in self.figures]
        if not has_floors:
            heads, rows = heads[:3] + heads[5:], [row[:3] + row[5:] for row in rows]
        return [*lines, "", *table(heads, rows)]

    def _row(self, figure: Figure) -> list[str]:
        floor = next((other for other in self.figures if other.name == figure.floor), None)
        floor_cells = ["", ""]
        if floor is not None and all(floor.values):
            floor_cells = [floor.name, f"{statistics.median(ratios(figure.values, floor.values)):.2f}"]
        more = [*figure.more, *[""] * (len(self.heads) - len(figure.more))]
        return [figure.name, figure.in_words(), figure.spread(), *floor_cells, *more]

    def plain(self) -> dict[str, Any]:
        """Return the document for JSON."""
        claims = [{**asdict(claim), "holds": claim.holds} for claim in self.claims]
        figures = [{**asdict(figure), "median": figure.median} for figure in self.figures]
        return {**asdict(self), "figures": figures, "claims": claims, "holds": self.holds}

    @classmethod
    def from_plain(cls, entry: dict[str, Any]) -> Self:
        """Return the section that `plain` described. Raises KeyError, TypeError or ValueError."""
        figures = [
            Figure(f["name"], f["unit"], tuple(f["values"]), f["floor"], tuple(f["more"])) for f in entry["figures"]
        ]
        claims = [
            Claim(c["text"], Sense(c["sense"]), c["bound"], c["measured"], c["unit"], c["spread"])
            for c in entry["claims"]
        ]
        heads, notes = tuple(entry["heads"]), tuple(entry["notes"])
        return cls(entry["name"], entry["title"], tuple(figures), tuple(claims), heads, notes, entry["error"])


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return the ratio of each round, because load changes between rounds; with other rounds, that of the medians."""
    if len(values) == len(others):
        return [value / other for value, other in zip(values, others, strict=True)]
    return [statistics.median(values) / statistics.median(others)]


def ratio_claim(text: str, sense: Sense, bound: float, values: Sequence[float], others: Sequence[float]) -> Claim:
    """Return a claim on the median of the ratios within each round."""
    if not values or not others:
        return Claim(text, sense, bound, None)
    found = ratios(values, others)
    spread = f"{number(min(found))} to {number(max(found))}" if len(found) > 1 else ""
    return Claim(text, sense, bound, statistics.median(found), spread=spread)


def median_claim(text: str, sense: Sense, bound: float, values: Sequence[float], unit: str) -> Claim:
    """Return a claim on a median."""
    if not values:
        return Claim(text, sense, bound, None, unit)
    figure = Figure(text, unit, tuple(values))
    return Claim(text, sense, bound, figure.median, unit, figure.spread())


def number(value: float) -> str:
    """Return a number with three digits and without an exponent."""
    size = abs(value)
    if size < 0.0005:
        return "0"
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def in_words(value: float, unit: str) -> str:
    """Return a number with its unit; a ratio does not have one."""
    return f"{number(value)} {unit}".strip()
