"""Tables in pages of the docs, between two comment lines."""

from __future__ import annotations

from pathlib import Path


def markers(name: str) -> tuple[str, str]:
    """Return the two comment lines around a named text."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def has_markers(page: Path, name: str) -> bool:
    """Return whether the page has both comment lines."""
    begin, end = markers(name)
    return page.is_file() and end in page.read_text(encoding="utf-8").partition(begin)[2]


def write_between(page: Path, name: str, text: str) -> None:
    """Write the text between the page's comment lines, which must exist."""
    begin, end = markers(name)
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8", newline="\n")


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [_line(heads), f"|{'---|' * len(heads)}", *map(_line, rows)]


def _line(cells: list[str]) -> str:
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|"
