"""The import path of child processes: Hotlap's packages, but not the current folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CODE_ROOT = Path(__file__).resolve().parents[2]
"""The folder that contains the packages daemon, schemas and trainer."""
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def console_python(python: str) -> str:
    """Return python.exe for pythonw.exe, which has no console: each program that it starts would open a window."""
    path = Path(python)
    if path.stem.lower().startswith("pythonw"):
        named = path.with_name(f"python{path.name[len('pythonw') :]}")
        if named.is_file():
            return str(named)
    return python


PYTHON = console_python(sys.executable)
"""The Python that runs children, and that messages name: the one that runs this process."""


def module_command(module: str, *arguments: str, python: str = "") -> tuple[str, ...]:
    """Return the command that runs a module of Hotlap. With `-P` Python does not search the current folder first."""
    return (python or PYTHON, "-P", "-m", module, *arguments)


def import_path(
    *, python: str = "", extra: Sequence[Path] = (), environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return PYTHONPATH for a child, as a part of its environment; empty if the child does not need it.

    Hotlap's folder comes first, unless the child's Python has it installed: site-packages in PYTHONPATH would come
    before the standard library. Inherited entries that are empty or relative depend on the current folder, so they are
    left out.
    """
    variables = os.environ if environment is None else environment
    is_installed = CODE_ROOT.name in _INSTALLED and python in {"", PYTHON, sys.executable}
    own = [*(() if is_installed else (str(CODE_ROOT),)), *map(str, extra)]
    inherited = [entry for entry in variables.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]  # noqa: PTH117
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys([*own, *inherited]))} if own or inherited else {}


def child_environment(*, python: str = "", extra: Sequence[Path] = ()) -> dict[str, str]:
    """Return this process's environment with a PYTHONPATH for a module of Hotlap."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return inherited | import_path(python=python, extra=extra)
