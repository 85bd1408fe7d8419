"""Run one program with the Windows Python: its output on our console, its processes ended with us."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING

from scripts.windows.prefix import end_processes, environment, prefix_of_a_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from scripts.windows.cache import Cache

END_S = 2.0  #: for the program after its Wine server was ended


def decode(line: bytes) -> str:
    """Return a line of a Windows program as text: UTF-8, or what Windows Python writes by default."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        text = line.decode("cp1252", "replace")
    return text.replace("\r\n", "\n")


def pass_lines(source: IO[bytes], target: IO[str]) -> None:
    """Copy each line as soon as it is complete. A closed console does not stop this: the program would hang."""
    with source:
        for line in source:
            with contextlib.suppress(OSError, ValueError):
                target.write(decode(line))
                target.flush()


def run_python(
    cache: Cache, arguments: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None, console: bool = False
) -> int:
    """Run python.exe with these arguments and return its exit code. Ends everything that it started.

    Input and outputs are pipes, because Windows Python does not start if Wine was handed a file or /dev/null for one.
    With `console` it has our terminal instead.
    """
    with prefix_of_a_run(cache) as prefix:
        pipe = None if console else subprocess.PIPE
        child = subprocess.Popen(
            ["wine", str(cache.executable), *arguments],
            cwd=cwd,
            env={**environment(cache, prefix), **(env or {})},
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )
        readers = []
        try:
            if child.stdin is not None:
                child.stdin.close()
            for source, target in ((child.stdout, sys.stdout), (child.stderr, sys.stderr)):
                if source is not None:
                    reader = threading.Thread(target=pass_lines, args=(source, target), daemon=True)
                    reader.start()
                    readers.append(reader)
            return child.wait()
        finally:
            end(child, cache, prefix, readers)


def end(child: subprocess.Popen[bytes], cache: Cache, prefix: Path, readers: list[threading.Thread]) -> None:
    """End the program and all others in its prefix, then read the rest of its output."""
    end_processes(cache, prefix)
    try:
        child.wait(END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for reader in readers:
        reader.join(END_S)
