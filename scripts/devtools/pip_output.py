"""Summaries of pip's output: short progress lines, and one line for a failure."""

from __future__ import annotations

import platform
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from scripts.devtools.progress_line import ProgressLine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scripts.devtools.checkout import Checkout

#: A pattern in the output of pip or venv, and the message: cause, remedy. The first match is used. Without a network
#: pip also ends with "no matching distribution", so that pattern is the last.
KNOWN_FAILURES = {
    r"No space left on device|Errno 28|not enough space on the disk|WinError 112": (
        "the disk of {venv} or of the temporary folder is full: free a few GB and run this again"
    ),
    r"ensurepip is not available|No module named '?(?:ensurepip|venv)": (
        "this Python has no venv module: on Debian or Ubuntu `sudo apt install python{python}-venv`, "
        "elsewhere install Python from python.org; then run this again"
    ),
    r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|SSLError": (
        "the package index's certificate is not trusted here: behind a company proxy set PIP_CERT to its certificate"
    ),
    r"name resolution|getaddrinfo|nodename nor|NewConnectionError|Failed to establish|Network is unreachable|ProxyError"
    r"|NameResolutionError|[Tt]imed out|Connection (?:refused|reset|aborted)|RemoteDisconnected|IncompleteRead": (
        "the package index did not answer: connect to the network (or set HTTPS_PROXY) and run this again"
    ),
    r"Permission denied|Access is denied|WinError (?:5|32)\b|Errno 13": (
        "files in {venv} are in use or not yours: stop the programs in it, or delete that folder; then run this again"
    ),
    r"(?:No matching distribution found for|requested \(constraint\)) (\S+)": (
        "the package index has no {what} for Python {python} on {machine}: use a 64-bit Python 3.11 to 3.14 "
        "(on a Mac: Apple silicon), delete {venv} and run this again; pip's output is in {log}"
    ),
}


class SetupProgress:
    """What the setup does now, as a progress line."""

    def __init__(self, out: Any = None, now: Callable[[], float] = time.monotonic) -> None:
        self._line = ProgressLine(out, now)
        self.doing = "starting"

    def tick(self) -> None:
        """Show the current action if the last line is old enough."""
        if self._line.is_due():
            self.show(self.doing, final=False)

    def show(self, text: str, *, final: bool = True) -> None:
        """Show a line now."""
        self.doing = text
        self._line.write(f"[setup] {text} ... {self._line.elapsed_s():.0f} s", final=final)


def describe_line(line: str, pins: dict[str, str]) -> str:
    """Return a short text for a line of pip's output, or "" if the line is not shown."""
    if line.startswith("Installing collected packages:"):
        return "installing " + summarise_packages(line.partition(":")[2].split(","), pins)
    found = re.match(r"\s*(?:Downloading|Using cached|Processing) (?:\S*[/\\])?([\w.]+)-([\w.]+)\S*( \(\d.*\))?", line)
    if found:
        return f"fetching {found[1]} {found[2]}{found[3] or ''}"
    found = re.match(r"Collecting ([\w.-]+)", line)
    return f"looking up {found[1]}" if found else ""


def summarise_packages(names: Sequence[str], pins: dict[str, str]) -> str:
    """Return the largest package and the number of others: torch 2.13.0 and 7 more."""
    known = [name.strip() for name in names if name.strip() not in {"", "hotlap"}]
    if not known:
        return "only hotlap itself"
    first = "torch" if "torch" in known else known[-1]
    return f"{first} {pins.get(first, '')}".strip() + (f" and {len(known) - 1} more" if len(known) > 1 else "")


def explain_failure(output: str, checkout: Checkout) -> str:
    """Return one line for the output of a failed step: the cause, then the remedy."""
    words = {
        "venv": checkout.venv,
        "log": checkout.log,
        "python": ".".join(map(str, checkout.version() or sys.version_info[:2])),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    for pattern, message in KNOWN_FAILURES.items():
        found = re.search(pattern, output)
        if found:
            return message.format(**words, what=next(filter(None, found.groups()), ""))
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["the setup failed without output"]
    errors = [line for line in lines if line.lower().startswith("error")] or lines
    return f"{errors[-1]} (pip's output, if pip was started: {checkout.log})"
