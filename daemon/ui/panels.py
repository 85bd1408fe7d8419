"""The panels of the dashboard. Each function returns rows; text from files is never interpreted as markup."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable
from itertools import dropwhile

from rich.cells import cell_len

from daemon.ui.glyphs import Cells, Glyphs, age, bar, chart, duration, number, size
from daemon.ui.snapshot import Snapshot, SystemStats
from schemas.program.commands import usable
from schemas.status import CycleSummary, DaemonState, StatusWarning
from schemas.text import ascii_safe, printable

ACCENT, QUIET, STRONG, ALERT, BAD = "cyan", "dim", "bold", "yellow", "red"
STATE_STYLES = {
    DaemonState.IDLE: "bold green",
    DaemonState.TRAINING: "bold cyan",
    DaemonState.SELECTING: "bold cyan",
    DaemonState.PUBLISHING: "bold cyan",
    DaemonState.PAUSED: "bold yellow",
    DaemonState.PARKED: "bold red",
}
BUSY = frozenset({DaemonState.TRAINING, DaemonState.SELECTING, DaemonState.PUBLISHING})
LABEL = 14  #: columns of a label
WIDE = 76  #: from this width on, sentences are written in full
LOG_LINE = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) (\w+) +(.*)", re.DOTALL)
CYCLE_WARNINGS = frozenset({"W_CYCLE_FAILED", "W_PARKED"})
CYCLE_END = re.compile(r"cycle \d+ (failed|is parked): ")
LOG_STYLES = {"INFO": "", "WARNING": ALERT, "ERROR": BAD}


def title_row(snapshot: Snapshot, width: int, glyphs: Glyphs) -> Cells:
    """Return the row with the project and the daemon's uptime."""
    up = f" up {duration(snapshot.now_s - snapshot.status.started_at)} "
    name = [("   Hotlap".ljust(LABEL), STRONG), (glyphs.clean(snapshot.project), "")]
    return [*glyphs.fit(name, max(0, width - len(up))), (up, QUIET)]


def state_rows(snapshot: Snapshot, width: int, glyphs: Glyphs) -> list[Cells]:
    """Return four rows: state and step, rollouts, cycle, model."""
    status, cycle, wide = snapshot.status, _cycle_number(snapshot), width >= WIDE
    columns = max(6, min(60, width - LABEL - (40 if wide else 24)))
    counted, missing = bar(status.rollouts_pending / max(1, status.rollouts_needed), columns, glyphs)
    progress, words, style = _progress(snapshot)
    trained, untrained = bar(progress, columns, glyphs)
    path = re.split(r"[\\/]", status.best_model_path or "none published yet")
    return [
        [
            (f" {glyphs.dot} {status.state:<10} ", STATE_STYLES.get(status.state, STRONG)),
            (glyphs.clean(status.step), ""),
        ],
        [
            ("   rollouts".ljust(LABEL), QUIET),
            (counted, ACCENT),
            (missing, QUIET),
            (f"  {status.rollouts_pending} of {status.rollouts_needed}", STRONG),
            (f" toward cycle {cycle + 1}" if wide else "", ""),
            (f", {status.rollouts_rejected} rejected" if status.rollouts_rejected else "", ALERT),
        ],
        [
            (f"   cycle {cycle or ''}".ljust(LABEL), QUIET),
            (trained, ACCENT if status.state in BUSY else QUIET),
            (untrained, QUIET),
            (f"  {words}", style),
        ],
        [
            ("   model".ljust(LABEL), QUIET),
            (glyphs.clean("/".join(path[-2 if wide else -1 :])), ""),
            (f"  policy version {status.policy_version}", QUIET),
        ],
    ]


def _progress(snapshot: Snapshot) -> tuple[float, str, str]:
    """Return the progress of the running or the last cycle as a fraction and in words, and the style of the words."""
    status = snapshot.status
    if status.state in BUSY:
        epoch = f"epoch {len(status.epochs)} of {status.epochs_total}, " if status.epochs_total else ""
        return status.progress, epoch + _seconds(status.training_seconds), ""
    last = _last_cycle(snapshot)
    if last is None or (last.cycle == 0 and not last.error):  # the initial model is not shown as a cycle
        return 0.0, "" if _cycle_number(snapshot) else "none yet", QUIET
    duration_text = "" if last.seconds is None else f" {'after' if last.error else 'in'} {_seconds(last.seconds)}"
    return (0.0, last.state + duration_text, BAD) if last.error else (1.0, last.state + duration_text, "")


def _cycle_number(snapshot: Snapshot) -> int:
    """Return the number of the running or the last cycle; 0 before the first."""
    return snapshot.status.cycle or max((cycle.cycle for cycle in snapshot.cycles), default=0)


def _last_cycle(snapshot: Snapshot) -> CycleSummary | None:
    """Return the summary of the cycle of `_cycle_number`, or None if it has not ended."""
    return next((cycle for cycle in reversed(snapshot.cycles) if cycle.cycle == _cycle_number(snapshot)), None)


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else duration(seconds)


def cycle_error(snapshot: Snapshot) -> str | None:
    """Return the error of the last cycle if it failed and no other cycle is running, else None."""
    last = None if snapshot.status.state in BUSY else _last_cycle(snapshot)
    return last.error if last else None


def epochs_title(snapshot: Snapshot) -> str:
    """Return the title: the cycle, the chosen epoch, and the reason for the choice."""
    cycle, known = _cycle_number(snapshot), snapshot.status.epochs
    chosen = next((epoch for epoch in known if epoch.chosen), None)
    if not cycle:
        return "Epochs"
    if chosen is None:
        return f"Cycle {cycle}: {'failed' if cycle_error(snapshot) else 'epochs'}"
    scores = [epoch.score for epoch in known if epoch.score is not None]
    lowest = chosen.score is not None and chosen.score <= min(scores)
    return f"Cycle {cycle}: epoch {chosen.epoch}, {'the lowest score' if lowest else 'as requested'}"


def epoch_rows(snapshot: Snapshot, width: int, height: int, glyphs: Glyphs) -> list[Cells]:
    """Return a row for each epoch, also for future ones. The chosen epoch, or else the newest, is always shown.

    If the cycle failed, its error is shown below.
    """
    short = width < 39
    widths = (9, 9, 8) if short else (11, 12, 8) if width < 50 else (14, 15, 11)
    names = ("value", "policy", "score") if short else ("value loss", "policy loss", "score")
    head = "   epoch" + "".join(name.rjust(columns) for name, columns in zip(names, widths, strict=True))
    known = {epoch.epoch: epoch for epoch in snapshot.status.epochs}
    error = cycle_error(snapshot)
    room = (height - 1) // 2 if known else height - 1
    words = f"{error} (see Logs/cycle_{_cycle_number(snapshot)}.log)"
    reason: list[Cells] = [[("   " + line, BAD)] for line in _wrapped(words, width - 4, room, glyphs)] if error else []
    left = height - 1 - len(reason)
    count = max(0 if error else snapshot.status.epochs_total, *known, 0)
    focus = next((epoch.epoch for epoch in known.values() if epoch.chosen), max(known, default=1))
    first = 1 + max(0, min(focus - (left + 1) // 2, count - left))
    rows: list[Cells] = [[(head, QUIET)]]
    for k in range(first, min(first + left, count + 1)):
        epoch = known.get(k)
        if epoch is None:
            rows.append([(f"{k:8}", QUIET)])
            continue
        losses = (epoch.value_loss, epoch.policy_loss, epoch.score)
        cells = "".join(number(x, 5).rjust(columns) for x, columns in zip(losses, widths, strict=True))
        style = f"{STRONG} {ACCENT}" if epoch.chosen else ""
        rows.append([(f" {glyphs.mark if epoch.chosen else ' '} {k:5}{cells}", style)])
    return [*rows, *reason, *([[]] * (height - len(rows) - len(reason)))]


def learning_rows(snapshot: Snapshot, width: int, height: int, glyphs: Glyphs) -> list[Cells]:
    """Return the charts of reward and value loss over cycles, then the use of CPU, memory and GPU."""
    cycles = list(dropwhile(lambda cycle: cycle.reward_mean is None and cycle.value_loss is None, snapshot.cycles))
    below = _system_rows(snapshot.system_stats, snapshot.disk, short=height < 10)
    each = (height - len(below)) // 2
    span = f"cycles {cycles[0].cycle} to {cycles[-1].cycle}" if len(cycles) > 1 else ""
    rewards = _chart("reward per step", span, [c.reward_mean for c in cycles], max, width, each, glyphs)
    losses = _chart("value loss", "", [c.value_loss for c in cycles], min, width, each, glyphs)
    rows = [*rewards, *losses]
    return [*rows, *([[]] * (height - len(rows) - len(below))), *below]


def _chart(
    name: str,
    note: str,
    values: list[float | None],
    best: Callable[[list[float]], float],
    width: int,
    height: int,
    glyphs: Glyphs,
) -> list[Cells]:
    """Return a title, a chart and, if `height` is at least 3, the first, last and best value."""
    known = [value for value in values if value is not None]
    first, last, top = (number(value, 4) for value in ((known[0], known[-1], best(known)) if known else (None,) * 3))
    if height >= 3:
        words = f"first {first}  last {last}  best {top}" if width >= 34 else f"last {last}  best {top}"
        foot: list[Cells] = [[(words, "") if known else ("no cycle yet", QUIET)]]
    else:
        foot, note = [], last if known else ""
    title = [*glyphs.fit([(name, QUIET)], max(0, width - len(note) - 1)), (note, QUIET if foot else "")]
    drawn = chart(values, width, height - 1 - len(foot), glyphs)
    return [title, *([(row, ACCENT)] for row in drawn), *foot][:height]


def _system_rows(stats: SystemStats, disk: str, *, short: bool) -> list[Cells]:
    """Return four rows: CPU and memory, memory of daemon and trainer, GPU, rollouts on disk. One row if `short`."""
    cpu = f"{stats.cpu_percent:3.0f} %"
    if short:
        return [[("CPU ", QUIET), (cpu, ""), ("  mem ", QUIET), (size(stats.memory_used), "")]]
    memory = f"{stats.memory_used / 1e9:.1f} of {stats.memory_total / 1e9:.1f} GB"
    users = [("daemon ", QUIET), (f"{size(stats.daemon_memory):<6}", "")]
    if stats.trainer_memory:
        users += [("  trainer ", QUIET), (size(stats.trainer_memory), "")]
    gpu = (stats.gpu, "") if stats.gpu else ("none found", QUIET)
    return [
        [("CPU    ", QUIET), (f"{cpu:<6}", ""), ("  memory ", QUIET), (memory, "")],
        users,
        [("GPU    ", QUIET), gpu],
        [("disk   ", QUIET), (disk or "unknown", "" if disk else QUIET)],
    ]


def shown_warnings(snapshot: Snapshot, shown_error: str | None) -> list[StatusWarning]:
    """Return the warnings, newest first, without those about the error of the last cycle, which is shown elsewhere."""
    warnings = sorted(snapshot.status.warnings, key=lambda warning: -warning.at_s)
    if shown_error is None:
        return warnings
    return [w for w in warnings if w.code not in CYCLE_WARNINGS or printable(shown_error) not in w.message]


def warnings_title(snapshot: Snapshot, height: int, shown_error: str | None) -> str:
    """Return the title: the number of warnings, and whether all of them are shown."""
    count = len(shown_warnings(snapshot, shown_error))
    if not count:
        return "No warnings" if shown_error is None else "No other warnings"
    return f"Warnings: {count}" if count <= height else f"Warnings: {count}, newest {height} shown"


def without_error(text: str, error: str | None, glyphs: Glyphs) -> str:
    """Return a message without the error of the last cycle, which the epochs panel shows in full."""
    for form in (error, ascii_safe(error)) if error else ():
        text = text.replace(f": {glyphs.clean(form)}", "")
    return text


def warning_rows(snapshot: Snapshot, width: int, height: int, glyphs: Glyphs, shown_error: str | None) -> list[Cells]:
    """Return the newest warnings, newest first. A long warning may use the rows that the others do not need."""
    newest = shown_warnings(snapshot, shown_error)[:height]
    rows: list[Cells] = []
    for others, warning in zip(range(len(newest) - 1, -1, -1), newest, strict=True):
        message = without_error(glyphs.clean(warning.line()), shown_error, glyphs)
        lines = _wrapped(message, width - LABEL - 1, height - len(rows) - others, glyphs)
        ago = f"{age(snapshot.now_s - warning.at_s)} ago"
        rows.append([(" ! ", f"{STRONG} {ALERT}"), (f"{ago:<10} ", QUIET), (lines[0], ALERT)])
        rows += [[(" " * LABEL, ""), (line, ALERT)] for line in lines[1:]]
    return [*rows, *([[]] * (height - len(rows)))]


def _wrapped(message: str, width: int, height: int, glyphs: Glyphs) -> list[str]:
    """Return a message as at most `height` lines of about `width` columns. The last line may be longer."""
    words = glyphs.clean(message)
    characters = max(10, width * len(words) // max(1, cell_len(words)))
    lines = textwrap.wrap(words, characters) or [""]
    last = max(1, height) - 1
    return [*lines[:last], " ".join(lines[last:])] if len(lines) > last else lines


def log_rows(snapshot: Snapshot, height: int, glyphs: Glyphs, shown_error: str | None) -> list[Cells]:
    """Return the last lines of the log, newest at the bottom, without what another panel shows.

    Lines of an earlier day have the date instead of the seconds.
    """
    shown = {ascii_safe(usable(warning.line())) for warning in snapshot.status.warnings}
    today = time.strftime("%Y-%m-%d", time.localtime(snapshot.now_s))
    rows: list[Cells] = []
    for line in reversed(snapshot.log_lines):
        if len(rows) >= height:
            break
        found = LOG_LINE.fullmatch(line)
        date, at, level, words = found.groups() if found else (today, "", "INFO", line)
        text = without_error(glyphs.clean(words), shown_error, glyphs)
        if words in shown or (text != glyphs.clean(words) and CYCLE_END.match(words)):
            continue
        text = text if level == "INFO" else f"{level.lower()}: {text}"
        when = f"   {at}" if date == today else f"  {date[5:]} {at[:5]} "
        rows.append([(when.ljust(LABEL), QUIET), (text, LOG_STYLES.get(level, ""))])
    return [*reversed(rows), *([[]] * (height - len(rows)))]
