"""What must stay as it was while a daemon runs: the lock under its name, and what the settings file says."""

from __future__ import annotations

from pathlib import Path

from daemon.ledger.records import FileSignature
from daemon.runtime.context import Context
from daemon.runtime.instance_lock import ProjectLock
from daemon.security.permissions import check_config
from schemas.errors import HotlapError
from schemas.settings.loading import config_path, load

EVERY_S = 2.0


class ConfigMonitor:
    """Looks every few seconds; warns, and never changes what the daemon works with."""

    def __init__(self, context: Context, lock: ProjectLock, *, config: Path | None) -> None:
        self._context = context
        self._lock = lock
        self._given = config
        self._stamp = self._config_stamp()
        self._seen = self._stamp
        self._next = 0.0

    def check(self) -> None:
        """Do what is due."""
        now = self._context.clock.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_S
        trouble = self._lock.renew()
        if trouble is None:
            self._context.clear_warning("W_LOCK")
        else:
            self._context.warn("W_LOCK", trouble)
        self._look_at_config()

    def _config_stamp(self) -> FileSignature | None:
        path = config_path(self._context.paths.project, self._given)
        try:
            return None if path is None else FileSignature.of(path.stat())
        except OSError:
            return None

    def _look_at_config(self) -> None:
        stamp = self._config_stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        if stamp == self._stamp:
            self._context.clear_warning("W_CONFIG")
            return
        self._context.warn("W_CONFIG", self._what_a_start_would_say())

    def _what_a_start_would_say(self) -> str:
        folder = self._context.paths.project
        path = config_path(folder, self._given)
        name = "daemon.toml" if path is None else path.name
        try:
            if path is not None and not self._context.settings.daemon.allow_shared:
                check_config(path)
            load(folder, config=self._given)
        except HotlapError as error:
            return f"{name} was changed and cannot be used; the old settings stay: {error.line()}"
        return f"{name} was changed: the old settings stay until the daemon is started anew"
