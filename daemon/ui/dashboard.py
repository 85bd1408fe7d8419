"""The dashboard: a thread that draws the latest snapshot. Other threads never wait for it or for the terminal."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TextIO

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from daemon.runtime.clock import REAL_CLOCK
from daemon.ui.glyphs import Cells, glyphs_for
from daemon.ui.layout import as_text, lines, render
from daemon.ui.snapshot import Snapshot
from daemon.ui.terminal import ENTER, LEAVE, prepare_console, size_of, unbuffered, wants_dashboard

__all__ = ["Dashboard", "render", "snapshot_svg", "wants_dashboard"]

CHECK_INTERVAL_S = 0.25  #: between two checks for a new snapshot
REDRAW_INTERVAL_S = 1.0  #: of the same snapshot, because ages and times change
REPAINT_INTERVAL_S = 5.0  #: of the whole screen, which removes text that someone typed
STOP_TIMEOUT_S = 1.0  #: how long `stop` waits

SVG_THEME = TerminalTheme(
    background=(22, 24, 29),
    foreground=(208, 211, 217),
    normal=[
        (22, 24, 29),
        (224, 108, 117),  # red
        (126, 188, 137),  # green
        (222, 184, 110),  # yellow
        (110, 160, 220),
        (190, 140, 200),
        (96, 178, 196),  # cyan
        (208, 211, 217),
    ],
)


class Dashboard:
    """Shows snapshots on a terminal, from the first `show` until `stop` or a failed write."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._latest: tuple[Snapshot, float] | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure = ""

    @property
    def alive(self) -> bool:
        """Return whether snapshots are shown: True until `stop` or a failure of the terminal."""
        return not self._failure and not self._stopping.is_set()

    @property
    def failure(self) -> str:
        """Return the error that ended the dashboard, or an empty text."""
        return self._failure

    def show(self, snapshot: Snapshot) -> None:
        """Show this snapshot from now on; return at once. It replaces a snapshot that was not drawn yet."""
        self._latest = (snapshot, REAL_CLOCK.monotonic())
        if self._thread is None and self.alive:
            self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Restore the terminal if it responds within `STOP_TIMEOUT_S`. May be called again."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        try:
            write = unbuffered(self._stream)
            with prepare_console(self._stream), contextlib.ExitStack() as at_end:
                at_end.callback(write, LEAVE)
                write(ENTER)
                self._draw(write)
        except Exception as error:  # noqa: BLE001  the daemon must continue without the dashboard
            self._failure = f"{type(error).__name__}: {error}"

    def _draw(self, write: Callable[[str], None]) -> None:
        painter = Painter(getattr(self._stream, "encoding", None))
        drawn: tuple[Snapshot, float] | None = None
        drawn_at = repainted_at = -REPAINT_INTERVAL_S
        size = (0, 0)
        while not self._stopping.is_set():
            latest, now, new_size = self._latest, REAL_CLOCK.monotonic(), size_of(self._stream)
            if latest is not None and (latest is not drawn or new_size != size or now - drawn_at >= REDRAW_INTERVAL_S):
                snapshot, shown_at = latest
                if new_size != size or now - repainted_at >= REPAINT_INTERVAL_S:
                    painter.repaint_all()
                    repainted_at = now
                changes = painter.changes(replace(snapshot, now_s=snapshot.now_s + now - shown_at), *new_size)
                if changes:
                    write(changes)
                drawn, drawn_at, size = latest, now, new_size
            self._stopping.wait(CHECK_INTERVAL_S)


class Painter:
    """Draws snapshots: returns the escape sequences that change the last picture into the next."""

    def __init__(self, encoding: str | None) -> None:
        self._glyphs = glyphs_for(encoding)
        self._last: list[Cells] = []

    def repaint_all(self) -> None:
        """Draw all lines at the next call of `changes`."""
        self._last = []

    def changes(self, snapshot: Snapshot, width: int, height: int) -> str:
        """Return the escape sequences that draw the changed lines, or an empty text if no line changed."""
        picture = lines(snapshot, width=width, height=height, glyphs=self._glyphs)
        last = self._last if len(self._last) == height else [None] * height
        new = [(row, cells) for row, (cells, old) in enumerate(zip(picture, last, strict=True), 1) if cells != old]
        self._last = picture
        if not new:
            return ""
        console = _console(width, height)
        with console.capture() as capture:
            console.print(*(as_text(cells) for _, cells in new), sep="\n", end="")
        painted = zip(new, capture.get().split("\n"), strict=True)
        return "".join(f"\x1b[{row};1H{line}" for (row, _), line in painted) + "\x1b[H"


def _console(width: int, height: int, *, record: bool = False) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=True,
        color_system="standard",
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
        record=record,
    )


def snapshot_svg(snapshot: Snapshot, width: int, height: int) -> str:
    """Return the picture of a snapshot as SVG that loads no fonts."""
    console = _console(width, height, record=True)
    console.print(render(snapshot, width=width, height=height))
    svg = console.export_svg(title="hotlap", theme=SVG_THEME, unique_id="hotlap")
    return re.sub(r"\s*@font-face \{.*?\}(?=\s)", "", svg, flags=re.DOTALL)
