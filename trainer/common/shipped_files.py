"""The configs and example experts of Hotlap, from the checkout or from the installed package."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import ConfigError
from schemas.program.children import CODE_ROOT
from schemas.program.parser import nearest
from schemas.storage.windows_paths import shown_path

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(name: str) -> Path:
    """Return the folder `configs` or `examples`: that of the installed package, else that of the checkout."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else CODE_ROOT / name


def shipped_configs(suffix: str, *, prefix: str = "") -> dict[str, Path]:
    """Return the paths of the configs by name: the file name without suffix and prefix."""
    found = sorted(shipped_folder("configs").glob(f"{prefix}*{suffix}"))
    return {path.stem.removeprefix(prefix): path for path in found}


def find_config(name_or_path: Path, suffix: str, *, flag: str, prefix: str = "") -> tuple[Path, bool]:
    """Return the config that a flag names, and whether it is one of Hotlap's own configs.

    An existing file has priority over the name of a config. Raises ConfigError.
    """
    if name_or_path.is_file():
        return name_or_path, False
    known = shipped_configs(suffix, prefix=prefix)
    name = name_or_path.stem.removeprefix(prefix)
    if str(name_or_path) == name_or_path.name and name in known and name_or_path.suffix in {"", suffix}:
        return known[name], True
    nearest_name = nearest(name, known)
    hint = (
        f"did you mean {flag} {nearest_name}?"
        if nearest_name
        else f"use the path of a file, or one of: {', '.join(known)}"
    )
    raise ConfigError(
        f"{flag} {shown_path(name_or_path)}: neither a file nor a config of Hotlap has this name", hint=hint
    )
