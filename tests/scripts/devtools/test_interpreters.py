"""Which Pythons on this machine are found."""

import sys
from pathlib import Path

import pytest

from scripts.devtools import interpreters
from scripts.devtools.interpreters import ask, candidates, find_interpreters
from tests.platforms import needs_posix

OWN = sys.version_info[1]


def make_program(folder, text):
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return [str(path)]


def test_this_python_answers_with_its_version_and_path():
    pytest.importorskip("ensurepip", reason="this Python was installed without ensurepip")
    assert ask([sys.executable]) == (OWN, sys.executable)


@needs_posix("shell scripts as programs")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("echo 'pyenv: python3.12: command not found' >&2; exit 127", "does not start"),
        ("echo 3 12 /usr/bin/python3.12; exit 1", "sudo apt install python3.12-venv"),
        ("echo 2 7 /usr/bin/python2", "does not start"),
    ],
)
def test_a_python_that_cannot_create_an_environment_is_not_used(tmp_path, program, reason):
    minor, text = ask(make_program(tmp_path, program))
    assert minor == 0
    assert reason in text


def test_a_missing_program_is_not_used(tmp_path):
    assert ask([str(tmp_path / "python3.12")])[0] == 0


def test_pyenv_versions_are_searched_the_newest_first(tmp_path, monkeypatch):
    for name in ("3.12.1", "3.12.10", "3.12.9", "3.1.2", "3.13.0", "3.14-dev", "pypy3.12-7.3", "3.12.1/envs"):
        (tmp_path / "versions" / name).mkdir(parents=True)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    names = [folder.name for folder in interpreters.pyenv_folders()]
    assert names == ["3.13.0", "3.12.10", "3.12.9", "3.12.1", "3.1.2"]
    monkeypatch.setattr(interpreters.sys, "version_info", (3, 11, 7))
    found = [argv[0] for argv in candidates(12, which={"python3.12": "/bin/python3.12"}.get)]
    assert found[0] == "/bin/python3.12"
    assert [Path(path).relative_to(tmp_path / "versions").parts[0] for path in found[1:]] == names[1:4]


def test_our_own_python_is_the_first_candidate_of_its_version():
    assert next(candidates(OWN, which=lambda name: None)) == [sys.executable]


def test_the_first_candidate_that_answers_with_the_version_is_used():
    answers = {
        "a": (0, "it does not start"),
        "b": (0, "it has no venv module (sudo apt install python3.12-venv)"),
        "c": (13, "/c"),
        "d": (12, "/d"),
        "e": (12, "/e"),
    }

    def find(minor):
        return iter([[name] for name in answers] if minor == 12 else [])

    pythons, problems = find_interpreters(find, lambda argv: answers[argv[0]])
    assert pythons == {"3.12": "/d"}
    assert problems == ["b is skipped: it has no venv module (sudo apt install python3.12-venv)"]
