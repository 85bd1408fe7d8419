"""Every code that the program can print is explained, and every explained one can be printed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from schemas.error_codes import CODES, errors_page, remedy_for

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"[EW]_[A-Z][A-Z_]+")
NO_CODES = {"W_TRAINER", "W_TRAINER_"}


def printed_codes() -> set[str]:
    found = set()
    for package in ("daemon", "schemas", "trainer"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name == "error_codes.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                    found.add(node.value)
    return found - NO_CODES


def test_every_code_that_can_be_printed_is_explained():
    assert sorted(printed_codes() - set(CODES)) == []


def test_every_explained_code_can_be_printed():
    assert sorted(set(CODES) - printed_codes()) == []


@pytest.mark.parametrize("code", CODES)
def test_each_code_has_a_cause_and_a_remedy_and_its_own_anchor_on_the_page(code):
    cause, remedy = CODES[code]
    assert cause
    assert remedy
    page = errors_page()
    assert page.count(f"\n### {code}\n\n") == 1
    [entry] = re.findall(rf"^### {code}\n\n(.+)\n", page, re.MULTILINE)
    assert entry == f"{cause[0].upper()}{cause[1:]}. What to do: {remedy}."


@pytest.mark.parametrize("code", CODES)
def test_texts_are_parts_of_a_sentence(code):
    for text in CODES[code]:
        assert not text.endswith((".", "?", "!"))
        assert "  " not in text


def test_the_warning_of_a_trainer_has_the_remedy_of_its_own_code():
    assert remedy_for("W_TRAINER_W_STALE") == CODES["W_STALE"].remedy
    assert remedy_for("E_UNKNOWN") == ""
