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


class LatencyRecorder:
    """Records the worst values since the last line on stdin, in ms."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worst = {"late": 0.0, "wake": 0.0, "pass": 0.0}
        self._woken_at: float | None = None

    def pop_line(self) -> str:
        """Return the worst values as a line, and start again."""
        with self._lock:
            line = json.dumps(self._worst)
            self._worst = dict.fromkeys(self._worst, 0.0)
        return line

    def record_wake(self) -> None:
        """Record a wake-up."""
        if self._woken_at is None:
            self._woken_at = time.perf_counter()

    def record_pass_start(self) -> None:
        """Record the start of a pass."""
        woken_at, self._woken_at = self._woken_at, None
        if woken_at is not None:
            self.record("wake", time.perf_counter() - woken_at)

    def record(self, name: str, seconds: float) -> None:
        """Keep the larger value."""
        with self._lock:
            self._worst[name] = max(self._worst[name], seconds * 1e3)

    def measure_lateness(self) -> None:
        """Run every millisecond, and record how late that was."""
        while True:
            due = time.perf_counter() + TICK_S
            time.sleep(TICK_S)
            self.record("late", max(0.0, time.perf_counter() - due))


class WatchedMailbox(Mailbox):
    """A mailbox that reports every wake-up."""

    def __init__(self, recorder: LatencyRecorder) -> None:
        super().__init__()
        self._recorder = recorder

    def wake(self) -> None:
        """Request another pass."""
        self._recorder.record_wake()
        super().wake()


def watch_passes(app: App, recorder: LatencyRecorder) -> None:
    """Measure every pass from now on."""
    tick = app.service.tick

    def timed() -> float:
        recorder.record_pass_start()
        began = time.perf_counter()
        delay_s = tick()
        recorder.record("pass", time.perf_counter() - began)
        return delay_s

    app.service.tick = timed  # type: ignore[method-assign]


def main() -> int:
    """Serve until standard input closes."""
    paths, recorder = ProjectPaths(Path(sys.argv[1])), LatencyRecorder()
    settings = load_settings(paths.project)
    output, sys.stdout = sys.stdout, sys.stderr  # log lines go to stderr
    setattr(daemon_app, "Mailbox", partial(WatchedMailbox, recorder))  # noqa: B010
    with open_service(paths, settings, dashboard=False) as app:
        watch_passes(app, recorder)

        def answer_lines() -> None:
            for _ in sys.stdin:
                print(recorder.pop_line(), file=output, flush=True)
            app.mailbox.stop()

        threading.Thread(target=recorder.measure_lateness, daemon=True).start()
        threading.Thread(target=answer_lines, daemon=True).start()
        app.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
