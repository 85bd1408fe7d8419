"""What all parts of a running daemon share: the project's folders, its settings, its ledger, clock and log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from daemon.ledger.ledger import Ledger
from daemon.runtime.clock import Clock
from schemas.contract import PolicyContract
from schemas.settings.models import Settings
from schemas.status import StatusWarning
from schemas.storage.files import REAL_DISK, Disk
from schemas.storage.layout import ProjectPaths
from schemas.text import printable


class LogLike(Protocol):
    """Where sentences for people go."""

    def info(self, text: str) -> None:
        """Say what happens."""

    def warning(self, text: str) -> None:
        """Say what people should look at."""

    def error(self, text: str) -> None:
        """Say what failed, and the remedy."""

    def tail(self, n: int) -> tuple[str, ...]:
        """Return the last lines."""


@dataclass(slots=True)
class Context:
    """One project while its daemon runs. `wake` makes the deciding thread look again, from any thread."""

    paths: ProjectPaths
    settings: Settings
    ledger: Ledger
    log: LogLike
    clock: Clock
    wake: Callable[[], None]
    disk: Disk = REAL_DISK
    _warnings: dict[str, StatusWarning] = field(default_factory=dict)

    @property
    def contract(self) -> PolicyContract | None:
        """The contract that the first rollouts set; None until then."""
        text = self.ledger.meta("contract")
        return None if text is None else PolicyContract.from_bytes(text.encode())

    def warn(self, code: str, message: str) -> None:
        """Show a warning until `settle` is called for its code; the log has each new text once."""
        known = self._warnings.get(code)
        text = printable(message)
        if known is None or known.message != text:
            self.log.warning(text)
        self._warnings[code] = StatusWarning(code=code, message=text, at_s=self.clock.utc_s())

    def clear_warning(self, *codes: str, prefix: str | None = None) -> None:
        """Take back the warnings with these codes, or with a prefix."""
        for code in list(self._warnings):
            if code in codes or (prefix is not None and code.startswith(prefix)):
                del self._warnings[code]

    def warnings(self) -> tuple[StatusWarning, ...]:
        """Return what people should look at, the newest first."""
        return tuple(sorted(self._warnings.values(), key=lambda warning: -warning.at_s))
