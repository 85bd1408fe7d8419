"""What decides the result of a milestone. Progress is continued only if all of it is the same as before."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from schemas.model import MAX_MODEL_BYTES
from schemas.settings.allowed import shown
from schemas.storage.files import read_with_retries
from trainer.dagger.messages import MilestoneJob
from trainer.dagger.milestones import Milestone, MilestoneConfig
from trainer.dagger.settings import DaggerSettings

if TYPE_CHECKING:
    from trainer.dagger.environment.milestone_env import MilestoneEnv

FORMAT = "hotlap.dagger_progress/2"
"""Increased if progress of an older version cannot be continued with the same result."""
NOT_DECISIVE = frozenset({"expert_timeout"})
"""Settings that may change while a milestone is trained."""
_ADDED_LATER = frozenset({"patience"})
"""Settings that are not part of the fingerprint, unless they are set."""
_TEXT_KEYS = frozenset({"description", "max_retries", "timeout"})
"""Keys of a milestone that do not change its result."""
_MAX_DETAILS_BYTES = 64 << 20
_OPTIONAL_KEYS = ("max_retries", "timeout")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that decides a milestone's result, and a hash of it."""

    document: Mapping[str, Any]
    fingerprint: str


def inputs_of(
    job: MilestoneJob, milestone: Milestone, expert: bytes, start_state: bytes | None, env: MilestoneEnv
) -> Inputs:
    """Return what decides the result of a milestone."""
    settings = job.settings.model_dump(mode="json")
    added = {name for name in _ADDED_LATER if settings[name] == DaggerSettings.model_fields[name].default}
    unset = {name for name in _OPTIONAL_KEYS if getattr(milestone, name) is None}
    document = {
        "format": FORMAT,
        "milestone": milestone.model_dump(mode="json", exclude=unset),
        "env": job.config.env,
        "env_options": job.config.env_options,
        "settings": {name: value for name, value in settings.items() if name not in added},
        "expert": hashlib.sha256(expert).hexdigest(),
        "start": None if start_state is None else hashlib.sha256(start_state).hexdigest(),
    }
    if job.start_from:
        data = read_with_retries(Path(job.start_from), limit=MAX_MODEL_BYTES)
        document["start_from"] = hashlib.sha256(data).hexdigest()
    if job.demonstrations:
        from trainer.dagger.demonstrations.reading import demonstrations_of, digest

        document["demonstrations"] = digest(demonstrations_of(job.demonstrations, milestone.id))
    fingerprint = hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()
    spaces = {
        "observations": [list(env.spec.shape), env.spec.is_image, env.spec.low, env.spec.steps],
        "actions": env.actions.model_space().model_dump(mode="json"),
    }
    return Inputs({**document, **spaces}, fingerprint)


def changed_flags(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return in words which flags differ from those that the earlier work was done with."""
    settings = {name: field.default for name, field in DaggerSettings.model_fields.items()}
    before, now = ({**settings, **document["settings"]} for document in (old, new))
    changes = [
        f"--{name.replace('_', '-')} {shown(now[name])} instead of {shown(before[name])}"
        for name in settings
        if name not in NOT_DECISIVE and now[name] != before[name]
    ]
    if old.get("start_from") != new.get("start_from"):
        changes.append("another model for --from" if old.get("start_from") and new.get("start_from") else "--from")
    if old.get("demonstrations") != new.get("demonstrations"):
        changes.append("other demonstrations")
    return changes


def changed_files(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return in words what else differs: the config, the environment, the expert, the start state."""
    changes = []
    if old["format"] != new["format"]:
        changes.append("Hotlap's version")
    changes += [f"{name} in the config" for name in ("env", "env_options") if old[name] != new[name]]
    before, now = old["milestone"], new["milestone"]
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key) and key not in _TEXT_KEYS]
    changes += [f"{key} in the config" for key in keys]
    names = {"expert": "the expert", "start": "the start state", "observations": "the environment's observations"}
    names["actions"] = "the environment's actions"
    return changes + [text for key, text in names.items() if key in old and old[key] != new[key]]


def changes_since(output_dir: Path, milestone_id: str, config: MilestoneConfig, settings: DaggerSettings) -> str:
    """Return in words what changed since a milestone was completed, or "". Its details contain flags and config."""
    path = output_dir / "milestone_details" / f"{milestone_id}.json"
    try:
        old = orjson.loads(read_with_retries(path, limit=_MAX_DETAILS_BYTES))
        changes = changed_flags(old, {"settings": settings.model_dump(mode="json")})
        changes += [f"{key} in the config" for key in ("env", "env_options") if old[key] != getattr(config, key)]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return ", ".join(changes)
