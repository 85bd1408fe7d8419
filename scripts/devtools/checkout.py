"""The checkout: its virtual environments, its pins, and what was installed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OLDEST, NEWEST = (3, 11), (3, 14)  #: every pinned package has builds for these Pythons


class SetupError(Exception):
    """Something that the user can fix. The message is one line: the cause, then the remedy."""


class Checkout:
    """The checkout, one virtual environment in it, and the Python that the environment is created with."""

    def __init__(self, root: Path, name: str = ".venv", interpreter: str = sys.executable) -> None:
        self.root = root
        self.interpreter = interpreter
        self.venv = root / name
        self.python = self.venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.config = self.venv / "pyvenv.cfg"
        self.constraints = root / "constraints.txt"
        self.stamp = self.venv / "hotlap-setup.json"
        self.log = self.venv / "hotlap-setup.log"

    def version(self) -> tuple[int, ...]:
        """Return the venv's Python version, or () if it does not state one."""
        text = self.config.read_text(encoding="utf-8", errors="replace") if self.config.exists() else ""
        found = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", text, re.MULTILINE)
        return tuple(map(int, found.groups())) if found else ()

    def pins(self) -> dict[str, str]:
        """Return the exact versions in constraints.txt by name."""
        lines = self.constraints.read_text(encoding="utf-8").splitlines()
        return {name: rest.strip() for name, found, rest in (line.partition("==") for line in lines) if found}

    def digest(self) -> str:
        """Return a hash of everything that determines the installation: both lists, the path, the venv's Python."""
        lists = [(self.root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
        place = f"{self.root}\0{self.version()}".encode("utf-8", "replace")
        return hashlib.sha256(b"\0".join([*lists, place]).replace(b"\r\n", b"\n")).hexdigest()

    def read_stamp(self) -> tuple[str, frozenset[str]]:
        """Return digest and extras of the last complete installation; empty if the stamp is missing or damaged."""
        try:
            stamp = json.loads(self.stamp.read_text(encoding="utf-8"))
            return str(stamp["digest"]), frozenset(map(str, stamp["extras"]))
        except (OSError, ValueError, KeyError, TypeError):
            return "", frozenset()

    def write_stamp(self, extras: frozenset[str]) -> None:
        """Write the stamp, completely or not at all."""
        new = self.stamp.with_name(self.stamp.name + ".new")
        new.write_text(json.dumps({"digest": self.digest(), "extras": sorted(extras)}), encoding="utf-8")
        new.replace(self.stamp)


def check_python(version: Sequence[int], which: Callable[[str], str | None] = shutil.which) -> None:
    """Raise SetupError if Python is too old; the message names a newer one on this machine."""
    if tuple(version[:2]) < OLDEST:
        newer = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1) if which(f"python3.{minor}")]
        remedy = f"run this with {newer[0]}" if newer else "install a newer one from python.org and run this with it"
        wanted = ".".join(map(str, OLDEST))
        raise SetupError(f"Python {version[0]}.{version[1]} is too old, Hotlap needs {wanted}: {remedy}")
