"""Reads large rollouts, and those whose agents must be separated, in a child process.

In the daemon, parsing a large file would block all threads, and separating agents would load scipy.

The child is `python -m daemon.rollouts.reading.reader_process PROJECT STATE`. It gets requests as JSON lines on stdin,
stores the arrays, and writes the outcomes as JSON lines to stdout. It is kept while files keep coming, because its
start takes longer than most files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
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
IDLE_S = 10.0
"""A child that has read nothing for so long is ended, so that a waiting daemon stays small."""
MAX_KEPT_BYTES = 16_000_000
"""After a larger file the child is ended, because it does not return all of its memory to the system."""
EXIT_S = 0.5
"""A child whose output has ended exits within this time, with the exit code that tells why."""
_KINDS = {kind.__name__: kind for kind in (Incomplete, Rejected)}


class ReaderProcess:
    """Reads files one after the other. Only one thread may call `ingest`."""

    def __init__(self, paths: ProjectPaths, *, timeout_s: float = TIMEOUT_S, idle_s: float = IDLE_S) -> None:
        self._paths = paths
        self._timeout_s = timeout_s
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._is_stopped = False
        self._tree: ProcessTree | None = None
        self._is_reading = False
        self._idle_timer: threading.Timer | None = None

    def ingest(self, name: str, signature: FileSignature, rules: ReadingRules = NO_RULES) -> Outcome:
        """Read one file. If the child dies or takes too long, the file is rejected. Raises OSError."""
        if not _can_be_encoded(name):
            return ingest(self._paths.exports, name, signature, self._paths, rules)  # rejects it without reading it
        while True:
            tree, is_new = self._begin()
            if tree is None:
                return Incomplete(name, signature, "E_CHANGING", "the daemon is stopping")
            request = {"name": name, "rules": rules.model_dump_json(), "signature": signature}
            answer, is_late = self._ask(tree, orjson.dumps(request) + b"\n")
            if answer.endswith(b"\n"):
                self._keep(tree) if signature.size <= MAX_KEPT_BYTES else self._end_reading(tree, wait_s=0.0)
                return _decode(answer)
            exit_code = self._end_reading(tree, wait_s=EXIT_S)
            if is_new or is_late:  # otherwise it may have died of what it read before
                return self._without_outcome(name, signature, exit_code)

    def stop(self) -> None:
        """End the child and start no other. May be called from any thread."""
        with self._lock:
            self._is_stopped = True
            if self._tree is not None and self._is_reading:
                self._tree.kill()  # the thread that reads ends it
        self._end_idle()

    def _begin(self) -> tuple[ProcessTree | None, bool]:
        """Return the child, and whether it was started just now; None if the daemon is stopping."""
        with self._lock:
            if self._is_stopped:
                return None, False
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            self._is_reading = True
            if self._tree is not None:
                return self._tree, False
            self._tree = self._start()
            return self._tree, True

    def _start(self) -> ProcessTree:
        project = self._paths.project
        command = module_command("daemon.rollouts.reading.reader_process", str(project), str(self._paths.state))
        environment = {**child_environment(), "OPENBLAS_NUM_THREADS": "1"}  # its threads would compete with the game
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return ProcessTree(command, project=project, environment=environment, cwd=working_folder(project), **streams)

    def _ask(self, tree: ProcessTree, request: bytes) -> tuple[bytes, bool]:
        """Return the child's answer, which is not a whole line if it died, and whether it took too long."""
        process, is_late = tree.process, threading.Event()
        assert process.stdin is not None
        assert process.stdout is not None

        def end() -> None:
            is_late.set()
            tree.kill()

        timer = _timer(self._timeout_s, end)
        with contextlib.suppress(OSError):  # it has died
            process.stdin.write(request)
            process.stdin.flush()
        answer = process.stdout.readline()
        timer.cancel()
        return answer, is_late.is_set()

    def _keep(self, tree: ProcessTree) -> None:
        """Keep the child for the next file, unless the daemon is stopping."""
        with self._lock:
            if not self._is_stopped:
                self._is_reading = False
                self._idle_timer = _timer(self._idle_s, self._end_idle)
                return
        self._end_reading(tree, wait_s=0.0)

    def _end_reading(self, tree: ProcessTree, *, wait_s: float) -> int | None:
        """End the child, which may end by itself within `wait_s`, and return its exit code."""
        with self._lock:
            self._is_reading, self._tree = False, None
        return _end(tree, wait_s=wait_s)

    def _end_idle(self) -> None:
        with self._lock:
            if self._tree is None or self._is_reading:
                return
            tree, self._tree = self._tree, None
        _end(tree, wait_s=0.0)

    def _without_outcome(self, name: str, signature: FileSignature, exit_code: int | None) -> Outcome:
        if self._is_stopped:
            return Incomplete(name, signature, "E_CHANGING", "the daemon is stopping")
        exit_code = 1 if exit_code is None else exit_code
        cause = f"reading it took too much memory or more than {self._timeout_s:.0f} s, {exit_words(exit_code)}"
        hint = remedy(exit_code) or "write fewer experiences per file"
        reason = f"{cause} -> {hint} [E_TOO_BIG]"
        return Rejected(name, signature, None, "E_TOO_BIG", reason)


def _can_be_encoded(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _timer(delay_s: float, action: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(delay_s, action)
    timer.daemon = True
    timer.start()
    return timer


def _end(tree: ProcessTree, *, wait_s: float) -> int | None:
    """End a child with its descendants, close its pipes, and return its exit code. It may end by itself in `wait_s`."""
    exit_code = tree.end(wait_s=wait_s)
    for stream in (tree.process.stdin, tree.process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # what it did not read
                stream.close()
    return exit_code


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


def main(project: str, state: str) -> None:
    """Read the requested files, and write their outcomes to stdout. Ends when the daemon ends or closes stdin."""
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    end_with_parent(lambda descriptor: _queue_lines(descriptor, requests))
    usual = ProjectPaths(Path(project))
    paths = usual if Path(state) == usual.state else ProjectPaths(Path(project), state_folder=Path(state))
    while True:
        request = orjson.loads(requests.get())
        signature = FileSignature(**request["signature"])
        rules = ReadingRules.model_validate_json(request["rules"])
        outcome = ingest(paths.exports, request["name"], signature, paths, rules)
        sys.stdout.buffer.write(_encode(outcome) + b"\n")
        sys.stdout.buffer.flush()


def _queue_lines(descriptor: int, lines: queue.SimpleQueue[bytes]) -> None:
    with os.fdopen(descriptor, "rb", closefd=False) as stream:
        for line in stream:
            lines.put(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
