"""Accepted files are read again if the rules change, by the settings at a start or the contract of most files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from daemon.ledger.records import FileSignature
from daemon.rollouts.contract import ContractVotes, apply_settings
from daemon.rollouts.pending import PendingFile
from daemon.rollouts.reading.reader import Accepted, Rejected
from daemon.runtime.context import Context
from schemas.rollout.meaning.majority import Vote
from schemas.rollout.meaning.rules import ReadingRules
from schemas.storage.files import sha256_of

_RULES_KEY = "reading_rules"


class Rereading:
    """The files to read again, and the votes on the contract. `accepted` and `pending` are the inbox's tables."""

    def __init__(
        self,
        context: Context,
        accepted: Mapping[str, tuple[FileSignature, str]],
        pending: Mapping[str, PendingFile],
        request_scan: Callable[[], None],
    ) -> None:
        self._context, self._accepted, self._pending = context, accepted, pending
        self._request_scan = request_scan
        self._votes = ContractVotes(context)
        self._names: set[str] = set()
        self._rules_to_store: str | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def start(self) -> None:
        """Apply the settings. Read all pending rollouts again if the rules have changed, or must still be found.

        Raises ContractError if the settings contradict the published model.
        """
        context = self._context
        apply_settings(context)
        rules = sha256_of(ReadingRules.of(context.settings.agent, context.contract).to_bytes())
        if context.ledger.meta(_RULES_KEY) == rules and context.contract is not None:
            return
        self._add({used.row.sha256 for used in context.ledger.pending_rollouts()})
        self._rules_to_store = rules

    def decide_contract(self, *, may_wait: bool) -> bool:
        """Let most rollouts define the contract, if nothing else does; return whether a cycle can begin.

        It cannot while rollouts are read again, or while the next rollout must decide and may be waited for.
        """
        others = self._votes.decide(may_wait=may_wait)
        if others:
            self._add(others)
        return others is not None and not self.is_busy

    def accept(self, accepted: Accepted, *, is_new: bool) -> bool:
        """Count an accepted rollout; return whether it was read again."""
        row = accepted.row
        was_read = row.name in self._names
        self._names.discard(row.name)
        if is_new or was_read:
            self._votes.add(row.sha256, Vote(accepted.contract, accepted.states_bounds, row.experiences))
        return was_read

    def reject(self, rejected: Rejected) -> None:
        """Remove a pending rollout from the ledger if it was read again and cannot be used any more."""
        if rejected.name in self._names:
            self._votes.remove(rejected.sha256)
            self._context.ledger.forget_pending(rejected.sha256)

    def _add(self, hashes: Collection[str]) -> None:
        self._names |= {name for name, (_, sha256) in self._accepted.items() if sha256 in hashes}
        self._request_scan()

    def discard(self, name: str) -> None:
        """Record that a file does not exist any more."""
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
