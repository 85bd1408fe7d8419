"""Text from outside is one line, cannot control a terminal, and has a limit."""

from __future__ import annotations

import pytest

from schemas.text import ascii_safe, printable


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a b", "a b"),
        ("a\nb\r\nc\n", "a | b | c"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eabc", "\\u202eabc"),
        ("\udc80", "\\udc80"),
        ("a\u00a0b", "a\\xa0b"),
        ("z\u00fcrich", "z\u00fcrich"),
    ],
)
def test_characters_that_could_mislead_are_escaped(text, safe):
    assert printable(text) == safe


def test_a_long_text_is_cut():
    assert printable("x" * 30, limit=10) == "xxxxxxx..."
    assert printable("x" * 10, limit=10) == "x" * 10


def test_ascii_has_no_other_characters():
    assert ascii_safe("z\u00fcrich \u20ac") == "z\\xfcrich \\u20ac"
