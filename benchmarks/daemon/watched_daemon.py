"""A daemon that measures its own main thread: `python -m benchmarks.daemon.watched_daemon PROJECT`.

It is the real daemon with three measurements: how long each pass took, how long a wake-up waited for its pass, and
how late a thread ran that should run every millisecond. A line on its standard input starts an interval. At the next
line it prints the worst values as a JSON line. It ends when that input closes.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from functools import partial
from pathlib import Path

from daemon import app as daemon_app
from daemon.app import App, open_service
from daemon.runtime.loop import Mailbox
from schemas.settings.loading import load_settings
from schemas.storage.layout import ProjectPaths

TICK_S = 0.001


class Watch:
    """The worst values since the last line on stdin, in ms."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worst = {"late": 0.0, "wake": 0.0, "pass": 0.0}
        self._woken_at: float | None = None

    def ask(self) -> str:
        """Return the worst values as a line, and start again."""
        with self._lock:
            line = json.dumps(self._worst)
            self._worst = dict.fromkeys(self._worst, 0.0)
        return line

    def woken(self) -> None:
        """Record a wake-up."""
        if self._woken_at is None:
            self._woken_at = time.perf_counter()

    def passing(self) -> None:
        """Record the start of a pass."""
        woken_at, self._woken_at = self._woken_at, None
        if woken_at is not None:
            self.note("wake", time.perf_counter() - woken_at)

    def note(self, what: str, seconds: float) -> None:
        """Keep the larger value."""
        with self._lock:
            self._worst[what] = max(self._worst[what], seconds * 1e3)

    def beat(self) -> None:
        """Run every millisecond, and record how late that was."""
        while True:
            due = time.perf_counter() + TICK_S
            time.sleep(TICK_S)
            self.note("late", max(0.0, time.perf_counter() - due))


class WatchedMailbox(Mailbox):
    """A mailbox that reports every wake-up."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def wake(self) -> None:
        """Request another pass."""
        self._watch.woken()
        super().wake()


def watch_passes(app: App, watch: Watch) -> None:
    """Measure every pass from now on."""
    tick = app.service.tick

    def timed() -> float:
        watch.passing()
        began = time.perf_counter()
        delay_s = tick()
        watch.note("pass", time.perf_counter() - began)
        return delay_s

    app.service.tick = timed  # type: ignore[method-assign]


def main() -> int:
    """Serve until standard input closes."""
    layout, watch = ProjectPaths(Path(sys.argv[1])), Watch()
    settings = load_settings(layout.project)
    answers, sys.stdout = sys.stdout, sys.stderr  # log lines go to stderr
    setattr(daemon_app, "Mailbox", partial(WatchedMailbox, watch))  # noqa: B010
    with open_service(layout, settings, dashboard=False) as app:
        watch_passes(app, watch)

        def answer() -> None:
            for _ in sys.stdin:
                print(watch.ask(), file=answers, flush=True)
            app.mailbox.stop()

        threading.Thread(target=watch.beat, daemon=True).start()
        threading.Thread(target=answer, daemon=True).start()
        app.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
