"""Reads a large rollout in a process of its own: parsing it would hold up every thread, and swell this service.

`python -m daemon.rollouts.reader_process PROJECT NAME SIZE MTIME_NS INODE` is that process: it stores the arrays and prints the outcome.
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
from schemas.program.children import child_environment, module_command
from schemas.storage.layout import ProjectPaths

TIMEOUT_S = 300.0
_KINDS = {kind.__name__: kind for kind in (Incomplete, Rejected)}


class ReaderProcess:
    """Takes large files in, one after the other."""

    def __init__(self, paths: ProjectPaths, *, timeout_s: float = TIMEOUT_S) -> None:
        self._paths = paths
        self._patience_s = timeout_s
        self._lock = threading.Lock()
        self._is_stopped = False
        self._process: subprocess.Popen[bytes] | None = None

    def ingest(self, name: str, signature: FileSignature) -> Outcome:
        """Read one file. A reader that dies, or takes too long, costs this file only. Raises OSError."""
        process = self._start(name, signature)
        if process is None:
            return Incomplete(name, signature, "E_CHANGING", "the daemon is ending")
        timer = threading.Timer(self._patience_s, process.kill)
        timer.start()
        with process:
            assert process.stdout is not None
            said = process.stdout.read()
        timer.cancel()
        with self._lock:
            self._process = None
        return _parsed(said) if process.returncode == 0 else self._lost(name, signature, process.returncode)

    def stop(self) -> None:
        """End the reader, for good. From any thread."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                self._process.kill()

    def _start(self, name: str, signature: FileSignature) -> subprocess.Popen[bytes] | None:
        numbers = map(str, (signature.size, signature.mtime_ns, signature.inode))
        command = module_command("daemon.rollouts.reader_process", str(self._paths.project), name, *numbers)
        token = str(new_token(self._paths.project))
        environment = {**child_environment(), TOKEN_VARIABLE: token}
        with self._lock:
            if not self._is_stopped:
                self._process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
            return self._process

    def _lost(self, name: str, signature: FileSignature, exit_code: int) -> Outcome:
        if self._is_stopped:
            return Incomplete(name, signature, "E_CHANGING", "the daemon is ending")
        reason = f"its reader was ended ({exit_code}): too little memory, or more than {self._patience_s:.0f} s"
        return Rejected(name, signature, None, "E_TOO_BIG", f"{reason} -> write fewer experiences a file [E_TOO_BIG]")


def _printed(outcome: Outcome) -> bytes:
    document = {
        "kind": type(outcome).__name__,
        **{f.name: getattr(outcome, f.name) for f in dataclasses.fields(outcome)},
    }
    if isinstance(outcome, Accepted):
        document["contract"] = outcome.contract.model_dump(mode="json")
    return orjson.dumps(document)


def _parsed(said: bytes) -> Outcome:
    document: dict[str, Any] = orjson.loads(said)
    kind = document.pop("kind")
    document["signature"] = FileSignature(**document["signature"])
    if kind in _KINDS:
        return _KINDS[kind](**document)
    document["row"] = RolloutRow(**document["row"])
    document["contract"] = PolicyContract.from_json_value(document["contract"])
    return Accepted(**document)


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)


def main(project: str, name: str, *numbers: str) -> None:
    """Take one file in, unless the daemon ends before."""
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    layout = ProjectPaths(Path(project))
    outcome = ingest(layout.exports, name, FileSignature(*map(int, numbers)), layout)
    sys.stdout.buffer.write(_printed(outcome))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
