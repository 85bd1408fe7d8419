"""Seeded bugs: applies one bug at a time to a copy of the source, and runs the tests that must catch it.

python -m scripts.faults.seeded_bug_run                  all bugs; exit code 1 if one survives or does not apply
python -m scripts.faults.seeded_bug_run --only WORD      the bugs whose names contain the word
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

from scripts.faults.lib.progress import NoProgress, Progress
from scripts.faults.lib.seeded_bug import Replacement, SeededBug
from scripts.faults.lib.seeded_daemon_bugs import DAEMON_BUGS
from scripts.faults.lib.seeded_joining_bugs import JOINING_BUGS
from scripts.faults.lib.seeded_trainer_bugs import TRAINER_BUGS

ROOT = Path(__file__).resolve().parents[2]
BUGS = (*DAEMON_BUGS, *TRAINER_BUGS, *JOINING_BUGS)
NEEDED = ("daemon", "trainer", "schemas", "scripts", "tests", "benchmarks", "pyproject.toml")
TIMEOUT_S = 180.0
_PASSED, _FAILED = 0, 1  #: exit codes of pytest; any other means that the tests could not be run


def applied(text: str, replacement: Replacement) -> str:
    """Return the source with the bug in it. Raises ValueError if the text does not occur exactly once."""
    count = text.count(replacement.old)
    if count != 1:
        raise ValueError(f"{replacement.path} contains {replacement.old.strip()[:60]!r} {count} times: correct the bug")
    return text.replace(replacement.old, replacement.new)


def copy_tree(target: Path) -> None:
    """Copy the files that the tests need."""
    ignored = shutil.ignore_patterns("__pycache__", ".*", "out")
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignored)
        else:
            shutil.copy2(source, target / name)


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests in a copy until one fails; return pytest's exit code and output."""
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
    """Apply a bug, run its tests and revert it; return whether a test failed, and its output. Raises ValueError."""
    originals = {replacement.path: (tree / replacement.path).read_text("utf-8") for replacement in bug.replacements}
    try:
        for replacement in bug.replacements:
            path = tree / replacement.path
            write(path, applied(path.read_text("utf-8"), replacement))
        code, output = run_tests(tree, bug.tests)
    finally:
        for name, text in originals.items():
            write(tree / name, text)
    if code == _FAILED:
        failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR tests"))]
        return True, failed[0] if failed else output.strip()
    return (
        False,
        "its tests pass" if code == _PASSED else f"its tests could not be run (pytest ended with {code})\n{output}",
    )


def write(path: Path, text: str) -> None:
    """Write a module and remove its .pyc file, which Python could use if both are written within a second."""
    path.write_text(text, "utf-8")
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink()


def check_all(bugs: Iterable[SeededBug], tree: Path, progress: Progress | None = None) -> list[str]:
    """Try each bug and print the outcome; return the names of those that survive or do not apply."""
    surviving: list[str] = []
    progress = progress or NoProgress()
    for bug in bugs:
        started = time.monotonic()
        try:
            caught, how = is_caught(tree, bug)
        except ValueError as error:
            caught, how = False, str(error)
        if not caught:
            surviving.append(bug.name)
        progress.advance(violations=[] if caught else [bug.name])
        seconds = time.monotonic() - started
        print(f"{'caught  ' if caught else 'SURVIVES'} {bug.name} ({seconds:.0f} s): {how[:300]}", flush=True)
    return surviving


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests without a bug, then with each bug; print which bugs are caught."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults.seeded_bug_run", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="the bugs whose names contain this")
    options = parser.parse_args(arguments)
    bugs = [bug for bug in BUGS if options.only in bug.name]
    if not bugs:
        parser.error(f"no bug's name contains {options.only!r}")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve()
        copy_tree(tree)
        tests = list(dict.fromkeys(test for bug in bugs for test in bug.tests))
        code, output = run_tests(tree, tests)
        if code != _PASSED:
            print(f"the tests fail without any bug, but must pass\n{output}")
            return 1
        with Progress("seeded bugs", len(bugs), unit="bugs") as progress:
            surviving = check_all(bugs, tree, progress)
    print(f"seeded bugs: {len(bugs)}, caught {len(bugs) - len(surviving)}, surviving {len(surviving)}")
    return 1 if surviving else 0


if __name__ == "__main__":
    sys.exit(main())
