"""The dashboard's picture: a pure function from a View and a size to lines. It prints nothing and asks no clock.

Where things stand depends on the size alone, never on the state, so that nothing jumps:

    who: project, uptime
    now: state and step, rollouts toward the next cycle, the cycle, the model
    epochs of the running or the last cycle | reward and value loss over cycles, the machine
    warnings
    log
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from daemon.ui import panels
from daemon.ui.glyphs import BLOCKS, Cells, Glyphs
from daemon.ui.panels import ALERT, QUIET, STRONG
from daemon.ui.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class PanelSizes:
    """Which part gets how much of the terminal."""

    air: int  #: blank lines between the parts
    body: int  #: rows of the epochs and the charts; 0 = no room for them
    left: int  #: columns of the epochs
    right: int  #: columns of the charts; 0 = no room for them
    warnings: int  #: rows
    log: int  #: rows


def plan(width: int, height: int) -> PanelSizes:
    """Share out a terminal."""
    air = 1 if height >= 30 else 0
    spare = height - 8 - 3 * air  # five rows say what is going on, three are titles
    warnings = min(6, max(1, height // 10))
    body = min(max(11, spare // 2), spare - warnings - 1)
    if body < 2:
        body, spare = 0, spare + 1
    left = max(34, min(58, width // 2 - 1))
    right = width - left - 3
    if right < 20:
        left, right = width, 0
    return PanelSizes(air, body, left, right, warnings, max(0, spare - warnings - body))


def render(snapshot: Snapshot, *, width: int, height: int, glyphs: Glyphs = BLOCKS) -> RenderableType:
    """Draw a view at a size."""
    return Group(*map(as_text, lines(snapshot, width=width, height=height, glyphs=glyphs)))


def lines(snapshot: Snapshot, *, width: int, height: int, glyphs: Glyphs = BLOCKS) -> list[Cells]:
    """Return exactly `height` lines of exactly `width` columns."""
    where = plan(width, height)
    gap: list[Cells] = [[]] * where.air
    rows = [panels.who(snapshot, width, glyphs), *gap, *panels.now(snapshot, width, glyphs), *gap]
    rows += _body(snapshot, width, where, glyphs)
    rows += [*panels.warnings(snapshot, width, where.warnings, glyphs), *gap]
    rows += [_rule("Log", width, glyphs), *panels.log(snapshot.log_lines, where.log, glyphs)]
    rows += [[] for _ in range(height - len(rows))]
    return [glyphs.fit(row, width) for row in rows[:height]]


def as_text(cells: Cells) -> Text:
    """Return a line for rich: text with styles, in which nothing is markup."""
    text = Text(no_wrap=True, overflow="crop")
    for piece, style in cells:
        text.append(piece, style)
    return text


def _body(snapshot: Snapshot, width: int, where: PanelSizes, glyphs: Glyphs) -> list[Cells]:
    """Epochs and charts beside each other, a rule above and one, the warnings' title, below."""
    below = panels.warnings_title(snapshot, where.warnings)
    alarm = f"{STRONG} {ALERT}" if snapshot.status.warnings else STRONG
    if not where.body:
        return [_rule(below, width, glyphs, alarm)]
    above = panels.epochs_title(snapshot)
    epochs = panels.epochs(snapshot, where.left, where.body, glyphs)
    if not where.right:
        return [_rule(above, width, glyphs), *epochs, _rule(below, width, glyphs, alarm)]
    learning = panels.learning(snapshot, where.right, where.body, glyphs)
    left, right = where.left + 1, where.right + 1
    wall = (f" {glyphs.wall} ", QUIET)
    return [
        [*_rule(above, left, glyphs), (glyphs.tee, QUIET), *_rule("Learning", right, glyphs)],
        *([*glyphs.fit(a, where.left), wall, *b] for a, b in zip(epochs, learning, strict=True)),
        [*_rule(below, left, glyphs, alarm), (glyphs.foot, QUIET), *_rule("", right, glyphs)],
    ]


def _rule(title: str, width: int, glyphs: Glyphs, style: str = STRONG) -> Cells:
    """A line of exactly `width` columns, with a title in it or without."""
    if not title:
        return [(glyphs.rule * width, QUIET)]
    columns = min(cell_len(title), max(0, width - 4))
    named = [(glyphs.rule * 2 + " ", QUIET), *glyphs.fit([(title, style)], columns)]
    return glyphs.fit([*named, (" " + glyphs.rule * (width - 4 - columns), QUIET)], width)
