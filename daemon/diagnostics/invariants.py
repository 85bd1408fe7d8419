"""Says whether a project folder keeps DESIGN.md's promises. It only reads; it never writes into the project.

`examine` may be asked at any time. While a daemon runs, three questions are asked more gently: what is broken must
be broken in each of a few looks (a publish is under way between its steps), the daemon's own processes are no litter,
and a rejected file may still wait for its reason. Right after a kill, before any restart, `ENGINE_VIEW`,
`COUNTED_ONCE`, `NOTHING_LOST` and `LEDGER` hold already; litter is cleared, and the rest finished, by the next start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from daemon.diagnostics.ledger_audit import FilePrint, LedgerContents, RolloutFact, prints_of, read_ledger, sha256_at
from daemon.ledger.cycle import Phase
from daemon.ledger.records import FileSignature, Publication
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.instance_lock import is_held
from schemas.errors import HotlapError
from schemas.model import MAX_MODEL_BYTES, Model, check_probe, read_model
from schemas.process.run_token import Token, find_processes, project_fingerprint
from schemas.rollout.cache import load_rollout
from schemas.status import Status
from schemas.storage.files import TEMPORARY_NAME, read_regular, sha256_of
from schemas.storage.layout import ProjectPaths, is_rollout_name

__all__ = ["FilePrint", "Invariant", "Violation", "check_invariants", "prints_of"]

LITTER_AGE_S = 60.0
_LOOKS, _BETWEEN_LOOKS_S = 4, 0.25
_PUBLISHED = re.compile(r"cycle_(\d{6,})/model_epoch_(\d+)\.json")
_COPY = re.compile(r"model_epoch_\d+\.json")
_STATUS_LIMIT = 16 * 1024 * 1024


class Invariant(StrEnum):
    """What may be broken."""

    NOTHING_LOST = "nothing lost"
    COUNTED_ONCE = "counted once"
    ENGINE_VIEW = "the engine's view is whole"
    LEDGER = "the ledger is sound"
    NO_LITTER = "no litter"
    NO_PROCESS = "no process left"
    USER_FILES = "user files untouched"


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise."""

    promise: Invariant
    message: str
    path: Path

    def __str__(self) -> str:
        return f"{self.promise}: {self.message} ({self.path})"


def check_invariants(
    folder: Path,
    *,
    before: Mapping[str, FilePrint] | None = None,
    may_clear: bool = False,
    litter_age_s: float = LITTER_AGE_S,
) -> tuple[Violation, ...]:
    """Return the broken promises of a project folder; none where all is well, or where no daemon has run yet.

    `before` holds the prints (`prints_of`) of files that were once dropped into Exports: each must still lie there
    unchanged, or in Rejected, or, with `may_clear`, have been used and cleared by a setting. Files of ours that are
    only temporary count as litter when they are older than `litter_age_s` seconds.
    """
    layout = ProjectPaths(folder.resolve())
    found = _look(layout, before, may_clear=may_clear, litter_age_s=litter_age_s)
    for _ in range(_LOOKS - 1):
        if not found or not is_held(layout.lock):
            break
        REAL_CLOCK.sleep(_BETWEEN_LOOKS_S)
        again = set(_look(layout, before, may_clear=may_clear, litter_age_s=litter_age_s))
        found = [violation for violation in found if violation in again]
    return tuple(dict.fromkeys(found))


def _look(
    paths: ProjectPaths, before: Mapping[str, FilePrint] | None, *, may_clear: bool, litter_age_s: float
) -> list[Violation]:
    daemon_runs = is_held(paths.lock)
    found: list[Violation] = []
    facts = LedgerContents()
    if paths.ledger.exists():
        facts = read_ledger(paths, daemon_runs=daemon_runs)
        found += [Violation(Invariant.LEDGER, problem, paths.ledger) for problem in facts.problems]
    elif paths.models.is_dir() and any(paths.models.glob("cycle_*")):
        found.append(Violation(Invariant.LEDGER, "it is gone, though there are published models", paths.ledger))
    if not found:
        found += [*_nothing_lost(paths, facts), *_counted_once(paths, facts), *_pointer(paths, facts)]
    found += [*_whole_files(paths), *_user_files(paths, facts, before or {}, may_clear=may_clear)]
    found += _litter(paths, facts, older_than_s=litter_age_s, daemon_runs=daemon_runs)
    found += _processes(paths, daemon_runs=daemon_runs)
    return found


# Rollouts


def _nothing_lost(paths: ProjectPaths, ledger: LedgerContents) -> Iterator[Violation]:
    names: dict[str, list[str]] = {}
    for name, (_, sha256) in ledger.files.items():
        names.setdefault(sha256, []).append(name)
    for rollout in ledger.rollouts:
        if rollout.cycle_id is not None and rollout.cycle_id not in ledger.cycles:
            text = f"{rollout.name} counted toward cycle {rollout.cycle_id}, which is not there"
            yield Violation(Invariant.NOTHING_LOST, text, paths.ledger)
        elif ledger.is_open(rollout.cycle_id) and not _has_bytes(paths, ledger, rollout, names.get(rollout.sha256, [])):
            text = f"{rollout.name} waits to be trained on, but neither its file nor its arrays are there"
            yield Violation(Invariant.NOTHING_LOST, text, paths.exports / rollout.name)


def _has_bytes(paths: ProjectPaths, ledger: LedgerContents, rollout: RolloutFact, names: list[str]) -> bool:
    for name in names:
        path = paths.exports / name
        try:
            unchanged = FileSignature.of(path.lstat()) == ledger.files[name][0]
        except OSError:
            continue
        if unchanged or sha256_at(path) == rollout.sha256:
            return True
    return load_rollout(paths.cached_rollout(rollout.sha256)) is not None


def _counted_once(paths: ProjectPaths, ledger: LedgerContents) -> Iterator[Violation]:
    """The models name what they were trained on: a second witness beside the ledger, whose rows are unique."""
    counted = {rollout.sha256: rollout.cycle_id for rollout in ledger.rollouts}
    seen: dict[str, int] = {}
    first_models: dict[int, Publication] = {}
    for publication in ledger.publications:
        first_models.setdefault(publication.cycle_id, publication)
    for cycle_id, publication in sorted(first_models.items()):
        model = _model(paths.models / publication.model)
        for sha256 in model.lineage.rollouts if model else ():
            earlier = seen.setdefault(sha256, cycle_id)
            path = paths.models / publication.model
            if earlier != cycle_id:
                text = f"the rollout {sha256[:12]} counted in cycle {earlier} and in cycle {cycle_id}"
                yield Violation(Invariant.COUNTED_ONCE, text, path)
            if counted.get(sha256, cycle_id) != cycle_id:
                text = f"the rollout {sha256[:12]} was trained as new in cycle {cycle_id}, the ledger says otherwise"
                yield Violation(Invariant.COUNTED_ONCE, text, path)


def _model(path: Path) -> Model | None:
    try:
        return read_model(read_regular(path, limit=MAX_MODEL_BYTES))
    except (OSError, HotlapError):
        return None


# The engine's view


def _pointer(paths: ProjectPaths, ledger: LedgerContents) -> Iterator[Violation]:
    def wrong(text: str) -> Violation:
        return Violation(Invariant.ENGINE_VIEW, text, paths.pointer)

    last = ledger.publications[-1] if ledger.publications else None
    try:
        text = read_regular(paths.pointer, limit=65536).decode("utf-8")
    except FileNotFoundError:
        if last is not None:
            yield wrong(f"it is gone, though version {last.policy_version} was published")
    except (OSError, HotlapError, UnicodeDecodeError) as error:
        yield wrong(f"it cannot be read: {error}")
    else:
        try:
            _follow(paths, ledger, text)
        except HotlapError as error:
            yield wrong(error.message)
    yield from _order_of_versions(paths, ledger)


def _follow(paths: ProjectPaths, ledger: LedgerContents, text: str) -> None:
    """Do what an engine does, and ask the ledger. Raises HotlapError where any of it fails."""
    named = re.search(r"cycle_\d+/model_epoch_\d+\.json$", text)
    model = named.group() if named else ""
    match = _PUBLISHED.fullmatch(model)
    if match is None or text != str((paths.models / model).absolute()).replace(os.sep, "/"):
        raise HotlapError(f"it holds {text[:200]!r}, which is no model of this project")
    path = paths.models / model
    if path.parent.is_symlink():
        raise HotlapError(f"it leads through the link {path.parent.name}")
    try:
        data = read_regular(path, limit=MAX_MODEL_BYTES)
    except OSError as error:
        raise HotlapError(f"it names {model}, which cannot be read: {error.strerror}") from None
    loaded = read_model(data)
    check_probe(loaded)
    sha256, cycle_id = sha256_of(data), int(match.group(1))
    last = ledger.publications[-1] if ledger.publications else None
    if last is not None and last.model == model:
        if last.sha256 != sha256:
            raise HotlapError(f"{model} is not what was published")
        if loaded.policy_version != last.policy_version:
            raise HotlapError(f"{model} says version {loaded.policy_version}, the ledger {last.policy_version}")
        return
    cycle = ledger.cycles.get(cycle_id)
    is_being_published = cycle is not None and cycle.phase == Phase.PUBLISHING
    if not is_being_published or cycle is None or cycle.result_files.get(path.name) != sha256:
        says = "nothing was published" if last is None else f"the ledger says {last.model}"
        raise HotlapError(f"it names {model}; {says}")


def _order_of_versions(paths: ProjectPaths, ledger: LedgerContents) -> Iterator[Violation]:
    """Cycles are published in order; an older one only again, by a person."""
    seen: set[int] = set()
    for publication in ledger.publications:
        newest = max(seen, default=publication.cycle_id)
        if publication.cycle_id not in seen and publication.cycle_id < newest:
            text = f"cycle {publication.cycle_id} was first published after cycle {newest}"
            yield Violation(Invariant.ENGINE_VIEW, text, paths.ledger)
        seen.add(publication.cycle_id)


def _whole_files(paths: ProjectPaths) -> Iterator[Violation]:
    """What an engine may open is whole: the models in Models itself, and status.json."""
    if paths.models.is_dir():
        for path in sorted(paths.models.iterdir()):
            if _COPY.fullmatch(path.name) and path.is_file() and _model(path) is None and path.exists():
                yield Violation(Invariant.ENGINE_VIEW, "this is no whole model", path)
    try:
        Status.from_bytes(read_regular(paths.status, limit=_STATUS_LIMIT))
    except FileNotFoundError:
        return
    except (OSError, HotlapError, ValueError) as error:
        text = f"status.json cannot be read: {type(error).__name__}"
        yield Violation(Invariant.ENGINE_VIEW, text, paths.status)


# What is not ours


def _user_files(
    paths: ProjectPaths, ledger: LedgerContents, before: Mapping[str, FilePrint], *, may_clear: bool
) -> Iterator[Violation]:
    if not before:
        return
    now = prints_of(paths.exports) if paths.exports.is_dir() else {}
    rejected = {sha256_at(path) for path in paths.rejected.iterdir()} if paths.rejected.is_dir() else set()
    done = {rollout.sha256 for rollout in ledger.rollouts if not ledger.is_open(rollout.cycle_id)}
    for name, known in before.items():
        path = paths.exports / name
        if name in now and now[name] != known:
            yield Violation(Invariant.USER_FILES, f"{name} was changed", path)
        elif name not in now and not (known.sha256 in rejected or (may_clear and known.sha256 in done)):
            is_rollout = is_rollout_name(name)
            yield Violation(Invariant.NOTHING_LOST if is_rollout else Invariant.USER_FILES, f"{name} is gone", path)


def _litter(
    paths: ProjectPaths, ledger: LedgerContents, *, older_than_s: float, daemon_runs: bool
) -> Iterator[Violation]:
    def old(path: Path) -> bool:
        try:
            return REAL_CLOCK.utc_s() - path.lstat().st_mtime >= older_than_s
        except OSError:
            return False

    for folder in (paths.training, *(f for f in paths.folders() if f != paths.exports)):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if TEMPORARY_NAME.fullmatch(path.name) and old(path):
                yield Violation(Invariant.NO_LITTER, "a temporary file was left behind", path)
    open_cycles = {f"cycle_{c.id:06d}" for c in ledger.cycles.values() if ledger.is_open(c.id)}
    if ledger.cycles and paths.staging.is_dir():
        for path in sorted(paths.staging.iterdir()):
            is_needed = path.name in open_cycles or _just_failed(ledger, path)
            if path.name.startswith(("cycle_", "removed_")) and not is_needed and old(path):
                yield Violation(Invariant.NO_LITTER, "what a trainer left was not cleared", path)
    if daemon_runs:
        return
    yield from _unexplained(paths, old)


def _just_failed(ledger: LedgerContents, staging: Path) -> bool:
    """What a failed cycle left may be looked at until the next cycle has ended."""
    ended = [cycle for cycle in ledger.cycles.values() if not ledger.is_open(cycle.id)]
    return bool(ended) and ended[-1].phase == Phase.FAILED and staging.name == f"cycle_{ended[-1].id:06d}"


def _unexplained(paths: ProjectPaths, old: Callable[[Path], bool]) -> Iterator[Violation]:
    names = {path.name for path in paths.rejected.iterdir()} if paths.rejected.is_dir() else set()
    for name in sorted(names):
        is_explained = name.endswith(".reason.txt") or f"{name}.reason.txt" in names
        path = paths.rejected / name
        if not is_explained and not TEMPORARY_NAME.fullmatch(name) and old(path):
            yield Violation(Invariant.NO_LITTER, "a rejected file lies there without its reason", path)


def _processes(paths: ProjectPaths, *, daemon_runs: bool) -> Iterator[Violation]:
    """No process that works for this project lives on without the daemon that started it."""
    mark = project_fingerprint(paths.project)

    def is_left(token: Token) -> bool:
        return token.project == mark and not (daemon_runs and token.owner_lives())

    for process in find_processes(is_left):
        text = f"process {process.pid} of a daemon that is gone still runs"
        yield Violation(Invariant.NO_PROCESS, text, paths.project)
