"""Invariant checks of the files that an engine reads: the pointer file, the models and status.json."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from daemon.diagnostics.ledger_audit import LedgerContents
from daemon.diagnostics.violation import Invariant, Violation
from daemon.ledger.cycle import Phase
from daemon.publishing.pointer import model_named_by, names_a_cycle
from schemas.errors import HotlapError
from schemas.model import MAX_MODEL_BYTES, Model, check_probe, read_model
from schemas.status import Status
from schemas.storage.careful_open import is_link_at
from schemas.storage.files import read_with_retries, sha256_of
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import error_text

_PUBLISHED = re.compile(r"cycle_([0-9]{6,9})/model_epoch_([0-9]+)\.json")
_COPY = re.compile(r"model_epoch_[0-9]+\.json")
_STATUS_LIMIT_BYTES = 16 * 1024 * 1024


def model_at(path: Path) -> Model | None:
    """Return the model in a file, or None if the file is missing or is not a valid model."""
    try:
        return read_model(read_with_retries(path, limit=MAX_MODEL_BYTES))
    except (OSError, HotlapError):
        return None


def check_pointer(paths: ProjectPaths, ledger: LedgerContents) -> Iterator[Violation]:
    """Check that the pointer file names the model that was published last according to the ledger."""

    def wrong(text: str) -> Violation:
        return Violation(Invariant.ENGINE_VIEW, text, paths.pointer)

    last = ledger.publications[-1] if ledger.publications else None
    try:
        data = read_with_retries(paths.pointer, limit=65536)
        if last is None and not names_a_cycle(data):
            return  # another program wrote it; it stays until a model is published
        text = data.decode("utf-8")
    except FileNotFoundError:
        if last is not None:
            yield wrong(f"it is missing, but version {last.policy_version} was published")
    except (OSError, HotlapError, UnicodeDecodeError) as error:
        yield wrong(f"it cannot be read: {error_text(error)}")
    else:
        try:
            _load_as_engine(paths, ledger, text)
        except HotlapError as error:
            yield wrong(error.message)
    yield from _check_order(paths, ledger)


def _load_as_engine(paths: ProjectPaths, ledger: LedgerContents, text: str) -> None:
    """Load the model that the pointer file names, and compare it with the ledger. Raises HotlapError."""
    model = model_named_by(text, paths) or ""
    match = _PUBLISHED.fullmatch(model)
    if match is None:
        raise HotlapError(f"it contains {text[:200]!r}, which is not a model of this project")
    path = paths.models / model
    if is_link_at(path.parent):
        raise HotlapError(f"the folder {path.parent.name} that it names is a symbolic link")
    try:
        data = read_with_retries(path, limit=MAX_MODEL_BYTES)
    except OSError as error:
        raise HotlapError(f"it names {model}, which cannot be read: {error.strerror}") from None
    loaded = read_model(data)
    check_probe(loaded)
    sha256, cycle_id = sha256_of(data), int(match.group(1))
    last = ledger.publications[-1] if ledger.publications else None
    if last is not None and last.model == model:
        if last.sha256 != sha256:
            raise HotlapError(f"{model} was changed after it was published")
        if loaded.policy_version != last.policy_version:
            raise HotlapError(f"{model} has version {loaded.policy_version}, the ledger has {last.policy_version}")
        return
    cycle = ledger.cycles.get(cycle_id)
    is_being_published = cycle is not None and cycle.phase == Phase.PUBLISHING
    if not is_being_published or cycle is None or cycle.result_files.get(path.name) != sha256:
        recorded = "nothing was published" if last is None else f"{last.model} was published last"
        raise HotlapError(f"it names {model}, but according to the ledger {recorded}")


def _check_order(paths: ProjectPaths, ledger: LedgerContents) -> Iterator[Violation]:
    """Check that each cycle was first published after all earlier ones. `hotlap publish` may publish it again later."""
    published: set[int] = set()
    for publication in ledger.publications:
        newest = max(published, default=publication.cycle_id)
        if publication.cycle_id not in published and publication.cycle_id < newest:
            text = f"cycle {publication.cycle_id} was first published after cycle {newest}"
            yield Violation(Invariant.ENGINE_VIEW, text, paths.ledger)
        published.add(publication.cycle_id)


def check_engine_files(paths: ProjectPaths, ledger: LedgerContents) -> Iterator[Violation]:
    """Check that the models directly in Models and status.json are complete: an engine may read them at any time.

    Before the first publish, models there are from other programs.
    """
    if paths.models.is_dir() and ledger.publications:
        for path in sorted(paths.models.iterdir()):
            if _COPY.fullmatch(path.name) and path.is_file() and model_at(path) is None and path.exists():
                yield Violation(Invariant.ENGINE_VIEW, "it is not a complete model", path)
    try:
        Status.from_bytes(read_with_retries(paths.status, limit=_STATUS_LIMIT_BYTES))
    except FileNotFoundError:
        return
    except (OSError, HotlapError, ValueError) as error:
        text = f"status.json cannot be read: {type(error).__name__}"
        yield Violation(Invariant.ENGINE_VIEW, text, paths.status)
