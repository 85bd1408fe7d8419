"""The configs and example experts that come with Hotlap: found by name, also in an installed package."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import ConfigError
from schemas.program.children import CODE_ROOT
from schemas.program.parser import nearest

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(name: str) -> Path:
    """Return the folder `configs` or `examples`: that of the installed package, else that of the checkout."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else CODE_ROOT / name


def shipped_configs(suffix: str, *, prefix: str = "") -> dict[str, Path]:
    """Return the shipped configs by name: the file's, without its suffix and prefix."""
    found = sorted(shipped_folder("configs").glob(f"{prefix}*{suffix}"))
    return {path.stem.removeprefix(prefix): path for path in found}


def find_config(given: Path, suffix: str, *, flag: str, prefix: str = "") -> tuple[Path, bool]:
    """Return the config that a flag names, and whether it is a shipped one.

    A file that exists is taken as it is; otherwise the name of a shipped config is. Raises ConfigError.
    """
    if given.is_file():
        return given, False
    known = shipped_configs(suffix, prefix=prefix)
    name = given.stem.removeprefix(prefix)
    if str(given) == given.name and name in known and given.suffix in {"", suffix}:
        return known[name], True
    close = nearest(name, known)
    hint = f"did you mean {flag} {close}?" if close else f"name a file, or one of: {', '.join(known)}"
    raise ConfigError(f"{flag} {given}: there is no such file, and no config of this name comes with Hotlap", hint=hint)
