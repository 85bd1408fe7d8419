"""One code."""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """The cause and the remedy of a code. Both are printed inside other sentences, so they begin in lower case."""

    cause: str
    remedy: str
