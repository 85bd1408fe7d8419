"""The project's contract: what the settings change in it at a start, and how most rollouts define it."""

from __future__ import annotations

from collections import Counter

from daemon.ledger.integrity.stored_json import BY_SETTINGS_KEY
from daemon.runtime.context import Context
from schemas.contract import PolicyContract
from schemas.errors import ContractError
from schemas.rollout.meaning.majority import Majority, Vote, majority_of
from schemas.rollout.meaning.rules import ReadingRules

_SHAPES_NAMED = 3


def apply_settings(context: Context) -> None:
    """Bring the project's contract up to date with `[agent]`.

    Before the first training the settings decide. Afterwards only bounds can change, because a running engine cannot
    load a model of another shape. Raises ContractError if they contradict the published model.
    """
    agent, contract = context.settings.agent, context.contract
    rules = ReadingRules.of(agent)
    if contract is not None and rules.admits(contract):
        return
    changed = rules.contract()
    if contract is not None and context.ledger.has_trained():
        changed = rules.with_bounds_for(contract)
        if changed is None:
            raise ContractError(
                rules.contradiction(contract),
                hint="correct daemon.toml, or use another --project: a running engine cannot load another shape",
            )
        context.log.info(f"the bounds of the actions are now {changed.action_space.in_words()}, as set in daemon.toml")
        context.ledger.set_meta(BY_SETTINGS_KEY, changed.to_bytes().decode())  # first: after a crash, neither is wrong
    context.ledger.set_meta("contract", None if changed is None else changed.to_bytes().decode())


class ContractVotes:
    """The contracts of the pending rollouts, until one of them becomes the project's."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._votes: dict[str, Vote] = {}

    def add(self, sha256: str, vote: Vote) -> None:
        """Count a rollout, unless the project has a contract."""
        if self._context.contract is None:
            self._votes[sha256] = vote
            self._context.likely_contract = self._majority().contract

    def remove(self, sha256: str | None) -> None:
        """Do not count a rollout any more."""
        if sha256 is not None and self._votes.pop(sha256, None) is not None:
            self._context.likely_contract = self._majority().contract if self._votes else None

    def decide(self, *, may_wait: bool) -> set[str] | None:
        """Make the contract of most rollouts the project's; return the hashes of those that have another one.

        If two shapes have equally many rollouts, the next rollout decides if it may be waited for: return None.
        """
        context = self._context
        if context.contract is not None or not self._votes:
            return set()
        majority = self._majority()
        if majority.is_tied and may_wait:
            context.warn("W_CONTRACT_TIE", f"{self._shapes()}: the next rollout decides, or set [agent] in daemon.toml")
            return None
        context.clear_warning("W_CONTRACT_TIE")
        others = {sha256 for sha256, vote in self._votes.items() if vote.contract != majority.contract}
        if others:
            context.log.info(f"{self._shapes()}: {in_words(majority.contract)} is now the project's contract")
        context.ledger.set_meta("contract", majority.contract.to_bytes().decode())
        context.likely_contract = None
        self._votes.clear()
        return others

    def _majority(self) -> Majority:
        initial = self._context.ledger.meta("initial_contract")
        preferred = PolicyContract.from_bytes(initial.encode()) if initial else self._context.settings.agent.contract()
        majority = majority_of(tuple(self._votes.values()), preferred)
        assert majority is not None
        return majority

    def _shapes(self) -> str:
        counts = Counter(in_words(vote.contract) for vote in self._votes.values())
        listed = [f"{count} with {shape}" for shape, count in counts.most_common(_SHAPES_NAMED)]
        return f"the pending rollouts have {len(counts)} contracts ({'; '.join(listed)})"


def in_words(contract: PolicyContract) -> str:
    """Return a contract in words: "15 observations, actions steer [-1, 1]"."""
    return f"{contract.observation_size} observations, actions {contract.action_space.in_words()}"
