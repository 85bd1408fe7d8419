"""Seams: the daemon writes through one Disk, waits with one Clock and starts processes in a few modules.

Tests make the n-th disk operation fail, change the clock and count processes, so no other code may do these.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path for folder in ("daemon", "schemas") for path in (ROOT / folder).rglob("*.py"))

DISK, TIME, PROCESS = "the disk", "the time", "a process"
SEAMS = {
    "schemas/storage/files.py": {DISK, TIME},
    "schemas/storage/guarded.py": {DISK},
    "daemon/runtime/clock.py": {TIME},
    "schemas/process/tree.py": {PROCESS, TIME},
    "schemas/process/run_token.py": {TIME},
    "daemon/process/interpreter.py": {PROCESS},
}
ALLOWED = {
    "schemas/generate.py": ({DISK}, "a tool for developers that writes into the checkout"),
    "daemon/ui/log.py": ({DISK}, "a log line may be lost and is not state; nothing may wait for it"),
    "daemon/cli.py": ({DISK}, "what is printed to a closed console goes to the null device"),
    "daemon/trainer_programs.py": ({PROCESS}, "`hotlap online` and the like replace this process by the trainer"),
    "daemon/runtime/instance_lock.py": (
        {DISK},
        "a lock is a held file; its text is only for users",
    ),
    "schemas/storage/file_lock.py": (
        {DISK},
        "a lock is a held file; its text is only for users",
    ),
    "daemon/ledger/read_only.py": ({DISK}, "a transaction is rolled back in a copy, in a temporary folder"),
    "daemon/adopt.py": ({DISK}, "a trainer tries the file in a temporary folder outside of the project"),
    "daemon/conformance/suite.py": ({DISK}, "plays the daemon's part in a temporary folder"),
    "schemas/process/lifeline.py": (
        {DISK, PROCESS},
        "runs inside the child, which it forks; it opens only the null device",
    ),
    "schemas/process/ending.py": ({DISK}, "it opens only the null device"),
    "schemas/program/streams.py": ({DISK}, "it opens only the null device"),
    "daemon/process/output_log.py": (
        {DISK},
        "output may be lost and is not state; a trainer must not wait for it",
    ),
    "daemon/security/approvals.py": ({DISK}, "only `hotlap trust` writes there, to the user's configuration folder"),
}

_DISK_CALLS = {
    "os": {"replace", "rename", "renames", "remove", "unlink", "mkdir", "makedirs", "rmdir", "removedirs", "link"}
    | {"symlink", "truncate", "ftruncate", "fsync", "fdatasync", "utime", "chmod", "mkfifo"},
    "shutil": {"move", "rmtree", "copy", "copy2", "copyfile", "copytree", "copyfileobj", "copymode", "copystat"},
    "tempfile": {"NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory", "mkstemp", "mkdtemp"},
}
_DISK_METHODS = {"write_text", "write_bytes", "unlink", "rmdir", "mkdir", "touch", "symlink_to", "hardlink_to"}
_TIME_CALLS = {"time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "sleep"}}
_CLOCKS = {"now", "utcnow", "today"}
_PROCESS_CALLS = {"os": {"system", "popen", "fork", "posix_spawn", "execv", "execve", "execvp", "startfile"}}
_SEAM_NAMES = {"disk", "REAL_DISK", "clock", "REAL_CLOCK", "_disk", "_clock"}


def uses(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Return the uses of what a seam replaces: (seam, code)."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module in {"time", "subprocess", "shutil", "os"}:
                yield from ((_seam_of(module, alias.name), f"from {module} import {alias.name}") for alias in names)
            case ast.Attribute(value=ast.Name(id="subprocess"), attr="run" | "call" | "check_call" | "check_output"):
                yield PROCESS, f"subprocess.{node.attr}"
            case ast.Attribute(value=ast.Name(id=module), attr=name) if _seam_of(module, name):
                yield _seam_of(module, name), f"{module}.{name}"
            case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=name) if name in _CLOCKS:
                yield TIME, f"datetime.{name}"
            case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in _DISK_METHODS and not _is_seam(value):
                yield DISK, f".{name}()"
            case ast.Call(func=ast.Attribute(value=value, attr="replace" | "rename"), args=[_], keywords=[]) if (
                not _is_seam(value)
            ):
                yield DISK, f".{node.func.attr}(target)"
            case ast.Call(func=ast.Name(id="open") | ast.Attribute(attr="open")) if _opens_for_writing(node):
                yield DISK, "open for writing"
            case ast.Attribute(value=ast.Name(id="os"), attr="O_WRONLY" | "O_RDWR" | "O_CREAT" | "O_APPEND"):
                yield DISK, f"os.{node.attr}"


def _seam_of(module: str, name: str) -> str:
    for seam, calls in ((DISK, _DISK_CALLS), (TIME, _TIME_CALLS), (PROCESS, _PROCESS_CALLS)):
        if name in calls.get(module, ()):
            return seam
    return PROCESS if module == "subprocess" and name == "Popen" else ""


def _is_seam(value: ast.expr) -> bool:
    """Return whether this is a disk or a clock: `disk`, `self._disk`, `project.disk`."""
    name = value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""
    return name in _SEAM_NAMES


def _opens_for_writing(call: ast.Call) -> bool:
    """Return whether the mode is for writing: the second argument of `open`, the first of `Path.open`."""
    position = 1 if isinstance(call.func, ast.Name) else 0
    modes = [*call.args[position : position + 1], *(k.value for k in call.keywords if k.arg == "mode")]
    return any(isinstance(mode, ast.Constant) and set(str(mode.value)) & set("wax+") for mode in modes)


def bypasses(path: Path) -> list[str]:
    name = path.relative_to(ROOT).as_posix()
    may = SEAMS.get(name, set()) | ALLOWED.get(name, (set(), ""))[0]
    found = uses(ast.parse(path.read_text(encoding="utf-8")))
    return sorted(
        {f"{name} does not use the seam for {seam}: {what}" for seam, what in found if seam and seam not in may}
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_bypasses_the_seams(path):
    assert bypasses(path) == []


@pytest.mark.parametrize("name", [*SEAMS, *ALLOWED])
def test_every_exception_exists_and_is_needed(name):
    used = {seam for seam, _ in uses(ast.parse((ROOT / name).read_text(encoding="utf-8")))}
    assert (SEAMS.get(name) or ALLOWED[name][0]) <= used


@pytest.mark.parametrize(
    "text",
    [
        "open(x, 'w')",
        "path.open('ab')",
        "path.open(mode='x')",
        "path.write_text('')",
        "self.folder.mkdir()",
        "os.replace(a, b)",
        "path.rename(target)",
        "shutil.rmtree(x)",
        "shutil.move(a, b)",
        "from shutil import move",
        "os.open(p, os.O_WRONLY)",
        "time.time()",
        "f(clock=time.monotonic)",
        "from time import sleep",
        "datetime.now(UTC)",
        "subprocess.Popen(x)",
        "subprocess.run(x)",
        "from subprocess import Popen",
        "os.fork()",
    ],
)
def test_planted_bypasses_are_found(text):
    assert [seam for seam, _ in uses(ast.parse(text)) if seam]


@pytest.mark.parametrize(
    "text",
    [
        "open(x)",
        "path.open('rb')",
        "disk.unlink(path)",
        "self._disk.rename(a, b)",
        "project.disk.rename(a, b)",
        "'a'.replace('a', 'b')",
        "dataclasses.replace(a, b=1)",
        "clock.sleep(1)",
        "time.strftime('%Y')",
        "subprocess.TimeoutExpired",
        "Ledger.open(path)",
    ],
)
def test_other_code_is_left_alone(text):
    assert [seam for seam, _ in uses(ast.parse(text)) if seam] == []
