"""The parents that a cycle can go back to if training from the last published model keeps failing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from daemon.ledger.cycle import Cycle
from daemon.ledger.records import Publication
from daemon.runtime.context import Context
from schemas.base import StrictModel

_KEY = "going_back"
_MAX_PUBLICATIONS = 64
_RECENT_CYCLES = 10
"""If cycles go back again so soon, the checkpoint that the last one went back to was not old enough."""


@dataclass(frozen=True, slots=True)
class ParentChoice:
    """What training continues from. Without a checkpoint it starts from an untrained network."""

    checkpoint: tuple[str, str] | None = None  #: path and SHA-256
    version: int = 0
    fresh_statistics: bool = False  #: only its policy is kept, not its normalisers and its optimizer

    @property
    def exists(self) -> bool:
        """Return whether the checkpoint's file exists."""
        return self.checkpoint is not None and Path(self.checkpoint[0]).is_file()

    def in_words(self) -> str:
        """Return a description for messages."""
        if self.checkpoint is None:
            return "version 0, an untrained network"
        if self.fresh_statistics:
            return f"the policy of version {self.version} with a new optimizer and new normalisers"
        return f"version {self.version}"


class GoingBack(StrictModel):
    """How far a cycle has gone back. The ledger stores the last one."""

    cycle: int
    step: int  #: position in the list of `parent_choices`; 0 is the usual parent
    model: str = ""  #: the published model whose checkpoint is the parent, relative to Models; empty: none
    fresh_statistics: bool = False


def usual_parent(context: Context) -> ParentChoice:
    """Return the last published model's checkpoint as the parent, if it exists."""
    last = context.ledger.last_publication()
    return _choice(context, last) or ParentChoice() if last is not None else ParentChoice()


def parent_of(context: Context, cycle: Cycle) -> ParentChoice:
    """Return the parent of a cycle's next attempt: the usual one, unless the cycle has gone back to another."""
    back = _last_going_back(context)
    if back is None or back.cycle != cycle.id:
        return usual_parent(context)
    if not back.model:
        return ParentChoice()
    published = [p for p in context.ledger.publications(_MAX_PUBLICATIONS) if p.model == back.model]
    found = _choice(context, published[-1]) if published else None
    return ParentChoice() if found is None else replace(found, fresh_statistics=back.fresh_statistics)


def next_step(context: Context, cycle: Cycle, *, may_forget: bool) -> tuple[GoingBack, ParentChoice] | None:
    """Return the parent that a cycle goes back to after its attempt failed; None if no other is left.

    Version 0 is the last one, and only if the cycle `may_forget` everything that was learned.
    """
    publications = _trained(context)
    if not publications:
        return None
    choices = _choices(context, publications)[: None if may_forget else -1]
    last = _last_going_back(context)
    step = 1
    if last is not None and last.cycle == cycle.id:
        step = last.step + 1
    elif last is not None and cycle.id - last.cycle <= _RECENT_CYCLES and _has_published(context, last.cycle):
        step = min(last.step + 1, len(choices) - 1)
    if not 0 < step < len(choices):
        return None
    model, choice = choices[step]
    back = GoingBack(cycle=cycle.id, step=step, model=model, fresh_statistics=choice.fresh_statistics)
    return back, choice


def return_to_usual(context: Context, cycle: Cycle) -> None:
    """Let a cycle's next attempt start from the usual parent, because going back did not help."""
    back = _last_going_back(context)
    if back is not None and back.cycle == cycle.id:
        context.ledger.restore_parent(cycle.id, stored_name(context, usual_parent(context)), key=_KEY)


def stored_name(context: Context, choice: ParentChoice) -> str | None:
    """Return a parent's checkpoint as the ledger stores it: relative to Models; None without one."""
    if choice.checkpoint is None:
        return None
    return Path(choice.checkpoint[0]).relative_to(context.paths.models).as_posix()


def as_meta(back: GoingBack) -> tuple[str, str]:
    """Return the key and the value under which the ledger stores how far a cycle has gone back."""
    return _KEY, back.to_bytes().decode()


def _choices(context: Context, publications: list[Publication]) -> list[tuple[str, ParentChoice]]:
    """Return the usual parent, then those 1, 2, 4, 8 ... publications earlier, then its policy alone, then version 0.

    Each is older than the one before by twice as many cycles, so that few attempts lead far back.
    """
    newest = publications[0]
    back = [2**k for k in range(len(publications).bit_length()) if 2**k < len(publications)]
    older = [(p.model, choice) for i in back if (choice := _choice(context, p := publications[i]))]
    existing = [(model, choice) for model, choice in older if choice.exists]
    usual = _choice(context, newest) or ParentChoice()
    kept = [(newest.model, replace(usual, fresh_statistics=True))] if usual.exists else []
    return [(newest.model, usual), *existing, *kept, ("", ParentChoice())]


def _trained(context: Context) -> list[Publication]:
    """Return the last publication of each cycle whose checkpoint can be a parent, newest first; [] before any."""
    last = context.ledger.last_publication()
    if last is None or not last.policy_version or _choice(context, last) is None:
        return []
    found: dict[int, Publication] = {}
    for publication in reversed(context.ledger.publications(_MAX_PUBLICATIONS)):
        if publication.policy_version and _choice(context, publication) is not None:
            found.setdefault(publication.cycle_id, publication)
    return list(found.values())


def _choice(context: Context, publication: Publication) -> ParentChoice | None:
    """Return a published model's checkpoint as a parent, or None if its hash is not known."""
    result = context.ledger.result(publication.cycle_id)
    checkpoint = (context.paths.models / publication.model.removesuffix(".json")).with_suffix(".pt")
    if result is None or checkpoint.name not in result.files:
        return None
    return ParentChoice((str(checkpoint), result.files[checkpoint.name]), publication.policy_version)


def _has_published(context: Context, cycle_id: int) -> bool:
    return any(p.cycle_id == cycle_id for p in context.ledger.publications(_MAX_PUBLICATIONS))


def _last_going_back(context: Context) -> GoingBack | None:
    text = context.ledger.meta(_KEY)
    try:
        return None if text is None else GoingBack.from_bytes(text.encode())
    except ValidationError:
        return None
