"""Paths in messages go through `shown_path` or `engine_path`: engines read messages, and expect forward slashes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path for folder in ("daemon", "trainer", "schemas") for path in (ROOT / folder).rglob("*.py"))
#: Names of variables and attributes that are a Path.
NAMES = {
    "path",
    "exports",
    "config",
    "target",
    "log_path",
    "folder",
    "project",
    "model_dir",
    "export_dir",
    "output_dir",
    "script",
    "pointer",
    "above",
}
PROPERTIES = {
    "training",
    "exports",
    "rejected",
    "models",
    "logs",
    "state",
    "cache",
    "staging",
    "ledger",
    "lock",
    "status",
}
ALLOWED = {
    "daemon/security/permissions.py": "a command for POSIX",
    "daemon/training/job_builder.py": "paths of a job, which only the trainer opens",
    "schemas/process/run_token.py": "a project's hash",
    "schemas/program/entry.py": "a command to paste into a shell",
    "trainer/checkpoints/checkpoint.py": "the name of a folder, with a forward slash",
    "trainer/ppo/analytic/private_torch.py": "names of torch",
    "trainer/simulate/engine.py": "the text of the pointer file",
}


def unshown_paths(source: str) -> list[str]:
    """Return the paths that f-strings contain directly, or by `str`: line and expression."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FormattedValue):
            continue
        value = node.value
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "str" and value.args:
            value = value.args[0]
        name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
        is_project_path = isinstance(value, ast.Attribute) and ast.unparse(value.value).endswith("paths")
        if name in NAMES or (is_project_path and name in PROPERTIES):
            found.append(f"{node.lineno}: {ast.unparse(value)}")
    return found


def test_messages_contain_paths_as_engines_read_them():
    found = {path.relative_to(ROOT).as_posix(): unshown_paths(path.read_text(encoding="utf-8")) for path in MODULES}
    assert {name: lines for name, lines in found.items() if lines and name not in ALLOWED} == {}
    assert set(ALLOWED) <= {name for name, lines in found.items() if lines}


@pytest.mark.parametrize(
    "source",
    ["f'{path} is damaged'", "f'see {paths.logs}'", "f'{self._options.output_dir}'", "f'{str(context.paths.project)}'"],
)
def test_such_paths_are_found(source):
    assert len(unshown_paths(source)) == 1


@pytest.mark.parametrize("source", ["f'{shown_path(path)}'", "f'{path.name}'", "f'{context.status.state}'"])
def test_other_values_are_not_found(source):
    assert unshown_paths(source) == []
