"""milestone_config.json: which milestones there are, in which environment. Nothing here knows how they are learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import ConfigError
from schemas.storage.files import read_regular

MAX_CONFIG_BYTES = 16 * 1024 * 1024
_HINT = "see docs/dagger.md"


class Milestone(BaseModel):
    """One thing to learn. Keys that are not known here are kept: the environment may know them."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]  #: also a part of file names
    description: str = ""
    starting_state: str | None = None  #: null = where the environment's reset leads
    max_steps: Annotated[int, Field(ge=1)]  #: an episode of the expert's evaluation

    def state_name(self) -> str | None:
        """Return the file name of the start state; `--state-dir` says where it lies."""
        return PurePosixPath(self.starting_state.replace("\\", "/")).name if self.starting_state else None


class MilestoneConfig(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    env: str  #: package.module:factory, a Gymnasium id, racing or retro
    env_options: dict[str, Any] = Field(default_factory=dict)
    policy_dir: str | None = None  #: where the experts lie, unless --policy-dir says so
    lanes: Annotated[int, Field(ge=1)] | None = None  #: environments side by side in a process; default: the env's own
    milestones: Annotated[tuple[Milestone, ...], Field(min_length=1)]

    def ids(self) -> tuple[str, ...]:
        """Return the ids in the order of the file."""
        return tuple(milestone.id for milestone in self.milestones)


def completed_state(milestone_id: str) -> str:
    """Return the file name of the state in which a milestone was just reached."""
    return f"{milestone_id}_completed.state"


def read_config(path: Path) -> MilestoneConfig:
    """Read milestone_config.json. Raises ConfigError with one line that says what is wrong and where."""
    try:
        config = MilestoneConfig.model_validate_json(read_regular(path, limit=MAX_CONFIG_BYTES))
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there", hint="name it with --milestone-config") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=_HINT) from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first(error)}", hint=_HINT) from None
    twice = [name for name, count in Counter(name.lower() for name in config.ids()).items() if count > 1]
    if twice:
        # File systems may ignore case, and ids are file names.
        again = [name for name in config.ids() if name.lower() == twice[0]]
        raise ConfigError(f"{path}: {len(again)} milestones have the id {again[0]}", hint="give each its own")
    return config


def _first(error: ValidationError) -> str:
    """Say the first problem in words: where, what, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {first['msg']}{more}" if where else f"{first['msg']}{more}"


def check_known(named: Sequence[str], flag: str, config: MilestoneConfig) -> None:
    """Refuse a milestone on the command line that the config does not have. Raises ConfigError."""
    for name in named:
        if name not in config.ids():
            known = ", ".join(config.ids())
            raise ConfigError(f"{flag} {name}: there is no such milestone", hint=f"one of {known}")
