"""Run the tests that need no torch with every supported Python on this machine."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING

from scripts.devtools.checkout import NEWEST, OLDEST, Checkout, SetupError
from scripts.devtools.install import ensure_packages
from scripts.devtools.interpreters import find_interpreters
from scripts.devtools.processes import run_together

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: What these tests need beside the dependencies of Hotlap. constraints.txt pins the versions.
TEST_TOOLS = ("hypothesis", "jsonschema", "pytest", "pytest-timeout", "PyYAML")
#: Tests marked `torch` need torch, or a trainer that really trains. All others in these folders must pass without it.
SELECTION = ["-m", "not torch and not slow", "tests/schemas", "tests/daemon", "tests/arch"]


def requirements(root: Path) -> list[str]:
    """Return the dependencies in pyproject.toml without torch, and the test tools."""
    import tomllib  # Python 3.11 and newer

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*(line for line in project["dependencies"] if name_of(line) != "torch"), *TEST_TOOLS]


def name_of(requirement: str) -> str:
    """Return the package's name: `torch` for `torch>=2.4,<3`."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


def run_tests(checkouts: Sequence[Checkout], arguments: list[str]) -> int:
    """Run the tests in these environments at the same time; return the first exit code that is not 0."""
    result = 0
    # Without a cache: the environments would overwrite each other's.
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *SELECTION, *arguments]
    logs = [one.venv / "hotlap-tests.log" for one in checkouts]
    began_s = time.monotonic()
    codes = run_together([[str(one.python), *words] for one in checkouts], logs, checkouts[0].root)
    for one, log, code in zip(checkouts, logs, codes, strict=True):
        print(log.read_text(encoding="utf-8", errors="replace").rstrip())
        print(f"[pythons] {one.venv.name}: exit {code} after {time.monotonic() - began_s:.0f} s at most", flush=True)
        result = result or code
    return result


def run_with_all_pythons(root: Path, arguments: list[str]) -> int:
    """Create an environment without torch for each Python, and run the tests in all of them."""
    pythons, problems = find_interpreters()
    for line in problems:
        print(f"[pythons] {line}")
    checkouts = [Checkout(root, f".venv-{version}", path) for version, path in pythons.items()]
    if not checkouts:
        raise SetupError("no Python with a venv module was found: install one from python.org")
    for one in checkouts:
        ensure_packages(one, requirements(root))
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if list(pythons) == [own]:
        wanted = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
        print(f"[pythons] of Python {wanted}, only {own} is installed here: the tests run with it, without torch")
    result, at_once = 0, (os.cpu_count() or 1) + 1  # the tests often wait
    for k in range(0, len(checkouts), at_once):
        code = run_tests(checkouts[k : k + at_once], arguments)
        result = result or code
        if code in {2, 130, 143}:  # stopped by the user
            break
    return result
