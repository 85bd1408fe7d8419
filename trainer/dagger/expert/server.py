"""The expert's process: loads one policy file and answers states. Its prints go to stderr, it ends with its parent."""

from __future__ import annotations

import importlib.util
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainer.common.lifeline import die_with_parent
from trainer.dagger.expert.codec import pack, read_message

FLUSH_S = 0.02
"""Answers are held back for at most this long, so that the other side can tell a slow call from a hung one."""


def main() -> None:
    """Serve until stdin ends."""
    die_with_parent()
    out = os.dup(1)
    os.dup2(2, 1)
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(messages,), daemon=True).start()
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


def _listen(messages: queue.SimpleQueue[Any]) -> None:
    """Read on a thread of its own: where a call hangs, the end of stdin still ends this process."""
    try:
        with os.fdopen(0, "rb", closefd=False) as stdin:
            while True:
                messages.put(read_message(stdin.read))
    finally:
        os._exit(0)


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
        _send(out, {"raised": _in_words(error)})
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
            _send(out, {"raised": _in_words(error)})
            return
        ready.append(answer)
    _send(out, {"answers": ready})


def _in_words(error: BaseException) -> str:
    """Say what was raised, and in which line of which file."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})" if trace is not None else ""
    return f"{type(error).__name__}: {error}{where}"


if __name__ == "__main__":
    main()
