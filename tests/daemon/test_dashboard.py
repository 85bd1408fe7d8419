"""The dashboard: its picture at every size and in every state, and a terminal that does what it must not."""

import contextlib
import io
import os
import re
import select
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from daemon import dashboard as dashboard_module
from daemon.dashboard import Dashboard, Painter, render, snapshot_svg, wants_dashboard
from daemon.glyphs import ASCII, BLOCKS, bar, chart, duration, glyphs_for, number, resample
from daemon.ledger import Ledger
from daemon.picture import lines
from daemon.terminal import ENTER, LEAVE
from daemon.view import Machine, View
from schemas.layout import Layout
from schemas.status import CycleSummary, DaemonState, EpochStatus, Status, Warning_
from scripts import dashboard_picture

NOW_S = 1_795_262_401.0
SIZES = [(60, 15), (80, 24), (120, 40), (200, 60)]
ROOT = Path(__file__).resolve().parents[2]


def status(state=DaemonState.IDLE, **given):
    usual = {
        "step": "[5/5] waiting for 6 more rollouts",
        "cycle": 30,
        "rollouts_pending": 4,
        "rollouts_needed": 10,
        "policy_version": 30,
        "best_model_path": "C:/Games/Racing/Saved/Training/Models/cycle_000030/model_epoch_9.json",
        "heartbeat": NOW_S,
        "heartbeat_interval_s": 5.0,
        "pid": 1,
        "create_time": 1.0,
        "started_at": NOW_S - 8060,
    }
    return Status(state=state, **(usual | given))


def epochs(count, chosen=None):
    return tuple(
        EpochStatus(epoch=k, value_loss=0.5 / k, policy_loss=-0.01 * k, score=abs(k - 9) / 10 + 0.1, chosen=k == chosen)
        for k in range(1, count + 1)
    )


def cycle(k, error=None):
    good = error is None
    return CycleSummary(
        cycle=k,
        state="published" if good else "failed",
        policy_version=k if good else None,
        rollouts=("rollout_1_20261121_120000.json",),
        best_epoch=9 if good else None,
        score=0.2 if good else None,
        reward_mean=0.1 * k if good else None,
        value_loss=9.0 / k if good else None,
        seconds=41.0,
        error=error,
    )


def warning(message, age_s=20.0):
    return Warning_(code="W_TEST", message=message, at_s=NOW_S - age_s)


MACHINE = Machine(34.2, 5_100_000_000, 16_700_000_000, 62_000_000, 612_000_000, " 41 %   5.1 of 24.0 GB RTX 4090")
BARE = Machine(0.0, 0, 0, 0, 0, "")
LOG = tuple(f"2026-11-21 12:00:{k:02} INFO  [2/5] training: line {k}" for k in range(60))
LONG = "The recorded log_probs do not fit the published policy: the exporter is probably broken. " * 3


def view(shown_status, cycles=(), log_lines=LOG, machine=MACHINE, project="RacingGame"):
    return View(shown_status, tuple(cycles), tuple(log_lines), machine, project, NOW_S)


IDLE = view(status(epochs=epochs(10, chosen=9), epochs_total=10), [cycle(k) for k in range(1, 31)])
VIEWS = {
    "nothing yet": view(
        status(cycle=0, rollouts_pending=0, policy_version=0, best_model_path=None), log_lines=(), machine=BARE
    ),
    "initial model": view(status(DaemonState.TRAINING, step="making the initial model", cycle=0)),
    "idle": IDLE,
    "training": view(
        status(DaemonState.TRAINING, cycle=31, epochs=epochs(4), epochs_total=10, progress=0.4, training_seconds=17.0),
        [cycle(k) for k in range(1, 31)],
    ),
    "selecting": view(status(DaemonState.SELECTING, cycle=31, epochs=epochs(10), epochs_total=10, progress=1.0)),
    "publishing": view(status(DaemonState.PUBLISHING, cycle=31, epochs=epochs(10, chosen=9), epochs_total=10)),
    "paused": view(status(DaemonState.PAUSED, cycle=1234, epochs=epochs(1000, chosen=9), epochs_total=1000)),
    "parked": view(
        status(DaemonState.PARKED, step=LONG, cycle=14, rollouts_pending=12345, rollouts_rejected=999),
        [cycle(k) for k in range(1, 12)] + [cycle(k, error=LONG) for k in (12, 13, 14)],
    ),
    "failed late": view(
        status(cycle=3, epochs=epochs(7), epochs_total=10), [cycle(1), cycle(2), cycle(3, error="it ended with 1")]
    ),
    "many warnings": view(
        status(warnings=tuple(warning(LONG, age_s=10.0**k) for k in range(9)), rollouts_rejected=2),
        [cycle(k) for k in range(1, 121)],
    ),
    "extreme numbers": view(
        status(
            epochs=(
                EpochStatus(epoch=1, value_loss=-1.7e308, policy_loss=4.9e-324, score=99999.99),
                EpochStatus(epoch=2, value_loss=None, policy_loss=None, score=None),
            ),
            progress=7.0,
            started_at=NOW_S + 50,
            training_seconds=1e9,
        ),
        [cycle(1).model_copy(update={"reward_mean": x, "value_loss": -x}) for x in (1.7e308, -1.7e308, 0.0)],
        machine=Machine(100.0, 10**13, 10**13, 10**12, 10**12, "an accelerator with a very long name " * 9),
    ),
}


def text_of(shown_view, width, height, glyphs=BLOCKS):
    return ["".join(piece for piece, _ in row) for row in lines(shown_view, width=width, height=height, glyphs=glyphs)]


def until(happened, limit_s=10.0):
    """Wait for something that must happen."""
    end = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


# --- the picture ----------------------------------------------------------------------------------


@pytest.mark.parametrize("glyphs", [BLOCKS, ASCII], ids=["blocks", "ascii"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", VIEWS)
def test_nothing_wraps_or_overflows(name, size, glyphs):
    width, height = size
    console = Console(file=io.StringIO(), width=width, height=height, markup=False, emoji=False, highlight=False)
    console.print(render(VIEWS[name], width=width, height=height, glyphs=glyphs))
    printed = console.file.getvalue().splitlines()
    assert printed == text_of(VIEWS[name], width, height, glyphs)
    assert [cell_len(line) for line in printed] == [width] * height
    assert glyphs is BLOCKS or "\n".join(printed).isascii()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_things_stay_where_they_are(size):
    """Titles, labels and the wall stand in the same place in every state."""

    def places(shown_view):
        rows = text_of(shown_view, *size)
        labels = ("   rollouts ", "   cycle ", "   model ", "   epoch ", "│ reward per step", "│ value loss", "│ CPU ")
        found = [next(y for y, row in enumerate(rows) if label in row) for label in labels]
        return found, [y for y, row in enumerate(rows) if row.startswith("──")], [row.find("│") for row in rows]

    seen = {name: places(shown_view) for name, shown_view in VIEWS.items()}
    assert len(seen["idle"][1]) == 3
    assert all(place == seen["idle"] for place in seen.values()), seen


@pytest.mark.parametrize("size", [(w, h) for w in (1, 2, 7, 20, 33, 59, 79) for h in (1, 2, 5, 8, 11, 14, 23)], ids=str)
@pytest.mark.parametrize("name", ["idle", "parked", "many warnings"])
def test_a_tiny_terminal_gets_what_fits(name, size):
    width, height = size
    assert [cell_len(line) for line in text_of(VIEWS[name], width, height)] == [width] * height


def test_the_main_facts_at_80_by_24():
    whole = "\n".join(text_of(VIEWS["training"], 80, 24))
    for fact in (
        "RacingGame",
        "up 2 h 14 min",
        "● training",
        "4 of 10 toward cycle 32",
        "epoch 4 of 10, 17 s",
        "cycle_000030/model_epoch_9.json  policy version 30",
        "cycles 1 to 30",
        "first 0.100  last 3.000  best 3.000",
        "first 9.000  last 0.300  best 0.300",
        "No warnings",
        "34 %   memory 5.1 of 16.7 GB",
        "trainer 612 MB",
        "RTX 4090",
        "12:00:59   [2/5] training: line 59",
    ):
        assert fact in whole
    assert "C:/Games" not in whole, "no path of someone's machine"


def test_the_chosen_epoch_is_marked_with_the_reason():
    rows = text_of(IDLE, 80, 24)
    assert next(row for row in rows if "►" in row).split()[1] == "9"
    assert any("Cycle 30: epoch 9, the lowest score" in row for row in rows)
    asked_for = replace(IDLE, status=status(epochs=epochs(10, chosen=2), epochs_total=10))
    rows = text_of(asked_for, 80, 24)
    assert next(row for row in rows if "►" in row).split()[1] == "2"
    assert any("epoch 2, as asked for" in row for row in rows)


def test_the_chosen_one_of_many_epochs_is_in_sight():
    for chosen in (1, 9, 500, 1000):
        many = replace(IDLE, status=status(epochs=epochs(1000, chosen=chosen), epochs_total=1000))
        assert sum(row.startswith(f" ► {chosen:5}") for row in text_of(many, 80, 24)) == 1


def test_a_failed_cycle_says_why_after_the_epochs_it_had():
    rows = text_of(VIEWS["failed late"], 80, 24)
    at = next(y for y, row in enumerate(rows) if "it ended with 1" in row)
    assert rows[at - 1].startswith("       7")
    assert any("Cycle 3: failed" in row for row in rows)


def test_a_restart_still_knows_the_last_cycle():
    rows = "\n".join(text_of(replace(IDLE, status=status(cycle=0)), 80, 24))
    assert "toward cycle 31" in rows
    assert "none yet" not in rows


def test_a_single_warning_gets_the_rows_that_are_free_and_many_are_counted():
    one = replace(IDLE, status=status(warnings=(warning("word " * 24 + "end"),)))
    assert "end" in "\n".join(text_of(one, 80, 24))
    rows = text_of(VIEWS["many warnings"], 80, 24)
    assert any("Warnings: 9, newest 2 shown" in row for row in rows)
    assert [row[:13] for row in rows if row.startswith(" ! ")] == [" ! 1 s ago   ", " ! 10 s ago  "]


# --- what comes from outside is text --------------------------------------------------------------

HOSTILE = {
    "markup": "rollout_[bold red]x[/]_[link=file:///etc/passwd]y[/link].json",
    "unbalanced": "rollout_1_[/].json",
    "emoji": "rollout_:skull:.json",
    "clear": "rollout_\x1b[2J.json",
    "clipboard": "rollout_\x1b]52;c;aGk=\x07.json",
    "c1": "rollout_\x9b2J.json",
    "bidi": "rollout_\u202egpj.json",
    "newlines": "rollout_\r\n12:00:00 forged\u2028.json",
    "surrogate": "rollout_\udcff\ud800.json",
    "wide": "rollout_" + "賽車遊戲" * 40,
    "combining": "rollout_" + "e\u0301\u200d" * 90,
}
OURS = re.compile(r"\x1b\[[0-9;]*[mH]")


def with_name(name):
    return view(
        status(
            DaemonState.PARKED,
            step=name,
            cycle=2,
            best_model_path=f"C:/x/{name}",
            warnings=(warning(name),),
        ),
        [cycle(1), cycle(2, error=name)],
        log_lines=[name, f"2026-11-21 12:00:00 ERROR {name}"],
        machine=replace(MACHINE, gpu="a GPU"),
        project=name,
    )


def foreign_controls(written):
    """What could steer a terminal and is not ours."""
    return re.findall(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\ud800-\udfff]", OURS.sub("", written))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_names_are_shown_as_text(name, encoding):
    written = Painter(encoding).changes(with_name(HOSTILE[name]), 120, 40)
    assert foreign_controls(written) == []
    written.encode("utf-8")
    if name in {"markup", "unbalanced", "emoji"}:
        assert OURS.sub("", written).count(HOSTILE[name]) >= 5
    rows = text_of(with_name(HOSTILE[name]), 80, 24)
    assert [cell_len(row) for row in rows] == [80] * 24


def test_the_search_for_controls_finds_some(monkeypatch):
    """The control of the test above: a dashboard that does not clean shows what it must not."""
    monkeypatch.setattr(dashboard_module, "glyphs_for", lambda _: replace(BLOCKS, clean=str))
    written = Painter("utf-8").changes(with_name(HOSTILE["c1"]), 120, 40)
    assert "\x9b" in foreign_controls(written)


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "cp932", "latin-1", "ascii", None, "no-such-encoding"])
def test_a_console_without_block_characters_gets_ascii(encoding):
    assert glyphs_for(encoding) is ASCII
    Painter(encoding).changes(IDLE, 80, 24).encode("ascii")


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "gb18030"])
def test_a_console_with_them_gets_them(encoding):
    assert glyphs_for(encoding) is BLOCKS
    assert "█" in Painter(encoding).changes(IDLE, 80, 24)


def test_svg_is_well_formed_and_the_same_twice():
    hostile = with_name("<script>alert(1)</script>&\x1b[2J")
    svg = snapshot_svg(hostile, 100, 30)
    root = ET.fromstring(svg)
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert "\x1b" not in svg
    assert svg == snapshot_svg(hostile, 100, 30)


def test_a_project_can_be_drawn_as_it_stands(tmp_path, monkeypatch):
    layout = Layout(tmp_path / "RacingGame")
    layout.make()
    out = tmp_path / "dashboard.svg"
    assert dashboard_picture.main([str(layout.project), str(out)]) == 3, "there was no daemon yet"
    layout.status.write_bytes(IDLE.status.to_bytes())
    layout.daemon_log.write_text("\n".join(LOG))
    Ledger.open(layout.ledger).close()
    monkeypatch.setattr(dashboard_picture, "INTERVAL_S", 0.0)
    assert dashboard_picture.main([str(layout.project), str(out), "80", "24"]) == 0
    shown_text = "".join(ET.fromstring(out.read_text(encoding="utf-8")).itertext()).replace("\xa0", " ")
    assert "RacingGame" in shown_text
    assert "4 of 10" in shown_text
    assert str(tmp_path) not in shown_text


# --- charts and numbers ---------------------------------------------------------------------------


def test_a_chart_rises_where_the_values_rise():
    assert chart([0, 1, 2, 3, 4, 5, 6, 7], 8, 1, BLOCKS) == ["▁▂▃▄▅▆▇█"]
    assert chart([0, 7, 8, 15], 4, 2, BLOCKS) == ["  ▁█", "▁███"]
    assert chart([1, None, 2], 3, 1, ASCII) == [". #"]
    assert chart([5.0, 5.0], 2, 2, BLOCKS) == ["  ", "▁▁"]
    assert chart([], 9, 2, BLOCKS) == chart([None], 9, 2, BLOCKS) == ["", ""]
    assert chart([-1.7e308, 1.7e308], 2, 1, BLOCKS) == ["▁█"]


def test_few_values_are_drawn_broad_and_many_as_means():
    assert chart([1, 2], 8, 1, BLOCKS) == ["▁▁▁▁████"]
    assert chart([1, 2], 7, 1, BLOCKS) == ["▁▁██"]
    assert resample([1.0, 3.0, None, 5.0, None, None], 3) == [2.0, 5.0, None]


def test_a_bar_is_full_only_when_done():
    assert bar(0.0, 10, ASCII) == ("", "." * 10)
    assert bar(1e-9, 10, ASCII) == ("#", "." * 9)
    assert bar(0.999, 10, ASCII) == ("#" * 9, ".")
    assert bar(2.5, 10, ASCII) == ("#" * 10, "")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0, "0"),
        (0.43124, "0.4312"),
        (-12.3456, "-12.346"),
        (99999.4, "99999"),
        (3e-7, "3.00e-7"),
        (-1.7e308, "-1.70e308"),
        (None, "-"),
        (float("nan"), "-"),
        (float("-inf"), "-"),
    ],
)
def test_numbers_are_short(value, told):
    assert number(value, 5) == told


def test_durations_get_coarser():
    assert [duration(s) for s in (-5, 59.9, 60, 3599, 8060, 90000)] == [
        "0 s", "59 s", "1 min", "59 min", "2 h 14 min", "1 d 1 h",
    ]  # fmt: skip


# --- painting -------------------------------------------------------------------------------------


def test_only_what_changed_is_painted():
    painter = Painter("utf-8")
    assert painter.changes(IDLE, 80, 24).count("\x1b[H") == 1
    assert painter.changes(IDLE, 80, 24) == ""
    assert painter.changes(replace(IDLE, now_s=NOW_S + 1), 80, 24) == "", "no clock ticks where nothing is due"
    more = painter.changes(replace(IDLE, status=status(rollouts_pending=5, epochs=IDLE.status.epochs)), 80, 24)
    assert re.findall(r"\x1b\[(\d+);1H", more) == ["3"]
    assert len(re.findall(r"\x1b\[\d+;1H", painter.changes(IDLE, 100, 30))) == 30
    painter.forget()
    assert len(re.findall(r"\x1b\[\d+;1H", painter.changes(IDLE, 100, 30))) == 30


# --- the thread and the terminal ------------------------------------------------------------------

pty = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


@contextlib.contextmanager
def terminal(columns=80, rows=24):
    """A pseudo-terminal: what a program writes to, and the other end's file descriptor."""
    import termios
    import tty

    ours, theirs = os.openpty()
    tty.setraw(theirs)
    termios.tcsetwinsize(theirs, (rows, columns))
    with open(theirs, "w", encoding="utf-8", closefd=False) as stream:
        try:
            yield stream, ours
        finally:
            with contextlib.suppress(OSError):
                os.close(ours)
            os.close(theirs)


class Reader:
    """Takes what a terminal is sent."""

    def __init__(self, fd):
        self._fd = fd
        self._seen = b""

    def seen(self):
        while select.select([self._fd], [], [], 0)[0]:
            self._seen += os.read(self._fd, 65536)
        return self._seen.decode("utf-8", "replace")


@pty
def test_a_terminal_gets_pictures_and_is_given_back():
    with terminal() as (stream, fd):
        reader, dashboard = Reader(fd), Dashboard(stream)
        assert dashboard.alive
        assert reader.seen() == "", "nothing before the first view"
        dashboard.show(IDLE)
        until(lambda: "RacingGame" in reader.seen())
        assert reader.seen().startswith(ENTER)
        dashboard.show(replace(IDLE, project="AnotherGame"))
        until(lambda: "AnotherGame" in reader.seen())
        dashboard.stop()
        assert reader.seen().endswith(LEAVE)
        assert not dashboard.alive
        assert dashboard.failure == ""
        before = reader.seen()
        dashboard.show(IDLE)
        dashboard.stop()
        assert reader.seen() == before, "what is stopped stays stopped"


@pty
def test_another_size_is_another_picture():
    import termios

    with terminal() as (stream, fd):
        reader, dashboard = Reader(fd), Dashboard(stream)
        dashboard.show(IDLE)
        until(lambda: "\x1b[24;1H" in reader.seen())
        termios.tcsetwinsize(fd, (40, 120))
        until(lambda: "\x1b[40;1H" in reader.seen())
        dashboard.stop()


@pty
def test_a_terminal_that_takes_nothing_holds_up_nobody():
    with terminal(200, 60) as (stream, _unread):
        dashboard = Dashboard(stream)
        dashboard.show(IDLE)
        until(lambda: not select.select([], [stream.fileno()], [], 0)[1])  # the dashboard now hangs in a write
        started = time.monotonic()
        for k in range(1000):
            dashboard.show(replace(IDLE, now_s=NOW_S + 60 * k))
        assert time.monotonic() - started < 1.0
        started = time.monotonic()
        dashboard.stop()
        assert time.monotonic() - started < 2.0
        assert not dashboard.alive


HANG = """
import sys, time
from daemon.dashboard import Dashboard
from tests.daemon.test_dashboard import IDLE
import select
dashboard = Dashboard()
dashboard.show(IDLE)
while select.select([], [sys.stdout.fileno()], [], 0)[1]:
    time.sleep(0.01)
dashboard.stop()
sys.exit(7)
"""


@pty
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_program_whose_terminal_takes_nothing_still_ends(unbuffered):
    """A lock of stdout's buffer, held by a thread that hangs, would hold up the interpreter's end for ever."""
    with terminal(200, 60) as (stream, _unread):
        child = subprocess.Popen(
            [sys.executable, "-c", HANG],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, complaints = child.communicate(timeout=30)
        finally:
            child.kill()
        assert (child.returncode, complaints) == (7, "")


@pty
def test_a_terminal_that_goes_away_ends_the_dashboard_alone():
    with terminal() as (stream, fd):
        reader, dashboard = Reader(fd), Dashboard(stream)
        dashboard.show(IDLE)
        until(lambda: "RacingGame" in reader.seen())
        with Path(os.devnull).open() as nothing:
            os.dup2(nothing.fileno(), fd)  # the last descriptor of the terminal's other end is gone
        dashboard.show(replace(IDLE, project="AnotherGame"))
        until(lambda: not dashboard.alive)
        assert "OSError" in dashboard.failure
        dashboard.show(IDLE)
        dashboard.stop()


def test_a_closed_pipe_ends_the_dashboard_alone():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        dashboard = Dashboard(stream)
        dashboard.show(IDLE)
        until(lambda: not dashboard.alive)
        assert "Pipe" in dashboard.failure
        dashboard.stop()


def test_a_picture_that_cannot_be_drawn_ends_the_dashboard_and_gives_the_terminal_back(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(dashboard_module, "lines", broken)
    stream = io.StringIO()
    dashboard = Dashboard(stream)
    dashboard.show(IDLE)
    until(lambda: not dashboard.alive)
    assert dashboard.failure == "ZeroDivisionError: a bug"
    assert stream.getvalue() == ENTER + LEAVE


def test_a_closed_stream_is_no_surprise():
    stream = io.StringIO()
    stream.close()
    dashboard = Dashboard(stream)
    dashboard.show(IDLE)
    until(lambda: not dashboard.alive)


def test_no_more_than_four_pictures_a_second():
    stream = io.StringIO()
    dashboard = Dashboard(stream)
    started = time.monotonic()
    for k in range(200):
        dashboard.show(replace(IDLE, project=f"Game {k}"))
        threading.Event().wait(0.003)
    dashboard.stop()
    assert 1 <= stream.getvalue().count("\x1b[1;1H") <= 2 + 4 * (time.monotonic() - started)


# --- where a dashboard is wanted ------------------------------------------------------------------


@pty
def test_a_dashboard_is_for_terminals_that_can(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    with terminal() as (stream, _):
        assert wants_dashboard(stream)
        for dumb in ("dumb", "DUMB", "unknown"):
            monkeypatch.setenv("TERM", dumb)
            assert not wants_dashboard(stream)
        monkeypatch.delenv("TERM")
        assert not wants_dashboard(stream)
    assert not wants_dashboard(stream), "closed"


def test_a_file_or_nothing_wants_none(monkeypatch, tmp_path):
    monkeypatch.setenv("TERM", "xterm")
    assert not wants_dashboard(None)
    assert not wants_dashboard(io.StringIO())
    with (tmp_path / "out.txt").open("w", encoding="utf-8") as file:
        assert not wants_dashboard(file)
