"""Watches Exports for file events. An event only requests a scan."""

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
from schemas.backoff import backoff_s
from schemas.storage.windows_paths import error_text

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
_RELEVANT = (FileCreatedEvent, FileMovedEvent, FileModifiedEvent, FileClosedEvent)
"""Events for opening a file and closing it unchanged are not relevant: the daemon's own reading causes them."""
_SYSCTL = {
    errno.ENOSPC: "raise the sysctl fs.inotify.max_user_watches",
    errno.EMFILE: "raise the sysctl fs.inotify.max_user_instances",
}


logging.getLogger("watchdog").addHandler(logging.NullHandler())  # else Python prints its warnings to the console


class _EventHandler(FileSystemEventHandler):
    """Calls `notify` for file events, on watchdog's thread, which an exception would end."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self.failure: str | None = None

    def dispatch(self, event: FileSystemEvent) -> None:
        """Call `notify` if a file may be complete now."""
        if not isinstance(event, _RELEVANT) or _is_temporary(event):
            return
        try:
            self._notify()
        except Exception as error:  # noqa: BLE001  watchdog's thread must continue
            self.failure = f"{type(error).__name__}: {error}"


class _LogHandler(logging.Handler):
    """Calls `notify` if watchdog logs a warning, because it has then probably lost events."""

    def __init__(self, notify: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._notify = notify

    def emit(self, record: logging.LogRecord) -> None:
        """Call `notify`. Nothing is written to the console."""
        with contextlib.suppress(Exception):
            self._notify()


def _is_temporary(event: FileSystemEvent) -> bool:
    name = event.dest_path if isinstance(event, FileMovedEvent) else event.src_path
    return name.endswith(".tmp") if isinstance(name, str) else bytes(name).endswith(b".tmp")


class Watcher:
    """Watches one folder if the system allows it. `check` starts a watch again that has ended.

    If a watch cannot be started, the delay before the next try doubles, up to a minute.
    """

    def __init__(
        self,
        folder: Path,
        notify: Callable[[], None],
        *,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._folder = folder
        self._handler = _EventHandler(notify)
        self._log_handler = _LogHandler(notify)
        self._clock = clock
        self._observer: BaseObserver | None = None
        self._identity: tuple[int, int] | None = None
        self._failures = 0
        self._not_before = 0.0
        self._problem = ""

    def check(self) -> str | None:
        """Start the watch again if it has ended. Return why file events do not arrive, or None if they arrive.

        Returns None if the folder does not exist, because the scan reports that.
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
            self._retry_later("the watch has ended")
        elif identity != self._identity:
            self._failures, self._not_before = 0, 0.0
        self.stop()
        self._identity = identity
        if self._clock.monotonic() >= self._not_before:
            self._start()
        return None if self._observer is not None else self._problem

    def stop(self) -> None:
        """End the watch."""
        observer, self._observer = self._observer, None
        if observer is not None:
            _end(observer)
        logging.getLogger("watchdog").removeHandler(self._log_handler)

    def _start(self) -> None:
        observer = None
        logging.getLogger("watchdog").addHandler(self._log_handler)
        try:
            observer = Observer()
            observer.schedule(self._handler, str(self._folder), recursive=False)
            observer.start()
        except (OSError, RuntimeError) as error:
            if observer is not None:
                _end(observer)
            remedy = _SYSCTL.get(error.errno or 0, "") if isinstance(error, OSError) else ""
            self._retry_later(error_text(error) + (f" -> {remedy}" if remedy else ""))
        else:
            self._observer = observer

    def _retry_later(self, reason: str) -> None:
        self._failures += 1
        delay_s = backoff_s(self._failures, first_s=FIRST_DELAY_S, longest_s=LONGEST_DELAY_S)
        self._not_before = self._clock.monotonic() + delay_s
        self._problem = f"file events do not arrive; Exports is listed every few seconds instead: {reason}"

    def _failure_of_handler(self) -> str | None:
        failure, self._handler.failure = self._handler.failure, None
        return failure and f"a file event could not be handled: {failure}; Exports is still listed every few seconds"

    @staticmethod
    def _is_alive(observer: BaseObserver) -> bool:
        reader = getattr(observer, "_inotify_fd", None)  # watchdog 7 has another thread, which is not in `emitters`
        threads = (observer, *observer.emitters, *([reader] if reader is not None else []))
        return all(thread.is_alive() for thread in threads)


def _end(observer: BaseObserver) -> None:
    """Stop an observer. If it failed to start, it may have started threads nevertheless."""
    with contextlib.suppress(OSError, RuntimeError):
        observer.stop()
    with contextlib.suppress(RuntimeError):
        observer.join(timeout=2.0)
