"""Expected failures: what happened, what to do about it, and a stable code."""

from __future__ import annotations

from schemas.text import printable


class HotlapError(Exception):
    """An expected failure. `str(error)` is one line: cause, remedy, code."""

    code = "E_HOTLAP"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        self.message = printable(message)
        self.hint = printable(hint)
        self.code = code or type(self).code
        super().__init__(self.line())

    def line(self) -> str:
        """Return the error as one line of text without control characters."""
        remedy = f" -> {self.hint}" if self.hint else ""
        return f"{self.message}{remedy} [{self.code}]"


class RolloutError(HotlapError):
    """A rollout file that cannot be used. `incomplete` is true if its writer may still be writing it."""

    code = "E_SCHEMA"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None, incomplete: bool = False) -> None:
        super().__init__(message, hint=hint, code=code)
        self.incomplete = incomplete


class ModelError(HotlapError):
    """A file that is not a valid model JSON, or a model that does not compute the outputs of its probe."""

    code = "E_MODEL"


class ConfigError(HotlapError):
    """Settings that cannot be used: unknown names, wrong values, contradictions."""

    code = "E_CONFIG"


class ContractError(HotlapError):
    """Data or a model whose contract is not the project's."""

    code = "E_CONTRACT"
