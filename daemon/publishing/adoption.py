"""Adoption: a trained model becomes the project's next version, in a cycle without rollouts and without training."""

from __future__ import annotations

import os
from pathlib import Path

from daemon.ledger.cycle import Cycle
from daemon.ledger.ledger import Ledger
from daemon.publishing.foreign_files import first_free_cycle
from daemon.runtime.context import Context
from schemas.contract import PolicyContract
from schemas.errors import ContractError, HotlapError
from schemas.job import Adoption
from schemas.model import MAX_MODEL_BYTES
from schemas.rollout.meaning.rules import ReadingRules
from schemas.settings.models import AgentSettings
from schemas.storage.files import read_with_retries, sha256_of
from schemas.storage.layout import ProjectPaths
from schemas.storage.set_aside import PREFIX


def fixed_contract(stored: PolicyContract | None, agent: AgentSettings) -> PolicyContract | None:
    """Return the contract that every model of a project must have; None if the settings leave something open.

    `stored` is that of the rollouts or of a model that was trained or adopted.
    """
    return stored or ReadingRules.of(agent).contract()


def require_settings(contract: PolicyContract, agent: AgentSettings) -> None:
    """Raise ContractError if a model's contract contradicts what `[agent]` sets."""
    rules = ReadingRules.of(agent)
    if not rules.admits(contract):
        hint = "correct [agent] in daemon.toml, or adopt another model"
        raise ContractError(rules.contradiction(contract), hint=hint)


def fixed_hidden_sizes(ledger: Ledger | None, agent: AgentSettings) -> tuple[int, ...] | None:
    """Return the hidden sizes that every model must have: those of the settings, or of the last published model."""
    if "hidden_sizes" in agent.model_fields_set:
        return agent.hidden_sizes
    last = None if ledger is None else ledger.last_publication()
    result = None if ledger is None or last is None else ledger.result(last.cycle_id)
    return None if result is None else result.hidden_sizes


def hidden_sizes_of(context: Context) -> tuple[int, ...]:
    """Return the hidden sizes of the project's next model."""
    agent = context.settings.agent
    return fixed_hidden_sizes(context.ledger, agent) or agent.hidden_sizes


def require_shape(context: Context) -> None:
    """Raise ContractError if hidden_sizes were changed: a running engine cannot load a model of another shape."""
    last = context.ledger.last_publication()
    result = None if last is None else context.ledger.result(last.cycle_id)
    wanted = fixed_hidden_sizes(context.ledger, context.settings.agent)
    if result is not None and wanted is not None and tuple(result.hidden_sizes) != tuple(wanted):
        raise ContractError(
            f"agent.hidden_sizes is {list(wanted)}, this project's model has {list(result.hidden_sizes)}",
            hint="set it back, or use another --project: a running engine cannot load another shape",
        )


def claim_adoption(context: Context, adoption: Adoption) -> Cycle:
    """Open the cycle that adopts a model: version 0 if no model was published, otherwise the next version."""
    agent, ledger = context.settings.agent, context.ledger
    found = adoption.model_copy(
        update={
            "file": str(locate(context.paths, Path(adoption.file), adoption.sha256)),
            "is_contract_fixed": fixed_contract(context.contract, agent) is not None,
            "are_hidden_sizes_fixed": fixed_hidden_sizes(ledger, agent) is not None,
        }
    )
    kind = "initial" if ledger.last_publication() is None else "train"
    first, now_s = first_free_cycle(context), context.clock.utc_s()
    return ledger.claim(kind=kind, cause="adopt", parent=None, at_s=now_s, first=first, adoption=found)


def locate(paths: ProjectPaths, file: Path, sha256: str) -> Path:
    """Return a file's path; if it was moved to a folder of files of other programs, the path there."""
    candidates = [file, *sorted(paths.models.glob(f"{PREFIX}*/{file.name}"))] if paths.models.is_dir() else [file]
    for path in candidates:
        try:
            if sha256_of(read_with_retries(path.resolve(), limit=MAX_MODEL_BYTES)) == sha256:
                return path
        except (OSError, HotlapError):
            continue
    return file


def is_published(ledger: Ledger, adoption: Adoption) -> bool:
    """Return whether the file is the model that engines load now, or is what that model was adopted from."""
    last = ledger.last_publication()
    if last is None:
        return False
    earlier, result = ledger.adoption(last.cycle_id), ledger.result(last.cycle_id)
    if earlier is not None and (earlier.sha256, earlier.log_std) == (adoption.sha256, adoption.log_std):
        return True
    checkpoint = f"{Path(last.model).stem}.pt"
    return adoption.sha256 in {last.sha256, None if result is None else result.files.get(checkpoint)}


def absolute(file: Path, project: Path) -> Path:
    """Return a file's path, which is relative to the current folder or else to the project."""
    in_project = project / file
    return (file if os.path.lexists(file) or not os.path.lexists(in_project) else in_project).absolute()
