"""One kind of error for people: what happened, a stable code, and what to do about it."""

from __future__ import annotations

from schemas.text import printable


class HotlapError(Exception):
    """An expected failure. `str(error)` is one line: cause, then remedy."""

    code = "E_HOTLAP"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        self.message = printable(message)
        self.hint = printable(hint)
        self.code = code or type(self).code
        super().__init__(self.line())

    def line(self) -> str:
        """Return the whole error as one line of plain text, safe for any console."""
        remedy = f" -> {self.hint}" if self.hint else ""
        return f"{self.message}{remedy} [{self.code}]"


class RolloutError(HotlapError):
    """A rollout file that cannot be used. `incomplete` is true where waiting may still help."""

    code = "E_SCHEMA"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None, incomplete: bool = False) -> None:
        super().__init__(message, hint=hint, code=code)
        self.incomplete = incomplete


class ModelError(HotlapError):
    """A model JSON that is not what Contract 3 asks for, or does not compute what its probe says."""

    code = "E_MODEL"


class ConfigError(HotlapError):
    """Settings that cannot be used: unknown names, wrong types, contradictions."""

    code = "E_CONFIG"


class ContractError(HotlapError):
    """Data or a model of another shape than the project's."""

    code = "E_CONTRACT"
