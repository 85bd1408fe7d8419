"""The console command `hotlap`: check that the package `daemon` is Hotlap's, then run its command line."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from schemas.program.streams import open_standard_streams

CODE = "E_PACKAGE"
_COMMAND_LINE = "daemon.cli"
_MARKER = b"IS_HOTLAP"
"""A text that only Hotlap's daemon/__init__.py contains."""


def main() -> int:
    """Run the daemon's command line and return its exit code."""
    open_standard_streams()
    problem = package_problem()
    if problem:
        sys.stderr.write(f"hotlap: {problem} [{CODE}]\n")
        return 2
    try:
        # By name: only this command depends on the daemon; the rest of schemas does not.
        return int(import_module(_COMMAND_LINE).main())
    except KeyboardInterrupt:  # during the imports
        return 130


def package_problem() -> str:
    """Return the problem of the package `daemon` in one line with the remedy; empty if the package is Hotlap's.

    PyPI's python-daemon installs a package of the same name: its `daemon/__init__.py` replaces Hotlap's, and
    uninstalling it removes the file. So the file is read here before it is imported.
    """
    spec = find_spec("daemon")
    path = Path(spec.origin) if spec is not None and spec.origin else None
    if path is not None and _MARKER in path.read_bytes():
        return ""
    expected = Path(__file__).resolve().parents[2] / "daemon" / "__init__.py"
    cause = f"{expected} is missing" if path is None else f"{path} is not Hotlap's"
    return (
        f"{cause}: the package python-daemon was installed or removed in the same environment and uses the same name"
        f" -> run `{_quoted(sys.executable)} -m pip uninstall python-daemon`, then install hotlap again with"
        " --force-reinstall --no-deps; to keep both, install hotlap into its own environment (pipx, or uv tool)"
    )


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path
