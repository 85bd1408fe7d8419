"""How long the daemon's main thread is blocked while rollouts arrive, measured inside the real daemon.

Three values: how late a thread runs that should run every millisecond, how long a wake-up waits for its pass, and how
long a pass takes. No cycle runs, so the reading of rollouts is the only cause.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.daemon.rollout_reading import random_rollout, version_1
from benchmarks.lib.live_daemon import Live
from benchmarks.lib.measurement import Claim, Figure, Section, Sense
from benchmarks.lib.progress import Say
from trainer.simulate import rollout_file

NAME = "holdups"
HELP = "how long the daemon's deciding thread is held up while rollouts land"
AT_ONCE = 20
LARGE = 40960  #: experiences, as many as in 20 rollouts
MOST_MS = 50.0
CLOCKS = {"late": "a thread's lateness", "wake": "a wake's wait for its pass", "pass": "the longest pass"}
QUIET = "nothing lands"


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add this benchmark's flags."""
    p.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of all measurements (5)")
    p.add_argument("--large", type=int, default=LARGE, metavar="N", help=f"experiences of the large file ({LARGE})")


def measure(given: argparse.Namespace, say: Say) -> Section:
    """Measure alternately with no rollout, with 20 at once, and with a large one."""
    with (
        tempfile.TemporaryDirectory(prefix="hotlap-holdups-", ignore_cleanup_errors=True) as name,
        Live("daemon", Path(name) / "project", _CONFIG, module="benchmarks.daemon.watched_daemon") as live,
    ):
        large = rollout_file.encode_text(version_1(random_rollout(given.large)))
        many, one = f"{AT_ONCE} rollouts land at once", f"one of {len(large) / 1e6:.0f} MB lands"
        worst: dict[str, list[dict[str, float]]] = {QUIET: [], many: [], one: []}
        landed = 0
        for k in range(given.rounds):
            worst[QUIET].append(_interval(live, partial(time.sleep, 1.0)))
            for what, files in (
                (many, live.play(AT_ONCE)),
                (one, [live.aside(large.replace(b"2026.11.21", b"2026.12.%02d" % k))]),
            ):
                landed += len(files)
                worst[what].append(_interval(live, partial(_land, live, files, landed)))
            seen = ", ".join(f"{what} {max(found[-1].values()):.1f} ms" for what, found in worst.items())
            say(f"round {k + 1} of {given.rounds}: {seen}")
    return _section(worst)


_CONFIG = "[daemon]\nenable_auto_training = false\n"


def _interval(live: Live, doing: Callable[[], None]) -> dict[str, float]:
    """Return the worst of each value, ms, during an action."""
    live.ask()
    doing()
    worst: dict[str, float] = json.loads(live.ask())
    return worst


def _land(live: Live, files: list[Path], landed: int) -> None:
    live.land(files)
    live.wait_pending(landed)


def _section(worst: dict[str, list[dict[str, float]]]) -> Section:
    figures = [
        Figure(f"{label}, {what}", "ms", tuple(each[clock] for each in found), _floor(clock, what))
        for clock, label in CLOCKS.items()
        for what, found in worst.items()
        if what != QUIET or clock == "late"
    ]
    claims = []
    for what, found in worst.items():
        if what != QUIET:
            longest = max(max(each.values()) for each in found)
            text = f"The deciding thread held up while {what}, the worst of all rounds"
            claims.append(Claim(text, Sense.AT_MOST, MOST_MS, longest, "ms"))
    notes = ("The worst of each round; what else the machine does is in all of them, and alone in the first.",)
    return Section(NAME, "The deciding thread while rollouts land", tuple(figures), tuple(claims), notes=notes)


def _floor(clock: str, what: str) -> str:
    """Return what the machine itself causes; without a rollout there are hardly any passes."""
    return f"{CLOCKS[clock]}, {QUIET}" if clock == "late" and what != QUIET else ""
