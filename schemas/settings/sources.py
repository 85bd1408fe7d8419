"""The sources of settings: a TOML file, environment variables, flags."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from schemas.errors import ConfigError, HotlapError
from schemas.settings.allowed import example_list, schema_of
from schemas.storage.files import read_with_retries
from schemas.storage.windows_paths import real_path, shown_path

PREFIX = "HOTLAP_"
_NOT_SETTINGS = frozenset({"HOTLAP_RUN_TOKEN", "HOTLAP_FAILPOINT", "HOTLAP_WINDOWS_CACHE"})
_LIMIT_BYTES = 1 << 20
_AT_LINE = re.compile(r"(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)")
_SUBJECTS = {"file": "{place}: {written}", "environment": "the environment variable {written}", "flags": "{written}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceValue:
    """A value for one setting, with its name and form in the source."""

    name: str  #: dotted, such as `trainer.epochs`
    value: Any
    raw: Any  #: as it was written: the text of a variable, not its items
    source: str  #: "file", "environment" or "flags"
    written: str  #: `trainer.epochs`, `HOTLAP_TRAINER__EPOCHS` or `--epochs`
    place: str = ""  #: `daemon.toml, line 3`

    @property
    def subject(self) -> str:
        """Return the beginning of a message about this value."""
        return _SUBJECTS[self.source].format(place=self.place, written=self.written)


def from_file(path: Path, label: str, tables: Collection[str] = ()) -> list[SourceValue]:
    """Return the values in a TOML file, which messages call `label`. Raises ConfigError.

    `tables` are the dotted names of tables inside of tables.
    """
    text = read_text(path, label)
    return [
        SourceValue(name=name, value=value, raw=value, source="file", written=name, place=_place(text, name, label))
        for name, value in _flat(_parsed(text, label), tables)
    ]


def from_environment(kind: type[BaseModel], environment: Mapping[str, str]) -> list[SourceValue]:
    """Return the values of the variables that begin with HOTLAP_. Raises ConfigError."""
    values = []
    for variable, text in environment.items():
        if variable.upper().startswith(PREFIX) and variable.upper() not in _NOT_SETTINGS:
            name = variable[len(PREFIX) :].lower().replace("__", ".")
            value = _items(text) if schema_of(kind, name.split(".")).get("type") == "array" else text
            values.append(SourceValue(name=name, value=value, raw=text, source="environment", written=variable))
    return values


def from_flags(flags: Mapping[str, Any] | None, flag_names: Mapping[str, str] | None) -> list[SourceValue]:
    """Return the values of the flags that are not None. By default, flags are named after their settings."""
    return [
        SourceValue(
            name=name, value=value, raw=value, source="flags", written=(flag_names or {}).get(name) or _flag(name)
        )
        for name, value in (flags or {}).items()
        if value is not None
    ]


def variable_of(name: str) -> str:
    """Return the environment variable of a setting: `HOTLAP_TRAINER__EPOCHS` for `trainer.epochs`."""
    return PREFIX + name.replace(".", "__").upper()


def list_hint(entry: SourceValue, schema: Mapping[str, Any]) -> str:
    """Return how to write a list in the source of this value."""
    items = example_list(schema)
    if entry.source == "file":
        return f"write it in square brackets, such as {entry.name.rpartition('.')[2]} = {json.dumps(items)}"
    return f"separate its items with commas, such as {entry.written}={','.join(map(str, items))}"


def _flag(name: str) -> str:
    return "--" + name.rpartition(".")[2].replace("_", "-")


def _items(text: str) -> Any:
    """Return the items of a list, written as JSON or separated by commas; the text itself if it is broken JSON."""
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return [item.strip() for item in text.strip().removesuffix(",").split(",")] if text.strip() else []


def read_text(path: Path, label: str) -> str:
    """Return the text of a settings file, which messages call `label`. Raises ConfigError."""
    try:
        return read_with_retries(real_path(path), limit=_LIMIT_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"the settings file {shown_path(path)} does not exist", hint="correct --config") from None
    except HotlapError as error:
        raise ConfigError(f"{label} cannot be read: {error.message}", hint="write a small text file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{label} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from None
    except (OSError, RuntimeError) as error:  # a link to itself is a RuntimeError in older Pythons
        problem = getattr(error, "strerror", None) or error
        raise ConfigError(f"{label} cannot be read: {problem}", hint="correct its permissions") from None


def _parsed(text: str, label: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{label} is nested too deeply", hint="use tables of one level, such as [trainer]") from None
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        found = _AT_LINE.fullmatch(str(error))
        place = f"{label}, line {found[2]}, column {found[3]}" if found and found[2] else label
        raise ConfigError(
            f"{place} is not valid TOML: {found[1] if found else error}", hint='texts need quotes: device = "cpu"'
        ) from None


def _flat(document: Mapping[str, Any], tables: Collection[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names of the values in tables, and bare names of all other values, also of empty tables."""
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and (not prefix or name in tables):
            yield from _flat(value, tables, f"{name}.")
        else:
            yield name, value


def _place(text: str, name: str, label: str) -> str:
    """Return the place of a setting in the file, such as `daemon.toml, line 3`."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[{1,2}\s*([^\[\]]+?)\s*\]", line):
            table = header[1].strip("\"' ")
            is_here = table == name
        else:
            found = re.match(r"""\s*["']?([\w.\- ]+?)["']?\s*=""", line)
            is_here = found is not None and f"{table}.{found[1].replace(' ', '')}".removeprefix(".") == name
        if is_here:
            return f"{label}, line {number}"
    table = name.rpartition(".")[0]
    return _place(text, table, label) if "." in table else label  # in a table that is written on one line
