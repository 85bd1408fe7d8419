"""Watching Exports for news: the watcher only nudges, the listing is the truth."""

from __future__ import annotations

import contextlib
import errno
import logging
import stat
from collections.abc import Callable
from pathlib import Path

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from daemon.runtime.clock import REAL_CLOCK, Clock

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
_WORTH_A_LOOK = (FileCreatedEvent, FileMovedEvent, FileModifiedEvent, FileClosedEvent)
"""Not the opened and closed-unwritten events: our own reading causes those."""
_SYSCTL = {
    errno.ENOSPC: "raise the sysctl fs.inotify.max_user_watches",
    errno.EMFILE: "raise the sysctl fs.inotify.max_user_instances",
}


logging.getLogger("watchdog").addHandler(logging.NullHandler())  # what it says late goes to no console either


class _Nudge(FileSystemEventHandler):
    """Runs on watchdog's thread, which dies for good if this raises: so it only posts, and keeps what went wrong."""

    def __init__(self, nudge: Callable[[], None]) -> None:
        self._nudge = nudge
        self.failure: str | None = None

    def dispatch(self, event: FileSystemEvent) -> None:
        """Wake the deciding thread for events that may mean a finished file."""
        if not isinstance(event, _WORTH_A_LOOK) or _is_temporary(event):
            return
        try:
            self._nudge()
        except Exception as error:  # noqa: BLE001  watchdog's thread must live on
            self.failure = f"{type(error).__name__}: {error}"


class _Overheard(logging.Handler):
    """What watchdog says goes to its own log alone: it means lost events, and so a reason to look."""

    def __init__(self, nudge: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._nudge = nudge

    def emit(self, record: logging.LogRecord) -> None:
        """Take a warning in the place of the console."""
        with contextlib.suppress(Exception):
            self._nudge()


def _is_temporary(event: FileSystemEvent) -> bool:
    name = event.dest_path if isinstance(event, FileMovedEvent) else event.src_path
    return name.endswith(".tmp") if isinstance(name, str) else bytes(name).endswith(b".tmp")


class Watcher:
    """Watches one folder as well as the system allows; `check` mends it and says what is wrong.

    A watch that cannot be had, or that dies, is tried again after a delay that doubles up to a minute.
    """

    def __init__(
        self,
        folder: Path,
        nudge: Callable[[], None],
        *,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._folder = folder
        self._handler = _Nudge(nudge)
        self._overheard = _Overheard(nudge)
        self._clock = clock
        self._observer: BaseObserver | None = None
        self._identity: tuple[int, int] | None = None
        self._failures = 0
        self._not_before = 0.0
        self._trouble = ""

    def check(self) -> str | None:
        """Start or restart the watch where it is not alive; give the reason, in words, where it cannot be.

        Without a folder there is nothing to watch; whoever lists it says so.
        """
        try:
            info = self._folder.stat()
        except OSError:
            self.stop()
            return None
        if not stat.S_ISDIR(info.st_mode):
            self.stop()
            return None
        identity = (info.st_dev, info.st_ino)
        if self._observer is not None and identity == self._identity:
            if self._is_alive(self._observer):
                return self._failure_of_handler()
            self._put_off("the watch has died")
        elif identity != self._identity:
            self._failures, self._not_before = 0, 0.0
        self.stop()
        self._identity = identity
        if self._clock.monotonic() >= self._not_before:
            self._start()
        return None if self._observer is not None else self._trouble

    def stop(self) -> None:
        """End the watch."""
        observer, self._observer = self._observer, None
        if observer is not None:
            _end(observer)
        logging.getLogger("watchdog").removeHandler(self._overheard)

    def _start(self) -> None:
        observer = None
        logging.getLogger("watchdog").addHandler(self._overheard)
        try:
            observer = Observer()
            observer.schedule(self._handler, str(self._folder), recursive=False)
            observer.start()
        except (OSError, RuntimeError) as error:
            if observer is not None:
                _end(observer)
            remedy = _SYSCTL.get(error.errno or 0, "") if isinstance(error, OSError) else ""
            self._put_off(f"{error}" + (f" -> {remedy}" if remedy else ""))
        else:
            self._observer = observer

    def _put_off(self, reason: str) -> None:
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self._failures, 16))
        self._failures += 1
        self._not_before = self._clock.monotonic() + delay_s
        self._trouble = f"no file events here, the folder is only listed every few seconds: {reason}"

    def _failure_of_handler(self) -> str | None:
        failure, self._handler.failure = self._handler.failure, None
        return failure and f"a file event could not be passed on: {failure}; the folder is listed anyway"

    @staticmethod
    def _is_alive(observer: BaseObserver) -> bool:
        reader = getattr(observer, "_inotify_fd", None)  # watchdog 7 reads events on a thread that it does not show
        threads = (observer, *observer.emitters, *([reader] if reader is not None else []))
        return all(thread.is_alive() for thread in threads)


def _end(observer: BaseObserver) -> None:
    """Stop an observer, also one that never came to start: it may have begun threads of its own already."""
    with contextlib.suppress(OSError, RuntimeError):
        observer.stop()
    with contextlib.suppress(RuntimeError):
        observer.join(timeout=2.0)
