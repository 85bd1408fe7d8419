"""What this machine must have: Linux on x86-64, Wine and the mingw compiler. Installs the latter two with apt."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from typing import TYPE_CHECKING

from scripts.windows.progress import SetupError, Unavailable, run_program

if TYPE_CHECKING:
    from scripts.windows.cache import Cache
    from scripts.windows.progress import Progress

COMPILER = "x86_64-w64-mingw32-gcc"
OBJDUMP = "x86_64-w64-mingw32-objdump"
PROGRAMS = ("wine", "wineserver", COMPILER, OBJDUMP)
APT_PACKAGES = ("wine", "wine64", "gcc-mingw-w64-x86-64-win32")
APT_INSTALL = f"apt-get install -y --no-install-recommends {' '.join(APT_PACKAGES)}"

#: A pattern in the output of apt-get and the message: cause, remedy. The first match is used.
APT_FAILURES = {
    r"No space left|not enough free space": "the disk is too full for Wine (1.1 GB): free some and run this again",
    r"Could not get lock|Unable to acquire the dpkg": "another apt is running: wait for its end and run this again",
    r"Unable to locate package|has no installation candidate": (
        "apt has no package {packages} here: add a source that has them (Debian's `main`) and run this again"
    ),
    r"Could not resolve|Temporary failure|Failed to fetch|Could not connect|Unable to fetch|Network is unreachable": (
        "apt does not reach its servers: connect to the network (or set http_proxy) and run this again"
    ),
}


def check_system(system: str, machine: str) -> None:
    """Raise Unavailable if this is not Linux on x86-64."""
    if system == "Windows":
        raise Unavailable("this is Windows: run `python scripts/dev.py test` instead")
    if system != "Linux":
        raise Unavailable(f"this needs Debian or Ubuntu, and this is {system}: use a virtual machine or a container")
    if machine.lower() not in {"x86_64", "amd64"}:
        raise Unavailable(f"this needs a processor of the kind x86_64, and this is {machine}: use another machine")


def missing_programs() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def can_install(missing: list[str]) -> None:
    """Raise Unavailable if the missing programs cannot be installed from here."""
    what = ", ".join(missing)
    if shutil.which("apt-get") is None:
        raise Unavailable(
            f"not installed: {what}. This system has no apt-get: "
            "install 64-bit Wine and the mingw-w64 gcc with its package manager, then run this again"
        )
    if sys.platform != "win32" and os.geteuid() != 0:
        raise Unavailable(f"not installed: {what}. Run `sudo {APT_INSTALL}`, then run this again")


def explain_apt(output: str) -> SetupError:
    """Return the error for a failed apt-get: one line."""
    for pattern, message in APT_FAILURES.items():
        if re.search(pattern, output):
            return Unavailable(message.format(packages=", ".join(APT_PACKAGES)))
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["apt-get failed without output"]
    errors = [line for line in lines if line.startswith(("E:", "dpkg: error"))] or lines
    return Unavailable(f"{errors[-1]} (`{APT_INSTALL}` shows more)")


def ensure_programs(cache: Cache, progress: Progress) -> None:
    """Install Wine and the compiler if they are missing. Raises Unavailable if that is not possible."""
    check_system(platform.system(), platform.machine())
    missing = missing_programs()
    if not missing:
        return
    can_install(missing)
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C")
    argv = [*APT_INSTALL.split(), "-o", "DPkg::Lock::Timeout=60"]
    with progress.step("apt", f"apt: installing {', '.join(APT_PACKAGES)} (1.1 GB on disk)"):
        code, output = run_program(argv, progress, env=env, describe=describe_apt)
        if code and re.search(r"Unable to locate package|no installation candidate|404 +Not Found", output):
            progress.detail = "updating the package lists"
            code, listing = run_program(["apt-get", "update"], progress, env=env)
            if code == 0:
                code, output = run_program(argv, progress, env=env, describe=describe_apt)
            else:
                output += "\n" + listing
        cache.append_log("apt", output)
    if code:
        raise explain_apt(output)
    still = missing_programs()
    if still:
        raise Unavailable(f"still missing after `{APT_INSTALL}`: {', '.join(still)}. Install them, then run this again")


def describe_apt(line: str) -> str:
    """Return what a line of apt's output is about, or ""."""
    found = re.match(r"(Get:\d+|Unpacking|Setting up) (.*)", line)
    if not found:
        return ""
    if found[1].startswith("Get:"):
        return "fetching " + " ".join(found[2].split()[3:4])
    return f"{found[1].lower()} {found[2].split()[0]}"
