"""Limits on the size of folders, modules and functions. docs/style.md states the same numbers."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUDGET = {"modules": 12, "module": 300, "function": 60}
FOLDERS = ("daemon", "trainer", "schemas", "scripts", "benchmarks")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "out" not in path.parts)


def too_long(tree: ast.AST) -> list[str]:
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [
        f"{node.name} has {length} lines"
        for node in functions
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > BUDGET["function"]
    ]


def too_full(modules: list[Path]) -> list[str]:
    """Return the folders with too many modules; `__init__` and `__main__` do not count."""
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in modules if not path.name.startswith("__"))
    return [f"{folder} has {count} modules" for folder, count in counts.items() if count > BUDGET["modules"]]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_has_a_title_and_keeps_the_limits(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    title = (ast.get_docstring(tree) or "").split("\n")[0]
    assert title.strip(), "state in one line what this module is for"
    assert len(text.splitlines()) <= BUDGET["module"], "split it by what its parts do"
    assert too_long(tree) == []


def test_a_folder_has_few_modules():
    assert too_full(MODULES) == []


def test_the_style_guide_states_the_same_numbers():
    text = (ROOT / "docs" / "style.md").read_text(encoding="utf-8")
    pattern = r"At most (\d+) modules in a folder, (\d+) lines in a module and (\d+) lines in a function"
    [stated] = re.findall(pattern, text)
    assert dict(zip(BUDGET, map(int, stated), strict=True)) == BUDGET


def test_the_limits_are_exact():
    """Check the control: the limit itself is allowed, one more is not."""
    sixty = "async def f():\n" + "    pass\n" * 59
    assert too_long(ast.parse(sixty)) == []
    assert too_long(ast.parse(sixty + "    pass\n")) == ["f has 61 lines"]
    twelve = [ROOT / "x" / f"{k}.py" for k in range(12)] + [ROOT / "x" / "__init__.py", ROOT / "y.py"]
    assert too_full(twelve) == []
    assert too_full([*twelve, ROOT / "x" / "more.py"]) == ["x has 13 modules"]


def test_every_package_is_measured():
    found = {path.relative_to(ROOT).parts[0] for path in MODULES}
    assert found == set(FOLDERS)
    assert sum(len(path.relative_to(ROOT).parts) > 2 for path in MODULES) > 100, "modules in subfolders are found"
