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
from benchmarks.lib.live_daemon import LiveDaemon
from benchmarks.lib.measurement import Claim, Figure, Section, Sense
from benchmarks.lib.progress import PrintProgress
from trainer.simulate import rollout_file

NAME = "holdups"
HELP = "how long the daemon's main thread is blocked while rollouts arrive"
AT_ONCE = 20
LARGE = 40960  #: experiences, as many as in 20 rollouts
MAX_MS = 50.0
CLOCKS = {"late": "a thread's lateness", "wake": "a wake-up's wait for its pass", "pass": "the longest pass"}
QUIET = "no rollout arrives"


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add this benchmark's flags."""
    p.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of all measurements (5)")
    p.add_argument("--large", type=int, default=LARGE, metavar="N", help=f"experiences of the large file ({LARGE})")


def measure(arguments: argparse.Namespace, print_progress: PrintProgress) -> Section:
    """Measure alternately with no rollout, with 20 at once, and with a large one."""
    with (
        tempfile.TemporaryDirectory(prefix="hotlap-holdups-", ignore_cleanup_errors=True) as name,
        LiveDaemon("daemon", Path(name) / "project", _CONFIG, module="benchmarks.daemon.watched_daemon") as live,
    ):
        large = rollout_file.encode_text(version_1(random_rollout(arguments.large)))
        many, one = f"{AT_ONCE} rollouts arrive at once", f"one of {len(large) / 1e6:.0f} MB arrives"
        worst: dict[str, list[dict[str, float]]] = {QUIET: [], many: [], one: []}
        delivered = 0
        for k in range(arguments.rounds):
            worst[QUIET].append(_interval(live, partial(time.sleep, 1.0)))
            for situation, files in (
                (many, live.collect_rollouts(AT_ONCE)),
                (one, [live.add_file(large.replace(b"2026.11.21", b"2026.12.%02d" % k))]),
            ):
                delivered += len(files)
                worst[situation].append(_interval(live, partial(_deliver, live, files, delivered)))
            summary = ", ".join(f"{situation} {max(found[-1].values()):.1f} ms" for situation, found in worst.items())
            print_progress(f"round {k + 1} of {arguments.rounds}: {summary}")
    return _section(worst)


_CONFIG = "[daemon]\nenable_auto_training = false\n"


def _interval(live: LiveDaemon, action: Callable[[], None]) -> dict[str, float]:
    """Return the worst of each value, ms, during an action."""
    live.request()
    action()
    worst: dict[str, float] = json.loads(live.request())
    return worst


def _deliver(live: LiveDaemon, files: list[Path], landed: int) -> None:
    live.deliver(files)
    live.wait_for_pending(landed)


def _section(worst: dict[str, list[dict[str, float]]]) -> Section:
    figures = [
        Figure(f"{label}, {situation}", "ms", tuple(each[clock] for each in found), _floor(clock, situation))
        for clock, label in CLOCKS.items()
        for situation, found in worst.items()
        if situation != QUIET or clock == "late"
    ]
    claims = []
    for situation, found in worst.items():
        if situation != QUIET:
            longest = max(max(each.values()) for each in found)
            text = f"The main thread is blocked while {situation}, the worst of all rounds"
            claims.append(Claim(text, Sense.AT_MOST, MAX_MS, longest, "ms"))
    notes = ("The worst of each round. All rounds include the machine's other work, the first row nothing else.",)
    return Section(NAME, "The main thread while rollouts arrive", tuple(figures), tuple(claims), notes=notes)


def _floor(clock: str, situation: str) -> str:
    """Return the name of the floor, the lateness without rollouts; the other values have none."""
    return f"{CLOCKS[clock]}, {QUIET}" if clock == "late" and situation != QUIET else ""
