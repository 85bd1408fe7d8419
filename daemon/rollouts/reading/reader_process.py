"""Reads a large rollout, or one whose agents must be separated, in a child process.

In the daemon, parsing a large file would block all threads, and separating agents would load scipy.

The child is `python -m daemon.rollouts.reading.reader_process PROJECT NAME RULES SIZE MTIME_NS INODE`; RULES is JSON.
It stores the arrays and writes the outcome to stdout as JSON.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import orjson

from daemon.ledger.records import FileSignature, RolloutRow
from daemon.rollouts.reading.reader import Accepted, Incomplete, Outcome, Rejected, ingest
from schemas.contract import PolicyContract
from schemas.process.exit_codes import exit_words, remedy
from schemas.process.lifeline import end_with_parent
from schemas.process.tree import ProcessTree
from schemas.program.children import child_environment, module_command
from schemas.rollout.meaning.rules import NO_RULES, ReadingRules
from schemas.rollout.rollout import LeftOut, Recovered
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import working_folder

TIMEOUT_S = 300.0
_KINDS = {kind.__name__: kind for kind in (Incomplete, Rejected)}


class ReaderProcess:
    """Reads large files, one after the other."""

    def __init__(self, paths: ProjectPaths, *, timeout_s: float = TIMEOUT_S) -> None:
        self._paths = paths
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._is_stopped = False
        self._tree: ProcessTree | None = None

    def ingest(self, name: str, signature: FileSignature, rules: ReadingRules = NO_RULES) -> Outcome:
        """Read one file. If the child dies or takes too long, the file is rejected. Raises OSError."""
        tree = self._start(name, signature, rules)
        if tree is None:
            return Incomplete(name, signature, "E_CHANGING", "the daemon is stopping")
        timer = threading.Timer(self._timeout_s, tree.kill)
        timer.start()
        with tree.process as process:
            assert process.stdout is not None
            output = process.stdout.read()
        timer.cancel()
        with self._lock:
            self._tree = None
        tree.release()
        return (
            _decode(output) if process.returncode == 0 else self._without_outcome(name, signature, process.returncode)
        )

    def stop(self) -> None:
        """End the child and start no other. May be called from any thread."""
        with self._lock:
            self._is_stopped = True
            if self._tree is not None:
                self._tree.kill()

    def _start(self, name: str, signature: FileSignature, rules: ReadingRules) -> ProcessTree | None:
        project = self._paths.project
        numbers = map(str, (signature.size, signature.mtime_ns, signature.inode))
        arguments = (str(project), name, rules.model_dump_json(), *numbers)
        command = module_command("daemon.rollouts.reading.reader_process", *arguments)
        environment = {**child_environment(), "OPENBLAS_NUM_THREADS": "1"}  # its threads would compete with the game
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with self._lock:
            if not self._is_stopped:
                self._tree = ProcessTree(
                    command, project=project, environment=environment, cwd=working_folder(project), **streams
                )
            return self._tree

    def _without_outcome(self, name: str, signature: FileSignature, exit_code: int) -> Outcome:
        if self._is_stopped:
            return Incomplete(name, signature, "E_CHANGING", "the daemon is stopping")
        cause = f"reading it took too much memory or more than {self._timeout_s:.0f} s, {exit_words(exit_code)}"
        hint = remedy(exit_code) or "write fewer experiences per file"
        reason = f"{cause} -> {hint} [E_TOO_BIG]"
        return Rejected(name, signature, None, "E_TOO_BIG", reason)


def _encode(outcome: Outcome) -> bytes:
    document = {
        "kind": type(outcome).__name__,
        **{f.name: getattr(outcome, f.name) for f in dataclasses.fields(outcome)},
    }
    if isinstance(outcome, Accepted):
        document["contract"] = outcome.contract.model_dump(mode="json")
        document["causes"] = [list(cause) for cause in outcome.causes]
        document["recovered"] = outcome.recovered and list(outcome.recovered)
        del document["findings"]  # the parent compares the rollout with earlier ones
    return orjson.dumps(document)


def _decode(output: bytes) -> Outcome:
    document: dict[str, Any] = orjson.loads(output)
    kind = document.pop("kind")
    document["signature"] = FileSignature(**document["signature"])
    if kind in _KINDS:
        return _KINDS[kind](**document)
    document["row"] = RolloutRow(**document["row"])
    document["causes"] = tuple(LeftOut(*cause) for cause in document["causes"])
    document["recovered"] = Recovered(*document["recovered"]) if document["recovered"] else None
    document["contract"] = PolicyContract.from_json_value(document["contract"])
    return Accepted(**document)


def main(project: str, name: str, rules: str, *numbers: str) -> None:
    """Read one file and write the outcome to stdout. Ends early if the daemon ends."""
    end_with_parent()
    paths = ProjectPaths(Path(project))
    signature = FileSignature(*map(int, numbers))
    outcome = ingest(paths.exports, name, signature, paths, ReadingRules.model_validate_json(rules))
    sys.stdout.buffer.write(_encode(outcome))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
