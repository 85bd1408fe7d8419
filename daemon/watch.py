"""What lies in Exports: the watcher only nudges, the listing is the truth."""

from __future__ import annotations

import os
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

from daemon.records import Stamp
from schemas.layout import is_rollout_name

_WORTH_A_LOOK = (FileCreatedEvent, FileMovedEvent, FileModifiedEvent, FileClosedEvent)
"""Not the opened and closed-unwritten events: our own reading causes those."""


def listing(folder: Path) -> dict[str, Stamp]:
    """Give the regular files in `folder` that are named as rollouts. Raises OSError where it cannot be listed."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_rollout_name(entry.name):
                continue
            try:
                info = os.lstat(entry.path)  # the folder's own entry may be stale on NTFS
            except FileNotFoundError:
                continue
            if stat.S_ISREG(info.st_mode):
                found[entry.name] = Stamp.of(info)
    return found


class _Nudge(FileSystemEventHandler):
    """Runs on watchdog's thread, which dies for good if this raises: so it only posts."""

    def __init__(self, nudge: Callable[[], None]) -> None:
        self._nudge = nudge

    def dispatch(self, event: FileSystemEvent) -> None:
        """Wake the deciding thread for events that may mean a new file."""
        if isinstance(event, _WORTH_A_LOOK):
            self._nudge()


class Watcher:
    """Watches one folder as well as the system allows; `check` mends it and says what is wrong."""

    def __init__(self, folder: Path, nudge: Callable[[], None]) -> None:
        self._folder = folder
        self._handler = _Nudge(nudge)
        self._observer: BaseObserver | None = None
        self._identity: tuple[int, int] | None = None

    def check(self) -> str | None:
        """Start or restart the watch where it is not alive; give the reason, in words, where it cannot be."""
        try:
            info = self._folder.stat()
        except OSError as error:
            self.stop()
            return f"the folder {self._folder.name} cannot be reached: {error.strerror}"
        identity = (info.st_dev, info.st_ino)
        if self._observer is not None and identity == self._identity and self._is_alive(self._observer):
            return None
        self.stop()
        observer = Observer()
        try:
            observer.schedule(self._handler, str(self._folder), recursive=False)
            observer.start()
        except (OSError, RuntimeError) as error:
            return f"no file events here, the folder is only listed every few seconds: {error}"
        self._observer, self._identity = observer, identity
        return None

    @staticmethod
    def _is_alive(observer: BaseObserver) -> bool:
        return observer.is_alive() and all(emitter.is_alive() for emitter in observer.emitters)

    def stop(self) -> None:
        """End the watch."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=2.0)
            self._observer = None
