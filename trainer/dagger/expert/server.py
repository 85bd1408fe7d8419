"""The expert's process: loads one policy file and labels states. What it prints goes to stderr."""

from __future__ import annotations

import importlib.util
import os
import queue
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from schemas.errors import describe_exception
from schemas.process.lifeline import die_with_parent, end_with_parent
from trainer.dagger.expert.codec import pack, read_message

FLUSH_S = 0.02
"""Answers are held back for at most this long, so that the other side can tell a slow call from a hung one."""


def main() -> None:
    """Serve until stdin ends."""
    die_with_parent()
    out = os.dup(1)
    os.dup2(2, 1)
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    end_with_parent(partial(_read_messages, messages))
    run: Callable[[Any], Any] | None = None
    while True:
        message = messages.get()
        if message["do"] == "load":
            run = _loaded(Path(message["path"]), out)
        elif message["do"] == "seed":
            random.seed(message["seed"])
            np.random.seed(message["seed"] % 2**32)
        elif run is not None:
            _answer(run, message["states"], out)


def _read_messages(messages: queue.SimpleQueue[Any]) -> None:
    """Queue the messages on standard input. Raises EOFError when it ends."""
    with os.fdopen(0, "rb", closefd=False) as stdin:
        while True:
            messages.put(read_message(stdin.read))


def _send(out: int, message: Any) -> None:
    data = memoryview(pack(message))
    while data:
        data = data[os.write(out, data) :]


def _loaded(path: Path, out: int) -> Callable[[Any], Any] | None:
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location("hotlap_expert", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    except BaseException as error:  # noqa: BLE001
        _send(out, {"raised": describe_exception(error)})
        return None
    run = getattr(module, "run", None)
    if not callable(run):
        _send(out, {"missing": "run"})
        return None
    _send(out, {"loaded": True})
    return run  # type: ignore[no-any-return]


def _answer(run: Callable[[Any], Any], states: list[Any], out: int) -> None:
    """Answer each state in turn; what raises ends the batch."""
    ready: list[Any] = []
    flushed_s = time.monotonic()
    for state in states:
        if ready and time.monotonic() - flushed_s > FLUSH_S:
            _send(out, {"answers": ready})
            ready, flushed_s = [], time.monotonic()
        try:
            answer = run(state)
            pack(answer)
        except BaseException as error:  # noqa: BLE001
            _send(out, {"answers": ready})
            _send(out, {"raised": describe_exception(error)})
            return
        ready.append(answer)
    _send(out, {"answers": ready})


if __name__ == "__main__":
    main()
