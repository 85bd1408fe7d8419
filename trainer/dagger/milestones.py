"""milestone_config.json: the environment and its milestones."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from schemas.errors import ConfigError
from schemas.settings.allowed import reason, shown
from schemas.storage.files import read_with_retries
from schemas.storage.windows_paths import is_reserved, shown_path

MAX_CONFIG_BYTES = 16 * 1024 * 1024
_HINT = "see `hotlap docs dagger`"
_MISSPELT_CUTOFF = 0.8
"""Similarity from which an unknown key counts as a misspelt one."""


class Milestone(BaseModel):
    """One thing to learn. Unknown keys are kept, because the environment may know them."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]  #: used in file names
    description: str = ""
    starting_state: str | None = None  #: None: the state after the environment's reset
    max_steps: Annotated[int, Field(ge=1)]  #: longest episode of the expert's evaluation
    max_retries: Annotated[int, Field(ge=0)] | None = None  #: how often it is tried again after a failure
    timeout: Annotated[float, Field(gt=0)] | None = None  #: longest time of one try, s

    def start_state_name(self) -> str | None:
        """Return the file name of the start state, which is in `--state-dir`."""
        return PurePosixPath(self.starting_state.replace("\\", "/")).name if self.starting_state else None


class MilestoneConfig(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    env: str = ""  #: package.module:factory, a Gymnasium id, racing or retro; empty: --env names it
    env_options: dict[str, Any] = Field(default_factory=dict)
    policy_dir: str | None = None  #: the folder of the experts, unless a flag names one
    num_envs: Annotated[int, Field(ge=1)] | None = None  #: in one process; None: as many as the environment allows
    stop_on_failure: bool = False  #: start no further milestones after one failed
    max_retries: Annotated[int, Field(ge=0)] = 0  #: of milestones that do not set their own
    timeout: Annotated[float, Field(gt=0)] | None = None  #: of milestones that do not set their own, s
    milestones: Annotated[tuple[Milestone, ...], Field(min_length=1)]

    def retries(self, milestone_id: str) -> int:
        """Return how often a milestone is tried again after it failed."""
        own = self.milestone(milestone_id).max_retries
        return self.max_retries if own is None else own

    def timeout_s(self, milestone_id: str) -> float | None:
        """Return the longest time that one try of a milestone may take; None if it is not limited."""
        own = self.milestone(milestone_id).timeout
        return self.timeout if own is None else own

    def milestone(self, milestone_id: str) -> Milestone:
        """Return the milestone with an id."""
        return next(milestone for milestone in self.milestones if milestone.id == milestone_id)

    def ids(self) -> tuple[str, ...]:
        """Return the ids in the order of the file."""
        return tuple(milestone.id for milestone in self.milestones)


def completed_state_name(milestone_id: str) -> str:
    """Return the file name of the state in which a milestone was reached."""
    return f"{milestone_id}_completed.state"


def read_config(path: Path) -> MilestoneConfig:
    """Return the content of milestone_config.json. Raises ConfigError with one line that names the place."""
    document = _read_json(path)
    if isinstance(document, dict) and "lanes" in document:  # the older name
        document.setdefault("num_envs", document.pop("lanes"))
    _require_no_misspelt_keys(path, document)
    try:
        config = MilestoneConfig.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise ConfigError(f"{shown_path(path)}: {_first_problem(error)}", hint=_HINT) from None
    # Ids are file names, and file systems may ignore case.
    repeated = [name for name, count in Counter(name.lower() for name in config.ids()).items() if count > 1]
    if repeated:
        same = [name for name in config.ids() if name.lower() == repeated[0]]
        raise ConfigError(
            f"{shown_path(path)}: {len(same)} milestones have the id {same[0]}", hint="use a different id for each"
        )
    if sys.platform == "win32" and (reserved := next(filter(is_reserved, config.ids()), None)):
        raise ConfigError(
            f"{shown_path(path)}: {reserved} cannot be the id of a milestone, because Windows reserves such names",
            hint="use another id: ids are names of files",
        )
    return config


def _read_json(path: Path) -> Any:
    try:
        data = read_with_retries(path, limit=MAX_CONFIG_BYTES)
    except FileNotFoundError:
        raise ConfigError(f"{shown_path(path)} does not exist", hint="name the file with --milestone-config") from None
    except OSError as error:
        raise ConfigError(
            f"{shown_path(path)} cannot be read: {error.strerror}", hint="correct its permissions"
        ) from None
    try:
        return json.loads(data, parse_constant=_reject_constant)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{shown_path(path)}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}",
            hint="correct the file at this place or just before it",
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{shown_path(path)} is not UTF-8", hint="save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{shown_path(path)}: {error}", hint=_HINT) from None


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not allowed in JSON")


def _require_no_misspelt_keys(path: Path, document: Any) -> None:
    """Raise ConfigError if an unknown key is similar to a known one that is missing."""
    if not isinstance(document, dict):
        return
    objects: list[tuple[str, Any, list[str]]] = [("", document, list(MilestoneConfig.model_fields))]
    listed = document.get("milestones")
    for number, milestone in enumerate(listed if isinstance(listed, list) else []):
        objects.append((f"milestones[{number}].", milestone, list(Milestone.model_fields)))
    for place, record, known in objects:
        missing = [name for name in known if name not in record] if isinstance(record, dict) else []
        for key in record if missing else ():
            close = [] if key in known else get_close_matches(key.lower(), missing, n=1, cutoff=_MISSPELT_CUTOFF)
            if close:
                raise ConfigError(
                    f"{shown_path(path)}: {place}{key} is not a known key", hint=f"did you mean {close[0]}?"
                )


def _first_problem(error: ValidationError) -> str:
    """Return the first problem, with its place, and how many more there are."""
    found = error.errors(include_url=False)
    # Pydantic does not count milestones that have problems, and then finds the list too short as well.
    problems = [problem for problem in found if problem["type"] != "too_short"] or found
    first = problems[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "missing":
        return f"{place} is missing{more}"
    value = first["input"]
    if isinstance(value, list):
        text = "a list" if value else "an empty list"
    else:
        text = "an object" if isinstance(value, dict) else shown(value)
    return f"{place or 'the content'} is {text}, but {_rule(first)}{more}"


def _rule(error: ErrorDetails) -> str:
    if error["type"] == "string_pattern_mismatch":
        return "must be 1 to 64 letters, digits, _, . or -, and begin with a letter or digit"
    if error["type"].startswith("model"):
        keys = "id and max_steps" if error["loc"] else "env and milestones"
        return f"must be an object with the keys {keys}"
    if error["type"] == "too_short":
        return "must contain at least one milestone"
    return reason(MilestoneConfig, error).replace("a table", "an object")


def require_known_ids(names: Sequence[str], flag: str, config: MilestoneConfig) -> None:
    """Raise ConfigError if a flag names a milestone that the config does not have."""
    for name in names:
        if name not in config.ids():
            raise ConfigError(
                f"{flag} {name}: the config does not have this milestone", hint=f"its ids are {', '.join(config.ids())}"
            )
