"""The Pythons on this machine that Hotlap supports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.devtools.checkout import NEWEST, OLDEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ASK = "import sys; print(sys.version_info[0], sys.version_info[1], sys.executable); import ensurepip, venv"


def ask(argv: list[str]) -> tuple[int, str]:
    """Start a Python and return its minor version and path. (0, reason) if it cannot create an environment."""
    try:
        done = subprocess.run([*argv, "-c", _ASK], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 0, str(error)
    found = re.match(r"3 (\d+) (.+)", done.stdout.decode("utf-8", "replace"))
    if not found:  # for example a shim of pyenv whose version is not selected
        return 0, "it does not start"
    version = f"3.{found.group(1)}"
    if done.returncode:
        return 0, f"it has no venv module (on Debian or Ubuntu: sudo apt install python{version}-venv)"
    return int(found.group(1)), found.group(2).strip()


def pyenv_folders() -> list[Path]:
    """Return the folders of the Pythons that pyenv installed, the newest version first."""
    given = os.environ.get("PYENV_ROOT") or os.environ.get("PYENV")  # the second is set on Windows
    root = Path(given) if given else Path("~/.pyenv").expanduser()
    folders = (root / "versions").glob("3.*")
    numbered = [
        (tuple(map(int, folder.name.split("."))), folder)
        for folder in folders
        if re.fullmatch(r"3\.\d+\.\d+", folder.name)
    ]
    return [folder for _, folder in sorted(numbered, reverse=True)]


def candidates(minor: int, which: Callable[[str], str | None] = shutil.which) -> Iterator[list[str]]:
    """Return the command lines that could start Python 3.`minor`."""
    if minor == sys.version_info[1]:
        yield [sys.executable]
    found = which(f"python3.{minor}")
    if found:
        yield [found]
    for folder in pyenv_folders():
        if folder.name.startswith(f"3.{minor}."):
            yield [str(folder / ("python.exe" if os.name == "nt" else "bin/python"))]
    launcher = which("py") if os.name == "nt" else None
    if launcher:
        yield [launcher, f"-3.{minor}"]


def find_interpreters(
    find: Callable[[int], Iterator[list[str]]] = candidates, asks: Callable[[list[str]], tuple[int, str]] = ask
) -> tuple[dict[str, str], list[str]]:
    """Return version -> path of one Python for each supported version, and a line for each that cannot be used."""
    pythons, problems = {}, []
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        for argv in find(minor):
            answer, text = asks(argv)
            if answer == minor:
                pythons[f"3.{minor}"] = text
                break
            if "venv module" in text:
                problems.append(f"{' '.join(argv)} is skipped: {text}")
    return pythons, problems
