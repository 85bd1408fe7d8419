"""The seeded bugs apply to the source, and the command distinguishes caught bugs from surviving ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scripts.faults.lib.seeded_bug import Replacement, SeededBug
from scripts.faults.seeded_bug_run import BUGS, ROOT, applied, check_all


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_seeded_bug_applies_and_names_tests_that_exist(bug):
    for replacement in bug.replacements:
        text = (ROOT / replacement.path).read_text("utf-8")
        changed = applied(text, replacement)
        assert changed != text
        ast.parse(changed)
    for test in bug.tests:
        name, _, function = test.partition("::")
        defined = {node.name for node in ast.walk(ast.parse((ROOT / name).read_text("utf-8"))) if hasattr(node, "name")}
        assert not function or function.partition("[")[0] in defined


def test_there_are_enough_bugs_with_different_names():
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 50


@pytest.mark.parametrize("text", ["nothing of it", "a = 1\na = 1\n"], ids=["gone", "twice"])
def test_a_text_that_is_missing_or_occurs_twice_is_refused(text):
    with pytest.raises(ValueError, match="correct the bug"):
        applied(text, Replacement("x.py", "a = 1\n", "a = 2\n"))


def test_caught_surviving_and_broken_bugs_are_distinguished(tmp_path: Path, capsys):
    (tmp_path / "thing.py").write_text("ANSWER = 42\n", "utf-8")
    (tmp_path / "test_thing.py").write_text("from thing import ANSWER\ndef test(): assert ANSWER == 42\n", "utf-8")

    def bug(name: str, old: str, new: str) -> SeededBug:
        return SeededBug(name, (Replacement("thing.py", old, new),), ("test_thing.py",))

    bugs = [
        bug("caught", "42", "43"),
        bug("the same", "42", "6 * 7"),
        bug("gone", "41", "43"),
        bug("broken", "ANSWER", "QUESTION"),
    ]
    assert check_all(bugs, tmp_path) == ["the same", "gone", "broken"]
    assert capsys.readouterr().out.count("caught  ") == 1
    assert (tmp_path / "thing.py").read_text("utf-8") == "ANSWER = 42\n"
