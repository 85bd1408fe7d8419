"""Every code that the program can say is explained, and every explained one can be said."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from schemas.error_codes import CODES, errors_page, remedy_for

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"[EW]_[A-Z][A-Z_]+")
NO_CODES = {"W_TRAINER", "W_TRAINER_"}


def said() -> set[str]:
    found = set()
    for package in ("daemon", "schemas", "trainer"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name == "codes.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                    found.add(node.value)
    return found - NO_CODES


def test_every_code_that_is_said_is_explained():
    assert sorted(said() - set(CODES)) == []


def test_every_explained_code_can_be_said():
    assert sorted(set(CODES) - said()) == []


@pytest.mark.parametrize("code", CODES)
def test_each_has_a_cause_and_a_remedy(code):
    assert CODES[code].cause
    assert CODES[code].remedy
    assert f"| `{code}` |" in errors_page()


def test_a_trainers_warning_has_the_trainers_remedy():
    assert remedy_for("W_TRAINER_W_STALE") == CODES["W_STALE"].remedy
    assert remedy_for("E_NOBODY_KNOWS") == ""
