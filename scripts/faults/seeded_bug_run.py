"""Proof that the tests bite: one seeded bug at a time in a copy of the tree, and the tests that must catch it.

python -m scripts.faults.seeded_bug_run                  all of them; exit code 1 where one survives or does not apply any more
python -m scripts.faults.seeded_bug_run --only WORD      those whose names hold the word
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts.faults.lib.seeded_bugs import BUGS, Replacement, SeededBug

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("daemon", "trainer", "schemas", "scripts", "tests", "benchmarks", "pyproject.toml")
TIMEOUT_S = 180.0
_PASSED, _FAILED = 0, 1  #: of pytest's exit codes; any other means that it could not even run them


def applied(text: str, replacement: Replacement) -> str:
    """Return the source with the bug in it. Raises ValueError where the place is not there exactly once."""
    count = text.count(replacement.old)
    if count != 1:
        raise ValueError(f"{replacement.path} holds {replacement.old.strip()[:60]!r} {count} times: correct the bug")
    return text.replace(replacement.old, replacement.new)


def copy_tree(target: Path) -> None:
    """Copy what the tests need."""
    ignored = shutil.ignore_patterns("__pycache__", ".*", "out")
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignored)
        else:
            shutil.copy2(source, target / name)


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run some tests of a copy, up to the first that fails; give pytest's exit code and what it said."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return _FAILED, f"not done after {TIMEOUT_S:.0f} s"
    return done.returncode, done.stdout + done.stderr


def is_caught(tree: Path, bug: SeededBug) -> tuple[bool, str]:
    """Put the bug in, run its tests, take it out again; tell whether they failed, and how. Raises ValueError."""
    sound = {replacement.path: (tree / replacement.path).read_text("utf-8") for replacement in bug.replacements}
    try:
        for replacement in bug.replacements:
            path = tree / replacement.path
            write(path, applied(path.read_text("utf-8"), replacement))
        code, said = run_tests(tree, bug.tests)
    finally:
        for name, text in sound.items():
            write(tree / name, text)
    if code == _FAILED:
        failed = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR tests"))]
        return True, failed[0] if failed else said.strip()
    return False, "its tests pass" if code == _PASSED else f"its tests could not be run (pytest says {code})\n{said}"


def write(path: Path, text: str) -> None:
    """Change a module, and drop what Python has compiled of it: within a second it could take that for current."""
    path.write_text(text, "utf-8")
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink()


def check_all(bugs: Iterable[SeededBug], tree: Path) -> list[str]:
    """Try each; print what came of it; give the names of those that survive or do not apply."""
    surviving = []
    for bug in bugs:
        started = time.monotonic()
        try:
            caught, how = is_caught(tree, bug)
        except ValueError as error:
            caught, how = False, str(error)
        if not caught:
            surviving.append(bug.name)
        seconds = time.monotonic() - started
        print(f"{'caught  ' if caught else 'SURVIVES'} {bug.name} ({seconds:.0f} s): {how[:300]}", flush=True)
    return surviving


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the control and all bugs; print which are caught."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults.seeded_bug_run", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="the bugs whose names hold this")
    options = parser.parse_args(arguments)
    bugs = [bug for bug in BUGS if options.only in bug.name]
    if not bugs:
        parser.error(f"no bug's name holds {options.only!r}")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve()
        copy_tree(tree)
        tests = list(dict.fromkeys(test for bug in bugs for test in bug.tests))
        code, said = run_tests(tree, tests)
        if code != _PASSED:
            print(f"the control fails: without any bug the tests must pass\n{said}")
            return 1
        surviving = check_all(bugs, tree)
    print(f"seeded bugs: {len(bugs)}, caught {len(bugs) - len(surviving)}, surviving {len(surviving)}")
    return 1 if surviving else 0


if __name__ == "__main__":
    sys.exit(main())
