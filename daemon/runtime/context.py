"""The context that all parts of a running daemon share: folders, settings, ledger, clock and log of the project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from daemon.ledger.ledger import Ledger
from daemon.runtime.clock import Clock
from schemas.contract import PolicyContract
from schemas.rollout.meaning.rules import ReadingRules
from schemas.settings.models import Settings
from schemas.status import StatusWarning
from schemas.storage.files import REAL_DISK, Disk
from schemas.storage.layout import ProjectPaths
from schemas.text import printable


class LogLike(Protocol):
    """A log for users."""

    def info(self, text: str) -> None:
        """Log an event."""

    def warning(self, text: str) -> None:
        """Log something that users should check."""

    def error(self, text: str) -> None:
        """Log a failure and its remedy."""

    def tail(self, n: int) -> tuple[str, ...]:
        """Return the last lines."""


@dataclass(slots=True)
class Context:
    """The context of one project's daemon. `wake` requests another pass of the main loop, from any thread."""

    paths: ProjectPaths
    settings: Settings
    ledger: Ledger
    log: LogLike
    clock: Clock
    wake: Callable[[], None]
    disk: Disk = REAL_DISK
    likely_contract: PolicyContract | None = None  #: of most pending rollouts, until the project has a contract
    _warnings: dict[str, StatusWarning] = field(default_factory=dict)

    @property
    def contract(self) -> PolicyContract | None:
        """Return the project's contract, or None until the settings, most rollouts or a model define it."""
        text = self.ledger.meta("contract")
        return None if text is None else PolicyContract.from_bytes(text.encode())

    def reading_rules(self) -> ReadingRules:
        """Return the rules for reading rollouts: those of the settings and of the project's contract."""
        contract = self.contract
        is_trained = contract is not None and self.ledger.has_trained()
        return ReadingRules.of(self.settings.agent, contract, origin="model" if is_trained else "rollouts")

    def warn(self, code: str, message: str) -> None:
        """Show a warning until `clear_warning` is called with its code; log each new text once."""
        known = self._warnings.get(code)
        text = printable(message)
        warning = StatusWarning(code=code, message=text, at_s=self.clock.utc_s())
        if known is None or known.message != text:
            self.log.warning(warning.line())
        self._warnings[code] = warning

    def clear_warning(self, *codes: str) -> None:
        """Remove the warnings with these codes."""
        for code in codes:
            self._warnings.pop(code, None)

    def warnings(self) -> tuple[StatusWarning, ...]:
        """Return the warnings, newest first."""
        return tuple(sorted(self._warnings.values(), key=lambda warning: -warning.at_s))
