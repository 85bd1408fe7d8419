"""The definition of a seeded bug: exact replacements in the source, and the tests that must then fail."""

from __future__ import annotations

from typing import NamedTuple


class Replacement(NamedTuple):
    """A text that occurs exactly once in a source file, and its replacement."""

    path: str  #: from the repository's root
    old: str
    new: str


class SeededBug(NamedTuple):
    """A bug, and the tests that must catch it."""

    name: str
    replacements: tuple[Replacement, ...]
    tests: tuple[str, ...]  #: for pytest
