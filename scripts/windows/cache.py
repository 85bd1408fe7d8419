"""The cache folder: its paths, the stamps of finished steps, and the locks between runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.windows.progress import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from scripts.windows.progress import Progress

NEEDED_GB = 4.0  #: free space for a new environment; the finished one takes about half of it


def cache_folder(env: Mapping[str, str] | None = None) -> Path:
    """Return HOTLAP_WINDOWS_CACHE, or hotlap-windows in the user's cache folder."""
    env = os.environ if env is None else env
    own = env.get("HOTLAP_WINDOWS_CACHE", "").strip()
    if own:
        return Path(own).expanduser().absolute()
    base = env.get("XDG_CACHE_HOME", "").strip()
    return (Path(base) if base else Path.home() / ".cache").absolute() / "hotlap-windows"


class Cache:
    """The paths in the cache folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "python"  #: the Windows CPython with its packages
        self.executable = self.python / "python.exe"
        self.site_packages = self.python / "Lib" / "site-packages"
        self.prefix = folder / "prefix"  #: the Wine prefix that each run gets a copy of
        self.home = folder / "home"  #: replaces the home folder, so that Wine makes no links to the real one
        self.bytecode = folder / "bytecode"  #: .pyc files, so that none are written into the checkout
        self.downloads = folder / "downloads"
        self.runs = folder / "runs"
        self.log = folder / "setup.log"
        self.stamps = folder / "stamps.json"

    def create(self) -> None:
        """Create the folder. Raises SetupError if that is not possible or the disk is too full."""
        try:
            for path in (self.folder, self.home, self.bytecode, self.downloads, self.runs):
                path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(
                f"{self.folder} cannot be created ({error.strerror}): set HOTLAP_WINDOWS_CACHE to a folder of yours"
            ) from error

    def check_space(self) -> None:
        """Raise SetupError if a new environment does not fit on the disk."""
        free_gb = shutil.disk_usage(self.folder).free / 1e9
        if free_gb < NEEDED_GB:
            raise SetupError(
                f"{free_gb:.1f} GB free at {self.folder}, {NEEDED_GB} GB are needed: "
                "free some space, or set HOTLAP_WINDOWS_CACHE to a folder on another disk"
            )

    def append_log(self, title: str, output: str) -> None:
        """Add the output of a step's program to the log."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"--- {title}\n{output}\n")

    # --- stamps

    def stamp(self, step: str) -> dict[str, Any]:
        """Return what was recorded when the step was finished, or {}. A damaged file counts as none."""
        try:
            found = json.loads(self.stamps.read_text(encoding="utf-8"))[step]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return found if isinstance(found, dict) else {}

    def is_finished(self, step: str, digest: str) -> bool:
        """Return whether the step was finished with these inputs."""
        return bool(digest) and self.stamp(step).get("digest") == digest

    def write_stamp(self, step: str, digest: str | None, took_s: float = 0.0) -> None:
        """Record that the step is finished, or with None that it has to be repeated. Replaces the file at once."""
        try:
            stamps = json.loads(self.stamps.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            stamps = {}
        stamps = stamps if isinstance(stamps, dict) else {}
        if digest is None:
            if step not in stamps:
                return
            del stamps[step]
        else:
            stamps[step] = {"digest": digest, "took_s": round(took_s, 1)}
        new = self.stamps.with_name(self.stamps.name + ".new")
        new.write_text(json.dumps(stamps, indent=1), encoding="utf-8")
        new.replace(self.stamps)

    def size_bytes(self) -> int:
        """Return the space that the folder takes on the disk; a file with several names counts once."""
        seen: set[int] = set()
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                try:
                    status = os.lstat(os.path.join(folder, name))  # noqa: PTH118  # thousands of files
                except OSError:  # another run just removed it
                    continue
                if status.st_ino not in seen:
                    seen.add(status.st_ino)
                    total += getattr(status, "st_blocks", 0) * 512  # Windows has none
        return total

    # --- locks

    @contextlib.contextmanager
    def lock(self, shared: bool, progress: Progress) -> Iterator[None]:
        """Lock the folder: shared while a program runs in it, exclusively while it is changed."""
        with open_locked(self.folder / "lock", shared, progress):
            yield


@contextlib.contextmanager
def open_locked(path: Path, shared: bool, progress: Progress) -> Iterator[None]:
    """Hold a lock on a file, and report every ten seconds while another process holds it."""
    if sys.platform == "win32":
        raise SetupError("this command runs on Debian only")
    import fcntl

    mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    with path.open("a", encoding="utf-8") as file:
        waited = 0
        while True:
            try:
                fcntl.flock(file, mode)
                break
            except BlockingIOError:
                if waited % 50 == 0:
                    progress.say(f"another run uses {path.parent}: waiting for its end (Ctrl-C stops)")
                waited += 1
                time.sleep(0.2)
        yield


def digest_of(*parts: object) -> str:
    """Return a hash of the inputs of a step."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or "" if it does not exist."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
