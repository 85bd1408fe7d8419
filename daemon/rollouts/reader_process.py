"""Reads a large rollout in a child process: parsing it here would block every thread and take much memory.

The child is `python -m daemon.rollouts.reader_process PROJECT NAME SIZE MTIME_NS INODE`. It stores the arrays and
writes the outcome to stdout as JSON.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import orjson

from daemon.ledger.records import FileSignature, RolloutRow
from daemon.process.orphans import TOKEN_VARIABLE, new_token
from daemon.rollouts.reader import Accepted, Incomplete, Outcome, Rejected, ingest
from schemas.contract import PolicyContract
from schemas.storage.layout import ProjectPaths

CODE_ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300.0
_KINDS = {kind.__name__: kind for kind in (Incomplete, Rejected)}


class ReaderProcess:
    """Reads large files, one after the other."""

    def __init__(self, paths: ProjectPaths, *, timeout_s: float = TIMEOUT_S) -> None:
        self._paths = paths
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._is_stopped = False
        self._process: subprocess.Popen[bytes] | None = None

    def ingest(self, name: str, signature: FileSignature) -> Outcome:
        """Read one file. If the child dies or takes too long, only this file is rejected. Raises OSError."""
        process = self._start(name, signature)
        if process is None:
            return Incomplete(name, signature, "E_CHANGING", "the daemon is stopping")
        timer = threading.Timer(self._timeout_s, process.kill)
        timer.start()
        with process:
            assert process.stdout is not None
            output = process.stdout.read()
        timer.cancel()
        with self._lock:
            self._process = None
        return (
            _decode(output) if process.returncode == 0 else self._without_outcome(name, signature, process.returncode)
        )

    def stop(self) -> None:
        """End the child and start no other. From any thread."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                self._process.kill()

    def _start(self, name: str, signature: FileSignature) -> subprocess.Popen[bytes] | None:
        numbers = map(str, (signature.size, signature.mtime_ns, signature.inode))
        module = "daemon.rollouts.reader_process"
        command = [sys.executable, "-P", "-m", module, str(self._paths.project), name, *numbers]
        token = str(new_token(self._paths.project))
        environment = {**os.environ, "PYTHONPATH": str(CODE_ROOT), TOKEN_VARIABLE: token}
        with self._lock:
            if not self._is_stopped:
                self._process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
            return self._process

    def _without_outcome(self, name: str, signature: FileSignature, exit_code: int) -> Outcome:
        if self._is_stopped:
            return Incomplete(name, signature, "E_CHANGING", "the daemon is stopping")
        cause = f"reading it took too much memory or more than {self._timeout_s:.0f} s (exit code {exit_code})"
        reason = f"{cause} -> write fewer experiences per file [E_TOO_BIG]"
        return Rejected(name, signature, None, "E_TOO_BIG", reason)


def _encode(outcome: Outcome) -> bytes:
    document = {
        "kind": type(outcome).__name__,
        **{f.name: getattr(outcome, f.name) for f in dataclasses.fields(outcome)},
    }
    if isinstance(outcome, Accepted):
        document["contract"] = outcome.contract.model_dump(mode="json")
    return orjson.dumps(document)


def _decode(output: bytes) -> Outcome:
    document: dict[str, Any] = orjson.loads(output)
    kind = document.pop("kind")
    document["signature"] = FileSignature(**document["signature"])
    if kind in _KINDS:
        return _KINDS[kind](**document)
    document["row"] = RolloutRow(**document["row"])
    document["contract"] = PolicyContract.from_json_value(document["contract"])
    return Accepted(**document)


def _exit_with_parent() -> None:
    """Exit when stdin closes: the daemon has ended."""
    while os.read(0, 1024):
        pass
    os._exit(1)


def main(project: str, name: str, *numbers: str) -> None:
    """Read one file, unless the daemon ends before."""
    threading.Thread(target=_exit_with_parent, name="lifeline", daemon=True).start()
    paths = ProjectPaths(Path(project))
    outcome = ingest(paths.exports, name, FileSignature(*map(int, numbers)), paths)
    sys.stdout.buffer.write(_encode(outcome))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
