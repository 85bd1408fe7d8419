"""The code blocks of a Markdown page, and what is to be done with each of them."""

from __future__ import annotations

import shlex
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Languages that are run, languages that are parsed, and languages that are only shown.
RUN, PARSED, SHOWN = frozenset({"bash", "python"}), frozenset({"json", "toml"}), frozenset({"text", "gdscript"})
_FLAGS = {"no-run": RUN | {"powershell"}, "checkout": {"bash"}, "background": {"bash"}}


class BlockError(Exception):
    """A block that breaks the conventions. The message names the line and the remedy."""


@dataclass(frozen=True)
class Block:
    """One fenced code block. `line` is the line of its opening fence."""

    line: int
    language: str
    flags: frozenset[str]
    reason: str  #: why it is not run
    body: str

    @property
    def action(self) -> str:
        """Return what is done with it, for `--list`."""
        if "no-run" in self.flags:
            return f"not run: {self.reason}"
        if self.language in RUN:
            return " ".join(["run", *sorted(self.flags)])
        return "parsed" if self.language in PARSED else "only shown"


def blocks_of(text: str) -> list[Block]:
    """Return a page's blocks in order. Raises BlockError."""
    return [_block(line, info, body) for line, info, body in _fences(text)]


def _fences(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the info string and the body of each fenced block, also of indented ones in lists."""
    opened: tuple[int, str, str] | None = None  # line, fence, info
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if opened is None:
            mark = stripped[:1]
            if stripped.startswith(("```", "~~~")) and mark not in stripped.lstrip(mark):
                info = stripped.lstrip(mark)
                opened, body = (number, stripped[: len(stripped) - len(info)], info.strip()), []
        elif stripped.startswith(opened[1]) and set(stripped) == {opened[1][0]}:
            yield opened[0], opened[2], textwrap.dedent("".join(f"{each}\n" for each in body))
            opened = None
        else:
            body.append(line)
    if opened is not None:
        raise BlockError(f"line {opened[0]}: the block is not closed: add a line with {opened[1]}")


def _block(line: int, info: str, body: str) -> Block:
    try:
        words = shlex.split(info)
    except ValueError as error:
        raise BlockError(f"line {line}: {info}: {error}") from None
    if not words:
        raise BlockError(f"line {line}: the block has no language: write bash, python, json, toml or text after ```")
    language, *rest = words
    reason = "".join(word.removeprefix("reason=") for word in rest if word.startswith("reason="))
    flags = frozenset(word for word in rest if not word.startswith("reason="))
    if language not in RUN | PARSED | SHOWN | {"powershell"}:
        raise BlockError(f"line {line}: the language {language} is unknown: use bash, python, json, toml or text")
    for flag in sorted(flags):
        if language not in _FLAGS.get(flag, ()):
            raise BlockError(f"line {line}: a {language} block cannot be {flag}")
    if bool(reason) != ("no-run" in flags):
        raise BlockError(f'line {line}: write no-run and reason="..." together, or neither')
    if language == "powershell" and "no-run" not in flags:
        raise BlockError(f'line {line}: a powershell block needs no-run and reason="..."')
    return Block(line, language, flags, reason, body)
