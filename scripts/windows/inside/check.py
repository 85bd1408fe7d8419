"""Run by the Windows Python at the end of a setup: the packages are complete, and the heavy ones load.

Imports nothing of Hotlap: the script is started by its path.
"""

from __future__ import annotations

import importlib
import platform
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

LOADED = (
    "numpy",
    "pydantic",
    "orjson",
    "msgspec",
    "psutil",
    "watchdog.observers",
    "rich",
    "sqlite3",
    "torch",
    "pytest",
)


def missing_requirements() -> list[str]:
    """Return what the installed packages require on Windows and do not find."""
    from packaging.requirements import Requirement

    missing = []
    for package in metadata.distributions():
        for line in package.requires or []:
            requirement = Requirement(line)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            try:
                version = metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                missing.append(f"{package.name} needs {requirement}")
                continue
            if not requirement.specifier.contains(version, prereleases=True):
                missing.append(f"{package.name} needs {requirement}, {version} is installed")
    return missing


def main() -> int:
    """Print the problems; return 1 if one was found, else 0."""
    problems = missing_requirements()
    for name in LOADED:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  # each failure is printed
            problems.append(f"import {name}: {error!r}")
        print(f"loaded {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "a")
        source.write_text("x", encoding="utf-8")
        shutil.copy2(source, Path(folder, "b"))  # CopyFile2 would end the program here
    import numpy

    if numpy.sqrt(numpy.complex128(-4)) != 2j:
        problems.append("numpy computes a wrong complex root")
    for problem in problems:
        print(f"problem: {problem}", flush=True)
    print(f"{platform.system()} {platform.version()}, Python {platform.python_version()}", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
