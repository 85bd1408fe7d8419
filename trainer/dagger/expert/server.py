"""The expert's process: loads one expert file and returns its actions. What the expert prints goes to stderr."""

from __future__ import annotations

import codecs
import importlib.util
import inspect
import os
import queue
import random
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from schemas.process.lifeline import die_with_parent, end_with_parent
from trainer.common.user_code import describe
from trainer.dagger.expert.codec import pack, read_message

SEND_INTERVAL_S = 0.02
"""Actions are sent at least this often, so that the client can distinguish many calls from one that hangs."""


def main() -> None:
    """Answer requests until stdin ends."""
    die_with_parent()
    out = os.dup(1)
    os.dup2(2, 1)
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    end_with_parent(partial(_read_messages, messages))
    run: Callable[[Any], Any] | None = None
    while True:
        message = messages.get()
        if message["do"] == "load":
            run = _load(Path(message["path"]), out)
        elif message["do"] == "seed":
            random.seed(message["seed"])
            np.random.seed(message["seed"] % 2**32)
        elif run is not None:
            _act(run, message["states"], out)


def _read_messages(messages: queue.SimpleQueue[Any], descriptor: int) -> None:
    """Queue the messages of a descriptor. Raises EOFError when it ends."""
    with os.fdopen(descriptor, "rb", closefd=False) as stdin:
        while True:
            messages.put(read_message(stdin.read))


def _send(out: int, message: Any) -> None:
    data = memoryview(pack(message))
    while data:
        data = data[os.write(out, data) :]


def _load(path: Path, out: int) -> Callable[[Any], Any] | None:
    """Return the expert's run(), or None if it cannot be loaded. Send the outcome to the client."""
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location("hotlap_expert", path)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        exec(compile(_source(path), path, "exec"), module.__dict__)  # noqa: S102
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        _send(out, {"raised": describe(error)})
        return None
    run = getattr(module, "run", None)
    if not callable(run) or not _takes_one_argument(run):
        _send(out, {"missing": "run"})
        return None
    _send(out, {"loaded": True})
    return run  # type: ignore[no-any-return]


def _source(path: Path) -> bytes | str:
    """Return the text of a file. Python itself does not read UTF-16, which some editors and shells write."""
    data = path.read_bytes()
    return data.decode("utf-16") if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else data


def _takes_one_argument(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # its signature cannot be read
        return True
    return True


def _act(run: Callable[[Any], Any], states: list[Any], out: int) -> None:
    """Send the action for each state. An exception ends the batch."""
    actions: list[Any] = []
    sent_s = time.monotonic()
    for state in states:
        if actions and time.monotonic() - sent_s > SEND_INTERVAL_S:
            _send(out, {"actions": actions})
            actions, sent_s = [], time.monotonic()
        try:
            action = run(state)
            pack(action)
        except BaseException as error:  # noqa: BLE001
            traceback.print_exc()
            _send(out, {"actions": actions})
            _send(out, {"raised": describe(error)})
            return
        actions.append(action)
    _send(out, {"actions": actions})


if __name__ == "__main__":
    main()
