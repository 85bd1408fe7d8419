"""Settings from daemon.toml, then HOTLAP_ variables, then flags; every error is one line with a remedy."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from schemas.errors import ConfigError
from schemas.settings.allowed import reason, schema_of, shown
from schemas.settings.devices import require_device
from schemas.settings.models import Settings
from schemas.settings.sources import SourceValue, from_environment, from_file, from_flags, list_hint, variable_of
from schemas.storage.windows_paths import shown_path

CONFIG_NAME = "daemon.toml"
S = TypeVar("S", bound=BaseModel)
_NEVER_IN_A_FILE = frozenset({"daemon.allow_shared"})
"""A user who can write the file must not be able to allow this."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings and their sources."""

    settings: Settings
    config: Path | None  #: the file that was read
    from_file: frozenset[str]  #: the dotted names whose values are from the file


def load_settings(
    project: Path,
    *,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    flag_names: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of `load`. Raises ConfigError."""
    return load(project, config=config, environment=environment, flags=flags, flag_names=flag_names).settings


def config_path(project: Path, config: Path | None = None) -> Path | None:
    """Return the settings file that `load` reads; None if it does not exist."""
    path = config or project / CONFIG_NAME
    return path if config is not None or path.exists() or path.is_symlink() else None


def load(
    project: Path,
    *,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    flag_names: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Merge the three sources, of which later ones win. Raises ConfigError.

    A `config` must exist; `daemon.toml` in the project need not. `flags` has dotted names, such as
    {"trainer.epochs": 5}; None means not set. `flag_names` has the names of flags that are not named after their
    setting.
    """
    path = config_path(project, config)
    in_file = [] if path is None else from_file(path, shown_path(config or path.name), groups_of(Settings))
    variables = from_environment(Settings, os.environ if environment is None else environment)
    values = _merged(Settings, [*in_file, *variables, *from_flags(flags, flag_names)])
    names = frozenset(name for name, value in values.items() if value.source == "file")
    settings = _validated(Settings, values, shown_path(config or CONFIG_NAME))
    if "trainer.device" in values and not settings.daemon.training_script:  # a script may have devices of its own
        require_device(values["trainer.device"])
    return LoadedSettings(settings, path, names)


def file_values(
    kind: type[BaseModel],
    path: Path | None,
    flags: Mapping[str, Any] | None = None,
    *,
    flag_names: Mapping[str, str] | None = None,
    page: str = "settings",
) -> dict[str, SourceValue]:
    """Return the settings that a TOML file of tables and flags set, by dotted name. Raises ConfigError.

    `page` is the page of the docs that lists the settings.
    """
    in_file = [] if path is None else from_file(path, shown_path(path), groups_of(kind))
    return _merged(kind, [*in_file, *from_flags(flags, flag_names)], page=page)


def settings_from(kind: type[S], values: Mapping[str, SourceValue], label: str) -> S:
    """Return a settings model with these values, and defaults for all others. Raises ConfigError.

    `label` is the name of the file in messages about settings that contradict each other.
    """
    return _validated(kind, values, label)


def setting_names(settings: type[BaseModel] = Settings) -> tuple[str, ...]:
    """Return all settings as dotted names."""
    return tuple(f"{group}.{name}" for group, kind in groups_of(settings).items() for name in fields_of(kind))


def groups_of(settings: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the tables of a settings model by dotted name, each with the model of its settings."""
    groups = {}
    for group, field in settings.model_fields.items():
        kind = table_of(field)
        assert kind is not None
        groups[group] = kind
        for name, inner in kind.model_fields.items():
            if (table := table_of(inner)) is not None:
                groups[f"{group}.{name}"] = table
    return groups


def fields_of(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the settings of a table, without the tables in it."""
    return {name: field for name, field in kind.model_fields.items() if table_of(field) is None}


def table_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that is a table; None if it is a setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _merged(kind: type[BaseModel], values: Iterable[SourceValue], *, page: str = "settings") -> dict[str, SourceValue]:
    """Return the last value of each setting. Raises ConfigError for names that are not settings."""
    known, tables = setting_names(kind), groups_of(kind)
    merged = {}
    for entry in values:
        if entry.name in tables or (entry.value == {} and "." not in entry.name):
            _require_table(kind, entry, page)
        elif isinstance(entry.value, dict) and (close := _nearest_table(tables, entry.name)):
            raise _unknown("table", entry, close, page)
        elif entry.name not in known:
            raise _unknown("setting", entry, _nearest(known, entry.name), page)
        elif entry.source == "file" and entry.name in _NEVER_IN_A_FILE:
            flag = entry.name.rpartition(".")[2].replace("_", "-")
            raise ConfigError(
                f"{entry.subject} cannot be set in a file",
                hint=f"use the flag --{flag} or the environment variable {variable_of(entry.name)}",
            )
        else:
            merged[entry.name] = entry
    return merged


def _require_table(kind: type[BaseModel], entry: SourceValue, page: str) -> None:
    """Accept an empty table of a known name. Raises ConfigError."""
    if entry.value != {}:
        hint = f"write [{entry.name}], and its settings in the lines below"
        if entry.source == "environment":
            example = next(name for name in setting_names(kind) if name.startswith(f"{entry.name}."))
            hint = f"set one variable for each setting, such as {variable_of(example)}"
        raise ConfigError(f"{entry.subject} is {shown(entry.raw)}, but must be a table", hint=hint)
    if entry.name not in (tables := groups_of(kind)):
        close = difflib.get_close_matches(entry.name, tables, n=1)
        raise _unknown("table", entry, close[0] if close else "", page)


def _unknown(kind: str, entry: SourceValue, nearest: str, page: str) -> ConfigError:
    hint = f"`hotlap docs {page}` lists all settings"
    if nearest:
        is_variable = entry.source == "environment"
        written = variable_of(nearest) if is_variable else f"[{nearest}]" if kind == "table" else nearest
        hint = f"did you mean {written}?"
    if entry.source == "file":
        written = f"[{entry.written}]" if kind == "table" else entry.written
        return ConfigError(f"{entry.place}: unknown {kind} {written}", hint=hint)
    return ConfigError(f"{entry.subject} does not name a {kind}", hint=hint)


def _nearest_table(tables: Iterable[str], name: str) -> str:
    """Return the table inside of another one whose name is nearest to a wrong one; "" if none is similar."""
    close = difflib.get_close_matches(name, [table for table in tables if "." in table], n=1, cutoff=0.8)
    return close[0] if close else ""


def _nearest(known: tuple[str, ...], name: str) -> str:
    """Return the setting whose name is nearest to a wrong one; "" if none is similar."""
    group, _, bare = name.rpartition(".")
    by_bare: dict[str, str] = {}
    for candidate in sorted(known, key=lambda other: not other.startswith(f"{group}.")):  # those of its table first
        by_bare.setdefault(candidate.rpartition(".")[2], candidate)
    if close_bare := difflib.get_close_matches(bare, by_bare, n=1):
        return by_bare[close_bare[0]]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return close[0] if close else ""


def _validated(kind: type[S], merged: Mapping[str, SourceValue], label: str) -> S:
    nested: dict[str, Any] = {}
    for name, entry in merged.items():
        *groups, key = name.split(".")
        table = nested
        for group in groups:
            table = table.setdefault(group, {})
        table[key] = entry.value
    try:
        return kind.model_validate(nested)
    except ValidationError as error:
        raise _invalid(kind, merged, error.errors(include_url=False)[0], label) from None


def _invalid(kind: type[BaseModel], merged: Mapping[str, SourceValue], error: ErrorDetails, label: str) -> ConfigError:
    problem = reason(kind, error)
    path = [str(part) for part in error["loc"][:3]]
    if ".".join(path) not in merged:
        path = path[:2]
    entry = merged.get(".".join(path))
    if error["type"] == "missing":
        return ConfigError(f"{label}: {'.'.join(path)} is missing", hint="add it")
    if entry is None:  # two settings contradict each other
        table = f"[{'.'.join(path)}]: " if path else ""
        return ConfigError(f"{label}: {table}{problem}", hint="correct one of them")
    schema = schema_of(kind, path)
    if schema.get("type") == "array" and error["type"] != "value_error":
        hint = list_hint(entry, schema)
    elif "enum" in schema and (close := difflib.get_close_matches(str(entry.value), schema["enum"], n=1)):
        hint = f'did you mean "{close[0]}"?'
    elif entry.source == "file" and schema.get("type") == "string" and not isinstance(entry.value, str):
        hint = f'texts need quotes: {path[-1]} = "{entry.value}"'
    else:
        default = schema.get("default")
        hint = "correct it or leave it out" + (
            f" (default: {shown(default)})" if default is not None and default != "" else ""
        )
    return ConfigError(f"{entry.subject} is {shown(entry.raw)}, but {problem}", hint=hint)
