"""The dashboard's layout: a pure function from a Snapshot and a size to lines.

Positions depend only on the size, so that nothing moves when the state changes:

    project, uptime
    state and step, rollouts toward the next cycle, the cycle, the model
    epochs of the running or the last cycle | reward and value loss over cycles, CPU, memory, GPU
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
    """Rows and columns of each part."""

    gaps: int  #: blank rows between the parts
    body: int  #: rows of the epochs and the charts; 0 = not shown
    left: int  #: columns of the epochs
    right: int  #: columns of the charts; 0 = not shown
    warnings: int  #: rows
    log: int  #: rows


def panel_sizes(width: int, height: int) -> PanelSizes:
    """Return the sizes of the panels for a size of the terminal."""
    gaps = 1 if height >= 30 else 0
    free_rows = height - 8 - 3 * gaps  # five rows for project and state, three for titles
    warnings = min(6, max(1, height // 10))
    body = min(max(11, free_rows // 2), free_rows - warnings - 1)
    if body < 2:
        body, free_rows = 0, free_rows + 1
    left = max(34, min(58, width // 2 - 1))
    right = width - left - 3
    if right < 20:
        left, right = width, 0
    return PanelSizes(gaps, body, left, right, warnings, max(0, free_rows - warnings - body))


def render(snapshot: Snapshot, *, width: int, height: int, glyphs: Glyphs = BLOCKS) -> RenderableType:
    """Return the dashboard as a renderable for rich."""
    return Group(*map(as_text, lines(snapshot, width=width, height=height, glyphs=glyphs)))


def lines(snapshot: Snapshot, *, width: int, height: int, glyphs: Glyphs = BLOCKS) -> list[Cells]:
    """Return exactly `height` lines of exactly `width` columns."""
    sizes = panel_sizes(width, height)
    shown_error = panels.cycle_error(snapshot) if sizes.body else None
    gap: list[Cells] = [[]] * sizes.gaps
    rows = [panels.title_row(snapshot, width, glyphs), *gap, *panels.state_rows(snapshot, width, glyphs), *gap]
    rows += _body(snapshot, width, sizes, glyphs, shown_error)
    rows += [*panels.warning_rows(snapshot, width, sizes.warnings, glyphs, shown_error), *gap]
    rows += [_rule("Log", width, glyphs), *panels.log_rows(snapshot, sizes.log, glyphs, shown_error)]
    rows += [[] for _ in range(height - len(rows))]
    return [glyphs.fit(row, width) for row in rows[:height]]


def as_text(cells: Cells) -> Text:
    """Return a line as rich text with styles and without markup."""
    text = Text(no_wrap=True, overflow="crop")
    for piece, style in cells:
        text.append(piece, style)
    return text


def _body(snapshot: Snapshot, width: int, sizes: PanelSizes, glyphs: Glyphs, shown_error: str | None) -> list[Cells]:
    """Return the epochs and the charts side by side, with a rule above and the rule of the warnings below."""
    below = panels.warnings_title(snapshot, sizes.warnings, shown_error)
    alarm = f"{STRONG} {ALERT}" if panels.shown_warnings(snapshot, shown_error) else STRONG
    if not sizes.body:
        return [_rule(below, width, glyphs, alarm)]
    above = panels.epochs_title(snapshot)
    epochs = panels.epoch_rows(snapshot, sizes.left, sizes.body, glyphs)
    if not sizes.right:
        return [_rule(above, width, glyphs), *epochs, _rule(below, width, glyphs, alarm)]
    learning = panels.learning_rows(snapshot, sizes.right, sizes.body, glyphs)
    left, right = sizes.left + 1, sizes.right + 1
    line = (f" {glyphs.vertical_line} ", QUIET)
    return [
        [*_rule(above, left, glyphs), (glyphs.tee, QUIET), *_rule("Learning", right, glyphs)],
        *([*glyphs.fit(a, sizes.left), line, *b] for a, b in zip(epochs, learning, strict=True)),
        [*_rule(below, left, glyphs, alarm), (glyphs.foot, QUIET), *_rule("", right, glyphs)],
    ]


def _rule(title: str, width: int, glyphs: Glyphs, style: str = STRONG) -> Cells:
    """Return a line of exactly `width` columns, with or without a title."""
    if not title:
        return [(glyphs.rule * width, QUIET)]
    columns = min(cell_len(title), max(0, width - 4))
    named = [(glyphs.rule * 2 + " ", QUIET), *glyphs.fit([(title, style)], columns)]
    return glyphs.fit([*named, (" " + glyphs.rule * (width - 4 - columns), QUIET)], width)
