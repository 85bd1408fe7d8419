"""Checks what must not change while a daemon runs: the lock file, the settings file, and folders that become links."""

from __future__ import annotations

from pathlib import Path

from daemon.ledger.records import FileSignature
from daemon.runtime.context import Context
from daemon.runtime.instance_lock import ProjectLock
from daemon.runtime.own_folders import are_folders_own
from daemon.security.permissions import check_config
from schemas.errors import HotlapError
from schemas.settings.loading import config_path, load

EVERY_S = 2.0


class ConfigMonitor:
    """Checks every few seconds and warns of changes. The daemon continues with its old settings."""

    def __init__(self, context: Context, lock: ProjectLock, *, config: Path | None) -> None:
        self._context = context
        self._lock = lock
        self._config = config
        self._initial_signature = self._config_signature()
        self._last_signature = self._initial_signature
        self._next = 0.0

    def check(self) -> None:
        """Check the lock, the folders and the settings file if the last check was at least `EVERY_S` ago."""
        now = self._context.clock.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_S
        problem = self._lock.renew()
        if problem is None:
            self._context.clear_warning("W_LOCK")
        else:
            self._context.warn("W_LOCK", problem)
        are_folders_own(self._context)
        self._check_config()

    def _config_signature(self) -> FileSignature | None:
        path = config_path(self._context.paths.project, self._config)
        try:
            return None if path is None else FileSignature.of(path.stat())
        except OSError:
            return None

    def _check_config(self) -> None:
        signature = self._config_signature()
        if signature == self._last_signature:
            return
        self._last_signature = signature
        if signature == self._initial_signature:
            self._context.clear_warning("W_CONFIG")
        else:
            self._context.warn("W_CONFIG", self._describe_change())

    def _describe_change(self) -> str:
        """Return a message about the changed file, and whether it could be used."""
        folder = self._context.paths.project
        path = config_path(folder, self._config)
        name = "daemon.toml" if path is None else path.name
        try:
            if path is not None and not self._context.settings.daemon.allow_shared:
                check_config(path)
            load(folder, config=self._config)
        except HotlapError as error:
            return f"{name} was changed and cannot be used; the daemon keeps its settings: {error.line()}"
        return f"{name} was changed; the daemon keeps its settings until it starts again"
