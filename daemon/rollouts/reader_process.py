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
from daemon.rollouts.reader import Accepted, Incomplete, Outcome, Rejected, ingest
from schemas.contract import PolicyContract
from schemas.process.lifeline import end_with_parent
from schemas.process.tree import ProcessTree
from schemas.storage.layout import ProjectPaths

CODE_ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300.0
_KINDS = {kind.__name__: kind for kind in (Incomplete, Rejected)}


class ReaderProcess:
    """Takes large files in, one after the other."""

    def __init__(self, paths: ProjectPaths, *, timeout_s: float = TIMEOUT_S) -> None:
        self._paths = paths
        self._patience_s = timeout_s
        self._lock = threading.Lock()
        self._is_stopped = False
        self._tree: ProcessTree | None = None

    def ingest(self, name: str, signature: FileSignature) -> Outcome:
        """Read one file. A reader that dies, or takes too long, costs this file only. Raises OSError."""
        tree = self._start(name, signature)
        if tree is None:
            return Incomplete(name, signature, "E_CHANGING", "the daemon is ending")
        timer = threading.Timer(self._patience_s, tree.kill)
        timer.start()
        with tree.process as process:
            assert process.stdout is not None
            said = process.stdout.read()
        timer.cancel()
        with self._lock:
            self._tree = None
        tree.release()
        return _parsed(said) if process.returncode == 0 else self._lost(name, signature, process.returncode)

    def stop(self) -> None:
        """End the reader, for good. From any thread."""
        with self._lock:
            self._is_stopped = True
            if self._tree is not None:
                self._tree.kill()

    def _start(self, name: str, signature: FileSignature) -> ProcessTree | None:
        numbers = map(str, (signature.size, signature.mtime_ns, signature.inode))
        command = [
            sys.executable,
            "-P",
            "-m",
            "daemon.rollouts.reader_process",
            str(self._paths.project),
            name,
            *numbers,
        ]
        environment = {**os.environ, "PYTHONPATH": str(CODE_ROOT)}
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with self._lock:
            if not self._is_stopped:
                self._tree = ProcessTree(command, project=self._paths.project, environment=environment, **streams)
            return self._tree

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


def main(project: str, name: str, *numbers: str) -> None:
    """Take one file in, unless the daemon ends before."""
    end_with_parent()
    layout = ProjectPaths(Path(project))
    outcome = ingest(layout.exports, name, FileSignature(*map(int, numbers)), layout)
    sys.stdout.buffer.write(_printed(outcome))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
