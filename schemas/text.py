"""Make text from outside (file names, messages) safe for console, log and status.json."""

from __future__ import annotations

import unicodedata

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


def printable(text: str, *, limit: int = 2000) -> str:
    """Return `text` on one line, with escapes for control and format characters, surrogates and unusual spaces.

    Newlines become " | ", so that a message cannot imitate a second log line. Texts are cut at `limit` characters.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    safe = []
    for character in text[: limit + 1].replace("\r\n", "\n").strip("\n").replace("\n", " | ").replace("\t", " "):
        if character != " " and unicodedata.category(character) in _UNSAFE_CATEGORIES:
            code = ord(character)
            safe.append(f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
        else:
            safe.append(character)
    whole = "".join(safe)
    return whole if len(whole) <= limit else whole[: limit - 3] + "..."


def ascii_safe(text: str) -> str:
    """Return `printable(text)` in ASCII, for consoles with any code page."""
    return printable(text).encode("ascii", "backslashreplace").decode("ascii")
