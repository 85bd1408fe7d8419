"""Wine prefixes: one that is made once, and for each run a copy that is removed with its processes at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.windows.cache import digest_of
from scripts.windows.progress import SetupError, run_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.windows.cache import Cache
    from scripts.windows.progress import Progress

WINDOWS_VERSION = "win10"
OVERRIDES = "mscoree,mshtml,winemenubuilder.exe=;ucrtbase=n,b;wucrt=n"  #: ours before Wine's; no menus, no browser
#: Microsoft's runtime for C++: with Wine's, some exceptions of torch damage the heap. No debugger: with it, a crashed
#: program has exit code 0. A prefix does not depend on these.
RUN_OVERRIDES = (
    "vcruntime140,vcruntime140_1,msvcp140,msvcp140_1,msvcp140_2,msvcp140_atomic_wait,concrt140=n,b;winedbg.exe="
)
END_S = 15.0  #: for `wineserver -k`

#: Variables that Windows Python does not get: they are about Linux, or about Linux's Python.
DROPPED = ("PYTHON", "OPENBLAS_", "VIRTUAL_ENV", "XDG_", "PIP_", "WINE", "LD_", "DISPLAY", "WAYLAND_DISPLAY",
           "HOTLAP_WINDOWS_CACHE")  # fmt: skip


def environment(cache: Cache, prefix: Path) -> dict[str, str]:
    """Return the variables for a Windows program in a prefix."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
    env.update(
        WINEPREFIX=str(prefix),
        WINEARCH="win64",
        WINEDEBUG="-all",
        WINEDLLOVERRIDES=f"{OVERRIDES};{RUN_OVERRIDES}",
        HOME=str(cache.home),
        KMP_AFFINITY="disabled",  # otherwise torch's OpenMP calls a function that Wine lacks, and ends the program
        PYTHONPYCACHEPREFIX=windows_path(cache.bytecode),
        HYPOTHESIS_STORAGE_DIRECTORY=windows_path(cache.folder / "hypothesis"),
    )
    return env


def windows_path(path: Path) -> str:
    """Return how Windows programs name a path: Z: is the root of the file system."""
    return "Z:" + str(path.absolute()).replace("/", "\\")


def wine_version() -> str:
    """Return Wine's version. Raises SetupError if Wine does not start."""
    try:
        done = subprocess.run(["wine", "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"`wine --version` does not work: {error}") from error
    if done.returncode:
        raise SetupError(f"`wine --version` failed: {(done.stderr or done.stdout).strip() or done.returncode}")
    return done.stdout.strip()


def prefix_digest(version: str) -> str:
    """Return a hash of what a prefix depends on."""
    return digest_of(version, WINDOWS_VERSION, OVERRIDES)


def ensure_prefix(cache: Cache, version: str, progress: Progress) -> None:
    """Make the prefix that runs get a copy of, unless it exists for this version of Wine."""
    digest = prefix_digest(version)
    if cache.is_finished("prefix", digest) and (cache.prefix / "system.reg").is_file():
        return
    with progress.step("prefix", f"{version}: making a prefix"):
        cache.write_stamp("prefix", None)
        new = cache.folder / "prefix.new"
        for path in (new, cache.prefix):
            end_processes(cache, path)
            shutil.rmtree(path, ignore_errors=True)
        new.mkdir()  # Wine does not create the folders above a prefix
        env = environment(cache, new)
        try:
            for argv in (["wine", "wineboot", "-i"], ["wine", "winecfg", "-v", WINDOWS_VERSION]):
                code, output = run_program(argv, progress, env=env)
                cache.append_log(" ".join(argv), output)
                if code:
                    raise SetupError(f"`{' '.join(argv)}` failed with exit code {code}: see {cache.log}")
            wait_for_end(env)
        finally:
            end_processes(cache, new)
        if not (new / "system.reg").is_file():
            raise SetupError(f"Wine made no registry in {new}: see {cache.log}")
        replace_links(new)
        new.rename(cache.prefix)
    cache.write_stamp("prefix", digest, progress.durations_s["prefix"])


def wait_for_end(env: dict[str, str]) -> None:
    """Wait until Wine has written the registry, which it does at the end of its last process."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["wineserver", "-w"], env=env, timeout=60, check=False, stdin=subprocess.DEVNULL)


def replace_links(prefix: Path) -> None:
    """Replace links to folders of this machine, such as Documents, by folders: each run has its own."""
    for folder, names, _ in os.walk(prefix / "drive_c" / "users"):
        for path in (Path(folder, name) for name in names):
            if path.is_symlink():
                path.unlink()
                path.mkdir()


def end_processes(cache: Cache, prefix: Path) -> None:
    """End all Windows processes of one prefix, and of no other one."""
    if not prefix.is_dir():
        return
    with contextlib.suppress(subprocess.TimeoutExpired, OSError):
        subprocess.run(
            ["wineserver", "-k"],
            env=environment(cache, prefix),
            timeout=END_S,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def copy_prefix(source: Path, target: Path) -> None:
    """Copy a prefix: programs as links to the same files, the registry and the users' folders as copies."""

    def place(name: str, copy: str) -> str:
        if "/drive_c/windows/" in name or "/drive_c/Program Files" in name:
            os.link(name, copy)
        else:
            shutil.copy2(name, copy)
        return copy

    shutil.copytree(source, target, symlinks=True, copy_function=place)


@contextlib.contextmanager
def prefix_of_a_run(cache: Cache) -> Iterator[Path]:
    """Return a prefix for one run. At the end its processes are ended and it is removed."""
    remove_stale(cache)
    name = f"run-{os.getpid()}"
    folder = cache.runs / name
    with hold(cache.runs / f"{name}.lock") as held:
        if not held:
            raise SetupError(f"{folder} is in use by another run: run this again")
        try:
            copy_prefix(cache.prefix, folder)
            yield folder
        finally:
            end_processes(cache, folder)
            shutil.rmtree(folder, ignore_errors=True)
            (cache.runs / f"{name}.lock").unlink(missing_ok=True)


def remove_stale(cache: Cache) -> None:
    """End and remove the prefixes of killed runs. The system has released their locks."""
    for lock in sorted(cache.runs.glob("run-*.lock")):
        with hold(lock) as held:
            if held:
                end_processes(cache, lock.with_suffix(""))
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)


@contextlib.contextmanager
def hold(lock: Path) -> Iterator[bool]:
    """Lock a file if it is free; return whether it was free."""
    if sys.platform == "win32":
        raise SetupError("this command runs on Debian only")
    import fcntl

    with lock.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
