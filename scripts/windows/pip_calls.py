"""Download files with pip, and turn its failures into one line."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from scripts.windows.progress import SetupError, Unavailable, run_program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.windows.cache import Cache
    from scripts.windows.progress import Progress

NO_NETWORK = re.compile(
    r"name resolution|getaddrinfo|NewConnectionError|Failed to establish|Network is unreachable|ProxyError"
    r"|NameResolutionError|[Tt]imed out|Connection (?:refused|reset|aborted)|RemoteDisconnected|IncompleteRead"
)
NO_MATCH = re.compile(r"No matching distribution found for (\S+)")
NO_SPACE = re.compile(r"No space left on device|Errno 28")
WRONG_HASH = re.compile(r"DO NOT MATCH THE HASHES")


def download(cache: Cache, arguments: Sequence[str], progress: Progress) -> None:
    """Run `pip download` into the download folder. Raises SetupError."""
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--no-deps"]
    argv = [sys.executable, "-m", "pip", "download", *quiet, "-d", str(cache.downloads), *arguments]
    env = {name: value for name, value in os.environ.items() if name != "PIP_REQUIRE_VIRTUALENV"}
    code, output = run_program(argv, progress, env=dict(env, PYTHONUTF8="1"), describe=describe_line)
    cache.append_log("pip download", output)
    if code:
        raise explain(output, cache)


def describe_line(line: str) -> str:
    """Return what a line of pip's output is about, or ""."""
    found = re.match(r"\s*(?:Downloading|Using cached) (?:\S*/)?([\w.]+)-([\w.]+)\S*( \(\d.*\))?", line)
    return f"fetching {found[1]} {found[2]}{found[3] or ''}" if found else ""


def explain(output: str, cache: Cache) -> SetupError:
    """Return the error for a failed download. A missing network is checked first: pip then also finds no match."""
    if NO_SPACE.search(output):
        return SetupError(
            f"the disk of {cache.folder} or of the temporary folder is full: free a few GB, run this again"
        )
    if WRONG_HASH.search(output):
        return SetupError(f"a download does not have the expected checksum: see {cache.log}, then run this again")
    if NO_NETWORK.search(output):
        return Unavailable(
            "the package index did not answer: connect to the network (or set HTTPS_PROXY) and run this again"
        )
    if "No module named pip" in output:
        return SetupError(f"{sys.executable} has no pip: run `python scripts/dev.py setup`, then this again")
    found = NO_MATCH.search(output)
    if found:
        return SetupError(f"the package index has no {found[1]} for Windows: see constraints.txt, then run this again")
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["pip failed without output"]
    errors = [line for line in lines if line.lower().startswith("error")] or lines
    return SetupError(f"{errors[-1]} (pip's output is in {cache.log})")
