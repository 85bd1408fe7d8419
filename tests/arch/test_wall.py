"""The import direction daemon -> schemas <- trainer, checked in the source and in the loaded modules.

import-linter (`python scripts/dev.py lint`) checks it as well. These tests also see imports by name
(`importlib.import_module("torch")`) and what third-party packages import.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: only in a checkout, never in the wheel
DEVELOPERS_ONLY = {"scripts", "tests", "benchmarks", "examples"}
FORBIDDEN = {
    "daemon": {"torch", "ray", "trainer", *DEVELOPERS_ONLY},
    "schemas": {"torch", "ray", "fsspec", "trainer", "daemon", *DEVELOPERS_ONLY},
    "trainer": {"fsspec", "daemon", *DEVELOPERS_ONLY},
}
#: modules that only one system can load
ELSEWHERE = ("_posix",) if sys.platform == "win32" else ("_windows",)

LOAD = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def modules_of(package: str) -> list[str]:
    parts = (path.relative_to(ROOT).with_suffix("").parts for path in files_of(package))
    names = {".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts if p[-1] != "__main__"}
    return sorted(name for name in names if not name.endswith(ELSEWHERE))


def loaded_by(*modules: str) -> set[str]:
    """Import these in a new interpreter and return the top-level packages that are then loaded."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *modules], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def imports(tree: ast.AST) -> Iterator[str]:
    """Return the top-level names of all imports, also of importlib.import_module("name")."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name.partition(".")[0] for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name.partition(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_source_file_imports_a_forbidden_package(package):
    files = files_of(package)
    assert files, f"{package}/ does not exist"
    crossed = [
        f"{path.relative_to(ROOT).as_posix()} imports {name}"
        for path in files
        for name in imports(ast.parse(path.read_text(encoding="utf-8")))
        if name in FORBIDDEN[package]
    ]
    assert crossed == []


def test_neither_daemon_nor_schemas_load_torch_or_the_trainer():
    modules = modules_of("schemas") + modules_of("daemon")
    assert {"torch", "trainer"}.isdisjoint(loaded_by(*modules))


@pytest.mark.torch
def test_the_trainer_does_not_load_the_daemon():
    assert "daemon" not in loaded_by(*modules_of("trainer"))


def test_the_racing_game_loads_numpy_alone():
    """Check that `trainer/__init__.py` does not load torch, so that the simulated engine starts fast."""
    assert {"torch", "daemon"}.isdisjoint(loaded_by("trainer.envs.racing.simulation"))


def test_neither_the_dagger_pipeline_nor_an_expert_process_loads_torch():
    """Check that both start fast: one waits for workers, the other is started for every milestone."""
    assert {"torch", "daemon"}.isdisjoint(loaded_by("trainer.dagger.cli", "trainer.dagger.expert.server"))


def test_the_checks_find_planted_imports():
    hidden = (
        "def f():\n    from daemon.cli import x\n    importlib.import_module('torch.nn')\n    import os.path, trainer"
    )
    assert set(imports(ast.parse(hidden))) == {"daemon", "torch", "os", "trainer"}
    assert "decimal" in loaded_by("decimal")
    assert "decimal" not in loaded_by("schemas") or "decimal" in loaded_by("pydantic")
