"""Settings from daemon.toml, then HOTLAP_ variables, then flags; every mistake is one line that names the remedy."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.errors import ConfigError, HotlapError
from schemas.settings.models import Settings
from schemas.storage.files import read_regular

CONFIG_NAME = "daemon.toml"
PREFIX = "HOTLAP_"
S = TypeVar("S", bound=BaseModel)
_NOT_SETTINGS = frozenset({"HOTLAP_RUN_TOKEN", "HOTLAP_FAILPOINT"})
_NEVER_IN_A_FILE = frozenset({"daemon.allow_shared"})
"""What a project may not say of itself."""
_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and where they come from."""

    settings: Settings
    config: Path | None  #: the file that was read
    from_file: frozenset[str]  #: the dotted names whose values are the file's


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
    return load(project, config=config, environment=environment, flags=flags).settings


def config_path(project: Path, config: Path | None = None) -> Path | None:
    """Return the settings file that `load` reads; None where there is none."""
    path = config or project / CONFIG_NAME
    return path if config is not None or path.exists() or path.is_symlink() else None


def load(
    project: Path,
    *,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> LoadedSettings:
    """Do what `load_settings` does, and tell where each value comes from. Raises ConfigError."""
    path = config_path(project, config)
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    if path is not None:
        text = _read(path)
        values = _flat(_parsed(text, path))
        places = {name: _place(text, name, path) for name in values}
        _merge(Settings, merged, origin, values, path.name, places)
    in_file = set(merged)
    variables = _from_environment(os.environ if environment is None else environment)
    _merge(Settings, merged, origin, variables, "the environment")
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    _merge(Settings, merged, origin, given, "the command line")
    settings = _validated(Settings, merged, origin)
    return LoadedSettings(settings, path, frozenset(in_file - set(variables) - set(given)))


def load_file(kind: type[S], path: Path, flags: Mapping[str, Any] | None = None) -> S:
    """Read one TOML file of groups into a settings model of the same build, then flags. Raises ConfigError."""
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    text = _read(path)
    values = _flat(_parsed(text, path))
    _merge(kind, merged, origin, values, path.name, {name: _place(text, name, path) for name in values})
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    _merge(kind, merged, origin, given, "the command line")
    return _validated(kind, merged, origin)


def setting_names(settings: type[BaseModel] = Settings) -> tuple[str, ...]:
    """Return all settings as dotted names."""
    names: list[str] = []
    for group, field in settings.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        names.extend(f"{group}.{name}" for name in kind.model_fields)
    return tuple(names)


def _read(path: Path) -> str:
    try:
        return read_regular(path.resolve(), limit=_LIMIT_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"the config file {path} is not there", hint="check --config") from None
    except HotlapError as error:
        raise ConfigError(f"the config file cannot be used: {error.message}", hint="write a small text file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from None
    except (OSError, RuntimeError) as error:  # a link that leads to itself is a RuntimeError in older Pythons
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path.name} cannot be read: {reason}", hint="check its rights") from None


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{path.name} is nested too deep", hint="use [daemon], [agent] and [trainer]") from None
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        raise ConfigError(f"{path.name} is not valid TOML: {error}", hint='texts need quotes: device = "cpu"') from None


def _place(text: str, name: str, path: Path) -> str:
    """Say where in the file a setting stands, as `daemon.toml line 3`."""
    group, _, key = name.rpartition(".")
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            table = header.group(1).strip("\"' ")
        elif (found := re.match(r"""\s*["']?([\w.\- ]+?)["']?\s*=""", line)) and (
            (table == group and found.group(1) == key) or (not table and found.group(1).replace(" ", "") == name)
        ):
            return f"{path.name} line {number}"
    return path.name


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


def _merge(
    kind: type[BaseModel],
    merged: dict[str, Any],
    origin: dict[str, str],
    values: Mapping[str, Any],
    source: str,
    places: Mapping[str, str] | None = None,
) -> None:
    known = setting_names(kind)
    for name, value in values.items():
        place = (places or {}).get(name, source)
        if name not in known:
            raise ConfigError(
                f"unknown setting {_as_written(name, source)} in {place}", hint=_suggestion(known, name, source)
            )
        if places is not None and name in _NEVER_IN_A_FILE:
            raise ConfigError(f"{name} in {place} is no setting for a file", hint="give it on the command line")
        merged[name] = value
        origin[name] = place


def _as_written(name: str, source: str) -> str:
    return PREFIX + name.replace(".", "__").upper() if source == "the environment" else name


def _suggestion(known: tuple[str, ...], name: str, source: str) -> str:
    bare = name.rpartition(".")[2]
    same_bare = [candidate for candidate in known if candidate.rpartition(".")[2] == bare]
    by_bare = difflib.get_close_matches(bare, [k.rpartition(".")[2] for k in known], n=1, cutoff=0.5)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    matched = [candidate for candidate in known if by_bare and candidate.rpartition(".")[2] == by_bare[0]]
    nearest = (same_bare or close or matched or [""])[0]
    return f"did you mean {_as_written(nearest, source)}?" if nearest else "the documentation lists all settings"


def _validated(kind: type[S], merged: Mapping[str, Any], origin: Mapping[str, str]) -> S:
    nested: dict[str, dict[str, Any]] = {}
    for name, value in merged.items():
        group, _, key = name.partition(".")
        nested.setdefault(group, {})[key] = value
    try:
        return kind.model_validate(nested)
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
