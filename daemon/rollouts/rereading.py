"""Which accepted files are read again, because they were read under other rules than the present ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from daemon.ledger.records import FileSignature
from daemon.rollouts.pending import PendingFile
from daemon.runtime.context import Context
from schemas.rollout.meaning.rules import ReadingRules
from schemas.storage.files import sha256_of

_RULES_KEY = "reading_rules"


class Rereading:
    """The names of the files to read again. `accepted` and `pending` are the inbox's tables."""

    def __init__(
        self,
        context: Context,
        accepted: Mapping[str, tuple[FileSignature, str]],
        pending: Mapping[str, PendingFile],
    ) -> None:
        self._context, self._accepted, self._pending = context, accepted, pending
        self._names: set[str] = set()
        self._rules_to_store: str | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def start(self) -> None:
        """Read all pending rollouts again if the rules have changed since the last start, or must still be found."""
        context = self._context
        rules = sha256_of(ReadingRules.of(context.settings.agent, context.contract).to_bytes())
        if context.ledger.meta(_RULES_KEY) == rules and context.contract is not None:
            return
        self.add({used.row.sha256 for used in context.ledger.pending_rollouts()})
        self._rules_to_store = rules

    def add(self, hashes: Collection[str]) -> None:
        """Read the files with these contents again."""
        self._names |= {name for name, (_, sha256) in self._accepted.items() if sha256 in hashes}

    def discard(self, name: str) -> None:
        """Record that a file was read again, or does not exist any more."""
        self._names.discard(name)

    @property
    def is_busy(self) -> bool:
        """Return whether files are still to be read. Those that cannot be read at the moment do not count."""
        files = ((name, self._pending.get(name)) for name in self._names)
        return any(name in self._accepted and (file is None or not file.failed_reads) for name, file in files)

    def check(self) -> None:
        """Store the rules once all files were read under them: a crash before that repeats the reading."""
        if self._rules_to_store is not None and not self._names:
            self._context.ledger.set_meta(_RULES_KEY, self._rules_to_store)
            self._rules_to_store = None
