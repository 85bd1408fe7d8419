"""Settings from daemon.toml, then HOTLAP_ variables, then flags; every mistake is one line that names the remedy."""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from schemas.errors import ConfigError
from schemas.settings import Settings

CONFIG_NAME = "daemon.toml"
PREFIX = "HOTLAP_"
_NOT_SETTINGS = frozenset({"HOTLAP_RUN_TOKEN", "HOTLAP_FAILPOINT"})


def load_settings(
    project: Path,
    *,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge the three sources, later ones win. Raises ConfigError.

    `flags` are dotted names, as {"trainer.epochs": 5}; None means not given. An explicit `config` must exist,
    `daemon.toml` in the project need not.
    """
    path = config or project / CONFIG_NAME
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    if config is not None or path.exists():
        _merge(merged, origin, _flat(_read_toml(path)), path.name)
    _merge(merged, origin, _from_environment(os.environ if environment is None else environment), "the environment")
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    _merge(merged, origin, given, "the command line")
    return _validated(merged, origin)


def setting_names() -> tuple[str, ...]:
    """Give all settings as dotted names."""
    names: list[str] = []
    for group, field in Settings.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        names.extend(f"{group}.{name}" for name in kind.model_fields)
    return tuple(names)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"the config file {path} is not there", hint="check --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}", hint="check its rights; it must be UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}", hint='texts need quotes: device = "cpu"') from None
    except RecursionError:
        raise ConfigError(f"{path.name} is nested too deep", hint="use [daemon], [agent] and [trainer]") from None


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Make dotted names of the tables; a key outside any table keeps its bare name."""
    flat: dict[str, Any] = {}
    for group, value in document.items():
        if isinstance(value, dict):
            flat |= {f"{group}.{name}": item for name, item in value.items()}
        else:
            flat[group] = value
    return flat


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    given = {}
    for variable, text in environment.items():
        if variable.upper().startswith(PREFIX) and variable.upper() not in _NOT_SETTINGS:
            given[variable[len(PREFIX) :].lower().replace("__", ".", 1)] = _plain_value(text)
    return given


def _plain_value(text: str) -> Any:
    """Lists come as JSON; all else stays text for pydantic to convert."""
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return text


def _merge(merged: dict[str, Any], origin: dict[str, str], values: Mapping[str, Any], source: str) -> None:
    known = setting_names()
    for name, value in values.items():
        if name not in known:
            raise ConfigError(
                f"unknown setting {_as_written(name, source)} in {source}", hint=_suggestion(name, source)
            )
        merged[name] = value
        origin[name] = source


def _as_written(name: str, source: str) -> str:
    return PREFIX + name.replace(".", "__").upper() if source == "the environment" else name


def _suggestion(name: str, source: str) -> str:
    known = setting_names()
    bare = name.rpartition(".")[2]
    same_bare = [candidate for candidate in known if candidate.rpartition(".")[2] == bare]
    by_bare = difflib.get_close_matches(bare, [k.rpartition(".")[2] for k in known], n=1, cutoff=0.5)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    matched = [candidate for candidate in known if by_bare and candidate.rpartition(".")[2] == by_bare[0]]
    nearest = (same_bare or close or matched or [""])[0]
    return f"did you mean {_as_written(nearest, source)}?" if nearest else "the README's table lists all settings"


def _validated(merged: Mapping[str, Any], origin: Mapping[str, str]) -> Settings:
    nested: dict[str, dict[str, Any]] = {}
    for name, value in merged.items():
        group, _, key = name.partition(".")
        nested.setdefault(group, {})[key] = value
    try:
        return Settings.model_validate(nested)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:2])
        source = origin.get(name, "the settings")
        given = first.get("input")
        shown_value = "" if isinstance(given, dict) else f" = {given!r}"
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"{name}{shown_value} in {source} cannot be used: {reason}", hint="correct it there"
        ) from None
